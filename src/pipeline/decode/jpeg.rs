//! JPEG on the CPU by libjpeg (mozjpeg's build of it), to RGB.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::Decompress;

use super::{Config, Decoder, picture};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::frame::{Frame, PixelFormat, Pool, Size};

pub fn open(config: &Config) -> Result<Box<dyn Decoder>> {
    Ok(Box::new(Jpeg { size: config.size, sequence: 0 }))
}

struct Jpeg {
    size: Size,
    sequence: u64,
}

impl Decoder for Jpeg {
    fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Frame> {
        let began_us = now_us();
        let mut pixels = pool.take(PixelFormat::Rgb24.bytes(self.size));
        let size = (self.size.width as usize, self.size.height as usize);
        let run = || -> std::io::Result<bool> {
            let jpeg = Decompress::new_mem(unit)?;
            if jpeg.size() != size {
                return Ok(false);
            }
            let mut jpeg = jpeg.rgb()?;
            jpeg.read_scanlines_into::<u8>(&mut pixels)?;
            jpeg.finish()?;
            Ok(true)
        };
        let failed = || Error::failed("a JPEG picture cannot be decoded");
        // The library reports its errors by unwinding.
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(failed().cause(format!("it is not of {}", self.size))),
            Ok(Err(error)) => return Err(failed().cause(error)),
            Err(_) => return Err(failed()),
        }
        Ok(picture(self.size, PixelFormat::Rgb24, &mut self.sequence, began_us, pixels))
    }
}
