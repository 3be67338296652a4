//! libnvidia-encode: opened when first asked for, once a process, and its functions.
//!
//! The structures are the video codec SDK's, version 12.1, by the `nvidia-video-codec-sdk` crate; nothing is linked. Status
//! codes are plain numbers here: the crate's is a Rust `enum`, which a newer driver's code would not fit into.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Mutex;

use libloading::Library;
use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;

use super::explain::{Facts, Refused, code_name, explain};
use crate::error::Error;
use crate::wire::status::Cause;

pub(super) const LIBRARY: &str = "libnvidia-encode.so.1";

/// `NVENCSTATUS`.
pub(super) type Status = u32;

/// The oldest API that can be asked for 12.1's structures: major, minor.
pub(super) const NEEDED: (u32, u32) = (sys::NVENCAPI_MAJOR_VERSION, sys::NVENCAPI_MINOR_VERSION);

/// An encoder of the driver's, and what is passed with it.
type Call<T> = unsafe extern "C" fn(*mut c_void, T) -> Status;

/// Declares the functions that are used, by the names of `NV_ENCODE_API_FUNCTION_LIST`.
macro_rules! functions {
    ($($name:ident: $type:ty),+ $(,)?) => {
        #[allow(non_snake_case)]
        pub(super) struct Functions { $(pub(super) $name: $type),+ }

        impl Functions {
            /// Takes the functions from the driver's list; the first that it lacks is the error.
            ///
            /// # Safety
            /// The list is one that the driver filled.
            unsafe fn take(list: &sys::NV_ENCODE_API_FUNCTION_LIST) -> Result<Functions, &'static str> {
                Ok(Functions { $($name: {
                    let function = list.$name.ok_or(stringify!($name))?;
                    // SAFETY: the types differ in the result alone, where a number stands for the enum of the same size, and
                    // in what the pointers among the arguments point to.
                    unsafe { std::mem::transmute::<*const (), $type>(function as *const ()) }
                }),+ })
            }
        }
    };
}

functions! {
    nvEncOpenEncodeSessionEx: unsafe extern "C" fn(*mut sys::NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS, *mut *mut c_void) -> Status,
    nvEncDestroyEncoder: unsafe extern "C" fn(*mut c_void) -> Status,
    nvEncGetLastErrorString: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    nvEncGetEncodeGUIDCount: Call<*mut u32>,
    nvEncGetEncodeGUIDs: unsafe extern "C" fn(*mut c_void, *mut sys::GUID, u32, *mut u32) -> Status,
    nvEncGetEncodeCaps: unsafe extern "C" fn(*mut c_void, sys::GUID, *mut sys::NV_ENC_CAPS_PARAM, *mut c_int) -> Status,
    nvEncGetEncodePresetConfigEx:
        unsafe extern "C" fn(*mut c_void, sys::GUID, sys::GUID, sys::NV_ENC_TUNING_INFO, *mut sys::NV_ENC_PRESET_CONFIG) -> Status,
    nvEncInitializeEncoder: Call<*mut sys::NV_ENC_INITIALIZE_PARAMS>,
    nvEncReconfigureEncoder: Call<*mut sys::NV_ENC_RECONFIGURE_PARAMS>,
    nvEncGetSequenceParams: Call<*mut sys::NV_ENC_SEQUENCE_PARAM_PAYLOAD>,
    nvEncRegisterResource: Call<*mut sys::NV_ENC_REGISTER_RESOURCE>,
    nvEncUnregisterResource: Call<*mut c_void>,
    nvEncMapInputResource: Call<*mut sys::NV_ENC_MAP_INPUT_RESOURCE>,
    nvEncUnmapInputResource: Call<*mut c_void>,
    nvEncCreateBitstreamBuffer: Call<*mut sys::NV_ENC_CREATE_BITSTREAM_BUFFER>,
    nvEncDestroyBitstreamBuffer: Call<*mut c_void>,
    nvEncEncodePicture: Call<*mut sys::NV_ENC_PIC_PARAMS>,
    nvEncLockBitstream: Call<*mut sys::NV_ENC_LOCK_BITSTREAM>,
    nvEncUnlockBitstream: Call<*mut c_void>,
}

/// The loaded library.
pub(super) struct Api {
    pub(super) functions: Functions,
    /// Where they are.
    _library: Library,
}

impl Api {
    /// The library, loaded now or before. Only success is kept: a driver may come while the program runs.
    pub(super) fn get() -> Result<&'static Api, Refused> {
        static LOADED: Mutex<Option<&'static Api>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap();
        if let Some(api) = *loaded {
            return Ok(api);
        }
        // Never unloaded: that gains nothing, and sessions would have to end before.
        let api: &'static Api = Box::leak(Box::new(Api::load()?));
        *loaded = Some(api);
        Ok(api)
    }

    fn load() -> Result<Api, Refused> {
        // SAFETY: NVIDIA's library has no initialisers that depend on anything of ours.
        let library = unsafe { Library::new(LIBRARY) }.map_err(|error| absent(&error.to_string()))?;
        let lacks = |name: &str| broken(&format!("it has no {name}"));
        let mut version = 0;
        // SAFETY: nvEncodeAPI.h declares the function so; the argument is a place for one u32.
        let code = unsafe {
            let newest =
                library.get::<unsafe extern "C" fn(*mut u32) -> Status>(b"NvEncodeAPIGetMaxSupportedVersion\0");
            newest.map_err(|_| lacks("NvEncodeAPIGetMaxSupportedVersion"))?(&mut version)
        };
        if code != 0 {
            return Err(broken(&format!("NvEncodeAPIGetMaxSupportedVersion returned {}", code_name(code))));
        }
        let has = (version >> 4, version & 15);
        if has < NEEDED {
            return Err(explain(
                sys::NVENCSTATUS::NV_ENC_ERR_INVALID_VERSION as Status,
                &Facts { api: Some(has), ..Facts::default() },
            ));
        }
        // The list is all function pointers, whose absence is the null that Default writes.
        let mut list =
            sys::NV_ENCODE_API_FUNCTION_LIST { version: sys::NV_ENCODE_API_FUNCTION_LIST_VER, ..Default::default() };
        // SAFETY: nvEncodeAPI.h declares the function so; the list is whole and says its version.
        let code = unsafe {
            type Create = unsafe extern "C" fn(*mut sys::NV_ENCODE_API_FUNCTION_LIST) -> Status;
            let create = library.get::<Create>(b"NvEncodeAPICreateInstance\0");
            create.map_err(|_| lacks("NvEncodeAPICreateInstance"))?(&mut list)
        };
        if code != 0 {
            return Err(explain(
                code,
                &Facts { api: Some(has), call: "NvEncodeAPICreateInstance", ..Facts::default() },
            ));
        }
        // SAFETY: the driver has just filled the list.
        let functions = unsafe { Functions::take(&list) }.map_err(lacks)?;
        Ok(Api { functions, _library: library })
    }

    /// The driver's own words about an encoder's last error; often none.
    ///
    /// # Safety
    /// `encoder` is one that the driver gave and that was not destroyed.
    pub(super) unsafe fn last_words(&self, encoder: *mut c_void) -> String {
        // SAFETY: the driver returns null, or a string that is valid until the encoder's next call.
        unsafe {
            let words = (self.functions.nvEncGetLastErrorString)(encoder);
            if words.is_null() { String::new() } else { CStr::from_ptr(words).to_string_lossy().trim().to_owned() }
        }
    }
}

/// The library is not there, or the system's loader cannot take it.
fn absent(said: &str) -> Refused {
    let capabilities = std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok();
    let error = Error::missing(super::explain::UNUSABLE).cause(match said.contains("No such file") {
        true => format!("{LIBRARY} is not on this host"),
        false => format!("{LIBRARY} cannot be opened: {said}"),
    });
    let hint = match capabilities.filter(|all| !super::explain::grants_video(all)) {
        Some(all) => format!(
            "the container has NVIDIA_DRIVER_CAPABILITIES={all}; start it with -e NVIDIA_DRIVER_CAPABILITIES={all},video"
        ),
        None => {
            "install the driver's encode library: libnvidia-encode1 on Debian, libnvidia-encode-NNN on Ubuntu".into()
        }
    };
    Refused { cause: Cause::NoDriver, error: error.hint(hint) }
}

/// The library is there and is not what it should be.
fn broken(what: &str) -> Refused {
    let error = Error::missing(super::explain::UNUSABLE)
        .cause(format!("{LIBRARY}: {what}"))
        .hint("install the NVIDIA driver again, 530 or newer");
    Refused { cause: Cause::NoDriver, error }
}
