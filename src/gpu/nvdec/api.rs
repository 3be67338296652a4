//! libnvcuvid: opened when first asked for, once a process, and its functions.
//!
//! The structures are the video codec SDK's, version 12.1, by the `nvidia-video-codec-sdk` crate; nothing is linked. Results
//! are libcuda's, plain numbers here as everywhere.

use std::ffi::{OsString, c_int, c_uint, c_ulonglong};
use std::sync::Mutex;

use libloading::Library;
use nvidia_video_codec_sdk::sys::{cuviddec, nvcuvid};

use super::explain::UNUSABLE;
use crate::error::{Error, Result};
use crate::gpu::cuda::CUresult;
use crate::gpu::nvenc::grants_video;

pub(super) const LIBRARY: &str = "libnvcuvid.so.1";

/// Names another library, and no other is tried then.
const OVERRIDE: &str = "GSK_NVCUVID_LIBRARY";

pub(super) use self::cuviddec::{
    CUVIDDECODECAPS as Caps, CUVIDDECODECREATEINFO as CreateInfo, CUVIDPICPARAMS as PicParams,
};
pub(super) use self::cuviddec::{
    CUVIDGETDECODESTATUS as Status, CUVIDPROCPARAMS as ProcParams, CUvideodecoder as RawDecoder,
};
pub(super) use self::nvcuvid::CUVIDSOURCEDATAPACKET as Packet;
pub(super) use self::nvcuvid::{
    CUVIDEOFORMAT as Format, CUVIDPARSERPARAMS as ParserParams, CUvideoparser as RawParser,
};

crate::gpu::library::functions! {
    pub(super) struct Functions {
        cuvidGetDecoderCaps: unsafe extern "C" fn(*mut Caps) -> CUresult,
        cuvidCreateVideoParser: unsafe extern "C" fn(*mut RawParser, *mut ParserParams) -> CUresult,
        cuvidParseVideoData: unsafe extern "C" fn(RawParser, *mut Packet) -> CUresult,
        cuvidDestroyVideoParser: unsafe extern "C" fn(RawParser) -> CUresult,
        cuvidCreateDecoder: unsafe extern "C" fn(*mut RawDecoder, *mut CreateInfo) -> CUresult,
        cuvidDecodePicture: unsafe extern "C" fn(RawDecoder, *mut PicParams) -> CUresult,
        cuvidGetDecodeStatus: unsafe extern "C" fn(RawDecoder, c_int, *mut Status) -> CUresult,
        cuvidDestroyDecoder: unsafe extern "C" fn(RawDecoder) -> CUresult,
        cuvidMapVideoFrame64:
            unsafe extern "C" fn(RawDecoder, c_int, *mut c_ulonglong, *mut c_uint, *mut ProcParams) -> CUresult,
        cuvidUnmapVideoFrame64: unsafe extern "C" fn(RawDecoder, c_ulonglong) -> CUresult,
    }
}

/// The loaded library.
pub(super) struct Api {
    pub(super) functions: Functions,
    /// Where they are.
    _library: Library,
}

impl Api {
    /// The library, loaded now or before. Only success is kept: a driver may come while the program runs.
    pub(super) fn get() -> Result<&'static Api> {
        static LOADED: Mutex<Option<&'static Api>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap();
        if let Some(api) = *loaded {
            return Ok(api);
        }
        // Never unloaded: that gains nothing, and decoders would have to end before.
        let api: &'static Api = Box::leak(Box::new(Api::load(std::env::var_os(OVERRIDE))?));
        *loaded = Some(api);
        Ok(api)
    }

    fn load(named: Option<OsString>) -> Result<Api> {
        // An empty name would open this program itself.
        let named = named.filter(|name| !name.is_empty());
        let name = named.clone().unwrap_or_else(|| LIBRARY.into());
        // SAFETY: NVIDIA's library has no initialisers that depend on anything of ours.
        let library = unsafe { Library::new(&name) }.map_err(|error| match &named {
            Some(_) => Error::missing(UNUSABLE)
                .cause(format!("{OVERRIDE} cannot be opened: {error}"))
                .hint(format!("unset {OVERRIDE}")),
            None => absent(&error.to_string(), std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok()),
        })?;
        // SAFETY: a library of that name is NVIDIA's decoder.
        let functions = unsafe { Functions::load(&library) }.map_err(|name| {
            Error::missing(UNUSABLE)
                .cause(format!("{LIBRARY}: it has no {name}"))
                .hint("install the NVIDIA driver again, 530 or newer")
        })?;
        Ok(Api { functions, _library: library })
    }
}

/// The library is not there, or the system's loader cannot take it.
fn absent(said: &str, capabilities: Option<String>) -> Error {
    let error = Error::missing(UNUSABLE).cause(match said.contains("No such file") {
        true => format!("{LIBRARY} is not on this host"),
        false => format!("{LIBRARY} cannot be opened: {said}"),
    });
    error.hint(match capabilities.filter(|all| !grants_video(all)) {
        Some(all) => format!(
            "the container has NVIDIA_DRIVER_CAPABILITIES={all}; start it with -e NVIDIA_DRIVER_CAPABILITIES={all},video"
        ),
        None => "install the driver's decode library: libnvcuvid1 on Debian, libnvidia-decode-NNN on Ubuntu".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_library_that_cannot_be_opened_is_told_with_its_remedy() {
        let Err(error) = Api::load(Some("/nowhere/libnvcuvid.so".into())) else { panic!("there is none") };
        assert_eq!((error.kind, error.hint.as_deref()), (Kind::Missing, Some("unset GSK_NVCUVID_LIBRARY")));
        assert!(error.cause.unwrap().starts_with("GSK_NVCUVID_LIBRARY cannot be opened: "));
        for (said, capabilities, cause, hint) in [
            ("No such file or directory", None, "libnvcuvid.so.1 is not on this host", "libnvcuvid1"),
            ("No such file or directory", Some("all"), "is not on this host", "libnvcuvid1"),
            ("No such file or directory", Some("compute"), "is not on this host", "CAPABILITIES=compute,video"),
            ("file too short", None, "cannot be opened: file too short", "libnvidia-decode-NNN"),
        ] {
            let error = absent(said, capabilities.map(Into::into));
            assert!(error.cause.as_ref().unwrap().contains(cause), "{error:?}");
            assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
        }
    }
}
