//! One picture on its way to the encoder, and the pool that its memory comes from.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::{Arc, Mutex, Weak};

use crate::error::{Error, Result};
use crate::gpu::picture::Picture;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    /// The least and the most that a side may measure, in pixels.
    pub const SIDE: std::ops::RangeInclusive<u32> = 16..=8192;

    pub const fn new(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    pub fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Refuses what 4:2:0 video cannot carry: odd sides, and sides outside [`Size::SIDE`].
    pub fn check(self) -> Result<Size> {
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if !Size::SIDE.contains(&side) {
                return Err(Error::usage(format!(
                    "{self}: the {name} is outside {} to {}",
                    Size::SIDE.start(),
                    Size::SIDE.end()
                )));
            }
            if side % 2 != 0 {
                return Err(Error::usage(format!("{self}: the {name} is odd, and 4:2:0 video has even sides only"))
                    .hint(format!("use {} or {}", side - 1, side + 1)));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Size> {
        let size = text.split_once(['x', 'X']).and_then(|(w, h)| Some(Size::new(w.parse().ok()?, h.parse().ok()?)));
        size.ok_or_else(|| {
            Error::usage(format!("'{text}' is not a size")).hint("write WIDTHxHEIGHT, such as 1280x720")
        })?
        .check()
    }
}

/// How pixels lie in memory. Rows are tightly packed (stride = width × bytes per pixel), planes follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelFormat {
    Rgb24,
    Rgba,
    Bgra,
    /// Planes Y (w×h), U and V (w/2×h/2).
    I420,
    /// Planes Y (w×h) and interleaved UV (w/2×h/2 pairs).
    Nv12,
}

impl PixelFormat {
    /// Bytes of a whole frame.
    pub fn bytes(self, size: Size) -> usize {
        match self {
            PixelFormat::Rgb24 => size.pixels() * 3,
            PixelFormat::Rgba | PixelFormat::Bgra => size.pixels() * 4,
            PixelFormat::I420 | PixelFormat::Nv12 => size.pixels() * 3 / 2,
        }
    }
}

/// Whether luma spans 16–235 (limited, the rule for video) or 0–255 (full). For RGB it has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Range {
    #[default]
    Limited,
    Full,
}

/// Where a picture's pixels lie. Cloning shares them.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// In host memory, in the frame's format.
    Host(Arc<Buffer>),
    /// In a device's memory; the frame's format is RGBA then.
    Device(Arc<Picture>),
}

impl From<Buffer> for Pixels {
    fn from(buffer: Buffer) -> Pixels {
        Pixels::Host(Arc::new(buffer))
    }
}

impl From<Picture> for Pixels {
    fn from(picture: Picture) -> Pixels {
        Pixels::Device(Arc::new(picture))
    }
}

/// A captured picture. Cloning shares the pixels.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Counts captured frames of one source from 0.
    pub sequence: u64,
    pub size: Size,
    pub format: PixelFormat,
    pub range: Range,
    /// When capture began and ended, µs on [`crate::clock::now_us`]'s clock.
    pub captured_us: (u64, u64),
    /// Number of the newest input event that this picture shows; 0 before the first.
    pub view: u32,
    pub pixels: Pixels,
}

impl Frame {
    /// Whether two frames certainly show the same. Moving pictures differ early, so that the comparison is short where it
    /// matters; on a device only the very same picture is known to be.
    pub fn shows(&self, other: &Frame) -> bool {
        let alike = (self.size, self.format, self.range) == (other.size, other.format, other.range);
        alike
            && match (&self.pixels, &other.pixels) {
                (Pixels::Host(a), Pixels::Host(b)) => Arc::ptr_eq(a, b) || a[..] == b[..],
                (Pixels::Device(a), Pixels::Device(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }

    /// The pixels in host memory; what lies on a device is an error of gsk's.
    pub fn host(&self) -> Result<&[u8]> {
        match &self.pixels {
            Pixels::Host(buffer) => Ok(buffer),
            Pixels::Device(_) => Err(Error::bug("a frame that was to be in host memory is on a device")),
        }
    }

    /// The device's picture that it is.
    pub fn picture(&self) -> Option<&Picture> {
        match &self.pixels {
            Pixels::Host(_) => None,
            Pixels::Device(picture) => Some(picture),
        }
    }
}

/// Frame memory that goes back to its pool when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    home: Weak<Mutex<Vec<Vec<u8>>>>,
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut free = home.lock().unwrap();
            if free.len() < Pool::KEPT {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

/// Recycles frame memory, so that steady streaming allocates nothing.
#[derive(Clone, Default)]
pub struct Pool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// Buffers kept for reuse: one being filled, one waiting, one being encoded, one as the reference for "unchanged".
    const KEPT: usize = 4;

    /// A buffer of exactly `len` bytes, of unspecified content.
    pub fn take(&self, len: usize) -> Buffer {
        let mut bytes = self.free.lock().unwrap().pop().unwrap_or_default();
        bytes.resize(len, 0);
        Buffer { bytes, home: Arc::downgrade(&self.free) }
    }

    /// Gives idle memory back to the system.
    pub fn trim(&self) {
        self.free.lock().unwrap().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_refused() {
        assert_eq!("1280x720".parse::<Size>().unwrap(), Size::new(1280, 720));
        for (text, says) in [
            ("641x480", "odd"),
            ("1x1", "outside 16"),
            ("20000x20000", "outside 16"),
            ("720p", "not a size"),
            ("-4x4", "not a size"),
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.what.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_pool_gives_the_same_memory_again() {
        let pool = Pool::default();
        let first = pool.take(100);
        let at = first.as_ptr();
        drop(first);
        assert_eq!(pool.take(100).as_ptr(), at);
    }
}
