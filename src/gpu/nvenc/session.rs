//! One encoder session: opening, pictures in, access units out, closing.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::{NonNull, addr_of, addr_of_mut};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvidia_video_codec_sdk::sys::nvEncodeAPI as sys;

use super::api::Api;
use super::encoder::{Encoder, Failure, call, no_codec, patiently, picture};
use super::explain::Refused;
use super::input::Input;
use super::settings::{Config, PictureFormat, Settings};
use crate::error::{Error, Result};
use crate::gpu::cuda::{Context, Current, Device};
use crate::gpu::picture::Surface;
use crate::lease::Slot;
use crate::wire::status::Cause;

/// Pictures that a session has memory for: "at least 4 more than the number of B frames" (nvEncodeAPI.h,
/// NvEncCreateInputBuffer).
pub const SURFACES: usize = 4;

/// The size that every session has room for, so that it need not be opened again where a picture grows up to it.
const ROOM: (u32, u32) = (1920, 1080);

/// An encoder with its buffers; all is given back when it is dropped.
struct Core {
    /// One a surface; replaced where the size changes.
    inputs: [Mutex<Option<Input>>; SURFACES],
    outputs: Vec<NonNull<c_void>>,
    /// Bitstreams that the driver did not unlock.
    locked: [AtomicBool; SURFACES],
    /// Why no further picture can be encoded: the driver keeps what the next would need.
    stuck: Mutex<Option<Error>>,
    /// Pictures submitted so far; the next one's surface follows from it.
    frames: AtomicU64,
    /// The largest size that the encoder can be changed to.
    room: (u32, u32),
    format: PictureFormat,
    encoder: Encoder,
    /// Memory that the driver did not let go of: it goes after the encoder.
    kept: Mutex<Vec<Surface>>,
}

impl Core {
    /// The surface of the next picture; those of the ones before it follow, the oldest first.
    fn next_surface(&self) -> usize {
        (self.frames.load(Ordering::Acquire) % SURFACES as u64) as usize
    }

    /// Whoever panicked with it has left it whole.
    fn input(&self, surface: usize) -> MutexGuard<'_, Option<Input>> {
        self.inputs[surface].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the inputs anew, for pictures of this size.
    fn make_inputs(&self, width: u32, height: u32) -> Result<(), Stopped> {
        self.end_inputs();
        for surface in 0..SURFACES {
            let picture = self.format.surface(&self.encoder.context, width, height)?;
            *self.input(surface) = Some(Input::register(&self.encoder, self.format, picture)?);
        }
        Ok(())
    }

    /// Pictures that nobody collects any more are waited for in their order, as the encoder may still read them.
    fn end_inputs(&self) {
        let next = self.next_surface();
        for surface in (next..next + SURFACES).map(|surface| surface % SURFACES) {
            if let Some(input) = self.input(surface).take() {
                if input.is_mapped() {
                    self.discard(surface);
                }
                let kept = input.end(&self.encoder);
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
            }
        }
    }

    /// Waits for a picture's access unit, and lets it go.
    fn discard(&self, surface: usize) {
        let Some(output) = self.outputs.get(surface) else { return };
        let mut lock = locking(*output);
        // SAFETY: the encoder is live, the bitstream buffer the encoder's and not locked, the structure as `locking` made it.
        let locked = patiently(|| unsafe { call!(self.encoder, nvEncLockBitstream, lock.as_mut_ptr()) });
        locked.and_then(|()| self.unlock(surface)).unwrap_or_else(|failure| failure.note());
    }

    /// Unlocks a bitstream that is locked and that nobody reads.
    fn unlock(&self, surface: usize) -> Result<(), Failure> {
        // SAFETY: the bitstream is locked, as the caller says, and nobody reads it.
        let done = unsafe { call!(self.encoder, nvEncUnlockBitstream, self.outputs[surface].as_ptr()) };
        self.locked[surface].store(done.is_err(), Ordering::Release);
        done
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _current = self.encoder.context.current();
        if *self.frames.get_mut() > 0 {
            // The encoder must be flushed before its buffers go (nvEncodeAPI.h, NvEncDestroyEncoder).
            let mut end = picture();
            end.encodePicFlags = sys::NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_EOS as u32;
            // SAFETY: the encoder is live and the structure whole; without a picture it only ends the stream.
            unsafe { call!(self.encoder, nvEncEncodePicture, &mut end) }.unwrap_or_else(|failure| failure.note());
        }
        self.end_inputs();
        for (surface, output) in self.outputs.iter().enumerate() {
            // One that cannot be unlocked goes with the session.
            if self.locked[surface].load(Ordering::Acquire) && self.unlock(surface).is_err() {
                continue;
            }
            // SAFETY: the buffer is the encoder's and not locked, and this is its last use.
            unsafe { call!(self.encoder, nvEncDestroyBitstreamBuffer, output.as_ptr()) }
                .unwrap_or_else(|failure| failure.note());
        }
    }
}

/// What both halves hold. Fields are dropped in their order: the slot is free when the driver has closed the session.
struct Shared {
    core: Core,
    /// Surfaces with a picture that was not collected.
    busy: [AtomicBool; SURFACES],
    slot: Slot,
}

// SAFETY: NVENC may be called from two threads, one that submits and one that locks bitstreams, as the two halves do
// (Video Codec SDK programming guide, "Threading Model"); the pointers are the driver's handles.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The half that takes pictures.
pub struct Session {
    shared: Arc<Shared>,
    settings: Settings,
    config: Config,
}

// SAFETY: what is not Send in it are the settings' pointers, which lead to memory that they own.
unsafe impl Send for Session {}

/// The half that waits for access units.
pub struct Collector {
    shared: Arc<Shared>,
}

/// A picture that the encoder has. It is to be collected, in the order of encoding.
#[must_use]
pub struct Pending {
    surface: usize,
}

/// An access unit, in the driver's memory until this is dropped.
pub struct Coded<'a> {
    bytes: &'a [u8],
    surface: usize,
    shared: &'a Shared,
    _current: Current<'a>,
}

impl Session {
    /// Opens a session on the first that takes one of the devices that `wanted` names (by UUID or PCI address), in that
    /// order but [`Config::near`] first, or of all where it names none: beside a board without an engine, that is the one with
    /// an engine. The slot is kept until the session is closed; where every device refuses, it is free again.
    pub fn open(slot: Slot, wanted: &[String], config: &Config) -> Result<(Session, Collector), Refused> {
        let api = Api::get()?;
        let mut stopped = Vec::new();
        for device in super::candidates(wanted, config.near)? {
            match prepare(&slot, api, &device, config) {
                Ok((core, settings)) => {
                    let shared = Arc::new(Shared { core, busy: Default::default(), slot });
                    let session = Session { shared: shared.clone(), settings, config: *config };
                    return Ok((session, Collector { shared }));
                }
                Err(why) => stopped.push((device, why)),
            }
        }
        // A board with an engine that refuses says more than one without.
        let telling = stopped.iter().position(|(_, why)| !why.no_engine()).unwrap_or(0);
        Err(match stopped.into_iter().nth(telling) {
            Some((device, Stopped::Call(failure))) => failure.explain(super::facts(&device)),
            Some((_, Stopped::Refused(refused))) => refused,
            None => super::no_device(),
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device that encodes.
    pub fn context(&self) -> &Arc<Context> {
        &self.shared.core.encoder.context
    }

    /// Has `write` make a picture in the encoder's memory, complete when it returns, and submits it. Of [`SURFACES`]
    /// pictures the oldest must have been collected before the next is encoded. `time_us` goes with the picture; it must grow.
    pub fn encode(
        &mut self,
        idr: bool,
        time_us: u64,
        write: impl FnOnce(&mut Surface) -> Result<()>,
    ) -> Result<Pending> {
        let core = &self.shared.core;
        let surface = core.next_surface();
        if self.shared.busy[surface].load(Ordering::Acquire) {
            return Err(Error::bug("a picture was to be encoded before an old one was collected"));
        }
        core.stuck.lock().unwrap().clone().map_or(Ok(()), Err)?;
        let _current = core.encoder.context.current()?;
        let mut input = core.input(surface);
        let input = input.as_mut();
        let input = input.ok_or_else(|| Error::failed("NVENC failed").cause("the session has lost its buffers"))?;
        write(&mut input.surface)?;
        let mapped = input.map(&core.encoder).map_err(Failure::error)?;
        let mut params = picture();
        params.inputWidth = self.config.width;
        params.inputHeight = self.config.height;
        params.inputPitch = input.surface.pitch() as u32;
        params.frameIdx = core.frames.load(Ordering::Relaxed) as u32;
        params.inputTimeStamp = time_us;
        params.inputBuffer = mapped.as_ptr();
        params.outputBitstream = core.outputs[surface].as_ptr();
        params.bufferFmt = core.format.raw();
        if idr {
            // With picture types decided by the driver, the flag does it and the type does not.
            params.encodePicFlags = sys::NV_ENC_PIC_FLAGS::NV_ENC_PIC_FLAG_FORCEIDR as u32;
        }
        // SAFETY: the encoder is live, the structure whole; its buffers are the encoder's, and no picture is in them.
        let submitted = patiently(|| unsafe { call!(core.encoder, nvEncEncodePicture, &mut params) });
        if let Err(failure) = submitted {
            input.unmap(&core.encoder).unwrap_or_else(|failure| failure.note());
            return Err(failure.error());
        }
        core.frames.fetch_add(1, Ordering::AcqRel);
        self.shared.busy[surface].store(true, Ordering::Release);
        Ok(Pending { surface })
    }

    /// Changes bit rate, frame rate and size in place. Only a new size, for which every picture must have been collected,
    /// begins with an IDR. Where it fails, the session goes on as it was, unless its size was to change. Codec and options stay
    /// as they are, whatever `config` says of them.
    pub fn reconfigure(&mut self, config: &Config) -> Result<()> {
        let config = &Config { codec: self.config.codec, options: self.config.options, ..*config };
        let core = &self.shared.core;
        let resized = (config.width, config.height) != (self.config.width, self.config.height);
        if resized {
            if self.shared.busy.iter().any(|busy| busy.load(Ordering::Acquire)) {
                return Err(Error::bug("a size was to change before the pictures of the old one were collected"));
            }
            if config.width > core.room.0 || config.height > core.room.1 {
                let ((width, height), (room_width, room_height)) = ((config.width, config.height), core.room);
                return Err(Error::usage(format!(
                    "an encoder with room for {room_width}x{room_height} cannot grow to {width}x{height}"
                )));
            }
        }
        let _current = core.encoder.context.current()?;
        let level = self.settings.level();
        self.settings.set(config);
        let mut changed = core.encoder.reconfigure(&mut self.settings, resized);
        if changed.as_ref().is_err_and(|failure| matches!(failure.code, 8 | 12)) && level != self.settings.any_level() {
            // The level that the opening chose may be too low for the new rate.
            self.settings.set_level(self.settings.any_level());
            changed = core.encoder.reconfigure(&mut self.settings, resized);
        }
        if let Err(failure) = changed {
            self.settings.set(&self.config);
            self.settings.set_level(level);
            return Err(failure.error());
        }
        self.config = *config;
        core.encoder.pin_level(&mut self.settings);
        if resized {
            core.make_inputs(config.width, config.height).map_err(Stopped::error)?;
            // Who asks is told the old size otherwise, which is no reason to fail.
            let _ = self.shared.slot.resize(config.width, config.height);
        }
        Ok(())
    }
}

impl Collector {
    /// Waits for a picture's access unit, for as long as the driver takes.
    pub fn collect(&mut self, pending: Pending) -> Result<Coded<'_>> {
        let shared = &*self.shared;
        let core = &shared.core;
        let current = core.encoder.context.current()?;
        let mut lock = locking(core.outputs[pending.surface]);
        let whole = lock.as_mut_ptr();
        // SAFETY: the encoder is live, the bitstream buffer the encoder's and not locked; the fields are places in zeroed
        // memory. What comes back is read field by field: a newer driver may name picture types that the crate lacks.
        let bytes = unsafe {
            patiently(|| call!(core.encoder, nvEncLockBitstream, whole)).map_err(|failure| failure.error())?;
            let start = addr_of!((*whole).bitstreamBufferPtr).read().cast::<u8>();
            let len = addr_of!((*whole).bitstreamSizeInBytes).read() as usize;
            // The driver's memory, which stays as it is until the bitstream is unlocked.
            if start.is_null() { &[][..] } else { slice::from_raw_parts(start, len) }
        };
        let coded = Coded { bytes, surface: pending.surface, shared, _current: current };
        if coded.is_empty() {
            return Err(Error::failed("NVENC failed").cause("an access unit is empty"));
        }
        Ok(coded)
    }
}

impl Deref for Coded<'_> {
    type Target = [u8];

    /// Annex B; of AV1 a temporal unit in the low-overhead format.
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Coded<'_> {
    fn drop(&mut self) {
        let core = &self.shared.core;
        let unlocked = core.unlock(self.surface);
        let unmapped = match &mut *core.input(self.surface) {
            Some(input) => input.unmap(&core.encoder),
            None => Ok(()),
        };
        if let Err(failure) = unlocked.and(unmapped) {
            core.stuck.lock().unwrap().get_or_insert(failure.error());
        }
        self.shared.busy[self.surface].store(false, Ordering::Release);
    }
}

/// What locking a bitstream buffer takes.
fn locking(output: NonNull<c_void>) -> MaybeUninit<sys::NV_ENC_LOCK_BITSTREAM> {
    let mut lock = MaybeUninit::<sys::NV_ENC_LOCK_BITSTREAM>::zeroed();
    let whole = lock.as_mut_ptr();
    // SAFETY: the fields are places in zeroed memory.
    unsafe {
        addr_of_mut!((*whole).version).write(sys::NV_ENC_LOCK_BITSTREAM_VER);
        addr_of_mut!((*whole).outputBitstream).write(output.as_ptr());
    }
    lock
}

/// Why no session came of a device.
enum Stopped {
    Call(Failure),
    Refused(Refused),
}

impl Stopped {
    fn no_engine(&self) -> bool {
        match self {
            Stopped::Call(failure) => matches!(failure.code, 1 | 2),
            Stopped::Refused(refused) => refused.cause == Cause::NoEngine,
        }
    }

    /// That of a session that had been open.
    fn error(self) -> Error {
        match self {
            Stopped::Call(failure) => failure.error(),
            Stopped::Refused(refused) => refused.error,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Call(failure)
    }
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Stopped {
        Stopped::Refused(refused)
    }
}

/// A fault of CUDA.
impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Refused(super::from_cuda(error))
    }
}

/// Opens an encoder with all its buffers, with room to grow where the board allows. The slot is the proof that it may.
fn prepare(_slot: &Slot, api: &'static Api, device: &Device, config: &Config) -> Result<(Core, Settings), Stopped> {
    match build(api, device, config, ROOM) {
        Err(Stopped::Call(Failure { call: "nvEncInitializeEncoder", .. })) => build(api, device, config, (0, 0)),
        result => result,
    }
}

fn build(api: &'static Api, device: &Device, config: &Config, ample: (u32, u32)) -> Result<(Core, Settings), Stopped> {
    let context = Arc::new(Context::retain(device)?);
    let encoder = Encoder::new(api, context.clone(), device, config);
    let room = (config.width, config.height);
    let mut core = Core {
        inputs: Default::default(),
        outputs: Vec::new(),
        locked: Default::default(),
        stuck: Mutex::default(),
        frames: AtomicU64::new(0),
        room,
        format: config.options.input,
        encoder,
        kept: Mutex::default(),
    };
    let _current = context.current()?;

    core.encoder.open()?;
    let offered = core.encoder.codecs()?;
    if !offered.contains(&config.codec) {
        return Err(no_codec(config.codec, &offered, &device.name).into());
    }
    let able = core.encoder.abilities()?;
    able.check(config, &device.name)?;
    core.room = (config.width.max(ample.0.min(able.width.1)), config.height.max(ample.1.min(able.height.1)));

    let mut settings = Settings::new(core.encoder.preset(config.options.preset.guid())?, &able, config, core.room);
    // SAFETY: the encoder is live; the structure is whole, and what it points to is the settings'.
    unsafe { call!(core.encoder, nvEncInitializeEncoder, settings.initialize()) }?;
    core.encoder.pin_level(&mut settings);

    core.make_inputs(config.width, config.height)?;
    for _ in 0..SURFACES {
        core.outputs.push(core.encoder.create_output()?);
    }
    Ok((core, settings))
}
