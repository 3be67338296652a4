//! Decoders: one trait, one file per back end, and the table of them. Viewers decode in their browsers; this is for those
//! who measure and check.

mod ffmpeg;
mod jpeg;
mod nvdec;
mod openh264;

use super::encode::Codec;
use super::frame::{Buffer, Frame, PixelFormat, Pool, Range, Size};
use crate::clock::now_us;
use crate::error::{Error, Result};

/// What a decoder is opened for.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub codec: Codec,
    /// Of the pictures.
    pub size: Size,
    /// Pictures a second, for those that want to know.
    pub fps: f64,
    /// CUDA's UUID of the device that is to decode; `None`: the first that can.
    pub gpu: Option<String>,
}

/// A running decoder of streams as [`encode`](super::encode) writes them: no reordering, a picture out for each unit in.
pub trait Decoder: Send {
    /// Decodes one access unit, beginning with a key unit, and waits for its picture. What the frame's times say is how long
    /// that took; of a decoder on a GPU, to the picture in the GPU's memory, and not its way to the host.
    ///
    /// # Errors
    /// A unit that gives no picture of the configured size; a back end that does not answer within 5 s.
    fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Frame>;
}

/// A row of the table.
pub struct Backend {
    pub name: &'static str,
    pub codec: Codec,
    pub hardware: bool,
    open: fn(&Config) -> Result<Box<dyn Decoder>>,
}

/// All back ends.
pub const TABLE: &[Backend] = &[
    nvdec(Codec::H264),
    Backend { name: "openh264", codec: Codec::H264, hardware: false, open: openh264::open },
    ffmpeg(Codec::H264),
    nvdec(Codec::Hevc),
    ffmpeg(Codec::Hevc),
    nvdec(Codec::Av1),
    ffmpeg(Codec::Av1),
    Backend { name: "jpeg", codec: Codec::Jpeg, hardware: false, open: jpeg::open },
];

const fn nvdec(codec: Codec) -> Backend {
    Backend { name: "nvdec", codec, hardware: true, open: nvdec::open }
}

const fn ffmpeg(codec: Codec) -> Backend {
    Backend { name: "ffmpeg", codec, hardware: false, open: ffmpeg::open }
}

impl Backend {
    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::Missing`](crate::error::Kind::Missing) where this host lacks what it stands on.
    pub fn open(&self, config: &Config) -> Result<Box<dyn Decoder>> {
        (self.open)(config)
    }
}

/// The next of a decoder's pictures, whose decoding began then.
fn picture(size: Size, format: PixelFormat, sequence: &mut u64, began_us: u64, pixels: Buffer) -> Frame {
    let number = *sequence;
    *sequence += 1;
    Frame {
        sequence: number,
        size,
        format,
        // YUV is video's, RGB spans all.
        range: if format == PixelFormat::Rgb24 { Range::Full } else { Range::Limited },
        captured_us: (began_us, now_us()),
        view: 0,
        pixels: pixels.into(),
    }
}

/// Opens the built-in decoder of a codec.
///
/// # Errors
/// [`Kind::Missing`](crate::error::Kind::Missing) for HEVC and AV1, of which there is none.
pub fn reference(config: &Config) -> Result<Box<dyn Decoder>> {
    match config.codec {
        Codec::H264 => openh264::open(config),
        Codec::Hevc | Codec::Av1 => Err(Error::missing(format!("no decoder of {} is built in", config.codec.title()))),
        Codec::Jpeg => jpeg::open(config),
    }
}
