//! Pictures in a device's memory.

use std::sync::{Arc, Mutex, Weak};

use cudarc::driver::sys::CUdeviceptr;

use super::cuda::Context;
use super::memory::{Memory, Pinned, Side, Stream, pitch};
use crate::error::{Error, Result};

/// RGBA, four bytes a pixel, rows top-down, each beginning at a multiple of 256 bytes. What is in it is complete.
pub struct Picture {
    /// Gone only while `self` is dropped.
    memory: Option<Memory>,
    width: u32,
    height: u32,
    home: Weak<Mutex<Vec<Memory>>>,
}

impl Picture {
    /// Of unspecified content, and of no pool.
    pub fn new(context: &Arc<Context>, width: u32, height: u32) -> Result<Picture> {
        let memory = Some(Memory::new(context, pitch(width as usize * 4) * height as usize)?);
        Ok(Picture { memory, width, height, home: Weak::new() })
    }

    /// Pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes from a row's beginning to that of the next.
    pub fn pitch(&self) -> usize {
        pitch(self.row())
    }

    pub fn context(&self) -> &Arc<Context> {
        self.memory().context()
    }

    fn row(&self) -> usize {
        self.width as usize * 4
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("a picture has its memory")
    }

    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.memory().pointer()
    }

    /// As a side of a copy of its rows.
    pub(super) fn side(&self) -> Side {
        Side::Device(self.pointer(), self.pitch())
    }

    /// Bytes of its pixels in host memory.
    pub fn bytes(&self) -> usize {
        self.row() * self.height as usize
    }

    /// Copies rows that lie in host memory, tightly packed, to the device.
    pub fn upload(&mut self, stream: &Stream, from: &mut Pinned) -> Result<()> {
        if from.len() < self.bytes() {
            return Err(Error::bug(format!("{} bytes for a picture of {}", from.len(), self.bytes())));
        }
        let from = from.side(0, self.row());
        // SAFETY: both sides have all rows; both are borrowed until the copy is done.
        unsafe { stream.copy(from, self.side(), self.row(), self.height as usize)? };
        stream.finish()
    }

    /// Copies another of the same size and device.
    pub fn copy(&mut self, stream: &Stream, from: &Picture) -> Result<()> {
        if (from.width, from.height) != (self.width, self.height) {
            return Err(Error::bug(format!("{from:?} was to be copied to {self:?}")));
        }
        // SAFETY: both sides have all rows; both are borrowed until the copy is done.
        unsafe { stream.copy(from.side(), self.side(), self.row(), self.height as usize)? };
        stream.finish()
    }

    /// Copies it to the host, rows tightly packed.
    pub fn download(&self, stream: &Stream, into: &mut Pinned) -> Result<()> {
        if into.len() < self.bytes() {
            return Err(Error::bug(format!("{} bytes for a picture of {}", into.len(), self.bytes())));
        }
        let to = into.side(0, self.row());
        // SAFETY: both sides have room for all rows; `into` is borrowed until the copy is done.
        unsafe { stream.copy(self.side(), to, self.row(), self.height as usize)? };
        stream.finish()
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        if let (Some(home), Some(memory)) = (self.home.upgrade(), self.memory.take()) {
            home.lock().unwrap().push(memory);
        }
    }
}

/// What NVENC reads.
pub enum Surface {
    Nv12(Nv12),
    Rgba(Picture),
}

impl Surface {
    /// Pixels.
    pub fn size(&self) -> (u32, u32) {
        match self {
            Surface::Nv12(picture) => picture.size(),
            Surface::Rgba(picture) => (picture.width, picture.height),
        }
    }

    /// Bytes from a row's beginning to that of the next.
    pub fn pitch(&self) -> usize {
        match self {
            Surface::Nv12(picture) => picture.pitch(),
            Surface::Rgba(picture) => picture.pitch(),
        }
    }

    pub(super) fn pointer(&self) -> CUdeviceptr {
        match self {
            Surface::Nv12(picture) => picture.pointer(),
            Surface::Rgba(picture) => picture.pointer(),
        }
    }
}

/// Recycles the memory of pictures of one size.
pub struct Pool {
    context: Arc<Context>,
    width: u32,
    height: u32,
    free: Arc<Mutex<Vec<Memory>>>,
}

impl Pool {
    pub fn new(context: &Arc<Context>, width: u32, height: u32) -> Pool {
        Pool { context: context.clone(), width, height, free: Arc::default() }
    }

    /// A picture of unspecified content, whose memory comes back here when it is dropped.
    pub fn take(&self) -> Result<Picture> {
        let idle = self.free.lock().unwrap().pop();
        let bytes = pitch(self.width as usize * 4) * self.height as usize;
        let memory = idle.map_or_else(|| Memory::new(&self.context, bytes), Ok)?;
        Ok(Picture { memory: Some(memory), width: self.width, height: self.height, home: Arc::downgrade(&self.free) })
    }
}

/// A plane of [`Planar`]: its address on the device, its pitch, its row's bytes, and its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    pub pointer: u64,
    pub pitch: usize,
    pub row: usize,
    pub rows: usize,
}

/// I420 in a device's memory: Y (width × height), U and V (half of both), one after another, each row beginning at a
/// multiple of 256 bytes.
pub struct Planar {
    memory: Memory,
    width: u32,
    height: u32,
}

impl Planar {
    /// Of unspecified content. Both sides are even.
    pub fn new(context: &Arc<Context>, width: u32, height: u32) -> Result<Planar> {
        let bytes = layout(0, width, height).iter().map(|plane| plane.pitch * plane.rows).sum();
        Ok(Planar { memory: Memory::new(context, bytes)?, width, height })
    }

    /// Width and height of its luma, pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    pub fn context(&self) -> &Arc<Context> {
        self.memory.context()
    }

    /// Y, U and V.
    pub fn planes(&self) -> [Plane; 3] {
        layout(self.memory.pointer(), self.width, self.height)
    }

    /// Copies it to the host: planes one after another, rows tightly packed.
    pub fn download(&self, stream: &Stream, into: &mut Pinned) -> Result<()> {
        let queued = self.copy(into, |on_device, on_host, plane| {
            // SAFETY: both sides have room for all rows, as `copy` gives them; `into` is borrowed until it is done.
            unsafe { stream.copy(on_device, on_host, plane.row, plane.rows) }
        });
        // Whatever was queued before one failed is done before the memory may go.
        let finished = stream.finish();
        queued.and(finished)
    }

    /// Copies planes as [`Planar::download`] gives them to the device.
    pub fn upload(&mut self, stream: &Stream, from: &mut Pinned) -> Result<()> {
        let queued = self.copy(from, |on_device, on_host, plane| {
            // SAFETY: as above.
            unsafe { stream.copy(on_host, on_device, plane.row, plane.rows) }
        });
        let finished = stream.finish();
        queued.and(finished)
    }

    fn copy(&self, host: &mut Pinned, copy: impl Fn(Side, Side, Plane) -> Result<()>) -> Result<()> {
        let planes = self.planes();
        let bytes: usize = planes.iter().map(|plane| plane.row * plane.rows).sum();
        if host.len() < bytes {
            return Err(Error::bug(format!("{} bytes for planes of {bytes}", host.len())));
        }
        let mut at = 0;
        for plane in planes {
            copy(Side::Device(plane.pointer, plane.pitch), host.side(at, plane.row), plane)?;
            at += plane.row * plane.rows;
        }
        Ok(())
    }
}

/// NV12 in a device's memory: rows of luma, then as far apart half as many of interleaved chroma, each beginning at a multiple
/// of 256 bytes.
pub struct Nv12 {
    memory: Memory,
    width: u32,
    height: u32,
}

impl Nv12 {
    /// Of unspecified content. Both sides are even.
    pub fn new(context: &Arc<Context>, width: u32, height: u32) -> Result<Nv12> {
        let bytes = pitch(width as usize) * height as usize * 3 / 2;
        Ok(Nv12 { memory: Memory::new(context, bytes)?, width, height })
    }

    /// Width and height of its luma, pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Bytes from a row's beginning to that of the next.
    pub fn pitch(&self) -> usize {
        pitch(self.width as usize)
    }

    /// Bytes in all, those between rows included.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    pub fn context(&self) -> &Arc<Context> {
        self.memory.context()
    }

    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.memory.pointer()
    }

    /// Copies what lies in host memory at the same pitch to the device.
    pub fn upload(&mut self, stream: &Stream, from: &mut Pinned) -> Result<()> {
        if from.len() < self.bytes() {
            return Err(Error::bug(format!("{} bytes for a picture of {}", from.len(), self.bytes())));
        }
        let (pitch, rows) = (self.pitch(), self.height as usize * 3 / 2);
        // SAFETY: both sides have all rows at that pitch; both are borrowed until the copy is done.
        unsafe {
            stream.copy(from.side(0, pitch), Side::Device(self.pointer(), pitch), self.width as usize, rows)?;
        }
        stream.finish()
    }
}

fn layout(start: CUdeviceptr, width: u32, height: u32) -> [Plane; 3] {
    let (width, height) = (width as usize, height as usize);
    let mut pointer = start;
    [(width, height), (width / 2, height / 2), (width / 2, height / 2)].map(|(row, rows)| {
        let plane = Plane { pointer, pitch: pitch(row), row, rows };
        pointer += (plane.pitch * rows) as CUdeviceptr;
        plane
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_follow_one_another_on_even_ground() {
        let [y, u, v] = layout(512, 642, 362);
        assert_eq!(y, Plane { pointer: 512, pitch: 768, row: 642, rows: 362 });
        assert_eq!(u, Plane { pointer: 512 + 768 * 362, pitch: 512, row: 321, rows: 181 });
        assert_eq!(v, Plane { pointer: u.pointer + 512 * 181, ..u });
    }
}
