//! Memory of a device, host memory that it copies to and from without a detour, and the streams that order its work.

use std::ffi::{c_uint, c_void};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use cudarc::driver::sys::{CUDA_MEMCPY2D, CUarray, CUdeviceptr, CUmemorytype, CUstream};

use super::cuda::{CUresult, Context, functions};
use crate::error::{Error, Result};

functions! { of a context:
    cuStreamCreate: unsafe extern "C" fn(*mut CUstream, c_uint) -> CUresult,
    cuStreamDestroy_v2: unsafe extern "C" fn(CUstream) -> CUresult,
    cuStreamSynchronize: unsafe extern "C" fn(CUstream) -> CUresult,
    cuMemAlloc_v2: unsafe extern "C" fn(*mut CUdeviceptr, usize) -> CUresult,
    cuMemFree_v2: unsafe extern "C" fn(CUdeviceptr) -> CUresult,
    cuMemAllocHost_v2: unsafe extern "C" fn(*mut *mut c_void, usize) -> CUresult,
    cuMemFreeHost: unsafe extern "C" fn(*mut c_void) -> CUresult,
    cuMemcpy2DAsync_v2: unsafe extern "C" fn(*const CUDA_MEMCPY2D, CUstream) -> CUresult,
}

/// The error of a function that libcuda has not.
pub(super) fn lacks(name: &str) -> Error {
    Error::missing("CUDA cannot be used")
        .cause(format!("libcuda has no {name}"))
        .hint("install the NVIDIA driver again, 530 or newer")
}

/// `CU_STREAM_NON_BLOCKING`: nothing waits for the default stream.
const NON_BLOCKING: c_uint = 1;

/// Bytes that rows of pictures are a multiple of, as texture units and NVENC like them.
const ALIGNMENT: usize = 256;

/// The pitch of rows of so many bytes.
pub fn pitch(row: usize) -> usize {
    row.next_multiple_of(ALIGNMENT)
}

/// A queue of work for a device: what is in it is done in order, and beside that of other queues.
pub struct Stream {
    context: Arc<Context>,
    api: &'static Functions,
    raw: CUstream,
}

// SAFETY: a stream is not tied to a thread.
unsafe impl Send for Stream {}
// SAFETY: the driver's functions may be called on one from several threads.
unsafe impl Sync for Stream {}

impl Stream {
    pub fn new(context: &Arc<Context>) -> Result<Stream> {
        let api = Functions::get(context)?;
        let _current = context.current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle.
        context.check("cuStreamCreate", unsafe { (api.cuStreamCreate)(&mut raw, NON_BLOCKING) })?;
        Ok(Stream { context: context.clone(), api, raw })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits, asleep, until all that is in it is done; an error may be that of any of it.
    pub fn finish(&self) -> Result<()> {
        let _current = self.context.current()?;
        // SAFETY: the stream is live.
        self.context.check("cuStreamSynchronize", unsafe { (self.api.cuStreamSynchronize)(self.raw) })
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Queues a copy of rows. Host memory that is not pinned may be read or written before this returns.
    ///
    /// # Safety
    /// Both sides hold `rows` rows of `row` bytes, the first at its beginning, as far apart as their pitch says, until the
    /// stream has done it.
    pub(super) unsafe fn copy(&self, from: Side, to: Side, row: usize, rows: usize) -> Result<()> {
        let _current = self.context.current()?;
        let copy = copy(from, to, row, rows);
        // SAFETY: as the caller promises.
        self.context.check("cuMemcpy2DAsync", unsafe { (self.api.cuMemcpy2DAsync_v2)(&copy, self.raw) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _current = self.context.current();
        // SAFETY: the stream is live, and this is its last use; what is still in it is done before it goes.
        note(&self.context, "cuStreamDestroy", unsafe { (self.api.cuStreamDestroy_v2)(self.raw) });
    }
}

/// Where a copy comes from or goes to, with its pitch.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Host(*mut u8, usize),
    Device(CUdeviceptr, usize),
    Array(CUarray),
}

/// A copy of `rows` rows of `row` bytes.
pub(super) fn copy(from: Side, to: Side, row: usize, rows: usize) -> CUDA_MEMCPY2D {
    let (src_host, src_device, src_array, src_pitch, src_type) = parts(from);
    let (dst_host, dst_device, dst_array, dst_pitch, dst_type) = parts(to);
    CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: src_type,
        srcHost: src_host,
        srcDevice: src_device,
        srcArray: src_array,
        srcPitch: src_pitch,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: dst_type,
        dstHost: dst_host,
        dstDevice: dst_device,
        dstArray: dst_array,
        dstPitch: dst_pitch,
        WidthInBytes: row,
        Height: rows,
    }
}

fn parts(side: Side) -> (*mut c_void, CUdeviceptr, CUarray, usize, CUmemorytype) {
    match side {
        Side::Host(host, pitch) => (host.cast(), 0, ptr::null_mut(), pitch, CUmemorytype::CU_MEMORYTYPE_HOST),
        Side::Device(device, pitch) => {
            (ptr::null_mut(), device, ptr::null_mut(), pitch, CUmemorytype::CU_MEMORYTYPE_DEVICE)
        }
        Side::Array(array) => (ptr::null_mut(), 0, array, 0, CUmemorytype::CU_MEMORYTYPE_ARRAY),
    }
}

/// Memory of a device, of unspecified content.
pub struct Memory {
    context: Arc<Context>,
    api: &'static Functions,
    pointer: CUdeviceptr,
    len: usize,
}

impl Memory {
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Memory> {
        let api = Functions::get(context)?;
        let _current = context.current()?;
        let mut pointer = 0;
        // SAFETY: the first argument is a place for one pointer.
        context.check("cuMemAlloc", unsafe { (api.cuMemAlloc_v2)(&mut pointer, len) })?;
        Ok(Memory { context: context.clone(), api, pointer, len })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The address on the device, which is a multiple of 256.
    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _current = self.context.current();
        // SAFETY: it was allocated, and this is its last use; work of the device on it is done before it goes.
        note(&self.context, "cuMemFree", unsafe { (self.api.cuMemFree_v2)(self.pointer) });
    }
}

/// Host memory that stays where it is, so that a device copies to and from it by itself.
pub struct Pinned {
    context: Arc<Context>,
    api: &'static Functions,
    bytes: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory that `self` alone owns.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Zeros.
    pub fn new(context: &Arc<Context>, len: usize) -> Result<Pinned> {
        let api = Functions::get(context)?;
        let _current = context.current()?;
        let mut bytes = ptr::null_mut();
        // SAFETY: the first argument is a place for one pointer.
        context.check("cuMemAllocHost", unsafe { (api.cuMemAllocHost_v2)(&mut bytes, len) })?;
        let bytes = NonNull::new(bytes.cast::<u8>())
            .ok_or_else(|| Error::failed("CUDA failed").cause("cuMemAllocHost gave no memory"))?;
        // SAFETY: the memory has `len` bytes and is ours; it is initialised before it is lent as a slice.
        unsafe { bytes.write_bytes(0, len) };
        Ok(Pinned { context: context.clone(), api, bytes, len })
    }

    /// As a side of a copy.
    pub(super) fn side(&mut self, at: usize, pitch: usize) -> Side {
        Side::Host(self[at..].as_mut_ptr(), pitch)
    }
}

impl Deref for Pinned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory has `len` bytes, initialised, for as long as `self` lives; whoever queues a copy to it borrows
        // it until that is done.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr(), self.len) }
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.bytes.as_ptr(), self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _current = self.context.current();
        // SAFETY: it was allocated so, and this is its last use.
        note(&self.context, "cuMemFreeHost", unsafe { (self.api.cuMemFreeHost)(self.bytes.as_ptr().cast()) });
    }
}

/// For a call that gives something back, whose failure nobody can do anything about.
fn note(context: &Context, call: &str, code: CUresult) {
    if let Err(error) = context.check(call, code) {
        tracing::debug!("{error}");
    }
}
