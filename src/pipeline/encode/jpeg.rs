//! JPEG on the CPU by mozjpeg in its fast mode (which is libjpeg-turbo's): baseline, 4:2:0, BT.601 full range (JFIF).

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, BytesMut};
use mozjpeg::{ColorSpace, Compress};

use super::{Config, Encoder, Output, Unit};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::convert::ToRgb;
use crate::pipeline::frame::{Frame, PixelFormat, Size};
use crate::pipeline::rate::{self, Steps};
use crate::pipeline::timing::Stage;
use crate::range;
use crate::wire::message::HEADER;

pub(crate) fn open(config: &Config, output: Output) -> Result<Box<dyn Encoder>> {
    Ok(Box::new(Jpeg { steps: steps(config), convert: ToRgb::default(), output }))
}

/// The quality of a JPEG back end's pictures.
pub(super) fn steps(config: &Config) -> Steps {
    Steps::new(config.quality, rate::budget(config.bitrate, config.fps))
}

struct Jpeg {
    steps: Steps,
    convert: ToRgb,
    output: Output,
}

impl Encoder for Jpeg {
    fn submit(&mut self, frame: Frame, _idr: bool) -> Result<()> {
        let started_us = now_us();
        let (pixels, format) = range::within(Stage::Convert.name(), || self.convert.pixels(&frame))?;
        let converted_us = now_us();
        let mut data = BytesMut::with_capacity(HEADER + frame.size.pixels() / 4);
        data.put_bytes(0, HEADER);
        let data =
            range::within(Stage::Encode.name(), || compress(pixels, format, frame.size, self.steps.quality(), data))?;
        self.steps.made(data.len() - HEADER);
        (self.output)(Ok(Unit { frame, key: true, data, started_us, converted_us, encoded_us: now_us() }));
        Ok(())
    }

    fn reconfigure(&mut self, config: &Config) -> Result<()> {
        self.steps.aim(config.quality, rate::budget(config.bitrate, config.fps));
        Ok(())
    }
}

/// One RGB picture as a JPEG of quality 92, at which its losses are hard to see.
pub fn still(rgb: &[u8], size: Size) -> Result<BytesMut> {
    compress(rgb, PixelFormat::Rgb24, size, 92, BytesMut::new())
}

/// Appends one JPEG to `out`. The library reports its errors by unwinding.
fn compress(pixels: &[u8], format: PixelFormat, size: Size, quality: u8, out: BytesMut) -> Result<BytesMut> {
    let space = match format {
        PixelFormat::Rgb24 => ColorSpace::JCS_RGB,
        PixelFormat::Bgra => ColorSpace::JCS_EXT_BGRA,
        _ => ColorSpace::JCS_EXT_RGBA,
    };
    let run = || -> std::io::Result<BytesMut> {
        let mut jpeg = Compress::new(space);
        jpeg.set_size(size.width as usize, size.height as usize);
        jpeg.set_fastest_defaults();
        jpeg.set_quality(f32::from(quality));
        let mut jpeg = jpeg.start_compress(out.writer())?;
        jpeg.write_scanlines(pixels)?;
        Ok(jpeg.finish()?.into_inner())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(|error| Error::failed("JPEG encoding failed").cause(error)),
        Err(_) => Err(Error::failed(format!("JPEG encoding of {size} failed"))),
    }
}
