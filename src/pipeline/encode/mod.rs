//! Encoders: one trait, one file per back end, and the table that `auto` walks.

mod jpeg;
pub mod nvenc;
mod nvidia;
mod openh264;

use bytes::BytesMut;

use super::frame::{Frame, Size};
use crate::error::{Error, Result};
use crate::wire::status::{Cause, Fallback};

/// What a viewer decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    H264,
    Jpeg,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Jpeg => "jpeg",
        }
    }
}

/// Which encoder to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first that works of those below, for each codec.
    #[default]
    Auto,
    /// H.264 by the GPU's encoder.
    Nvenc,
    /// JPEG by the GPU.
    Nvjpeg,
    /// H.264 by the CPU.
    Openh264,
    /// JPEG by the CPU.
    Jpeg,
}

/// What an encoder is opened with. All but the size change in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub size: Size,
    /// Frames a second that the bit rate is shared among.
    pub fps: f64,
    /// bit/s.
    pub bitrate: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
}

/// What a back end is, for people and for `/status`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Info {
    pub backend: &'static str,
    pub codec: Codec,
    pub hardware: bool,
    /// Why it is not the first of the table.
    pub fallback: Option<Fallback>,
}

/// One encoded picture. `data` begins with room for the `gsk.v1` header ([`HEADER`](crate::wire::message::HEADER) bytes), then come
/// Annex B NAL units with four-byte start codes (H.264), or one JPEG.
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

    /// Changes bit rate, frame rate or quality in place, without an IDR. The size stays that of the opening.
    fn reconfigure(&mut self, config: &Config) -> Result<()>;
}

/// Opens a session.
type Open = fn(&Config, Output) -> Result<Box<dyn Encoder>>;

/// A row of the table: a back end, and how to find it on this host. Finding is cheap and opens no session.
struct Backend {
    name: &'static str,
    choice: Choice,
    codec: Codec,
    hardware: bool,
    find: fn() -> Result<Open, (Cause, String)>,
}

/// Back ends in order of preference, per codec.
const TABLE: &[Backend] = &[
    Backend { name: "nvenc", choice: Choice::Nvenc, codec: Codec::H264, hardware: true, find: nvidia::find_nvenc },
    Backend {
        name: "openh264",
        choice: Choice::Openh264,
        codec: Codec::H264,
        hardware: false,
        find: || Ok(openh264::open),
    },
    Backend { name: "nvjpeg", choice: Choice::Nvjpeg, codec: Codec::Jpeg, hardware: true, find: nvidia::find_nvjpeg },
    Backend { name: "jpeg", choice: Choice::Jpeg, codec: Codec::Jpeg, hardware: false, find: || Ok(jpeg::open) },
];

impl Choice {
    /// The codec that `/ws` carries under this choice where a viewer does not ask for one.
    pub fn codec(self) -> Codec {
        TABLE.iter().find(|row| row.choice == self).map_or(Codec::H264, |row| row.codec)
    }
}

/// The back end for a codec under the user's choice, and why it is that one. A choice binds its own codec only: beside
/// `openh264`, JPEG comes from the best back end for JPEG. Under a JPEG choice there is no H.264.
fn choose(codec: Codec, choice: Choice) -> Result<(Open, Info)> {
    if codec == Codec::H264 && choice.codec() == Codec::Jpeg {
        return Err(Error::usage("this worker encodes JPEG only").hint("start it with --encoder auto"));
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
        match (row.find)() {
            Ok(open) => {
                let since = crate::clock::rfc3339_now();
                // A row that comes before a hardware one in its own right is no fallback.
                let fallback = passed.filter(|_| !row.hardware).map(|(from, cause, detail)| Fallback {
                    from: from.into(),
                    cause,
                    detail,
                    since,
                });
                return Ok((open, Info { backend: row.name, codec, hardware: row.hardware, fallback }));
            }
            Err((_, detail)) if asked.is_some() => {
                return Err(Error::missing(format!("--encoder {}: not on this host", row.name))
                    .cause(detail)
                    .hint("use --encoder auto to take the best that this host has"));
            }
            Err((cause, detail)) => passed = passed.or(Some((row.name, cause, detail))),
        }
    }
    Err(Error::bug(format!("no back end for {codec:?}")))
}

/// What would encode a codec, and why.
pub fn preview(codec: Codec, choice: Choice) -> Result<Info> {
    choose(codec, choice).map(|(_, info)| info)
}

/// Opens the back end for a codec under the user's choice.
pub fn open(codec: Codec, choice: Choice, config: &Config, output: Output) -> Result<(Box<dyn Encoder>, Info)> {
    let (open, info) = choose(codec, choice)?;
    Ok((open(config, output)?, info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_binds_its_own_codec() {
        let info = preview(Codec::H264, Choice::Openh264).unwrap();
        assert_eq!((info.backend, info.fallback.unwrap().cause), ("openh264", Cause::Requested));
        assert_eq!(preview(Codec::Jpeg, Choice::Openh264).unwrap().codec, Codec::Jpeg);
        assert!(preview(Codec::H264, Choice::Jpeg).unwrap_err().what.contains("JPEG only"));
        assert_eq!((Choice::Jpeg.codec(), Choice::Auto.codec()), (Codec::Jpeg, Codec::H264));
    }

    #[test]
    fn auto_takes_what_there_is_and_says_why() {
        let info = preview(Codec::H264, Choice::Auto).unwrap();
        assert_eq!(info.fallback.is_none(), info.hardware);
        if let Some(fallback) = info.fallback {
            assert_eq!(fallback.from, "nvenc");
            assert!(!fallback.detail.is_empty());
        }
    }
}
