//! NVENC as a program uses it, with the layouts of the `nvidia-video-codec-sdk` crate: what the stand-in's own are held
//! against.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::CudaContext;
use libloading::Library;
use nvidia_video_codec_sdk::sys::nvEncodeAPI::*;

pub const ARGB: NV_ENC_BUFFER_FORMAT = NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_ARGB;
pub const ABGR: NV_ENC_BUFFER_FORMAT = NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_ABGR;
pub const NV12: NV_ENC_BUFFER_FORMAT = NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_NV12;
pub const IYUV: NV_ENC_BUFFER_FORMAT = NV_ENC_BUFFER_FORMAT::NV_ENC_BUFFER_FORMAT_IYUV;
pub const IDR: u32 = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_FORCEIDR as u32;
pub const EOS: u32 = NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_EOS as u32;

/// A status that is not success, as a number.
pub type Code = u32;

pub fn check(status: NVENCSTATUS) -> Result<(), Code> {
    match status as u32 {
        0 => Ok(()),
        code => Err(code),
    }
}

/// The library, and a context on the first device.
pub struct Nvenc {
    pub library: Library,
    pub api: NV_ENCODE_API_FUNCTION_LIST,
    pub cuda: Arc<CudaContext>,
}

/// Calls a function of the API's list.
macro_rules! call {
    ($api:expr, $function:ident($($argument:expr),*)) => {
        // SAFETY: the list was filled by the library, which is loaded as long as its `Nvenc`; the arguments are those of the
        // caller, which live through the call.
        $crate::encoder::check(unsafe { $api.$function.unwrap()($($argument),*) })
    };
}
pub(crate) use call;

impl Nvenc {
    pub fn load() -> Result<Nvenc, Code> {
        Nvenc::on_device(0)
    }

    pub fn on_device(ordinal: usize) -> Result<Nvenc, Code> {
        let cuda = CudaContext::new(ordinal).unwrap();
        // SAFETY: the stand-in's library runs nothing when it is loaded.
        let library = unsafe { Library::new("libnvidia-encode.so.1").unwrap() };
        let mut api = NV_ENCODE_API_FUNCTION_LIST { version: NV_ENCODE_API_FUNCTION_LIST_VER, ..Default::default() };
        // SAFETY: the symbol is of this type in every version of the API.
        let create = unsafe {
            library
                .get::<unsafe extern "C" fn(*mut NV_ENCODE_API_FUNCTION_LIST) -> NVENCSTATUS>(
                    b"NvEncodeAPICreateInstance\0",
                )
                .unwrap()
        };
        // SAFETY: the list is valid for writing.
        check(unsafe { create(&mut api) })?;
        Ok(Nvenc { library, api, cuda })
    }

    pub fn open(&self) -> Result<*mut c_void, Code> {
        let mut parameters = NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS {
            version: NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS_VER,
            deviceType: NV_ENC_DEVICE_TYPE::NV_ENC_DEVICE_TYPE_CUDA,
            device: self.cuda.cu_ctx().cast(),
            apiVersion: NVENCAPI_VERSION,
            ..Default::default()
        };
        let mut encoder = ptr::dangling_mut();
        let result = call!(self.api, nvEncOpenEncodeSessionEx(&mut parameters, &mut encoder));
        assert_eq!(result.is_err(), encoder.is_null(), "a refused session's handle is null");
        result.map(|()| encoder)
    }

    pub fn last_error(&self, encoder: *mut c_void) -> String {
        // SAFETY: the text is valid until the thread's next call.
        unsafe { CStr::from_ptr(self.api.nvEncGetLastErrorString.unwrap()(encoder)) }.to_str().unwrap().to_owned()
    }

    /// What the driver proposes for P3 and the lowest latency.
    pub fn preset(&self, encoder: *mut c_void) -> Result<NV_ENC_CONFIG, Code> {
        let mut preset = NV_ENC_PRESET_CONFIG { version: NV_ENC_PRESET_CONFIG_VER, ..Default::default() };
        preset.presetCfg.version = NV_ENC_CONFIG_VER;
        let tuning = NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_ULTRA_LOW_LATENCY;
        call!(
            self.api,
            nvEncGetEncodePresetConfigEx(encoder, NV_ENC_CODEC_H264_GUID, NV_ENC_PRESET_P3_GUID, tuning, &mut preset)
        )?;
        Ok(preset.presetCfg)
    }
}

pub fn parameters(width: u32, height: u32, config: &mut NV_ENC_CONFIG) -> NV_ENC_INITIALIZE_PARAMS {
    NV_ENC_INITIALIZE_PARAMS {
        version: NV_ENC_INITIALIZE_PARAMS_VER,
        encodeGUID: NV_ENC_CODEC_H264_GUID,
        presetGUID: NV_ENC_PRESET_P3_GUID,
        encodeWidth: width,
        encodeHeight: height,
        darWidth: width,
        darHeight: height,
        frameRateNum: 60,
        frameRateDen: 1,
        enablePTD: 1,
        maxEncodeWidth: 1920,
        maxEncodeHeight: 1088,
        encodeConfig: config,
        tuningInfo: NV_ENC_TUNING_INFO::NV_ENC_TUNING_INFO_ULTRA_LOW_LATENCY,
        ..Default::default()
    }
}

/// A session with one input and one bitstream buffer.
pub struct Encoder<'a> {
    pub nvenc: &'a Nvenc,
    pub handle: *mut c_void,
    pub input: NV_ENC_INPUT_PTR,
    pub bitstream: NV_ENC_OUTPUT_PTR,
    pub config: NV_ENC_CONFIG,
    pub format: NV_ENC_BUFFER_FORMAT,
    pub size: (u32, u32),
    frames: u64,
}

/// One access unit.
pub struct Unit {
    pub bytes: Vec<u8>,
    pub idr: bool,
}

impl<'a> Encoder<'a> {
    pub fn new(
        nvenc: &'a Nvenc,
        (width, height): (u32, u32),
        format: NV_ENC_BUFFER_FORMAT,
        change: impl FnOnce(&mut NV_ENC_CONFIG),
    ) -> Encoder<'a> {
        let handle = nvenc.open().unwrap();
        let mut config = nvenc.preset(handle).unwrap();
        // SAFETY: an encoder of H.264 reads this member of the union.
        unsafe { config.encodeCodecConfig.h264Config.set_repeatSPSPPS(1) };
        change(&mut config);
        call!(nvenc.api, nvEncInitializeEncoder(handle, &mut parameters(width, height, &mut config))).unwrap();
        let input = create_input(nvenc, handle, (width, height), format).unwrap();
        let bitstream = create_bitstream(nvenc, handle).unwrap();
        Encoder { nvenc, handle, input, bitstream, config, format, size: (width, height), frames: 0 }
    }

    /// Writes a picture of closely packed rows into the input buffer, whose rows are longer.
    pub fn fill(&self, picture: &[u8]) {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let (pointer, pitch) = self.lock_input().unwrap();
        assert!(pitch > width && pitch.is_multiple_of(256), "{pitch}");
        let planes: &[(usize, usize, usize)] = match self.format {
            NV12 => &[(width, height, pitch), (width, height / 2, pitch)],
            IYUV => &[(width, height, pitch), (width / 2, height / 2, pitch / 2), (width / 2, height / 2, pitch / 2)],
            _ => &[(width * 4, height, pitch)],
        };
        let (mut from, mut to) = (picture, pointer);
        for &(row, rows, pitch) in planes {
            for _ in 0..rows {
                let (line, rest) = from.split_at(row);
                // SAFETY: the locked buffer holds these rows, by the API's layout of the format.
                unsafe {
                    ptr::copy_nonoverlapping(line.as_ptr(), to, row);
                    to = to.add(pitch);
                }
                from = rest;
            }
        }
        assert!(from.is_empty());
        call!(self.nvenc.api, nvEncUnlockInputBuffer(self.handle, self.input)).unwrap();
    }

    pub fn lock_input(&self) -> Result<(*mut u8, usize), Code> {
        let mut lock = NV_ENC_LOCK_INPUT_BUFFER {
            version: NV_ENC_LOCK_INPUT_BUFFER_VER,
            inputBuffer: self.input,
            ..Default::default()
        };
        call!(self.nvenc.api, nvEncLockInputBuffer(self.handle, &mut lock))?;
        Ok((lock.bufferDataPtr.cast(), lock.pitch as usize))
    }

    pub fn submit(&mut self, flags: u32) -> Result<(), Code> {
        self.submit_from(self.input, flags)
    }

    pub fn submit_from(&mut self, input: NV_ENC_INPUT_PTR, flags: u32) -> Result<(), Code> {
        let mut picture = NV_ENC_PIC_PARAMS {
            version: NV_ENC_PIC_PARAMS_VER,
            inputWidth: self.size.0,
            inputHeight: self.size.1,
            encodePicFlags: flags,
            inputTimeStamp: 1000 + self.frames,
            inputBuffer: input,
            outputBitstream: self.bitstream,
            bufferFmt: self.format,
            pictureStruct: NV_ENC_PIC_STRUCT::NV_ENC_PIC_STRUCT_FRAME,
            ..Default::default()
        };
        call!(self.nvenc.api, nvEncEncodePicture(self.handle, &mut picture))?;
        self.frames += 1;
        Ok(())
    }

    pub fn collect(&self) -> Result<Unit, Code> {
        let lock = self.lock_bitstream()?;
        assert_eq!(lock.outputTimeStamp, 999 + self.frames);
        // SAFETY: the buffer is locked.
        let bytes = unsafe {
            std::slice::from_raw_parts(lock.bitstreamBufferPtr.cast::<u8>(), lock.bitstreamSizeInBytes as usize)
        }
        .to_vec();
        call!(self.nvenc.api, nvEncUnlockBitstream(self.handle, self.bitstream)).unwrap();
        Ok(Unit { bytes, idr: lock.pictureType == NV_ENC_PIC_TYPE::NV_ENC_PIC_TYPE_IDR })
    }

    pub fn lock_bitstream(&self) -> Result<NV_ENC_LOCK_BITSTREAM, Code> {
        let mut lock = NV_ENC_LOCK_BITSTREAM {
            version: NV_ENC_LOCK_BITSTREAM_VER,
            outputBitstream: self.bitstream,
            ..Default::default()
        };
        call!(self.nvenc.api, nvEncLockBitstream(self.handle, &mut lock))?;
        Ok(lock)
    }

    pub fn encode(&mut self, picture: &[u8], flags: u32) -> Unit {
        self.fill(picture);
        self.submit(flags).unwrap();
        self.collect().unwrap()
    }

    /// Changes the settings that `change` changes, in place.
    pub fn reconfigure(
        &mut self,
        change: impl FnOnce(&mut NV_ENC_INITIALIZE_PARAMS, &mut NV_ENC_CONFIG),
    ) -> Result<(), Code> {
        let mut config = self.config;
        let mut initialize = parameters(self.size.0, self.size.1, &mut config);
        change(&mut initialize, &mut config);
        initialize.encodeConfig = &mut config;
        let mut all = NV_ENC_RECONFIGURE_PARAMS {
            version: NV_ENC_RECONFIGURE_PARAMS_VER,
            reInitEncodeParams: initialize,
            ..Default::default()
        };
        call!(self.nvenc.api, nvEncReconfigureEncoder(self.handle, &mut all))?;
        self.config = config;
        self.size = (initialize.encodeWidth, initialize.encodeHeight);
        Ok(())
    }

    pub fn close(self) {
        call!(self.nvenc.api, nvEncDestroyInputBuffer(self.handle, self.input)).unwrap();
        call!(self.nvenc.api, nvEncDestroyBitstreamBuffer(self.handle, self.bitstream)).unwrap();
        call!(self.nvenc.api, nvEncDestroyEncoder(self.handle)).unwrap();
    }
}

pub fn create_input(
    nvenc: &Nvenc,
    encoder: *mut c_void,
    (width, height): (u32, u32),
    format: NV_ENC_BUFFER_FORMAT,
) -> Result<NV_ENC_INPUT_PTR, Code> {
    let mut create = NV_ENC_CREATE_INPUT_BUFFER {
        version: NV_ENC_CREATE_INPUT_BUFFER_VER,
        width,
        height,
        bufferFmt: format,
        ..Default::default()
    };
    call!(nvenc.api, nvEncCreateInputBuffer(encoder, &mut create))?;
    Ok(create.inputBuffer)
}

pub fn create_bitstream(nvenc: &Nvenc, encoder: *mut c_void) -> Result<NV_ENC_OUTPUT_PTR, Code> {
    let mut create =
        NV_ENC_CREATE_BITSTREAM_BUFFER { version: NV_ENC_CREATE_BITSTREAM_BUFFER_VER, ..Default::default() };
    call!(nvenc.api, nvEncCreateBitstreamBuffer(encoder, &mut create))?;
    Ok(create.bitstreamBuffer)
}
