//! nvJPEG: JPEG by a GPU's cores, which needs no NVENC engine and no encoder slot.
//!
//! libnvjpeg is part of the CUDA toolkit, not of the driver. It is opened when first asked for and stays open:
//!
//! 1. at the path in `GSK_NVJPEG_LIBRARY`, if that is set and not empty, and nowhere else then;
//! 2. by the loader's usual search;
//! 3. in the toolkit's folders: of `CUDA_HOME` and `CUDA_PATH`, `/usr/local/cuda` and `/usr/local/cuda-*`;
//! 4. in the folders of the Python packages `nvidia-nvjpeg-cu12`, `nvidia-nvjpeg` and `nvidia-nvjpeg-cu11`: of `VIRTUAL_ENV`,
//!    of `CONDA_PREFIX`, the user's own and the system's.
//!
//! The functions that are used are declared alike by nvjpeg.h of 11.9, 12.4 and 13.3. Status codes are plain numbers.

use std::ffi::{OsString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, BytesMut};
use libloading::Library;

use super::cuda::{self, Context};
use super::memory::Stream;
use super::nvenc::Refused;
use super::picture::Planar;
use crate::error::{Error, Kind, Result};
use crate::wire::status::Cause;

/// What is said where it cannot be used at all.
const UNUSABLE: &str = "nvJPEG cannot be used";

/// How to come by it.
pub const REMEDY: &str = "pip install nvidia-nvjpeg-cu12, or install the CUDA toolkit";

/// Of the toolkits 12, 13 and 11, the oldest last.
const NAMES: [&str; 3] = ["libnvjpeg.so.12", "libnvjpeg.so.13", "libnvjpeg.so.11"];

/// `nvjpegStatus_t`.
type Status = c_int;

/// Names of the codes, from 0 (nvjpeg.h).
const CODES: [&str; 11] = [
    "NVJPEG_STATUS_SUCCESS",
    "NVJPEG_STATUS_NOT_INITIALIZED",
    "NVJPEG_STATUS_INVALID_PARAMETER",
    "NVJPEG_STATUS_BAD_JPEG",
    "NVJPEG_STATUS_JPEG_NOT_SUPPORTED",
    "NVJPEG_STATUS_ALLOCATOR_FAILURE",
    "NVJPEG_STATUS_EXECUTION_FAILED",
    "NVJPEG_STATUS_ARCH_MISMATCH",
    "NVJPEG_STATUS_INTERNAL_ERROR",
    "NVJPEG_STATUS_IMPLEMENTATION_NOT_SUPPORTED",
    "NVJPEG_STATUS_INCOMPLETE_BITSTREAM",
];

/// `NVJPEG_CSS_420`.
const CSS_420: c_int = 2;

/// `nvjpegImage_t`: planes and their pitches.
#[repr(C)]
struct Image {
    channel: [u64; 4],
    pitch: [usize; 4],
}

const _: () = assert!(size_of::<Image>() == 64 && size_of::<*mut u8>() == 8);

type Create = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut c_void) -> Status;
type Destroy = unsafe extern "C" fn(*mut c_void) -> Status;
type Set = unsafe extern "C" fn(*mut c_void, c_int, *mut c_void) -> Status;

crate::gpu::library::functions! {
    struct Functions {
        nvjpegGetProperty: unsafe extern "C" fn(c_int, *mut c_int) -> Status,
        nvjpegCreateSimple: unsafe extern "C" fn(*mut *mut c_void) -> Status,
        nvjpegDestroy: Destroy,
        nvjpegEncoderStateCreate: Create,
        nvjpegEncoderStateDestroy: Destroy,
        nvjpegEncoderParamsCreate: Create,
        nvjpegEncoderParamsDestroy: Destroy,
        nvjpegEncoderParamsSetQuality: Set,
        nvjpegEncoderParamsSetOptimizedHuffman: Set,
        nvjpegEncoderParamsSetSamplingFactors: Set,
        nvjpegEncodeYUV:
            unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, *const Image, c_int, c_int, c_int, *mut c_void) -> Status,
        nvjpegEncodeRetrieveBitstream:
            unsafe extern "C" fn(*mut c_void, *mut c_void, *mut u8, *mut usize, *mut c_void) -> Status,
    }
}

/// The loaded library.
struct Api {
    functions: Functions,
    path: PathBuf,
    /// Major, minor, patch level.
    version: [c_int; 3],
    /// Where the functions are.
    _library: Library,
}

impl Api {
    /// The library, loaded now or before. Only success is kept: it may be installed while the program runs.
    fn get() -> Result<&'static Api, Refused> {
        static LOADED: Mutex<Option<&'static Api>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap();
        if let Some(api) = *loaded {
            return Ok(api);
        }
        let api = Api::load().map_err(|error| Refused { cause: Cause::NoDriver, error })?;
        // Never unloaded: encoders would have to end before, and it gains nothing.
        let api: &'static Api = Box::leak(Box::new(api));
        *loaded = Some(api);
        Ok(api)
    }

    fn load() -> Result<Api> {
        let (library, path) = open(|name| std::env::var_os(name))?;
        let broken = |what: String| Error::missing(UNUSABLE).cause(format!("{}: {what}", path.display())).hint(REMEDY);
        // SAFETY: a library of that name is nvJPEG.
        let functions = unsafe { Functions::load(&library) }.map_err(|name| broken(format!("it has no {name}")))?;
        let mut version = [0; 3];
        for (part, value) in version.iter_mut().enumerate() {
            // SAFETY: the second argument is a place for one int; the first a libraryPropertyType, of which there are three.
            let code = unsafe { (functions.nvjpegGetProperty)(part as c_int, value) };
            if code != 0 {
                return Err(broken(format!("nvjpegGetProperty returned {}", code_name(code))));
            }
        }
        Ok(Api { functions, path, version, _library: library })
    }
}

/// Opens the library where it is found first.
fn open(variable: impl Fn(&str) -> Option<OsString> + Copy) -> Result<(Library, PathBuf)> {
    // SAFETY: NVIDIA's library has no initialisers that depend on anything of ours.
    let load = |path: &Path| unsafe { Library::new(path) };
    if let Some(path) = given(variable, "GSK_NVJPEG_LIBRARY") {
        return match load(&path) {
            Ok(library) => Ok((library, path)),
            Err(error) => Err(Error::missing(UNUSABLE)
                .cause(format!("GSK_NVJPEG_LIBRARY cannot be opened: {error}"))
                .hint("unset GSK_NVJPEG_LIBRARY")),
        };
    }
    let named = NAMES.iter().map(PathBuf::from);
    let in_folders = folders(variable).into_iter().flat_map(|folder| NAMES.map(|name| folder.join(name)));
    // One that is there and cannot be opened says more than one that is not there.
    let mut why = None;
    for path in named.chain(in_folders.filter(|path| path.exists())) {
        match load(&path) {
            Ok(library) => return Ok((library, path)),
            Err(error) if error.to_string().contains("No such file") => {}
            Err(error) => why = why.or(Some(format!("{} cannot be opened: {error}", path.display()))),
        }
    }
    let why = why.unwrap_or_else(|| format!("{} is not on this host", NAMES[0]));
    Err(Error::missing(UNUSABLE).cause(why).hint(REMEDY))
}

/// A variable's value, if it has one.
fn given(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where toolkits and Python packages put the library, beyond where the loader looks.
fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let local = Path::new("/usr/local");
    let mut toolkits = entries(local, "cuda-");
    // The newest first, as far as names tell.
    toolkits.sort_by(|a, b| b.cmp(a));
    let toolkits = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(|name| given(&variable, name))
        .chain([local.join("cuda")])
        .chain(toolkits);
    let target = format!("targets/{}-linux/lib", std::env::consts::ARCH);
    let mut folders: Vec<PathBuf> =
        toolkits.flat_map(|root| [root.join("lib64"), root.join(&target), root.join("lib")]).collect();
    let conda = given(&variable, "CONDA_PREFIX");
    folders.extend(conda.iter().map(|root| root.join("lib")));
    let home = given(&variable, "HOME").map(|home| home.join(".local"));
    let roots = given(&variable, "VIRTUAL_ENV").into_iter().chain(conda).chain(home);
    for root in roots.chain([local.into(), "/usr".into()]) {
        for python in entries(&root.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(["nvjpeg/lib", "cu13/lib"].map(|folder| nvidia.join(folder)));
            }
        }
    }
    folders
}

/// What lies in a folder and has a name that begins so.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let named = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

/// Whether this host has a libnvjpeg that can be used, and libcuda with it. Asks no board.
pub fn find() -> Result<(), Refused> {
    Api::get()?;
    cuda::find().map_err(refused)
}

/// The library's path (or the name that the loader knows it by) and its version.
pub fn library() -> Result<(PathBuf, String), Refused> {
    let api = Api::get()?;
    Ok((api.path.clone(), api.version.map(|part| part.to_string()).join(".")))
}

/// The device of CUDA's number `near`, else the one of that UUID, or the first that CUDA shows.
pub fn device(near: Option<u32>, uuid: Option<&str>) -> Result<Arc<Context>, Refused> {
    let devices = cuda::devices().map_err(refused)?;
    let none = || {
        let error = Error::missing(UNUSABLE)
            .cause(match uuid {
                Some(uuid) => format!("CUDA does not show {uuid} to this process"),
                None => "CUDA shows no device to this process".into(),
            })
            .hint("look at CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all");
        Refused { cause: Cause::NoEngine, error }
    };
    let nearest = devices.iter().find(|device| Some(device.ordinal) == near);
    let chosen = || devices.iter().find(|device| uuid.is_none_or(|uuid| device.is(uuid)));
    let device = nearest.or_else(chosen).ok_or_else(none)?;
    Ok(Arc::new(Context::retain(device).map_err(refused)?))
}

fn refused(error: Error) -> Refused {
    let cause = if error.kind == Kind::Missing { Cause::NoDriver } else { Cause::Fault };
    Refused { cause, error }
}

fn code_name(code: Status) -> String {
    let name = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    name.map_or_else(|| format!("{code}, which nvJPEG 12.4 does not know"), |name| format!("{code} ({name})"))
}

/// A code in words, with what to do about it where that is known.
fn explain(call: &str, code: Status) -> Refused {
    let (cause, kind, hint) = match code {
        // Seen of 11.9, 12.4 and 13.3 where there is no driver.
        1 | 6 if call == "nvjpegCreateSimple" => {
            let hint = "the driver may be older than the library: compare it with nvidia-smi's CUDA version";
            (Cause::NoDriver, Kind::Missing, Some(hint))
        }
        5 => (Cause::Fault, Kind::Capacity, Some("free GPU memory: nvidia-smi shows who uses it")),
        6 | 8 => (Cause::Fault, Kind::Failed, Some("look at the kernel's log: dmesg")),
        7 => {
            (Cause::NoEngine, Kind::Missing, Some("an older nvJPEG may know this GPU: pip install nvidia-nvjpeg-cu11"))
        }
        _ => (Cause::Fault, Kind::Failed, None),
    };
    let mut error = Error::new(kind, UNUSABLE).cause(format!("{call} returned {}", code_name(code)));
    error.hint = hint.map(Into::into);
    Refused { cause, error }
}

/// Calls a function of the library; an error carries its name.
macro_rules! call {
    ($api:expr, $name:ident $(, $arg:expr)*) => {
        match ($api.functions.$name)($($arg),*) {
            0 => Ok(()),
            code => Err(explain(stringify!($name), code)),
        }
    };
}

/// What the library gave, destroyed when dropped, with its context current.
struct Handle {
    context: Arc<Context>,
    raw: *mut c_void,
    name: &'static str,
    destroy: Destroy,
}

// SAFETY: the library ties none of its handles to a thread; `&mut` of their owner keeps calls apart.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        let _current = self.context.current();
        // SAFETY: the handle is live, and this is its last use.
        let code = unsafe { (self.destroy)(self.raw) };
        if code != 0 {
            tracing::debug!("{} returned {}", self.name, code_name(code));
        }
    }
}

/// An encoder: baseline, 4:2:0, the standard Huffman tables.
pub struct Encoder {
    api: &'static Api,
    // Dropped in this order: what is made of the handle goes before it, and the stream that they work in last.
    params: Handle,
    state: Handle,
    handle: Handle,
    stream: Stream,
    /// That of `params`.
    quality: Option<u8>,
    /// Bytes that room is made for.
    expected: usize,
}

impl Encoder {
    pub fn open(context: &Arc<Context>) -> Result<Encoder, Refused> {
        let api = Api::get()?;
        let stream = Stream::new(context).map_err(refused)?;
        let _current = context.current().map_err(refused)?;
        let queue = stream.raw().cast();
        let owned = |raw, name, destroy| Handle { context: context.clone(), raw, name, destroy };
        let functions = &api.functions;
        let mut raw = ptr::null_mut();
        // SAFETY: the argument is a place for one handle; a context is current, which the library works in.
        unsafe { call!(api, nvjpegCreateSimple, &mut raw)? };
        let handle = owned(raw, "nvjpegDestroy", functions.nvjpegDestroy);
        // SAFETY: the handle and the stream are live, the second argument is a place for one handle.
        unsafe { call!(api, nvjpegEncoderStateCreate, handle.raw, &mut raw, queue)? };
        let state = owned(raw, "nvjpegEncoderStateDestroy", functions.nvjpegEncoderStateDestroy);
        // SAFETY: as above.
        unsafe { call!(api, nvjpegEncoderParamsCreate, handle.raw, &mut raw, queue)? };
        let params = owned(raw, "nvjpegEncoderParamsDestroy", functions.nvjpegEncoderParamsDestroy);
        // SAFETY: the parameters and the stream are live.
        unsafe {
            call!(api, nvjpegEncoderParamsSetSamplingFactors, params.raw, CSS_420, queue)?;
            // Tables made for each picture save some percent and take a pass more over it.
            call!(api, nvjpegEncoderParamsSetOptimizedHuffman, params.raw, 0, queue)?;
        }
        Ok(Encoder { api, params, state, handle, stream, quality: None, expected: 0 })
    }

    /// The stream that it works in: what is queued there before is done before.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Appends the JPEG of a picture, whose planes are BT.601 full range, of the encoder's device. `quality`: 1 to 100.
    pub fn encode(&mut self, picture: &Planar, quality: u8, out: &mut BytesMut) -> Result<()> {
        let context = self.stream.context().clone();
        if !picture.context().same(&context) {
            return Err(Error::bug("a picture of another device than the encoder's"));
        }
        let _current = context.current()?;
        let queue = self.stream.raw().cast();
        if self.quality != Some(quality) {
            // SAFETY: the parameters and the stream are live.
            unsafe { call!(self.api, nvjpegEncoderParamsSetQuality, self.params.raw, quality.into(), queue)? };
            self.quality = Some(quality);
        }
        let (planes, (width, height)) = (picture.planes(), picture.size());
        let image = Image {
            channel: [planes[0].pointer, planes[1].pointer, planes[2].pointer, 0],
            pitch: [planes[0].pitch, planes[1].pitch, planes[2].pitch, 0],
        };
        let (handle, state, params) = (self.handle.raw, self.state.raw, self.params.raw);
        let (wide, high) = (width as c_int, height as c_int);
        // SAFETY: all handles are live and of one context, which is current; the planes are whole in its device's memory, and
        // borrowed until the stream has been waited for.
        let encoded =
            unsafe { call!(self.api, nvjpegEncodeYUV, handle, state, params, &image, CSS_420, wide, high, queue) };
        // A fourth of a byte a pixel is more than a first picture takes, but one of noise.
        let guess = if self.expected == 0 { (width * height / 4) as usize } else { self.expected };
        let done = encoded.and_then(|()| {
            self.retrieve(guess, out).or_else(|refused| match self.length() {
                // It did not fit.
                Ok(len) if len > guess => self.retrieve(len, out),
                _ => Err(refused),
            })
        });
        // Whatever came of it, nothing reads the planes any more.
        self.stream.finish()?;
        self.expected = (done? * 3 / 2).next_multiple_of(4096);
        Ok(())
    }

    /// Appends the picture that was encoded, if it has no more than `most` bytes; gives how many it has.
    fn retrieve(&self, most: usize, out: &mut BytesMut) -> Result<usize, Refused> {
        out.reserve(most);
        let (mut len, queue) = (most, self.stream.raw().cast());
        let into = out.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: `into` has room for `len` bytes, and `len` says so.
        unsafe {
            call!(self.api, nvjpegEncodeRetrieveBitstream, self.handle.raw, self.state.raw, into, &mut len, queue)?
        };
        self.stream.finish().map_err(refused)?;
        if len > most {
            return Err(refused(
                Error::failed(UNUSABLE).cause("nvjpegEncodeRetrieveBitstream gave more than there was room for"),
            ));
        }
        // SAFETY: the library has written `len` bytes, which are within the room that was reserved.
        unsafe { out.advance_mut(len) };
        Ok(len)
    }

    /// How many bytes the picture has that was encoded.
    fn length(&self) -> Result<usize, Refused> {
        let (mut len, queue, none) = (0, self.stream.raw().cast(), ptr::null_mut());
        // SAFETY: without a place for it, only the length is written.
        unsafe {
            call!(self.api, nvjpegEncodeRetrieveBitstream, self.handle.raw, self.state.raw, none, &mut len, queue)?
        };
        self.stream.finish().map_err(refused)?;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolkits_and_python_packages_are_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let packages = dir.path().join("venv/lib/python3.12/site-packages");
        std::fs::create_dir_all(&packages).unwrap();
        let variable = |name: &str| match name {
            "CUDA_HOME" => Some("/opt/cuda".into()),
            "CUDA_PATH" => Some("".into()),
            "VIRTUAL_ENV" => Some(dir.path().join("venv").into_os_string()),
            "CONDA_PREFIX" => Some("/opt/conda".into()),
            _ => None,
        };
        let folders = folders(variable);
        let target = format!("/opt/cuda/targets/{}-linux/lib", std::env::consts::ARCH);
        let at = |path: &Path| {
            folders.iter().position(|folder| folder == path).unwrap_or_else(|| panic!("{path:?}: {folders:?}"))
        };
        let order = [
            at(Path::new("/opt/cuda/lib64")),
            at(Path::new(&target)),
            at(Path::new("/usr/local/cuda/lib64")),
            at(Path::new("/opt/conda/lib")),
            at(&packages.join("nvidia/nvjpeg/lib")),
            at(&packages.join("nvidia/cu13/lib")),
        ];
        assert!(order.is_sorted(), "{folders:?}");
        assert!(folders.iter().all(|folder| folder.is_absolute()), "never a folder beside us: {folders:?}");
    }

    #[test]
    fn a_library_that_was_named_is_the_only_one() {
        let nowhere = |name: &str| (name == "GSK_NVJPEG_LIBRARY").then(|| "/nowhere/libnvjpeg.so".into());
        let error = open(nowhere).map(drop).unwrap_err();
        assert_eq!((error.kind, error.hint.as_deref()), (Kind::Missing, Some("unset GSK_NVJPEG_LIBRARY")));
        assert!(error.cause.unwrap().contains("/nowhere/libnvjpeg.so"));
    }

    #[test]
    fn codes_become_words() {
        for (code, cause, kind, says) in [
            (5, Cause::Fault, Kind::Capacity, "5 (NVJPEG_STATUS_ALLOCATOR_FAILURE)"),
            (6, Cause::Fault, Kind::Failed, "6 (NVJPEG_STATUS_EXECUTION_FAILED)"),
            (7, Cause::NoEngine, Kind::Missing, "7 (NVJPEG_STATUS_ARCH_MISMATCH)"),
            (99, Cause::Fault, Kind::Failed, "99, which nvJPEG 12.4 does not know"),
            (-1, Cause::Fault, Kind::Failed, "-1, which"),
        ] {
            let refused = explain("nvjpegEncodeYUV", code);
            assert_eq!((refused.cause, refused.error.kind), (cause, kind));
            assert!(refused.detail().starts_with(&format!("nvjpegEncodeYUV returned {says}")), "{}", refused.detail());
        }
    }
}
