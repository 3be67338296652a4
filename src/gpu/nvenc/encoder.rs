//! One encoder of the driver's, and the calls that make, change and ask it.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull, addr_of, addr_of_mut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;

use super::api::{Api, Status};
use super::explain::{Facts, Refused, code_name, explain};
use super::level::level;
use super::session::SURFACES;
use super::settings::{Config, Settings, TUNING, codec_guid};
use crate::error::Error;
use crate::gpu::cuda::{Context, Device};
use crate::gpu::support::{Codec, in_words};
use crate::wire::status::Cause;

/// How long an answer of "busy" is taken as passing.
const PATIENCE: Duration = Duration::from_secs(1);

/// `NV_ENC_ERR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: Status = 10;

const OPEN: &str = "nvEncOpenEncodeSessionEx";

/// An encoder of the driver's: destroyed when dropped, if there is one.
pub(super) struct Encoder {
    pub(super) api: &'static Api,
    pub(super) raw: *mut c_void,
    pub(super) context: Arc<Context>,
    codec: Codec,
    board: String,
    needed_bytes: u64,
}

/// Calls a function of the driver on an encoder; an error carries its name.
macro_rules! call {
    ($encoder:expr, $name:ident $(, $arg:expr)*) => {{
        let encoder = &$encoder;
        encoder.check(stringify!($name), (encoder.api.functions.$name)(encoder.raw $(, $arg)*))
    }};
}

pub(super) use call;

/// A call that the driver refused, and what was seen then.
pub(super) struct Failure {
    pub(super) code: Status,
    pub(super) call: &'static str,
    said: String,
    board: String,
    free_bytes: Option<u64>,
    needed_bytes: u64,
}

impl Failure {
    /// For one of giving something back, which nobody can do anything about.
    pub(super) fn note(&self) {
        tracing::debug!("{} returned {}", self.call, code_name(self.code));
    }

    /// In words, with what else is known.
    pub(super) fn explain(self, known: Facts) -> Refused {
        explain(
            self.code,
            &Facts {
                board: Some(self.board),
                free_bytes: self.free_bytes,
                needed_bytes: self.needed_bytes,
                call: self.call,
                said: self.said,
                ..known
            },
        )
    }

    /// The same of a session that had been open.
    pub(super) fn error(self) -> Error {
        self.explain(Facts { at_work: true, ..Facts::default() }).error
    }
}

impl Encoder {
    /// No session yet.
    pub(super) fn new(api: &'static Api, context: Arc<Context>, device: &Device, config: &Config) -> Encoder {
        // What it encodes and what that refers to, and as much again for what the driver keeps besides: a guess, to tell a
        // full memory from a limit.
        let picture = config.options.input.bytes(config.width, config.height);
        let needed_bytes = (2 * (2 * SURFACES * picture) as u64).max(64 << 20);
        let (codec, board) = (config.codec, device.name.clone());
        Encoder { api, raw: ptr::null_mut(), context, codec, board, needed_bytes }
    }

    /// Opens the session; what comes of it is destroyed with `self`, and a refused opening may leave something too
    /// (nvEncodeAPI.h, NvEncOpenEncodeSessionEx).
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        let mut params = sys::NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS {
            version: sys::NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER,
            deviceType: sys::NV_ENC_DEVICE_TYPE::NV_ENC_DEVICE_TYPE_CUDA,
            device: self.context.raw().cast(),
            apiVersion: sys::NVENCAPI_VERSION,
            ..Default::default()
        };
        // SAFETY: the structure is whole and says its version; the context is live; the last is a place for a handle.
        let code = unsafe { (self.api.functions.nvEncOpenEncodeSessionEx)(&mut params, &mut self.raw) };
        self.check(OPEN, code)?;
        self.made(OPEN, self.raw).map(|_| ())
    }

    pub(super) fn check(&self, call: &'static str, code: Status) -> Result<(), Failure> {
        if code == 0 { Ok(()) } else { Err(self.failure(call, code)) }
    }

    fn failure(&self, call: &'static str, code: Status) -> Failure {
        let said = match self.raw.is_null() {
            true => String::new(),
            // SAFETY: the encoder is live.
            false => unsafe { self.api.last_words(self.raw) },
        };
        // Nothing else is explained by it.
        let free_bytes = if code == OUT_OF_MEMORY { self.context.free_memory().ok() } else { None };
        Failure { code, call, said, board: self.board.clone(), free_bytes, needed_bytes: self.needed_bytes }
    }

    /// What the engine encodes, of what is known here.
    pub(super) fn codecs(&self) -> Result<Vec<Codec>, Failure> {
        let mut count = 0;
        // SAFETY: the encoder is live; the argument is a place for one u32.
        unsafe { call!(self, nvEncGetEncodeGUIDCount, &mut count)? };
        let mut guids = vec![sys::GUID::default(); count as usize];
        // SAFETY: as above; the list has room for as many as are announced.
        unsafe { call!(self, nvEncGetEncodeGUIDs, guids.as_mut_ptr(), count, &mut count)? };
        guids.truncate(count as usize);
        let all = [Codec::H264, Codec::Hevc, Codec::Av1];
        Ok(all.into_iter().filter(|&codec| guids.contains(&codec_guid(codec))).collect())
    }

    fn able(&self, which: sys::NV_ENC_CAPS) -> Result<u32, Failure> {
        let mut param =
            sys::NV_ENC_CAPS_PARAM { version: sys::NV_ENC_CAPS_PARAM_VER, capsToQuery: which, ..Default::default() };
        let mut value = 0;
        // SAFETY: the encoder is live, the structure whole, and the last argument a place for one int.
        unsafe { call!(self, nvEncGetEncodeCaps, codec_guid(self.codec), &mut param, &mut value)? };
        Ok(u32::try_from(value).unwrap_or(0))
    }

    /// What it can do for a codec that it encodes.
    pub(super) fn abilities(&self) -> Result<Abilities, Failure> {
        use sys::NV_ENC_CAPS::*;
        let able = |which| self.able(which);
        Ok(Abilities {
            width: (able(NV_ENC_CAPS_WIDTH_MIN)?, able(NV_ENC_CAPS_WIDTH_MAX)?),
            height: (able(NV_ENC_CAPS_HEIGHT_MIN)?, able(NV_ENC_CAPS_HEIGHT_MAX)?),
            custom_vbv: able(NV_ENC_CAPS_SUPPORT_CUSTOM_VBV_BUF_SIZE)? != 0,
            intra_refresh: able(NV_ENC_CAPS_SUPPORT_INTRA_REFRESH)? != 0,
            single_slice_refresh: able(NV_ENC_CAPS_SINGLE_SLICE_INTRA_REFRESH)? != 0,
        })
    }

    /// The driver's own settings for a preset.
    pub(super) fn preset(&self, guid: sys::GUID) -> Result<Box<MaybeUninit<sys::NV_ENC_CONFIG>>, Failure> {
        let mut preset = MaybeUninit::<sys::NV_ENC_PRESET_CONFIG>::zeroed();
        let whole = preset.as_mut_ptr();
        let mut config = Box::new(MaybeUninit::uninit());
        // SAFETY: the encoder is live and the structure whole, with both versions; its bytes are copied without being read
        // as the types that they may not hold.
        unsafe {
            (*whole).version = sys::NV_ENC_PRESET_CONFIG_VER;
            (*whole).presetCfg.version = sys::NV_ENC_CONFIG_VER;
            call!(self, nvEncGetEncodePresetConfigEx, codec_guid(self.codec), guid, TUNING, whole)?;
            ptr::copy_nonoverlapping(addr_of!((*whole).presetCfg).cast(), config.as_mut_ptr(), 1);
        }
        Ok(config)
    }

    /// The level that the driver wrote into the parameter sets, where it is found there.
    fn level(&self) -> Result<Option<u32>, Failure> {
        let (mut bytes, mut len) = ([0u8; 1024], 0);
        let mut payload = sys::NV_ENC_SEQUENCE_PARAM_PAYLOAD {
            version: sys::NV_ENC_SEQUENCE_PARAM_PAYLOAD_VER,
            inBufferSize: bytes.len() as u32,
            spsppsBuffer: bytes.as_mut_ptr().cast(),
            outSPSPPSPayloadSize: &mut len,
            ..Default::default()
        };
        // SAFETY: the encoder is live; the structure names a buffer, its size, and a place for one u32.
        unsafe { call!(self, nvEncGetSequenceParams, &mut payload)? };
        Ok(level(self.codec, bytes.get(..len as usize).unwrap_or_default()))
    }

    /// Hands changed settings to the driver.
    pub(super) fn reconfigure(&self, settings: &mut Settings, resized: bool) -> Result<(), Failure> {
        let mut params = settings.reconfigure(resized);
        // SAFETY: the encoder is live; the structure is whole, and what it points to is the settings'.
        unsafe { call!(self, nvEncReconfigureEncoder, &mut params) }
    }

    /// Keeps the level that the driver chose: one that went up and down with the bit rate would have decoders begin anew.
    pub(super) fn pin_level(&self, settings: &mut Settings) {
        if settings.level() == settings.any_level() {
            match self.level() {
                Ok(level) => settings.set_level(level.unwrap_or(settings.any_level())),
                Err(failure) => failure.note(),
            }
        }
    }

    pub(super) fn create_output(&self) -> Result<NonNull<c_void>, Failure> {
        let mut params = sys::NV_ENC_CREATE_BITSTREAM_BUFFER {
            version: sys::NV_ENC_CREATE_BITSTREAM_BUFFER_VER,
            ..Default::default()
        };
        // SAFETY: as above.
        unsafe { call!(self, nvEncCreateBitstreamBuffer, &mut params)? };
        self.made("nvEncCreateBitstreamBuffer", params.bitstreamBuffer)
    }

    /// What a call that succeeded has made.
    pub(super) fn made(&self, call: &'static str, handle: *mut c_void) -> Result<NonNull<c_void>, Failure> {
        NonNull::new(handle).ok_or_else(|| Failure { said: "with no handle".into(), ..self.failure(call, 0) })
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        let _current = self.context.current();
        // SAFETY: the encoder is live, all that was made by it is gone, and this is its last use.
        let code = unsafe { (self.api.functions.nvEncDestroyEncoder)(self.raw) };
        if code != 0 {
            tracing::debug!("nvEncDestroyEncoder returned {}", code_name(code));
        }
    }
}

/// What a board's engine can do for a codec.
#[derive(Default)]
pub(super) struct Abilities {
    /// The least and the most, pixels.
    pub(super) width: (u32, u32),
    pub(super) height: (u32, u32),
    pub(super) custom_vbv: bool,
    pub(super) intra_refresh: bool,
    /// Whether intra refresh leaves a picture in one slice.
    pub(super) single_slice_refresh: bool,
}

/// The refusal of a codec that is none of the board's.
pub fn no_codec(codec: Codec, offered: &[Codec], board: &str) -> Refused {
    let (offered, name) = (in_words(offered), codec.name());
    let error = Error::missing(format!("{board} encodes {offered}, not {name}")).hint("use --codec h264");
    Refused { cause: Cause::NoEngine, error }
}

impl Abilities {
    pub(super) fn check(&self, config: &Config, board: &str) -> Result<(), Refused> {
        let Config { codec, width, height, options, .. } = *config;
        let fits = (self.width.0..=self.width.1).contains(&width) && (self.height.0..=self.height.1).contains(&height);
        let error = if !fits {
            let (least, most) = ((self.width.0, self.height.0), (self.width.1, self.height.1));
            let name = codec.title();
            Error::usage(format!("NVENC cannot encode {width}x{height}"))
                .cause(format!("{board} encodes {name} from {}x{} to {}x{}", least.0, least.1, most.0, most.1))
                .hint("use another size, or --encoder openh264")
        } else if options.intra_refresh.is_some() && !self.intra_refresh {
            Error::missing(format!("{board} has no intra refresh of {}", codec.title()))
                .hint("leave --intra-refresh away: whoever joins or has lost something gets a key frame")
        } else {
            return Ok(());
        };
        Err(Refused { cause: Cause::NoEngine, error })
    }
}

/// Calls again while the driver is busy, up to a limit.
pub(super) fn patiently(mut call: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call() {
            // NV_ENC_ERR_LOCK_BUSY, NV_ENC_ERR_ENCODER_BUSY: "after few milliseconds" (nvEncodeAPI.h).
            Err(Failure { code: 13 | 18, .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1))
            }
            done => return done,
        }
    }
}

/// An empty picture: all fields may be zero but one.
pub(super) fn picture() -> sys::NV_ENC_PIC_PARAMS {
    let mut params = MaybeUninit::<sys::NV_ENC_PIC_PARAMS>::zeroed();
    let whole = params.as_mut_ptr();
    // SAFETY: the fields are places in zeroed memory; with a picture structure, which has no value 0, the whole is valid.
    unsafe {
        addr_of_mut!((*whole).version).write(sys::NV_ENC_PIC_PARAMS_VER);
        addr_of_mut!((*whole).pictureStruct).write(sys::NV_ENC_PIC_STRUCT::NV_ENC_PIC_STRUCT_FRAME);
        params.assume_init()
    }
}
