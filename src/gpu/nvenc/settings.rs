//! What an encoder is asked for: the vendor's preset for the lowest latency, and what gsk changes in it.
//!
//! A preset (P3 if none is chosen) with ultra-low-latency tuning; constant bit rate with a buffer of one frame's bits; P
//! frames only, no look-ahead, no end to the group of pictures; an IDR only by a picture's flag, with its parameter sets;
//! pictures that are never reordered, and what their colours are: BT.709 limited range, or what the engine makes of RGB.

use std::mem::MaybeUninit;
use std::ptr::addr_of_mut;
use std::sync::Arc;

use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;
use sys::{NV_ENC_VUI_COLOR_PRIMARIES, NV_ENC_VUI_MATRIX_COEFFS, NV_ENC_VUI_TRANSFER_CHARACTERISTIC};

use super::encoder::Abilities;
use crate::error::Result;
use crate::gpu::cuda::Context;
use crate::gpu::picture::{Nv12, Picture, Surface};
use crate::gpu::support::Codec;

/// What the user chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub codec: Codec,
    /// Pixels; both even.
    pub width: u32,
    pub height: u32,
    /// Frames a second that the bit rate is shared among; above 0.
    pub fps: f64,
    /// bit/s.
    pub bitrate: u32,
    pub options: Options,
    /// CUDA's number of the device that the pictures lie on, if on any: of those that may encode it is tried first, as from
    /// another they pass through host memory. For opening only.
    pub near: Option<u32>,
}

impl Config {
    /// H.264, with nothing chosen besides.
    pub const fn h264(width: u32, height: u32, fps: f64, bitrate: u32) -> Config {
        let options = Options { preset: Preset::P3, intra_refresh: None, input: PictureFormat::Nv12 };
        Config { codec: Codec::H264, width, height, fps, bitrate, options, near: None }
    }
}

/// How a session works, which stays as it is for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    pub preset: Preset,
    /// Every so many frames (2 or more) the whole picture has been coded anew, a part of it with each, so that who has lost
    /// something sees a whole picture again without an IDR. `None`: never.
    pub intra_refresh: Option<u32>,
    pub input: PictureFormat,
}

/// The vendor's presets, from the fastest to the one of the best quality (Video Codec SDK programming guide, "Recommended
/// NVENC settings").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    P1,
    P2,
    #[default]
    P3,
    P4,
    P5,
    P6,
    P7,
}

impl Preset {
    pub(super) fn guid(self) -> sys::GUID {
        match self {
            Preset::P1 => sys::NV_ENC_PRESET_P1_GUID,
            Preset::P2 => sys::NV_ENC_PRESET_P2_GUID,
            Preset::P3 => sys::NV_ENC_PRESET_P3_GUID,
            Preset::P4 => sys::NV_ENC_PRESET_P4_GUID,
            Preset::P5 => sys::NV_ENC_PRESET_P5_GUID,
            Preset::P6 => sys::NV_ENC_PRESET_P6_GUID,
            Preset::P7 => sys::NV_ENC_PRESET_P7_GUID,
        }
    }
}

/// What the engine is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// Converted by gsk, by BT.709 to limited range.
    #[default]
    Nv12,
    /// RGB, which the engine converts itself, by BT.601 to limited range.
    ///
    /// As bytes R, G, B and one that is not looked at (`NV_ENC_BUFFER_FORMAT_ABGR`, which names the bytes of a word from
    /// its highest down): how gsk's pictures lie on a device. The engine converts it by the matrix of BT.601, limited range,
    /// whatever is asked for (moq-dev/moq's encoder declares it so, and reads it back), and the stream says that.
    Argb,
}

impl PictureFormat {
    /// Memory for a picture of this kind.
    pub(super) fn surface(self, context: &Arc<Context>, width: u32, height: u32) -> Result<Surface> {
        match self {
            PictureFormat::Nv12 => Nv12::new(context, width, height).map(Surface::Nv12),
            PictureFormat::Argb => Picture::new(context, width, height).map(Surface::Rgba),
        }
    }

    /// Bytes of a picture, but for what lies between rows.
    pub(super) fn bytes(self, width: u32, height: u32) -> usize {
        let pixels = width as usize * height as usize;
        match self {
            PictureFormat::Nv12 => pixels * 3 / 2,
            PictureFormat::Argb => pixels * 4,
        }
    }

    pub(super) fn raw(self) -> sys::NV_ENC_BUFFER_FORMAT {
        match self {
            PictureFormat::Nv12 => sys::NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12,
            PictureFormat::Argb => sys::NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_ABGR,
        }
    }

    /// What its pictures are converted by.
    fn matrix(self) -> NV_ENC_VUI_MATRIX_COEFFS {
        match self {
            PictureFormat::Nv12 => NV_ENC_VUI_MATRIX_COEFFS::NV_ENC_VUI_MATRIX_COEFFS_BT709,
            PictureFormat::Argb => NV_ENC_VUI_MATRIX_COEFFS::NV_ENC_VUI_MATRIX_COEFFS_SMPTE170M,
        }
    }
}

/// A screen's RGB has these primaries, and is coded without another transfer, whatever the matrix.
const PRIMARIES: NV_ENC_VUI_COLOR_PRIMARIES = NV_ENC_VUI_COLOR_PRIMARIES::NV_ENC_VUI_COLOR_PRIMARIES_BT709;
const TRANSFER: NV_ENC_VUI_TRANSFER_CHARACTERISTIC =
    NV_ENC_VUI_TRANSFER_CHARACTERISTIC::NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT709;

pub(super) fn codec_guid(codec: Codec) -> sys::GUID {
    match codec {
        Codec::H264 => sys::NV_ENC_CODEC_H264_GUID,
        Codec::Hevc => sys::NV_ENC_CODEC_HEVC_GUID,
        Codec::Av1 => sys::NV_ENC_CODEC_AV1_GUID,
    }
}

fn profile_guid(codec: Codec) -> sys::GUID {
    match codec {
        Codec::H264 => sys::NV_ENC_H264_PROFILE_HIGH_GUID,
        Codec::Hevc => sys::NV_ENC_HEVC_PROFILE_MAIN_GUID,
        Codec::Av1 => sys::NV_ENC_AV1_PROFILE_MAIN_GUID,
    }
}

pub(super) const TUNING: sys::NV_ENC_TUNING_INFO = sys::NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_ULTRA_LOW_LATENCY;

/// The structures that opening and changing an encoder take.
pub(super) struct Settings {
    /// The preset, as the driver gave it, and what is changed in it. The driver may have left fields in it that are none of
    /// the crate's `enum` values (zeros), so that it is never read as a whole.
    config: Box<MaybeUninit<sys::NV_ENC_CONFIG>>,
    initialize: sys::NV_ENC_INITIALIZE_PARAMS,
    codec: Codec,
    /// Whether the board takes a buffer size of ours.
    custom_vbv: bool,
}

impl Settings {
    /// `preset` is what the driver gave for the codec, the preset and [`TUNING`]; `room` the largest size that the encoder
    /// may be changed to, width and height.
    pub(super) fn new(
        preset: Box<MaybeUninit<sys::NV_ENC_CONFIG>>,
        able: &Abilities,
        config: &Config,
        room: (u32, u32),
    ) -> Settings {
        // All fields of the structure may be zero.
        let initialize = sys::NV_ENC_INITIALIZE_PARAMS {
            version: sys::NV_ENC_INITIALIZE_PARAMS_VER,
            encodeGUID: codec_guid(config.codec),
            presetGUID: config.options.preset.guid(),
            tuningInfo: TUNING,
            enablePTD: 1,
            maxEncodeWidth: room.0,
            maxEncodeHeight: room.1,
            ..Default::default()
        };
        let mut settings = Settings { config: preset, initialize, codec: config.codec, custom_vbv: able.custom_vbv };
        settings.fix(&config.options, able.single_slice_refresh);
        settings.set(config);
        settings
    }

    /// What no change of settings touches.
    fn fix(&mut self, options: &Options, single_slice_refresh: bool) {
        let config = self.config.as_mut_ptr();
        // SAFETY: the memory is a whole structure that the driver filled, or zeros; fields are written one by one, those that
        // zero is no value for before a reference to what holds them is made. The union's member in use is the codec's.
        unsafe {
            addr_of_mut!((*config).version).write(sys::NV_ENC_CONFIG_VER);
            addr_of_mut!((*config).profileGUID).write(profile_guid(self.codec));
            addr_of_mut!((*config).gopLength).write(sys::NVENC_INFINITE_GOPLENGTH);
            addr_of_mut!((*config).frameIntervalP).write(1);
            addr_of_mut!((*config).frameFieldMode)
                .write(sys::NV_ENC_PARAMS_FRAME_FIELD_MODE::NV_ENC_PARAMS_FRAME_FIELD_MODE_FRAME);

            let rate = &mut *addr_of_mut!((*config).rcParams);
            rate.version = sys::NV_ENC_RC_PARAMS_VER;
            rate.rateControlMode = sys::NV_ENC_PARAMS_RC_MODE::NV_ENC_PARAMS_RC_CBR;
            rate.set_enableLookahead(0);
            rate.set_zeroReorderDelay(1);
            // An IDR as small as a P frame comes as fast as one; the picture sharpens over the next few.
            rate.lowDelayKeyFrameScale = 1;

            let by_codec = addr_of_mut!((*config).encodeCodecConfig);
            match self.codec {
                Codec::H264 => fix_h264(&mut *addr_of_mut!((*by_codec).h264Config), options, single_slice_refresh),
                Codec::Hevc => fix_hevc(&mut *addr_of_mut!((*by_codec).hevcConfig), options, single_slice_refresh),
                Codec::Av1 => fix_av1(&mut *addr_of_mut!((*by_codec).av1Config), options),
            }
        }
        self.set_level(self.any_level());
    }

    /// Size, frame rate and bit rate.
    pub(super) fn set(&mut self, config: &Config) {
        let initialize = &mut self.initialize;
        (initialize.encodeWidth, initialize.encodeHeight) = (config.width, config.height);
        (initialize.darWidth, initialize.darHeight) = (config.width, config.height);
        (initialize.frameRateNum, initialize.frameRateDen) = fraction(config.fps);
        let vbv = if self.custom_vbv { frame_bits(config) } else { 0 };
        // SAFETY: as in `fix`, which has run.
        let rate = unsafe { &mut *addr_of_mut!((*self.config.as_mut_ptr()).rcParams) };
        rate.averageBitRate = config.bitrate;
        rate.maxBitRate = config.bitrate;
        rate.vbvBufferSize = vbv;
        rate.vbvInitialDelay = vbv;
        self.set_timing();
    }

    /// Has the next parameter sets tell the frame rate: of H.264 a frame is two ticks (H.264, E.2.1), of HEVC one (H.265, E.3.1).
    fn set_timing(&mut self) {
        let config = self.config.as_mut_ptr();
        // SAFETY: as in `fix`; of the union, the codec's own member is used.
        let (vui, ticks) = unsafe {
            match self.codec {
                Codec::H264 => (addr_of_mut!((*config).encodeCodecConfig.h264Config.h264VUIParameters), 2),
                Codec::Hevc => (addr_of_mut!((*config).encodeCodecConfig.hevcConfig.hevcVUIParameters), 1),
                Codec::Av1 => return,
            }
        };
        // SAFETY: as above; the fields are numbers.
        unsafe {
            addr_of_mut!((*vui).timingInfoPresentFlag).write(1);
            addr_of_mut!((*vui).numUnitInTicks).write(self.initialize.frameRateDen);
            addr_of_mut!((*vui).timeScale).write(self.initialize.frameRateNum * ticks);
        }
    }

    /// The level as the codec numbers it, or [`Self::any_level`].
    pub(super) fn set_level(&mut self, level: u32) {
        // SAFETY: as in `fix`.
        unsafe { self.level_at().write(level) };
    }

    pub(super) fn level(&mut self) -> u32 {
        // SAFETY: as in `fix`; the field is a number.
        unsafe { self.level_at().read() }
    }

    /// What has the driver choose: `NV_ENC_LEVEL_AUTOSELECT`, and AV1's, whose levels begin at 0.
    pub(super) fn any_level(&self) -> u32 {
        match self.codec {
            Codec::H264 | Codec::Hevc => sys::NV_ENC_LEVEL::NV_ENC_LEVEL_AUTOSELECT as u32,
            Codec::Av1 => sys::NV_ENC_LEVEL::NV_ENC_LEVEL_AV1_AUTOSELECT as u32,
        }
    }

    fn level_at(&mut self) -> *mut u32 {
        let config = self.config.as_mut_ptr();
        // SAFETY: places within the structure.
        unsafe {
            let by_codec = addr_of_mut!((*config).encodeCodecConfig);
            match self.codec {
                Codec::H264 => addr_of_mut!((*by_codec).h264Config.level),
                Codec::Hevc => addr_of_mut!((*by_codec).hevcConfig.level),
                Codec::Av1 => addr_of_mut!((*by_codec).av1Config.level),
            }
        }
    }

    /// For `nvEncInitializeEncoder`; valid until `self` is changed or gone.
    pub(super) fn initialize(&mut self) -> *mut sys::NV_ENC_INITIALIZE_PARAMS {
        self.initialize.encodeConfig = self.config.as_mut_ptr();
        &mut self.initialize
    }

    /// For `nvEncReconfigureEncoder`; valid until `self` is changed or gone. A new size begins with an IDR.
    pub(super) fn reconfigure(&mut self, resized: bool) -> sys::NV_ENC_RECONFIGURE_PARAMS {
        self.initialize();
        let mut reconfigure = sys::NV_ENC_RECONFIGURE_PARAMS {
            version: sys::NV_ENC_RECONFIGURE_PARAMS_VER,
            reInitEncodeParams: self.initialize,
            ..Default::default()
        };
        reconfigure.set_resetEncoder(resized.into());
        reconfigure.set_forceIDR(resized.into());
        reconfigure
    }
}

fn fix_h264(h264: &mut sys::NV_ENC_CONFIG_H264, options: &Options, single_slice_refresh: bool) {
    h264.idrPeriod = sys::NVENC_INFINITE_GOPLENGTH;
    h264.chromaFormatIDC = 1;
    h264.set_repeatSPSPPS(1);
    h264.set_disableSPSPPS(0);
    h264.set_outputAUD(0);
    fix_vui(&mut h264.h264VUIParameters, options.input);
    if let Some(period) = options.intra_refresh {
        h264.set_enableIntraRefresh(1);
        (h264.intraRefreshPeriod, h264.intraRefreshCnt) = (period, period - 1);
        h264.set_outputRecoveryPointSEI(1);
        h264.set_singleSliceIntraRefresh(single_slice_refresh.into());
    }
}

fn fix_hevc(hevc: &mut sys::NV_ENC_CONFIG_HEVC, options: &Options, single_slice_refresh: bool) {
    hevc.idrPeriod = sys::NVENC_INFINITE_GOPLENGTH;
    hevc.tier = 0;
    hevc.set_chromaFormatIDC(1);
    hevc.set_pixelBitDepthMinus8(0);
    hevc.set_repeatSPSPPS(1);
    hevc.set_disableSPSPPS(0);
    hevc.set_outputAUD(0);
    fix_vui(&mut hevc.hevcVUIParameters, options.input);
    if let Some(period) = options.intra_refresh {
        hevc.set_enableIntraRefresh(1);
        (hevc.intraRefreshPeriod, hevc.intraRefreshCnt) = (period, period - 1);
        hevc.set_outputRecoveryPointSEI(1);
        hevc.set_singleSliceIntraRefresh(single_slice_refresh.into());
    }
}

/// Temporal units in the low-overhead format (AV1, 5.2), as WebCodecs and MP4 take them, not in that of Annex B.
fn fix_av1(av1: &mut sys::NV_ENC_CONFIG_AV1, options: &Options) {
    av1.idrPeriod = sys::NVENC_INFINITE_GOPLENGTH;
    av1.tier = 0;
    av1.set_chromaFormatIDC(1);
    av1.set_inputPixelBitDepthMinus8(0);
    av1.set_pixelBitDepthMinus8(0);
    av1.set_outputAnnexBFormat(0);
    av1.set_repeatSeqHdr(1);
    av1.set_disableSeqHdr(0);
    av1.colorPrimaries = PRIMARIES;
    av1.transferCharacteristics = TRANSFER;
    av1.matrixCoefficients = options.input.matrix();
    av1.colorRange = 0;
    // AV1 has no word for a block's centre, where ours is.
    av1.chromaSamplePosition = 0;
    if let Some(period) = options.intra_refresh {
        av1.set_enableIntraRefresh(1);
        (av1.intraRefreshPeriod, av1.intraRefreshCnt) = (period, period - 1);
    }
}

fn fix_vui(vui: &mut sys::NV_ENC_CONFIG_H264_VUI_PARAMETERS, input: PictureFormat) {
    vui.videoSignalTypePresentFlag = 1;
    vui.videoFormat = sys::NV_ENC_VUI_VIDEO_FORMAT::NV_ENC_VUI_VIDEO_FORMAT_UNSPECIFIED;
    vui.videoFullRangeFlag = 0;
    vui.colourDescriptionPresentFlag = 1;
    vui.colourPrimaries = PRIMARIES;
    vui.transferCharacteristics = TRANSFER;
    vui.colourMatrix = input.matrix();
    // With it, decoders hand a picture out as soon as they have it.
    vui.bitstreamRestrictionFlag = 1;
}

/// A frame rate as the driver takes it, to a thousandth.
fn fraction(fps: f64) -> (u32, u32) {
    ((fps * 1000.0).round().max(1.0) as u32, 1000)
}

/// The bits of one frame: the size of the buffer that the rate control keeps within, so that no frame takes longer than
/// its time to send. The presets' own lasts about a second (moq-dev/moq#3609).
fn frame_bits(config: &Config) -> u32 {
    (f64::from(config.bitrate) / config.fps).round().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use std::ptr::addr_of;

    use super::*;

    #[test]
    fn the_buffer_is_one_frame_and_follows_rate_and_bit_rate() {
        let config = |fps, bitrate| Config::h264(64, 64, fps, bitrate);
        let able = |custom_vbv| Abilities { custom_vbv, ..Abilities::default() };
        let new = |able, config, room| Settings::new(Box::new(MaybeUninit::zeroed()), &able, &config, room);
        let mut settings = new(able(true), config(60.0, 6_000_000), (1920, 1080));
        let vbv = |settings: &Settings| {
            // SAFETY: `Settings::new` has written these fields.
            let rate = unsafe { &*addr_of!((*settings.config.as_ptr()).rcParams) };
            (rate.averageBitRate, rate.vbvBufferSize, rate.vbvInitialDelay)
        };
        assert_eq!(vbv(&settings), (6_000_000, 100_000, 100_000));
        settings.set(&config(30.0, 1_500_000));
        assert_eq!(vbv(&settings), (1_500_000, 50_000, 50_000));
        let change = settings.reconfigure(false);
        assert_eq!((change.resetEncoder(), change.forceIDR()), (0, 0));
        assert_eq!((change.reInitEncodeParams.frameRateNum, change.reInitEncodeParams.frameRateDen), (30_000, 1000));

        let mut without = new(able(false), config(29.97, 1), (64, 64));
        assert_eq!(vbv(&without), (1, 0, 0), "the driver's own");
        assert_eq!(fraction(29.97), (29_970, 1000));
        without.set_level(42);
        assert_eq!(without.level(), 42);
    }

    #[test]
    fn each_codec_has_its_own_settings() {
        let options = Options { preset: Preset::P6, intra_refresh: Some(60), input: PictureFormat::Argb };
        let able = Abilities { single_slice_refresh: true, ..Abilities::default() };
        for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
            let config = Config { codec, options, ..Config::h264(64, 64, 30.0, 1) };
            let mut settings = Settings::new(Box::new(MaybeUninit::zeroed()), &able, &config, (64, 64));
            assert_eq!(settings.initialize.presetGUID, sys::NV_ENC_PRESET_P6_GUID);
            assert_eq!(settings.level(), settings.any_level(), "{codec:?}");
            // SAFETY: `Settings::new` has written these fields, of a zeroed structure.
            let (refresh, matrix) = unsafe {
                let by_codec = &(*settings.config.as_ptr()).encodeCodecConfig;
                match codec {
                    Codec::H264 => {
                        let h264 = &by_codec.h264Config;
                        let refresh = (h264.enableIntraRefresh(), h264.intraRefreshPeriod, h264.intraRefreshCnt);
                        assert_eq!((h264.outputRecoveryPointSEI(), h264.singleSliceIntraRefresh()), (1, 1));
                        (refresh, h264.h264VUIParameters.colourMatrix)
                    }
                    Codec::Hevc => {
                        let hevc = &by_codec.hevcConfig;
                        let refresh = (hevc.enableIntraRefresh(), hevc.intraRefreshPeriod, hevc.intraRefreshCnt);
                        assert_eq!((hevc.outputRecoveryPointSEI(), hevc.singleSliceIntraRefresh()), (1, 1));
                        (refresh, hevc.hevcVUIParameters.colourMatrix)
                    }
                    Codec::Av1 => {
                        let av1 = &by_codec.av1Config;
                        let refresh = (av1.enableIntraRefresh(), av1.intraRefreshPeriod, av1.intraRefreshCnt);
                        (refresh, av1.matrixCoefficients)
                    }
                }
            };
            assert_eq!(refresh, (1, 60, 59), "{codec:?}");
            assert_eq!(matrix as u32, 6, "{codec:?}");
        }
    }
}
