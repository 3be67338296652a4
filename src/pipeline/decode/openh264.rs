//! H.264 on the CPU by OpenH264's decoder (built in), which hands each picture out at once.

use std::ffi::c_int;
use std::ptr;

use openh264_sys2 as sys;

use super::{Config, Decoder, picture};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::frame::{Frame, PixelFormat, Pool, Size};

pub fn open(config: &Config) -> Result<Box<dyn Decoder>> {
    Ok(Box::new(OpenH264 { raw: Raw::open()?, size: config.size, sequence: 0 }))
}

struct OpenH264 {
    raw: Raw,
    size: Size,
    sequence: u64,
}

impl Decoder for OpenH264 {
    fn decode(&mut self, unit: &[u8], pool: &Pool) -> Result<Frame> {
        let began_us = now_us();
        let mut pixels = pool.take(PixelFormat::I420.bytes(self.size));
        self.raw.decode(unit, self.size, &mut pixels)?;
        Ok(picture(self.size, PixelFormat::I420, &mut self.sequence, began_us, pixels))
    }
}

/// The C++ object behind its virtual table.
struct Raw(*mut sys::ISVCDecoder);

// SAFETY: an ISVCDecoder is not tied to the thread that made it; `&mut self` keeps its calls apart.
unsafe impl Send for Raw {}

/// The functions of the decoder's virtual table that are called here are present in every build of the library.
macro_rules! call {
    ($raw:expr, $name:ident $(, $arg:expr)*) => {
        (**$raw.0).$name.expect(stringify!($name))($raw.0 $(, $arg)*)
    };
}

impl Raw {
    fn open() -> Result<Raw> {
        let failed =
            |call: &str, code: i64| Error::failed("OpenH264 cannot decode").cause(format!("{call} returned {code}"));
        let mut decoder = ptr::null_mut();
        // SAFETY: the pointer is a valid place for the new object's address.
        let code = unsafe { sys::source::APILoader::WelsCreateDecoder(&mut decoder) };
        if code != 0 || decoder.is_null() {
            return Err(failed("WelsCreateDecoder", code));
        }
        let raw = Raw(decoder);
        let mut quiet: c_int = sys::WELS_LOG_QUIET as c_int;
        let mut params = sys::SDecodingParam {
            uiTargetDqLayer: u8::MAX,
            // What is damaged is an error here, and not patched up.
            eEcActiveIdc: sys::ERROR_CON_DISABLE,
            ..Default::default()
        };
        params.sVideoProperty.size = size_of_val(&params.sVideoProperty) as u32;
        params.sVideoProperty.eVideoBsType = sys::VIDEO_BITSTREAM_AVC;
        // SAFETY: `decoder` is live, the option takes an int, and `params` is a whole SDecodingParam, which is copied.
        let code = unsafe {
            call!(raw, SetOption, sys::DECODER_OPTION_TRACE_LEVEL, ptr::from_mut(&mut quiet).cast());
            call!(raw, Initialize, &params)
        };
        if code == 0 { Ok(raw) } else { Err(failed("Initialize", code)) }
    }

    /// Decodes one access unit into `out`, I420 of `size`.
    fn decode(&mut self, unit: &[u8], size: Size, out: &mut [u8]) -> Result<()> {
        let failed = |cause: String| Error::failed("OpenH264 gave no picture").cause(cause);
        let length = c_int::try_from(unit.len()).map_err(|_| failed("the unit is larger than 2 GiB".into()))?;
        let mut planes = [ptr::null_mut(); 3];
        let mut info = sys::SBufferInfo::default();
        // SAFETY: the unit is read only, and `planes` and `info` are as large as the call demands.
        let (code, told) = unsafe {
            let mut code = call!(self, DecodeFrameNoDelay, unit.as_ptr(), length, planes.as_mut_ptr(), &mut info);
            if code == sys::dsErrorFree && info.iBufferStatus != 1 {
                // Of all profiles but baseline it holds pictures back, to bring them into order; ours are in order.
                code = call!(self, FlushFrame, planes.as_mut_ptr(), &mut info);
            }
            (code, info.UsrData.sSystemBuffer)
        };
        if code != sys::dsErrorFree || info.iBufferStatus != 1 {
            return Err(failed(format!("DecodeFrameNoDelay returned {code}, buffer status {}", info.iBufferStatus)));
        }
        if (told.iWidth, told.iHeight) != (size.width as c_int, size.height as c_int) {
            return Err(failed(format!("it is {}x{}, and {size} was expected", told.iWidth, told.iHeight)));
        }
        let (luma, chroma) = out.split_at_mut(size.pixels());
        let (u, v) = chroma.split_at_mut(size.pixels() / 4);
        let (width, half) = (size.width as usize, size.width as usize / 2);
        let strides = [told.iStride[0], told.iStride[1], told.iStride[1]];
        for (((to, width), from), stride) in [(luma, width), (u, half), (v, half)].into_iter().zip(planes).zip(strides)
        {
            for (row, to) in to.chunks_exact_mut(width).enumerate() {
                // SAFETY: the library's picture has as many rows of at least `width` bytes, `stride` apart, and stays as it
                // is until the next call.
                let from = unsafe { std::slice::from_raw_parts(from.add(row * stride as usize), width) };
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the object is live, and this is its last use.
        unsafe {
            call!(self, Uninitialize);
            sys::source::APILoader::WelsDestroyDecoder(self.0);
        }
    }
}
