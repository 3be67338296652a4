//! Encoders: one trait, one file per back end, and the table that `auto` walks.

mod jpeg;
pub mod nvenc;
mod nvidia;
pub mod nvjpeg;
mod openh264;
mod slots;

use bytes::BytesMut;

pub use self::jpeg::still;
pub use self::slots::{NoSlot, Slots, WhenFull};
use super::frame::{Frame, Size};
use super::rate::Quality;
use crate::error::{Error, Kind, Result};
use crate::gpu;
use crate::gpu::Chosen;
pub use crate::gpu::nvenc::Options as NvencOptions;
use crate::gpu::nvenc::Refused;
use crate::lease::{Denied, Slot};
use crate::wire::status::{Cause, Fallback};

/// What a viewer decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    H264,
    Hevc,
    Av1,
    Jpeg,
}

impl Codec {
    /// In the order of their numbers.
    pub const ALL: [Codec; 4] = [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Jpeg];

    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Hevc => "hevc",
            Codec::Av1 => "av1",
            Codec::Jpeg => "jpeg",
        }
    }

    /// Whether something beside NVENC encodes it.
    pub fn has_software(self) -> bool {
        matches!(self, Codec::H264 | Codec::Jpeg)
    }

    /// As people write it.
    pub fn title(self) -> &'static str {
        match self {
            Codec::Jpeg => "JPEG",
            Codec::H264 => gpu::support::Codec::H264.title(),
            Codec::Hevc => gpu::support::Codec::Hevc.title(),
            Codec::Av1 => gpu::support::Codec::Av1.title(),
        }
    }
}

/// The video that viewers get who do not ask for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Main {
    #[default]
    H264,
    /// By NVENC only.
    Hevc,
    /// By NVENC only.
    Av1,
}

impl From<Main> for Codec {
    fn from(main: Main) -> Codec {
        match main {
            Main::H264 => Codec::H264,
            Main::Hevc => Codec::Hevc,
            Main::Av1 => Codec::Av1,
        }
    }
}

/// Which encoder to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first that works of those below, for each codec; JPEG instead of H.264 where that is too slow.
    #[default]
    Auto,
    /// H.264, HEVC and AV1 by the GPU's encoder.
    Nvenc,
    /// JPEG by the GPU.
    Nvjpeg,
    /// H.264 by the CPU.
    Openh264,
    /// JPEG by the CPU.
    Jpeg,
}

/// What an encoder is opened with. Frame rate, bit rate and quality change in place, the size where the encoder can.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub codec: Codec,
    pub size: Size,
    /// Frames a second that the bit rate is shared among.
    pub fps: f64,
    /// bit/s.
    pub bitrate: u32,
    /// Of JPEG pictures.
    pub quality: Quality,
    pub nvenc: NvencOptions,
    /// CUDA's number of the device that the first picture lies on, if on any: the best one to encode on.
    pub near: Option<u32>,
}

/// What a back end is, for people and for `/status`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Info {
    pub backend: &'static str,
    pub codec: Codec,
    pub hardware: bool,
    /// The encoder slot that it holds; `None` where it needs none, or is not open.
    pub slot: Option<String>,
    /// Why it is not the first of the table.
    pub fallback: Option<Fallback>,
}

/// One encoded picture. `data` begins with room for the `gsk.v1` header ([`HEADER`](crate::wire::message::HEADER) bytes), then come
/// Annex B NAL units with four-byte start codes (H.264, HEVC), a temporal unit in the low-overhead format (AV1), or one JPEG.
#[derive(Debug)]
pub struct Unit {
    pub frame: Frame,
    pub key: bool,
    pub data: BytesMut,
    /// When the encoder took the frame, when its pixels were converted, and when the unit was whole; µs.
    pub started_us: u64,
    pub converted_us: u64,
    pub encoded_us: u64,
}

/// Where units go: called once for each submitted frame, in order, from whichever thread has the unit first.
pub type Output = Box<dyn FnMut(Result<Unit>) + Send>;

/// A running encoder: one access unit out for each frame in, no reordering, no periodic IDR.
pub trait Encoder: Send {
    /// Takes a frame of the configured size. The unit goes to the output, now or from another thread.
    /// `idr`: make it an IDR with parameter sets (JPEG: every unit is key anyway).
    fn submit(&mut self, frame: Frame, idr: bool) -> Result<()>;

    /// Changes bit rate, frame rate or quality in place, without an IDR. A size that it cannot take in place is an error, and
    /// the encoder to be opened anew; the first frame of one that it can is to be an IDR.
    fn reconfigure(&mut self, config: &Config) -> Result<()>;
}

/// Opens a back end.
pub(crate) enum Open {
    Freely(fn(&Config, Output) -> Result<Box<dyn Encoder>>),
    /// On a GPU that may not be able to.
    OnGpu(OpenOnGpu),
    /// Only with a slot of the machine in hand.
    WithSlot(OpenWithSlot),
}

/// With the chosen GPU's UUID, if one was chosen.
type OpenOnGpu = fn(&Config, Option<&str>, Output) -> Result<Box<dyn Encoder>, Refused>;

type OpenWithSlot = fn(&Config, Slot, &[String], Output) -> Result<Box<dyn Encoder>, Refused>;

/// Why there is no encoder.
#[derive(Clone, Debug)]
pub enum Failure {
    /// No encoder slot is free; nothing else may take its place.
    NoSlot(NoSlot),
    Failed(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::NoSlot(lack) => Error::new(Kind::Capacity, "no encoder slot").cause(lack.reason),
            Failure::Failed(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Failed(error)
    }
}

/// A row of the table: a back end, and how to find it on this host. Finding is cheap and opens no session.
struct Backend {
    name: &'static str,
    choice: Choice,
    codec: Codec,
    hardware: bool,
    find: fn(Codec, Option<&Chosen>) -> Result<Open, Refused>,
}

/// Back ends in order of preference, per codec.
const TABLE: &[Backend] = &[
    nvenc(Codec::H264),
    Backend {
        name: "openh264",
        choice: Choice::Openh264,
        codec: Codec::H264,
        hardware: false,
        find: |_, _| Ok(Open::Freely(openh264::open)),
    },
    nvenc(Codec::Hevc),
    nvenc(Codec::Av1),
    Backend { name: "nvjpeg", choice: Choice::Nvjpeg, codec: Codec::Jpeg, hardware: true, find: nvidia::find_nvjpeg },
    Backend {
        name: "jpeg",
        choice: Choice::Jpeg,
        codec: Codec::Jpeg,
        hardware: false,
        find: |_, _| Ok(Open::Freely(jpeg::open)),
    },
];

const fn nvenc(codec: Codec) -> Backend {
    Backend { name: "nvenc", choice: Choice::Nvenc, codec, hardware: true, find: nvidia::find_nvenc }
}

impl Choice {
    /// Whether NVENC may be used.
    pub fn may_nvenc(self) -> bool {
        matches!(self, Choice::Auto | Choice::Nvenc)
    }

    /// The codec that `/ws` carries under this choice where a viewer does not ask for one.
    pub fn codec(self) -> Codec {
        TABLE.iter().find(|row| row.choice == self).map_or(Codec::H264, |row| row.codec)
    }
}

/// How a row of the table fared.
enum Tried {
    /// The next may do.
    Unfit(Refused),
    /// None of the next may take its place.
    Over(Failure),
}

/// Tries the back ends for a codec in their order until one does, and tells why it is that one. A choice binds its own
/// codec only: beside `openh264`, JPEG comes from the best back end for JPEG. Under a JPEG choice there is no H.264.
fn walk<T>(
    codec: Codec,
    choice: Choice,
    gpu: Option<&Chosen>,
    mut attempt: impl FnMut(&str, Open) -> Result<(T, Option<String>), Tried>,
) -> Result<(T, Info), Failure> {
    if codec == Codec::H264 && choice.codec() == Codec::Jpeg {
        return Err(Error::usage("this worker encodes JPEG only").hint("start it with --encoder auto").into());
    }
    if !codec.has_software() && !choice.may_nvenc() {
        let what = format!("this worker encodes no {}", codec.title());
        return Err(Error::usage(what).cause("only NVENC does").hint("start it with --encoder auto").into());
    }
    let rows = TABLE.iter().filter(|row| row.codec == codec);
    let asked = TABLE.iter().find(|row| row.choice == choice && row.codec == codec);
    let mut passed: Option<(&str, Cause, String)> = None;
    for row in rows {
        if asked.is_some_and(|asked| asked.name != row.name) {
            let detail = format!("--encoder {}", asked.map_or("", |row| row.name));
            passed = passed.or(Some((row.name, Cause::Requested, detail)));
            continue;
        }
        match (row.find)(row.codec, gpu).map_err(Tried::Unfit).and_then(|open| attempt(row.name, open)) {
            Ok((done, slot)) => {
                let since = crate::clock::rfc3339_now();
                // A row that comes before a hardware one in its own right is no fallback.
                let fallback = passed.filter(|_| !row.hardware).map(|(from, cause, detail)| Fallback {
                    from: from.into(),
                    cause,
                    detail,
                    since,
                });
                return Ok((done, Info { backend: row.name, codec, hardware: row.hardware, slot, fallback }));
            }
            Err(Tried::Over(failure)) => return Err(failure),
            // Of these there is no other row.
            Err(Tried::Unfit(refused)) if asked.is_some() && codec.has_software() => {
                let (cause, error) = (refused.detail(), refused.error);
                let hint = "or use --encoder auto, which takes the best that this host has";
                let hint = error.hint.map_or(hint.trim_start_matches("or ").into(), |own| format!("{own}\n{hint}"));
                let what = format!("--encoder {} cannot be used here", row.name);
                return Err(Error::new(error.kind, what).cause(cause).hint(hint).into());
            }
            Err(Tried::Unfit(refused)) => passed = passed.or(Some((row.name, refused.cause, refused.detail()))),
        }
    }
    Err(match passed {
        Some((_, _, detail)) => Error::missing(format!("{} cannot be encoded here", codec.title()))
            .cause(detail)
            // H.264 has another encoder, where the choice leaves it one.
            .hint(if choice == Choice::Auto {
                "H.264 can: --codec h264"
            } else {
                "H.264 can: --codec h264 --encoder auto"
            }),
        None => Error::bug(format!("no back end for {codec:?}")),
    }
    .into())
}

/// What would encode a codec, and why. `gpu`: the one that was chosen.
pub fn preview(codec: Codec, choice: Choice, gpu: Option<&Chosen>) -> Result<Info> {
    Ok(walk(codec, choice, gpu, |_, _| Ok(((), None))).map(|((), info)| info)?)
}

/// A back end that failed at work, and how: it is passed over for a while.
#[derive(Clone, Debug)]
pub struct Setback {
    pub backend: &'static str,
    pub error: Error,
}

/// What was before an opening.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past<'a> {
    pub setback: Option<&'a Setback>,
    /// The back end that encodes meanwhile: only one that is preferred to it is opened.
    pub at_work: Option<&'a str>,
}

/// Opens the back end for a codec under the user's choice, but not one that failed just now. `output` makes what takes its
/// units, for each back end that is tried.
pub fn open(
    choice: Choice,
    config: &Config,
    slots: &Slots,
    past: Past,
    output: impl Fn() -> Output,
) -> Result<(Box<dyn Encoder>, Info), Failure> {
    walk(config.codec, choice, slots.gpu.as_ref(), |backend, open| {
        if let Some(setback) = past.setback.filter(|setback| setback.backend == backend) {
            return Err(Tried::Unfit(Refused { cause: Cause::Fault, error: setback.error.clone() }));
        }
        if past.at_work == Some(backend) {
            return Err(Tried::Over(Error::failed(format!("nothing better than {backend} is to be had")).into()));
        }
        // Who encodes meanwhile has no time to wait.
        if past.at_work.is_some() && matches!(open, Open::WithSlot(_)) && !slots.glance() {
            return Err(Tried::Unfit(Refused { cause: Cause::NoSlot, error: Error::failed("no slot is free") }));
        }
        match open {
            Open::Freely(open) => match open(config, output()) {
                Ok(encoder) => Ok((encoder, None)),
                Err(error) => Err(Tried::Over(Failure::Failed(error))),
            },
            Open::OnGpu(open) => {
                let gpu = slots.gpu.as_ref().map(|gpu| gpu.uuid.as_str());
                open(config, gpu, output()).map(|encoder| (encoder, None)).map_err(Tried::Unfit)
            }
            Open::WithSlot(open) => with_slot(open, config, slots, output()),
        }
    })
}

/// Opens a back end that needs a slot; `Ok` with the slot's name.
fn with_slot(
    open: OpenWithSlot,
    config: &Config,
    slots: &Slots,
    output: Output,
) -> Result<(Box<dyn Encoder>, Option<String>), Tried> {
    let stands_in = slots.when_full == WhenFull::Software && config.codec.has_software();
    let taken = slots.take(config.codec, config.size);
    let (slot, boards) = taken.map_err(|denied| without_slot(denied, stands_in))?;
    let name = slot.name();
    match open(config, slot, &boards, output) {
        Ok(encoder) => Ok((encoder, Some(name))),
        // The driver bears fewer than was thought, or programs took sessions that it does not tell of.
        Err(Refused { cause: Cause::Limit, error }) if !stands_in => {
            Err(Tried::Over(Failure::NoSlot(slots.refused(error.to_string()))))
        }
        Err(refused) => Err(Tried::Unfit(refused)),
    }
}

/// What becomes of an encoder that got no slot, where another may stand in and where none may.
fn without_slot(denied: Denied, stands_in: bool) -> Tried {
    match denied {
        Denied::Full(refusal) if !stands_in => Tried::Over(Failure::NoSlot((&refusal).into())),
        Denied::Full(refusal) => Tried::Unfit(Refused { cause: Cause::NoSlot, error: refusal.error() }),
        // The driver or the gate did not answer in time: whether there is a slot is not known yet.
        Denied::Failed(error) if error.kind == Kind::Unreachable && !stands_in => {
            Tried::Over(Failure::NoSlot(NoSlot { reason: error.to_string(), holders: Vec::new() }))
        }
        Denied::Failed(error) => Tried::Unfit(Refused { cause: Cause::Fault, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_binds_its_own_codec() {
        let info = preview(Codec::H264, Choice::Openh264, None).unwrap();
        assert_eq!((info.backend, info.fallback.unwrap().cause), ("openh264", Cause::Requested));
        assert_eq!(preview(Codec::Jpeg, Choice::Openh264, None).unwrap().codec, Codec::Jpeg);
        assert!(preview(Codec::H264, Choice::Jpeg, None).unwrap_err().what.contains("JPEG only"));
        assert_eq!((Choice::Jpeg.codec(), Choice::Auto.codec()), (Codec::Jpeg, Codec::H264));
    }

    #[test]
    fn hevc_and_av1_are_nvencs() {
        for codec in [Codec::Hevc, Codec::Av1] {
            for choice in [Choice::Openh264, Choice::Jpeg, Choice::Nvjpeg] {
                assert_eq!(preview(codec, choice, None).unwrap_err().cause.unwrap(), "only NVENC does");
            }
            match preview(codec, Choice::Auto, None) {
                Ok(info) => assert_eq!((info.backend, info.codec, info.fallback), ("nvenc", codec, None)),
                Err(error) => {
                    assert!(error.what.ends_with("cannot be encoded here") && error.cause.is_some(), "{error}")
                }
            }
        }
        assert!(Codec::ALL.iter().enumerate().all(|(at, &codec)| codec as usize == at));
    }

    #[test]
    fn auto_takes_what_there_is_and_says_why() {
        let info = preview(Codec::H264, Choice::Auto, None).unwrap();
        assert_eq!(info.fallback.is_none(), info.hardware);
        if let Some(fallback) = info.fallback {
            assert_eq!(fallback.from, "nvenc");
            assert!(!fallback.detail.is_empty());
        }
    }
}
