//! What an encoder is asked for: the vendor's preset for the lowest latency, and what gsk changes in it.
//!
//! Preset P3 with ultra-low-latency tuning; constant bit rate with a buffer of one frame's bits; P frames only, no
//! look-ahead, no end to the group of pictures; an IDR only by a picture's flag, with its parameter sets; a VUI that
//! declares BT.709 limited range and pictures that are never reordered.

use std::mem::MaybeUninit;
use std::ptr::{addr_of, addr_of_mut};

use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;

/// What the user chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Pixels; both even.
    pub width: u32,
    pub height: u32,
    /// Frames a second that the bit rate is shared among; above 0.
    pub fps: f64,
    /// bit/s.
    pub bitrate: u32,
}

pub(super) const CODEC: sys::GUID = sys::NV_ENC_CODEC_H264_GUID;
pub(super) const PRESET: sys::GUID = sys::NV_ENC_PRESET_P3_GUID;
pub(super) const TUNING: sys::NV_ENC_TUNING_INFO = sys::NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_ULTRA_LOW_LATENCY;

/// `NV_ENC_LEVEL_AUTOSELECT`.
pub(super) const ANY_LEVEL: u32 = 0;

/// The structures that opening and changing an encoder take.
pub(super) struct Settings {
    /// The preset, as the driver gave it, and what is changed in it. The driver may have left fields in it that are none of
    /// the crate's `enum` values (zeros), so that it is never read as a whole.
    config: Box<MaybeUninit<sys::NV_ENC_CONFIG>>,
    initialize: sys::NV_ENC_INITIALIZE_PARAMS,
    /// Whether the board takes a buffer size of ours.
    custom_vbv: bool,
}

impl Settings {
    /// `preset` is what the driver gave for [`PRESET`] and [`TUNING`]; `room` the largest size that the encoder may be
    /// changed to, width and height.
    pub(super) fn new(
        preset: Box<MaybeUninit<sys::NV_ENC_CONFIG>>,
        custom_vbv: bool,
        config: &Config,
        room: (u32, u32),
    ) -> Settings {
        // All fields of the structure may be zero.
        let initialize = sys::NV_ENC_INITIALIZE_PARAMS {
            version: sys::NV_ENC_INITIALIZE_PARAMS_VER,
            encodeGUID: CODEC,
            presetGUID: PRESET,
            tuningInfo: TUNING,
            enablePTD: 1,
            maxEncodeWidth: room.0,
            maxEncodeHeight: room.1,
            ..Default::default()
        };
        let mut settings = Settings { config: preset, initialize, custom_vbv };
        settings.fix();
        settings.set(config);
        settings
    }

    /// What no change of settings touches.
    fn fix(&mut self) {
        let config = self.config.as_mut_ptr();
        // SAFETY: the memory is a whole structure that the driver filled, or zeros; fields are written one by one, those that
        // zero is no value for before a reference to what holds them is made. The union's H.264 member is the one in use.
        unsafe {
            addr_of_mut!((*config).version).write(sys::NV_ENC_CONFIG_VER);
            addr_of_mut!((*config).profileGUID).write(sys::NV_ENC_H264_PROFILE_HIGH_GUID);
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

            let h264 = &mut *addr_of_mut!((*config).encodeCodecConfig.h264Config);
            h264.idrPeriod = sys::NVENC_INFINITE_GOPLENGTH;
            h264.level = ANY_LEVEL;
            h264.chromaFormatIDC = 1;
            h264.set_repeatSPSPPS(1);
            h264.set_disableSPSPPS(0);
            h264.set_outputAUD(0);
            let vui = &mut h264.h264VUIParameters;
            vui.videoSignalTypePresentFlag = 1;
            vui.videoFormat = sys::NV_ENC_VUI_VIDEO_FORMAT::NV_ENC_VUI_VIDEO_FORMAT_UNSPECIFIED;
            vui.videoFullRangeFlag = 0;
            vui.colourDescriptionPresentFlag = 1;
            vui.colourPrimaries = sys::NV_ENC_VUI_COLOR_PRIMARIES::NV_ENC_VUI_COLOR_PRIMARIES_BT709;
            vui.transferCharacteristics =
                sys::NV_ENC_VUI_TRANSFER_CHARACTERISTIC::NV_ENC_VUI_TRANSFER_CHARACTERISTIC_BT709;
            vui.colourMatrix = sys::NV_ENC_VUI_MATRIX_COEFFS::NV_ENC_VUI_MATRIX_COEFFS_BT709;
            // With it, decoders hand a picture out as soon as they have it.
            vui.bitstreamRestrictionFlag = 1;
        }
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
    }

    /// The H.264 level: ten times its number, or [`ANY_LEVEL`].
    pub(super) fn set_level(&mut self, level: u32) {
        // SAFETY: as in `fix`.
        unsafe { addr_of_mut!((*self.config.as_mut_ptr()).encodeCodecConfig.h264Config.level).write(level) };
    }

    pub(super) fn level(&self) -> u32 {
        // SAFETY: as in `fix`; the field is a number.
        unsafe { addr_of!((*self.config.as_ptr()).encodeCodecConfig.h264Config.level).read() }
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
    use super::*;

    #[test]
    fn the_buffer_is_one_frame_and_follows_rate_and_bit_rate() {
        let config = |fps, bitrate| Config { width: 64, height: 64, fps, bitrate };
        let mut settings = Settings::new(Box::new(MaybeUninit::zeroed()), true, &config(60.0, 6_000_000), (1920, 1080));
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

        let mut without = Settings::new(Box::new(MaybeUninit::zeroed()), false, &config(29.97, 1), (64, 64));
        assert_eq!(vbv(&without), (1, 0, 0), "the driver's own");
        assert_eq!(fraction(29.97), (29_970, 1000));
        without.set_level(42);
        assert_eq!(without.level(), 42);
    }
}
