//! H.264 on the CPU by OpenH264 (built in).
//!
//! Constrained baseline, low delay: no B-frames, no look-ahead, open-ended GOP, IDR by request with SPS and PPS in
//! front. The VUI that OpenH264 writes declares BT.709 limited range and `max_num_reorder_frames` 0, so that decoders
//! hand a picture out as soon as they have it.

use std::ffi::c_int;
use std::ptr;

use bytes::BytesMut;
use openh264_sys2 as sys;

use super::{Config, Encoder, Output, Unit};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::convert::ToI420;
use crate::pipeline::frame::{Frame, Size};
use crate::pipeline::timing::Stage;
use crate::range;
use crate::wire::message::HEADER;

/// OpenH264 refuses more than level 5.2's frame size (H.264 table A-1: MaxFS 36,864 macroblocks).
const MAX_MACROBLOCKS: u32 = 36_864;

pub(crate) fn open(config: &Config, output: Output) -> Result<Box<dyn Encoder>> {
    Ok(Box::new(OpenH264::open(config.clone(), output)?))
}

struct OpenH264 {
    raw: Raw,
    config: Config,
    convert: ToI420,
    output: Output,
    /// Timestamps that the rate control sees, ms; strictly growing.
    last_ms: i64,
    bytes: usize,
}

impl OpenH264 {
    fn open(config: Config, output: Output) -> Result<OpenH264> {
        let Size { width, height } = config.size;
        if width.div_ceil(16) * height.div_ceil(16) > MAX_MACROBLOCKS {
            return Err(Error::usage(format!(
                "OpenH264 cannot encode {}: level 5.2 ends at {MAX_MACROBLOCKS} macroblocks",
                config.size
            ))
            .hint("use a size up to 4096x2304, or --encoder jpeg"));
        }
        let raw = Raw::open(&config)?;
        Ok(OpenH264 { raw, config, convert: ToI420::default(), output, last_ms: -1, bytes: 0 })
    }
}

impl Encoder for OpenH264 {
    fn submit(&mut self, frame: Frame, idr: bool) -> Result<()> {
        let started_us = now_us();
        if frame.size != self.config.size {
            return Err(Error::bug(format!("a frame of {} for an encoder of {}", frame.size, self.config.size)));
        }
        let planes = range::within(Stage::Convert.name(), || self.convert.planes(&frame))?;
        let converted_us = now_us();
        self.last_ms = (self.last_ms + 1).max(frame.captured_us.0 as i64 / 1000);
        let mut data = BytesMut::with_capacity(HEADER + self.bytes);
        data.resize(HEADER, 0);
        let key = range::within(Stage::Encode.name(), || {
            self.raw.encode(planes, self.config.size, self.last_ms, idr, &mut data)
        })?;
        self.bytes = self.bytes.max(data.len() * 5 / 4).min(1 << 20);
        (self.output)(Ok(Unit { frame, key, data, started_us, converted_us, encoded_us: now_us() }));
        Ok(())
    }

    fn reconfigure(&mut self, config: &Config) -> Result<()> {
        if config.size != self.config.size {
            return Err(Error::failed("OpenH264 keeps its size"));
        }
        if config.fps != self.config.fps {
            let mut fps = config.fps as f32;
            self.raw.set(sys::ENCODER_OPTION_FRAME_RATE, &mut fps)?;
        }
        if config.bitrate != self.config.bitrate {
            self.raw.set_bitrate(config.bitrate)?;
        }
        self.config = config.clone();
        Ok(())
    }
}

/// The C++ object behind its virtual table.
struct Raw {
    encoder: *mut sys::ISVCEncoder,
}

// SAFETY: an ISVCEncoder is not tied to the thread that made it; `&mut self` keeps its calls apart.
unsafe impl Send for Raw {}

/// The functions of the encoder's virtual table that are called here are present in every build of the library.
macro_rules! call {
    ($raw:expr, $name:ident $(, $arg:expr)*) => {
        (**$raw.encoder).$name.expect(stringify!($name))($raw.encoder $(, $arg)*)
    };
}

impl Raw {
    fn open(config: &Config) -> Result<Raw> {
        let failed = |call: &str, code: c_int| {
            Error::failed(format!("OpenH264 cannot encode {}", config.size)).cause(format!("{call} returned {code}"))
        };
        let mut encoder = ptr::null_mut();
        // SAFETY: the pointer is a valid place for the new object's address.
        let code = unsafe { sys::source::APILoader::WelsCreateSVCEncoder(&mut encoder) };
        if code != 0 || encoder.is_null() {
            return Err(failed("WelsCreateSVCEncoder", code));
        }
        let mut raw = Raw { encoder };
        // Warnings go to the caller as codes; the library's own would go to standard error.
        let mut quiet: c_int = sys::WELS_LOG_QUIET as c_int;
        raw.set(sys::ENCODER_OPTION_TRACE_LEVEL, &mut quiet)?;
        let mut params = sys::SEncParamExt::default();
        // SAFETY: `encoder` is live and `params` is a whole SEncParamExt.
        let code = unsafe { call!(raw, GetDefaultParams, &mut params) };
        if code != 0 {
            return Err(failed("GetDefaultParams", code));
        }
        configure(&mut params, config);
        // SAFETY: as above; the library copies the parameters.
        let code = unsafe { call!(raw, InitializeExt, &params) };
        if code != 0 {
            return Err(failed("InitializeExt", code));
        }
        let mut format: c_int = sys::videoFormatI420;
        raw.set(sys::ENCODER_OPTION_DATAFORMAT, &mut format)?;
        Ok(raw)
    }

    fn set<T>(&mut self, option: sys::ENCODER_OPTION, value: &mut T) -> Result<()> {
        // SAFETY: each caller passes the type that the library documents for its option.
        match unsafe { call!(self, SetOption, option, ptr::from_mut(value).cast()) } {
            0 => Ok(()),
            code => Err(Error::failed("OpenH264 refused a setting").cause(format!("option {option} returned {code}"))),
        }
    }

    fn set_bitrate(&mut self, bitrate: u32) -> Result<()> {
        // The ceiling first: the library clips a rate to it, yet reports that it did so as a failure.
        for option in [sys::ENCODER_OPTION_MAX_BITRATE, sys::ENCODER_OPTION_BITRATE] {
            let mut info = sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bitrate as c_int };
            self.set(option, &mut info)?;
        }
        Ok(())
    }

    /// Appends one access unit to `out`; tells whether it is an IDR.
    fn encode(
        &mut self,
        planes: [(&[u8], usize); 3],
        size: Size,
        ms: i64,
        idr: bool,
        out: &mut BytesMut,
    ) -> Result<bool> {
        let mut info = sys::SFrameBSInfo::default();
        let mut picture = sys::SSourcePicture {
            iColorFormat: sys::videoFormatI420,
            iPicWidth: size.width as c_int,
            iPicHeight: size.height as c_int,
            uiTimeStamp: ms,
            ..Default::default()
        };
        for (at, (plane, stride)) in planes.into_iter().enumerate() {
            picture.pData[at] = plane.as_ptr().cast_mut();
            picture.iStride[at] = stride as c_int;
        }
        // SAFETY: the planes are as large as the picture says and outlive the call; the library only reads them.
        let code = unsafe {
            if idr {
                call!(self, ForceIntraFrame, true);
            }
            call!(self, EncodeFrame, &picture, &mut info)
        };
        if code != 0 || info.eFrameType == sys::videoFrameTypeSkip || info.iFrameSizeInBytes <= 0 {
            return Err(Error::failed("OpenH264 gave no access unit")
                .cause(format!("EncodeFrame returned {code}, frame type {}", info.eFrameType)));
        }
        for layer in &info.sLayerInfo[..info.iLayerNum as usize] {
            // SAFETY: a layer's NAL units lie one after another in pBsBuf, valid until the next call.
            unsafe {
                let lengths = std::slice::from_raw_parts(layer.pNalLengthInByte, layer.iNalCount as usize);
                let bytes = lengths.iter().sum::<c_int>() as usize;
                out.extend_from_slice(std::slice::from_raw_parts(layer.pBsBuf, bytes));
            }
        }
        Ok(info.eFrameType == sys::videoFrameTypeIDR)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the object is live, and this is its last use.
        unsafe {
            call!(self, Uninitialize);
            sys::source::APILoader::WelsDestroySVCEncoder(self.encoder);
        }
    }
}

/// The finest quantiser that is used. Easy pictures could be coded finer within the bit rate, but nobody sees it, and
/// it takes up to half as much CPU time again. It falls by 4 with each doubling of the bits a pixel, so that who asks for
/// a high bit rate gets what it can give.
fn min_qp(config: &Config) -> c_int {
    let bits_per_pixel = f64::from(config.bitrate) / (config.size.pixels() as f64 * config.fps);
    (22.0 - 4.0 * (bits_per_pixel / 0.1).log2()).round().clamp(10.0, 22.0) as c_int
}

/// Settings, where they are not the library's defaults. What each costs and gives is measured by `tests/perf/run.py`.
fn configure(p: &mut sys::SEncParamExt, config: &Config) {
    let (width, height, bitrate, fps) =
        (config.size.width as c_int, config.size.height as c_int, config.bitrate as c_int, config.fps as f32);
    p.iUsageType = sys::CAMERA_VIDEO_REAL_TIME;
    p.iPicWidth = width;
    p.iPicHeight = height;
    p.iTargetBitrate = bitrate;
    p.iMaxBitrate = bitrate;
    p.fMaxFrameRate = fps;
    // It holds the rate on any picture; sharing bits out by the frames' times falls far short of it on hard ones.
    p.iRCMode = sys::RC_BITRATE_MODE;
    // A frame in is an access unit out: what to leave out is decided before the encoder.
    p.bEnableFrameSkip = false;
    p.uiIntraPeriod = 0;
    p.iNumRefFrame = 1;
    p.iComplexityMode = sys::LOW_COMPLEXITY;
    // It would put IDRs where nobody asked for one.
    p.bEnableSceneChangeDetect = false;
    // Pays only where most of the picture stands still, and costs SSIM there; elsewhere it takes a sixth more time.
    p.bEnableBackgroundDetection = false;
    p.iMinQp = min_qp(config);
    p.bEnableAdaptiveQuant = false;
    p.bEnableDenoise = false;
    p.bEnableLongTermReference = false;
    p.eSpsPpsIdStrategy = sys::CONSTANT_ID;
    p.bPrefixNalAddingCtrl = false;
    p.bEnableSSEI = false;
    // One slice on one thread: a second thread shortens a frame's encoding, but makes it wait for a free core.
    p.iMultipleThreadIdc = 1;
    p.bUseLoadBalancing = false;
    p.iSpatialLayerNum = 1;
    p.iTemporalLayerNum = 1;
    let layer = &mut p.sSpatialLayers[0];
    layer.iVideoWidth = width;
    layer.iVideoHeight = height;
    layer.fFrameRate = fps;
    layer.iSpatialBitrate = bitrate;
    layer.iMaxSpatialBitrate = bitrate;
    layer.uiProfileIdc = sys::PRO_BASELINE;
    layer.uiLevelIdc = sys::LEVEL_UNKNOWN;
    layer.sSliceArgument.uiSliceMode = sys::SM_SINGLE_SLICE;
    layer.bVideoSignalTypePresent = true;
    layer.uiVideoFormat = sys::VF_UNDEF as u8;
    layer.bFullRange = false;
    layer.bColorDescriptionPresent = true;
    layer.uiColorPrimaries = sys::CP_BT709 as u8;
    layer.uiTransferCharacteristics = sys::TRC_BT709 as u8;
    layer.uiColorMatrix = sys::CM_BT709 as u8;
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::*;
    use crate::pipeline::rate::Quality;

    #[test]
    fn the_finest_quantiser_follows_the_bits_a_pixel() {
        let at = |bitrate, fps| {
            let (size, quality, nvenc) = (Size::new(1280, 720), Quality::Auto, Default::default());
            min_qp(&Config { codec: Codec::H264, size, fps, bitrate, quality, nvenc, near: None })
        };
        assert_eq!([at(1_000_000, 30.0), at(4_000_000, 60.0), at(4_000_000, 30.0)], [22, 22, 20]);
        assert_eq!([at(16_000_000, 30.0), at(200_000_000, 30.0)], [12, 10]);
    }
}
