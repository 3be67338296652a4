//! H.264, HEVC and AV1 by NVDEC. Pictures are copied to the host once they are decoded, which is not in their times.

use super::{Config, Decoder};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::gpu::nvdec;
use crate::pipeline::encode::nvenc;
use crate::pipeline::frame::{Frame, PixelFormat, Pool, Size};

pub fn open(config: &Config) -> Result<Box<dyn Decoder>> {
    // Both engines name codecs alike.
    let codec = nvenc::codec(config.codec).ok_or_else(|| Error::bug("NVDEC was to decode JPEG"))?;
    let decoder = nvdec::open(codec, config.gpu.as_deref())?;
    Ok(Box::new(Nvdec { decoder, size: config.size, sequence: 0 }))
}

struct Nvdec {
    decoder: nvdec::Decoder,
    size: Size,
    sequence: u64,
}

impl Decoder for Nvdec {
    fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Frame> {
        let began_us = now_us();
        let picture = self.decoder.decode(unit)?;
        let ended_us = now_us();
        let (width, height) = picture.size();
        if Size::new(width, height) != self.size {
            return Err(Error::failed("NVDEC gave no picture")
                .cause(format!("it is {width}x{height}, and {} was expected", self.size)));
        }
        let mut pixels = pool.take(picture.bytes());
        picture.download(&mut pixels)?;
        let frame = super::picture(self.size, PixelFormat::Nv12, &mut self.sequence, began_us, pixels);
        Ok(Frame { captured_us: (began_us, ended_us), ..frame })
    }
}
