//! OpenGL's textures in CUDA: registered, mapped, and copied as arrays.
//!
//! The calls belong on the thread where the texture's OpenGL context is current. cudarc has no binding for the first of
//! these functions, and a driver may lack any: they are looked up once, as in [`cuda`](super::cuda).

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::OnceLock;

use cudarc::driver::sys::{self, CUDA_MEMCPY2D, CUarray, CUgraphicsResource, CUmemorytype, CUstream};

use super::cuda::{CUresult, Context};
use crate::error::{Error, Result};

const UNUSABLE: &str = "CUDA cannot use OpenGL's texture";

/// `GL_TEXTURE_2D`.
const TEXTURE_2D: u32 = 0x0DE1;

#[allow(non_snake_case)]
struct Api {
    cuGraphicsGLRegisterImage: unsafe extern "C" fn(*mut CUgraphicsResource, u32, u32, u32) -> CUresult,
    cuGraphicsUnregisterResource: unsafe extern "C" fn(CUgraphicsResource) -> CUresult,
    cuGraphicsMapResources: unsafe extern "C" fn(u32, *mut CUgraphicsResource, CUstream) -> CUresult,
    cuGraphicsUnmapResources: unsafe extern "C" fn(u32, *mut CUgraphicsResource, CUstream) -> CUresult,
    cuGraphicsSubResourceGetMappedArray: unsafe extern "C" fn(*mut CUarray, CUgraphicsResource, u32, u32) -> CUresult,
    cuMemcpy2D_v2: unsafe extern "C" fn(*const CUDA_MEMCPY2D) -> CUresult,
}

impl Api {
    fn get() -> Result<&'static Api> {
        static API: OnceLock<Result<Api, &'static str>> = OnceLock::new();
        // SAFETY: a `Context` exists, so the library is there; each type above is the one that cuda.h or cudaGL.h
        // declares for the name.
        let load = || unsafe {
            let library = sys::culib();
            macro_rules! look_up {
                ($($name:ident),+ $(,)?) => {
                    Ok(Api { $($name: *library.get(concat!(stringify!($name), "\0").as_bytes()).map_err(|_| stringify!($name))?),+ })
                };
            }
            look_up!(
                cuGraphicsGLRegisterImage,
                cuGraphicsUnregisterResource,
                cuGraphicsMapResources,
                cuGraphicsUnmapResources,
                cuGraphicsSubResourceGetMappedArray,
                cuMemcpy2D_v2,
            )
        };
        API.get_or_init(load).as_ref().map_err(|name| {
            Error::missing(UNUSABLE).cause(format!("libcuda has no {name}")).hint("install the NVIDIA driver again")
        })
    }
}

/// What CUDA does with a texture while it is mapped (`CUgraphicsRegisterFlags` in cuda.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads only.
    Read = 1,
    /// It writes every pixel, and what was there before is lost.
    Overwrite = 2,
}

/// A two-dimensional texture that CUDA knows. It must be dropped before the texture, with its OpenGL context current.
pub struct Image<'a> {
    context: &'a Context,
    api: &'static Api,
    raw: CUgraphicsResource,
}

impl<'a> Image<'a> {
    /// Registers a texture of the OpenGL context that is current on this thread.
    pub fn register(context: &'a Context, texture: u32, access: Access) -> Result<Image<'a>> {
        let api = Api::get()?;
        let _current = context.current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle; what is no texture of the current context is refused.
        let code = unsafe { (api.cuGraphicsGLRegisterImage)(&mut raw, texture, TEXTURE_2D, access as u32) };
        check(context, "cuGraphicsGLRegisterImage", code)?;
        Ok(Image { context, api, raw })
    }

    /// Hands the texture to CUDA until the guard is dropped: OpenGL must not use it meanwhile. What OpenGL was told to
    /// draw before is in it.
    pub fn map(&mut self) -> Result<Mapped<'_, 'a>> {
        let _current = self.context.current()?;
        let mut raw = self.raw;
        // SAFETY: the image is registered and not mapped, as the guard borrows it mutably; the null stream is the default.
        let code = unsafe { (self.api.cuGraphicsMapResources)(1, &mut raw, ptr::null_mut()) };
        check(self.context, "cuGraphicsMapResources", code)?;
        let mut mapped = Mapped { image: self, array: ptr::null_mut() };
        // SAFETY: the first argument is a place for one handle; the image is mapped and has level 0 of its one layer.
        let code = unsafe { (mapped.image.api.cuGraphicsSubResourceGetMappedArray)(&mut mapped.array, raw, 0, 0) };
        check(mapped.image.context, "cuGraphicsSubResourceGetMappedArray", code)?;
        Ok(mapped)
    }

    /// What dropping does, with the driver's answer.
    pub fn unregister(self) -> Result<()> {
        ManuallyDrop::new(self).end()
    }

    fn end(&self) -> Result<()> {
        let _current = self.context.current()?;
        // SAFETY: the image is registered and not mapped, and this is its last use.
        let code = unsafe { (self.api.cuGraphicsUnregisterResource)(self.raw) };
        check(self.context, "cuGraphicsUnregisterResource", code)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!("{error}");
        }
    }
}

/// A texture while it is CUDA's: an array of rows in OpenGL's order, the lowest first.
pub struct Mapped<'i, 'a> {
    image: &'i mut Image<'a>,
    array: CUarray,
}

impl Mapped<'_, '_> {
    /// Copies rows of `row` bytes each, from the texture's first on, as many as fill `out`.
    pub fn read(&self, row: usize, out: &mut [u8]) -> Result<()> {
        let copy = CUDA_MEMCPY2D {
            srcMemoryType: CUmemorytype::CU_MEMORYTYPE_ARRAY,
            srcArray: self.array,
            dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
            dstHost: out.as_mut_ptr().cast(),
            dstPitch: row,
            ..blank(row, out.len())?
        };
        // SAFETY: `out` has room for all rows and is borrowed mutably until the copy, which is synchronous, is done.
        unsafe { self.copy(&copy) }
    }

    /// Copies rows of `row` bytes each into the texture, from its first on.
    pub fn write(&self, row: usize, bytes: &[u8]) -> Result<()> {
        let copy = CUDA_MEMCPY2D {
            srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
            srcHost: bytes.as_ptr().cast(),
            srcPitch: row,
            dstMemoryType: CUmemorytype::CU_MEMORYTYPE_ARRAY,
            dstArray: self.array,
            ..blank(row, bytes.len())?
        };
        // SAFETY: `bytes` has all rows, and stays until the copy, which is synchronous, is done.
        unsafe { self.copy(&copy) }
    }

    /// What dropping does, with the driver's answer.
    pub fn unmap(self) -> Result<()> {
        ManuallyDrop::new(self).end()
    }

    /// # Safety
    /// The host memory that `copy` names holds all its rows. (The array's own bounds are the driver's to check.)
    unsafe fn copy(&self, copy: &CUDA_MEMCPY2D) -> Result<()> {
        let _current = self.image.context.current()?;
        // SAFETY: as the caller promises; the array is mapped for as long as `self` lives.
        check(self.image.context, "cuMemcpy2D", unsafe { (self.image.api.cuMemcpy2D_v2)(copy) })
    }

    fn end(&self) -> Result<()> {
        let _current = self.image.context.current()?;
        let mut raw = self.image.raw;
        // SAFETY: the image is mapped, and its array is not used after this.
        let code = unsafe { (self.image.api.cuGraphicsUnmapResources)(1, &mut raw, ptr::null_mut()) };
        check(self.image.context, "cuGraphicsUnmapResources", code)
    }
}

impl Drop for Mapped<'_, '_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!("{error}");
        }
    }
}

/// A copy of whole rows, `bytes` in all, from nowhere to nowhere.
fn blank(row: usize, bytes: usize) -> Result<CUDA_MEMCPY2D> {
    if row == 0 || !bytes.is_multiple_of(row) {
        return Err(Error::bug(format!("{bytes} bytes are no rows of {row}")));
    }
    Ok(CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: ptr::null(),
        srcDevice: 0,
        srcArray: ptr::null_mut(),
        srcPitch: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: ptr::null_mut(),
        dstDevice: 0,
        dstArray: ptr::null_mut(),
        dstPitch: 0,
        WidthInBytes: row,
        Height: bytes / row,
    })
}

fn check(context: &Context, call: &str, code: CUresult) -> Result<()> {
    context.check(call, code).map_err(|error| {
        let hint = explain(code).map(Into::into).or(error.hint);
        Error { what: UNUSABLE.into(), hint, ..error }
    })
}

/// What a code means where OpenGL is concerned, and what to do.
fn explain(code: CUresult) -> Option<&'static str> {
    match code {
        101 => Some(
            "OpenGL draws on another GPU than CUDA uses; choose OpenGL's by its CUDA number, not by its index: gsk verify-gl --exports",
        ),
        219 => Some("no OpenGL context is current on this thread: eglMakeCurrent comes first"),
        304 => Some(
            "OpenGL is not NVIDIA's, or has failed before: export __EGL_VENDOR_LIBRARY_FILENAMES=/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        ),
        999 => Some(
            "OpenGL is not NVIDIA's, or goes through a proxy such as VirtualGL: run without vglrun, on the EGL device",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_whole_rows() {
        let copy = blank(8, 24).unwrap();
        assert_eq!((copy.WidthInBytes, copy.Height), (8, 3));
        assert!(blank(8, 25).is_err() && blank(0, 8).is_err());
    }

    #[test]
    fn the_codes_of_graphics_have_a_remedy() {
        for (code, says) in [(101, "another GPU"), (219, "eglMakeCurrent"), (304, "10_nvidia.json"), (999, "VirtualGL")]
        {
            assert!(explain(code).is_some_and(|hint| hint.contains(says)), "{code}");
        }
        assert!(explain(1).is_none());
    }
}
