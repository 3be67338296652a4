//! What the loaders of NVIDIA's libraries share.

/// Declares the functions of a library that are used, by their names in its header.
macro_rules! functions {
    ($vis:vis struct Functions { $($name:ident: $type:ty),+ $(,)? }) => {
        #[allow(non_snake_case)]
        $vis struct Functions { $($vis $name: $type),+ }

        impl Functions {
            /// The first name that the library lacks is the error.
            ///
            /// # Safety
            /// The library is the one whose header has these functions, with these types.
            unsafe fn load(library: &::libloading::Library) -> Result<Functions, &'static str> {
                // SAFETY: the types are those of the header, as the caller promises, with numbers for enums of the same size.
                unsafe {
                    Ok(Functions {
                        $($name: *library.get(concat!(stringify!($name), "\0").as_bytes()).map_err(|_| stringify!($name))?),+
                    })
                }
            }
        }
    };
}

pub(crate) use functions;
