//! A stream's parser and decoder, and the pictures that come of them.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::mem::zeroed;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, addr_of};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvidia_video_codec_sdk::sys::{cuviddec, nvcuvid};

use super::api::{
    Api, Caps, CreateInfo, Format, Packet, ParserParams, PicParams, ProcParams, RawDecoder, RawParser, Status,
};
use super::explain::{Able, Facts, Shape, explain};
use crate::error::{Error, Result};
use crate::gpu::cuda::{Context, Device};
use crate::gpu::memory::{Side, Stream};
use crate::gpu::support::Codec;

/// `cudaVideoSurfaceFormat_NV12`, as a bit of the mask of formats.
const NV12: u16 = 1 << cuviddec::cudaVideoSurfaceFormat_enum::cudaVideoSurfaceFormat_NV12 as u16;

/// `cuvidDecodeStatus_Error` and `cuvidDecodeStatus_Error_Concealed`.
const DAMAGED: u32 = cuviddec::cuvidDecodeStatus_enum::cuvidDecodeStatus_Error as u32;
const CONCEALED: u32 = cuviddec::cuvidDecodeStatus_enum::cuvidDecodeStatus_Error_Concealed as u32;

/// A device, and the library that decodes on it.
#[derive(Clone)]
pub(super) struct Board {
    api: &'static Api,
    context: Arc<Context>,
    facts: Arc<Facts>,
}

/// Calls a function of the library; an error says what its code means.
macro_rules! call {
    ($board:expr, $name:ident $(, $arg:expr)*) => {{
        let code = ($board.api.functions.$name)($($arg),*);
        $board.told(stringify!($name), code)
    }};
}

impl Board {
    pub(super) fn of(device: &Device) -> Result<Board> {
        let api = Api::get()?;
        let context = Arc::new(Context::retain(device)?);
        let capabilities = std::env::var("NVIDIA_DRIVER_CAPABILITIES").ok();
        Ok(Board { api, context, facts: Arc::new(Facts { board: device.name.clone(), capabilities }) })
    }

    fn told(&self, call: &str, code: u32) -> Result<()> {
        match code {
            0 => Ok(()),
            code => Err(explain(call, code, &self.context.code_name(code), &self.facts)),
        }
    }

    /// What it decodes of a codec.
    pub(super) fn able(&self, codec: Codec) -> Result<Able> {
        let _current = self.context.current()?;
        // SAFETY: numbers, and enums that have a value 0.
        let mut caps: Caps = unsafe { zeroed() };
        caps.eCodecType = raw_codec(codec);
        caps.eChromaFormat = cuviddec::cudaVideoChromaFormat_enum::cudaVideoChromaFormat_420;
        // SAFETY: the structure is whole, its reserved fields are 0, and a context is current.
        unsafe { call!(self, cuvidGetDecoderCaps, &mut caps)? };
        Ok(Able {
            supported: caps.bIsSupported != 0,
            engines: caps.nNumNVDECs,
            nv12: caps.nOutputFormatMask & NV12 != 0,
            least: (caps.nMinWidth.into(), caps.nMinHeight.into()),
            most: (caps.nMaxWidth, caps.nMaxHeight),
            macroblocks: caps.nMaxMBCount,
        })
    }

    /// Refuses a codec that it does not decode.
    pub(super) fn check(&self, codec: Codec, able: &Able) -> Result<()> {
        able.check_codec(codec, &self.facts)
    }
}

fn raw_codec(codec: Codec) -> cuviddec::cudaVideoCodec_enum {
    match codec {
        Codec::H264 => cuviddec::cudaVideoCodec_enum::cudaVideoCodec_H264,
        Codec::Hevc => cuviddec::cudaVideoCodec_enum::cudaVideoCodec_HEVC,
        Codec::Av1 => cuviddec::cudaVideoCodec_enum::cudaVideoCodec_AV1,
    }
}

/// A decoder of one stream; sizes may change at its key units.
pub struct Decoder {
    // Dropped in this order: nothing calls back any more when what it would call on goes.
    parser: Parser,
    state: Arc<Mutex<State>>,
    stream: Stream,
    board: Board,
}

impl Decoder {
    /// # Errors
    /// [`Kind::Missing`](crate::error::Kind::Missing) where the device does not decode the codec.
    pub fn open(device: &Device, codec: Codec) -> Result<Decoder> {
        let board = Board::of(device)?;
        let able = board.able(codec)?;
        board.check(codec, &able)?;
        let stream = Stream::new(&board.context)?;
        let state =
            State { board: board.clone(), codec, able, engine: None, decoded: None, failure: None, stuck: None };
        let state = Arc::new(Mutex::new(state));
        let parser = Parser::new(&board, codec, &state)?;
        Ok(Decoder { parser, state, stream, board })
    }

    /// Decodes one access unit, and waits for its picture, which lies in the device's memory then.
    ///
    /// # Errors
    /// A unit that gives no picture, or one that the board does not decode.
    pub fn decode(&mut self, unit: &[u8]) -> Result<Picture<'_>> {
        let context = self.board.context.clone();
        let _current = context.current()?;
        {
            let mut state = lock(&self.state);
            if let Some(stuck) = &state.stuck {
                return Err(stuck.clone());
            }
            (state.decoded, state.failure) = (None, None);
        }
        let parsed = self.parser.feed(unit);
        let mut state = lock(&self.state);
        // What went wrong in a callback says more than that the parser was stopped by it.
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        parsed?;
        let (Some(index), Some(engine)) = (state.decoded, &state.engine) else {
            return Err(
                Error::failed("NVDEC gave no picture").cause(format!("a unit of {} bytes has none", unit.len()))
            );
        };
        let (raw, shape) = (engine.raw, engine.shape);
        drop(state);
        Picture::map(self, raw, shape, index)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // What panicked is told by its callback; the state is whole all the same.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library's parser of a stream.
struct Parser {
    board: Board,
    raw: RawParser,
    /// What the callbacks work on is there as long as it calls back.
    _state: Arc<Mutex<State>>,
}

// SAFETY: the library ties no parser to a thread; `&mut` of its owner keeps calls apart.
unsafe impl Send for Parser {}

impl Parser {
    fn new(board: &Board, codec: Codec, state: &Arc<Mutex<State>>) -> Result<Parser> {
        let _current = board.context.current()?;
        // SAFETY: numbers, pointers and functions, which may be absent, and an enum that has a value 0.
        let mut params: ParserParams = unsafe { zeroed() };
        params.CodecType = raw_codec(codec);
        // As many as the stream needs, which the first callback answers.
        params.ulMaxNumDecodeSurfaces = 1;
        params.ulMaxDisplayDelay = 0;
        params.pUserData = Arc::as_ptr(state).cast_mut().cast();
        params.pfnSequenceCallback = Some(on_sequence);
        // Pictures are taken in the order of decoding: nobody waits for their turn to be displayed.
        params.pfnDecodePicture = Some(on_picture);
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle; the parameters are whole, and the callbacks' data lives as long
        // as the parser.
        unsafe { call!(board, cuvidCreateVideoParser, &mut raw, &mut params)? };
        Ok(Parser { board: board.clone(), raw, _state: state.clone() })
    }

    fn feed(&mut self, unit: &[u8]) -> Result<()> {
        let mut packet = Packet {
            flags: nvcuvid::CUvideopacketflags::CUVID_PKT_ENDOFPICTURE as c_ulong,
            payload_size: unit.len() as c_ulong,
            payload: unit.as_ptr(),
            timestamp: 0,
        };
        // SAFETY: the parser is live, and the unit is borrowed until the call returns, as are the pictures that it calls back
        // with; a context is current, and the state is not locked.
        unsafe { call!(self.board, cuvidParseVideoData, self.raw, &mut packet) }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        note(self.board.context.current().and_then(|_current| {
            // SAFETY: the parser is live, and this is its last use; a context is current.
            unsafe { call!(self.board, cuvidDestroyVideoParser, self.raw) }
        }));
    }
}

/// What callbacks work on.
struct State {
    board: Board,
    codec: Codec,
    able: Able,
    engine: Option<Engine>,
    /// The picture of the unit that is fed, as the decoder numbers it: the last of them, where there are more.
    decoded: Option<c_int>,
    failure: Option<Error>,
    /// Why the last picture is still mapped: there is no room for another.
    stuck: Option<Error>,
}

/// Runs a callback's body; an error, or a panic, which must not unwind into C, is kept and stops the parser.
///
/// # Safety
/// `user` is the parser's state.
unsafe fn called(user: *mut c_void, body: impl FnOnce(&mut State) -> Result<c_int>) -> c_int {
    // SAFETY: as the caller promises; the parser keeps its state alive.
    let state = unsafe { &*user.cast_const().cast::<Mutex<State>>() };
    let mut state = lock(state);
    let done = catch_unwind(AssertUnwindSafe(|| body(&mut state)));
    match done.unwrap_or_else(|_| Err(Error::bug("a callback of NVDEC's parser panicked"))) {
        Ok(answer) => answer,
        Err(error) => {
            state.failure.get_or_insert(error);
            0
        }
    }
}

/// The stream begins, or changes: makes a decoder for it. The answer is how many pictures the parser may number.
unsafe extern "C" fn on_sequence(user: *mut c_void, format: *mut Format) -> c_int {
    // SAFETY: the library hands a whole structure, valid until this returns; its enum is read as a number, whatever it is.
    let (shape, area, surfaces) = unsafe {
        let chroma = addr_of!((*format).chroma_format).cast::<u32>().read();
        let depth = 8 + c_uint::from((*format).bit_depth_luma_minus8.max((*format).bit_depth_chroma_minus8));
        let shape = Shape { width: (*format).coded_width, height: (*format).coded_height, depth, chroma };
        (shape, addr_of!((*format).display_area).read(), (*format).min_num_decode_surfaces.max(1))
    };
    // SAFETY: the parser was made with this state.
    unsafe {
        called(user, |state| {
            let shape = Display { coded: shape, area: [area.left, area.top, area.right, area.bottom], surfaces };
            if state.engine.as_ref().is_none_or(|engine| engine.shape != shape) {
                state.able.check_shape(state.codec, shape.coded, &state.board.facts.board)?;
                // The old one goes first: it may hold the memory that the new one needs.
                state.engine = None;
                state.engine = Some(Engine::new(&state.board, state.codec, shape)?);
            }
            Ok(surfaces.into())
        })
    }
}

/// A picture's data are there: hands them to the decoder.
unsafe extern "C" fn on_picture(user: *mut c_void, picture: *mut PicParams) -> c_int {
    // SAFETY: the library hands a whole structure, valid until this returns.
    let index = unsafe { (*picture).CurrPicIdx };
    // SAFETY: the parser was made with this state; the decoder is live, and the structure is the parser's for it.
    unsafe {
        called(user, |state| {
            let engine = state.engine.as_ref().ok_or_else(|| {
                Error::failed("NVDEC gave no picture").cause("a picture came before the stream's parameters")
            })?;
            call!(state.board, cuvidDecodePicture, engine.raw, picture)?;
            state.decoded = Some(index);
            Ok(1)
        })
    }
}

/// What a stream's pictures are, and how much of each is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Display {
    coded: Shape,
    /// Left, top, right, bottom.
    area: [c_int; 4],
    /// Pictures that the decoder keeps at the least.
    surfaces: u8,
}

impl Display {
    /// Width and height that are shown, pixels.
    fn size(&self) -> (u32, u32) {
        let [left, top, right, bottom] = self.area;
        ((right - left).max(0) as u32, (bottom - top).max(0) as u32)
    }
}

/// A decoder of pictures of one size.
struct Engine {
    board: Board,
    raw: RawDecoder,
    shape: Display,
}

// SAFETY: the library ties no decoder to a thread; its owner keeps calls apart.
unsafe impl Send for Engine {}

impl Engine {
    fn new(board: &Board, codec: Codec, shape: Display) -> Result<Engine> {
        let Shape { width, height, .. } = shape.coded;
        let ((shown_width, shown_height), [left, top, ..]) = (shape.size(), shape.area);
        let within = |at: c_int, length: u32, whole: u32| at >= 0 && length > 0 && at as u32 + length <= whole;
        let even = [shown_width, shown_height, left as u32, top as u32].iter().all(|side| side % 2 == 0);
        if !even || !within(left, shown_width, width) || !within(top, shown_height, height) {
            return Err(Error::failed("NVDEC gave no picture")
                .cause(format!("{shown_width}x{shown_height} at {left},{top} is no picture within {width}x{height}")));
        }
        // SAFETY: numbers, a pointer that may be null, and enums that have a value 0.
        let mut info: CreateInfo = unsafe { zeroed() };
        (info.ulWidth, info.ulHeight) = (width.into(), height.into());
        // Whole coded pictures come out: nothing is scaled, and what is shown is cut out as they are copied.
        (info.ulTargetWidth, info.ulTargetHeight) = (width.into(), height.into());
        (info.ulMaxWidth, info.ulMaxHeight) = (width.into(), height.into());
        info.ulNumDecodeSurfaces = shape.surfaces.into();
        // One is mapped at a time.
        info.ulNumOutputSurfaces = 1;
        info.CodecType = raw_codec(codec);
        info.ChromaFormat = cuviddec::cudaVideoChromaFormat_enum::cudaVideoChromaFormat_420;
        info.OutputFormat = cuviddec::cudaVideoSurfaceFormat_enum::cudaVideoSurfaceFormat_NV12;
        info.ulCreationFlags = cuviddec::cudaVideoCreateFlags_enum::cudaVideoCreate_PreferCUVID as c_ulong;
        let mut raw = ptr::null_mut();
        // SAFETY: the first argument is a place for one handle, the structure is whole, and a context is current.
        unsafe { call!(board, cuvidCreateDecoder, &mut raw, &mut info)? };
        Ok(Engine { board: board.clone(), raw, shape })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        note(self.board.context.current().and_then(|_current| {
            // SAFETY: the decoder is live, and this is its last use; nobody has a picture of it, which would borrow its owner.
            unsafe { call!(self.board, cuvidDestroyDecoder, self.raw) }
        }));
    }
}

/// A decoded picture in the device's memory, NV12; until it is dropped the decoder has no other.
pub struct Picture<'a> {
    owner: &'a Decoder,
    raw: RawDecoder,
    shape: Display,
    pointer: u64,
    pitch: usize,
}

impl<'a> Picture<'a> {
    /// Maps what was decoded as `index`, and waits until it is whole.
    fn map(owner: &'a Decoder, raw: RawDecoder, shape: Display, index: c_int) -> Result<Picture<'a>> {
        let (mut pointer, mut pitch) = (0, 0);
        // SAFETY: numbers and pointers that may be null.
        let mut how: ProcParams = unsafe { zeroed() };
        how.progressive_frame = 1;
        how.output_stream = owner.stream.raw().cast();
        // SAFETY: the decoder is live, and decodes that picture; the places are for one number each, a context is current, and
        // the stream is its.
        unsafe { call!(owner.board, cuvidMapVideoFrame64, raw, index, &mut pointer, &mut pitch, &mut how)? };
        let picture = Picture { owner, raw, shape, pointer, pitch: pitch as usize };
        owner.stream.finish()?;
        picture.check(index)?;
        Ok(picture)
    }

    /// Refuses a picture that was damaged, as far as the driver tells: of AV1 it does not (cuviddec.h, `cuvidGetDecodeStatus`).
    fn check(&self, index: c_int) -> Result<()> {
        // SAFETY: numbers, pointers that may be null, and an enum that has a value 0.
        let mut status: Status = unsafe { zeroed() };
        let board = &self.owner.board;
        // SAFETY: the decoder is live, and decoded that picture; the structure is whole, its reserved fields are 0.
        let asked = unsafe { call!(board, cuvidGetDecodeStatus, self.raw, index, &mut status) };
        // SAFETY: the enum is read as a number, whatever it is.
        let status = unsafe { addr_of!(status.decodeStatus).cast::<u32>().read() };
        if asked.is_ok() && (status == DAMAGED || status == CONCEALED) {
            return Err(Error::failed("NVDEC gave no picture").cause(format!("the unit is damaged: status {status}")));
        }
        Ok(())
    }

    /// Width and height, pixels; both are even.
    pub fn size(&self) -> (u32, u32) {
        self.shape.size()
    }

    /// Bytes of its pixels in host memory.
    pub fn bytes(&self) -> usize {
        let (width, height) = self.size();
        width as usize * height as usize * 3 / 2
    }

    /// Copies it to the host: NV12, rows tightly packed.
    pub fn download(&self, into: &mut [u8]) -> Result<()> {
        if into.len() != self.bytes() {
            return Err(Error::bug(format!("{} bytes for a picture of {}", into.len(), self.bytes())));
        }
        let ((width, height), [left, top, ..]) = (self.size(), self.shape.area);
        let (width, height, left, top) = (width as usize, height as usize, left as usize, top as usize);
        let (luma, chroma) = into.split_at_mut(width * height);
        // Chroma follows the rows of luma, of which there is an even number.
        let planes =
            [(luma, height, top), (chroma, height / 2, self.shape.coded.height.next_multiple_of(2) as usize + top / 2)];
        let mut queued = Ok(());
        for (into, rows, first) in planes {
            let from = Side::Device(self.pointer + (first * self.pitch + left) as u64, self.pitch);
            let to = Side::Host(into.as_mut_ptr(), width);
            // SAFETY: the mapped picture has those rows within its coded size, and `into` has room for them; both are borrowed
            // until the stream is waited for.
            queued = queued.and_then(|()| unsafe { self.owner.stream.copy(from, to, width, rows) });
        }
        // Whatever was queued before one failed is done before the memory may go.
        let finished = self.owner.stream.finish();
        queued.and(finished)
    }
}

impl Drop for Picture<'_> {
    fn drop(&mut self) {
        let board = &self.owner.board;
        let unmapped = board.context.current().and_then(|_current| {
            // SAFETY: the picture is mapped, and this is its last use; its owner is borrowed, so that the decoder is live.
            unsafe { call!(board, cuvidUnmapVideoFrame64, self.raw, self.pointer) }
        });
        if let Err(error) = unmapped {
            lock(&self.owner.state).stuck = Some(error);
        }
    }
}

/// For a call that gives something back, whose failure nobody can do anything about.
fn note(given: Result<()>) {
    if let Err(error) = given {
        tracing::debug!("{error}");
    }
}
