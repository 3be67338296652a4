//! OpenGL's textures in CUDA: registered, mapped, and copied as arrays.
//!
//! The calls belong on the thread where the texture's OpenGL context is current. cudarc has no binding for the first of
//! these functions, and a driver may lack any: they are looked up once, as in [`cuda`].

use std::ffi::c_uint;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::{CUDA_MEMCPY2D, CUarray, CUdevice, CUgraphicsResource, CUstream};

use super::convert::Converter;
use super::cuda::{self, CUresult, Context, functions};
use super::egl;
use super::memory::{self, Side, Stream};
use super::picture::{Picture, Pool};
use crate::error::{Error, Result};

const UNUSABLE: &str = "CUDA cannot use OpenGL's texture";

/// `GL_TEXTURE_2D`.
const TEXTURE_2D: u32 = 0x0DE1;

functions! {
    cuGLGetDevices_v2: unsafe extern "C" fn(*mut c_uint, *mut CUdevice, c_uint, c_uint) -> CUresult,
    cuGraphicsGLRegisterImage: unsafe extern "C" fn(*mut CUgraphicsResource, u32, u32, u32) -> CUresult,
    cuGraphicsUnregisterResource: unsafe extern "C" fn(CUgraphicsResource) -> CUresult,
    cuGraphicsMapResources: unsafe extern "C" fn(u32, *mut CUgraphicsResource, CUstream) -> CUresult,
    cuGraphicsUnmapResources: unsafe extern "C" fn(u32, *mut CUgraphicsResource, CUstream) -> CUresult,
    cuGraphicsSubResourceGetMappedArray: unsafe extern "C" fn(*mut CUarray, CUgraphicsResource, u32, u32) -> CUresult,
    cuMemcpy2D_v2: unsafe extern "C" fn(*const CUDA_MEMCPY2D) -> CUresult,
}

impl Functions {
    fn get() -> Result<&'static Functions> {
        static FUNCTIONS: OnceLock<Result<Functions, &'static str>> = OnceLock::new();
        // SAFETY: whoever asks has a device, so the library is there; the types are those of cuda.h and cudaGL.h.
        let functions = FUNCTIONS.get_or_init(|| unsafe { Functions::load() });
        functions.as_ref().map_err(|name| Error { what: UNUSABLE.into(), ..memory::lacks(name) })
    }
}

/// The CUDA device that draws for the OpenGL context which is current on this thread: by what CUDA says of the context, else
/// by the number that EGL gives its device.
pub fn device(context: &egl::Context) -> Result<cuda::Device> {
    let devices = cuda::devices()?;
    let number = context.device.as_ref().and_then(|device| device.cuda);
    let by_number = devices.iter().find(|device| Some(device.ordinal) == number);
    match (drawing(&devices), by_number) {
        (Ok(device), _) => Ok(device.clone()),
        (Err(_), Some(device)) => Ok(device.clone()),
        (Err(error), None) => Err(error),
    }
}

/// The device that CUDA names for the current OpenGL context.
fn drawing(devices: &[cuda::Device]) -> Result<&cuda::Device> {
    let none = |cause: &str| Error::missing(UNUSABLE).cause(cause);
    let first = devices.first().ok_or_else(|| none("CUDA shows no device to this process"))?;
    let api = Functions::get()?;
    let (mut count, mut handles) = (0, [0; 16]);
    /// `CU_GL_DEVICE_LIST_ALL`.
    const ALL: c_uint = 1;
    // SAFETY: the first argument is a place for one number, the second for as many handles as the third says.
    let code = unsafe { (api.cuGLGetDevices_v2)(&mut count, handles.as_mut_ptr(), handles.len() as c_uint, ALL) };
    first.check("cuGLGetDevices", code).map_err(|error| graphics(code, error))?;
    let drawing = handles.iter().take(count as usize).find_map(|&handle| devices.iter().find(|d| d.handle() == handle));
    drawing.ok_or_else(|| none("no CUDA device draws for this OpenGL context"))
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
pub struct Image {
    context: Arc<Context>,
    api: &'static Functions,
    raw: CUgraphicsResource,
}

impl Image {
    /// Registers a texture of the OpenGL context that is current on this thread.
    pub fn register(context: &Arc<Context>, texture: u32, access: Access) -> Result<Image> {
        let api = Functions::get()?;
        let _current = context.current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle; what is no texture of the current context is refused.
        let code = unsafe { (api.cuGraphicsGLRegisterImage)(&mut raw, texture, TEXTURE_2D, access as u32) };
        check(context, "cuGraphicsGLRegisterImage", code)?;
        Ok(Image { context: context.clone(), api, raw })
    }

    /// Hands the texture to CUDA until the guard is dropped: OpenGL must not use it meanwhile. What OpenGL was told to
    /// draw before is in it, for all that CUDA is told from then on.
    pub fn map(&mut self) -> Result<Mapped<'_>> {
        self.map_for(None)
    }

    /// The same for what `stream` is told, and the guard's own copies.
    fn map_for<'a>(&'a mut self, stream: Option<&'a Stream>) -> Result<Mapped<'a>> {
        let context = self.context.clone();
        let _current = context.current()?;
        let (mut raw, queue) = (self.raw, stream.map_or(ptr::null_mut(), Stream::raw));
        // SAFETY: the image is registered and not mapped, as the guard borrows it mutably; a null stream is the default one.
        let code = unsafe { (self.api.cuGraphicsMapResources)(1, &mut raw, queue) };
        check(&self.context, "cuGraphicsMapResources", code)?;
        let mut mapped = Mapped { image: self, stream, array: ptr::null_mut() };
        // SAFETY: the first argument is a place for one handle; the image is mapped and has level 0 of its one layer.
        let code = unsafe { (mapped.image.api.cuGraphicsSubResourceGetMappedArray)(&mut mapped.array, raw, 0, 0) };
        check(&mapped.image.context, "cuGraphicsSubResourceGetMappedArray", code)?;
        Ok(mapped)
    }

    /// What dropping does, with the driver's answer.
    pub fn unregister(mut self) -> Result<()> {
        self.end()
    }

    /// Once: the second time there is nothing to give back.
    fn end(&mut self) -> Result<()> {
        let raw = mem::replace(&mut self.raw, ptr::null_mut());
        if raw.is_null() {
            return Ok(());
        }
        let _current = self.context.current()?;
        // SAFETY: the image is registered and not mapped, and this is its last use.
        let code = unsafe { (self.api.cuGraphicsUnregisterResource)(raw) };
        check(&self.context, "cuGraphicsUnregisterResource", code)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!("{error}");
        }
    }
}

/// A texture while it is CUDA's: an array of rows in OpenGL's order, the lowest first.
pub struct Mapped<'a> {
    image: &'a mut Image,
    /// What it was mapped for, and is unmapped behind; none: the default stream.
    stream: Option<&'a Stream>,
    array: CUarray,
}

impl Mapped<'_> {
    /// Copies rows of `row` bytes each, from the texture's first on, as many as fill `out`.
    pub fn read(&self, row: usize, out: &mut [u8]) -> Result<()> {
        let rows = whole_rows(row, out.len())?;
        // SAFETY: `out` has room for all rows and is borrowed mutably until the copy, which is synchronous, is done.
        unsafe { self.copy(&memory::copy(Side::Array(self.array), Side::Host(out.as_mut_ptr(), row), row, rows)) }
    }

    /// Copies rows of `row` bytes each into the texture, from its first on.
    pub fn write(&self, row: usize, bytes: &[u8]) -> Result<()> {
        let rows = whole_rows(row, bytes.len())?;
        let from = Side::Host(bytes.as_ptr().cast_mut(), row);
        // SAFETY: `bytes` has all rows, is only read, and stays until the copy, which is synchronous, is done.
        unsafe { self.copy(&memory::copy(from, Side::Array(self.array), row, rows)) }
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
        check(&self.image.context, "cuMemcpy2D", unsafe { (self.image.api.cuMemcpy2D_v2)(copy) })
    }

    fn end(&self) -> Result<()> {
        let _current = self.image.context.current()?;
        let mut raw = self.image.raw;
        let queue = self.stream.map_or(ptr::null_mut(), Stream::raw);
        // SAFETY: the image is mapped, and its array is not used after this.
        let code = unsafe { (self.image.api.cuGraphicsUnmapResources)(1, &mut raw, queue) };
        check(&self.image.context, "cuGraphicsUnmapResources", code)
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!("{error}");
        }
    }
}

/// Pictures of a texture, in the memory of the device that draws it. It must be dropped before the texture, on its thread.
pub struct Capture {
    image: Image,
    stream: Stream,
    pool: Pool,
}

impl Capture {
    /// Of a texture (RGBA, four bytes a pixel) of the context that is current on this thread. Where the driver cannot load
    /// the kernels that such pictures are converted by, none is taken: nothing could be made of it.
    pub fn new(context: &Arc<Context>, texture: u32, width: u32, height: u32) -> Result<Capture> {
        Converter::new(context).map_err(|error| Error { what: UNUSABLE.into(), ..error })?;
        let image = Image::register(context, texture, Access::Read)?;
        Ok(Capture { image, stream: Stream::new(context)?, pool: Pool::new(context, width, height) })
    }

    /// A copy of what OpenGL was told to draw so far, complete when this returns. Its rows are in the texture's order.
    pub fn take(&mut self) -> Result<Picture> {
        let picture = self.pool.take()?;
        let mapped = self.image.map_for(Some(&self.stream))?;
        let (row, rows) = (picture.width() as usize * 4, picture.height() as usize);
        // SAFETY: the picture has room for all rows; the array is mapped, whose bounds are the driver's to check; both
        // live until the stream has done it, below.
        let copied = unsafe { self.stream.copy(Side::Array(mapped.array), picture.side(), row, rows) };
        let unmapped = mapped.unmap();
        // Whatever was queued is done before the picture may go.
        let finished = self.stream.finish();
        copied.and(unmapped).and(finished).map_err(|error| Error { what: UNUSABLE.into(), ..error })?;
        Ok(picture)
    }
}

/// How many rows of `row` bytes are in `bytes`.
fn whole_rows(row: usize, bytes: usize) -> Result<usize> {
    if row == 0 || !bytes.is_multiple_of(row) {
        return Err(Error::bug(format!("{bytes} bytes are no rows of {row}")));
    }
    Ok(bytes / row)
}

fn check(context: &Context, call: &str, code: CUresult) -> Result<()> {
    context.check(call, code).map_err(|error| graphics(code, error))
}

/// An error of CUDA, where OpenGL is concerned.
fn graphics(code: CUresult, error: Error) -> Error {
    let hint = explain(code).map(Into::into).or(error.hint);
    Error { what: UNUSABLE.into(), hint, ..error }
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
        assert_eq!(whole_rows(8, 24).unwrap(), 3);
        assert!(whole_rows(8, 25).is_err() && whole_rows(0, 8).is_err());
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
