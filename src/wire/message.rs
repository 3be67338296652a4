//! `gsk.v1`, the protocol of `/ws`: JSON text messages with a `type`, and access units behind a fixed header.

use serde::{Deserialize, Serialize};

use super::input::Input;
use super::status::{Condition, Fallback, Latency};

/// The WebSocket subprotocol.
pub const PROTOCOL: &str = "gsk.v1";

/// Bytes of the header in front of an access unit.
pub const HEADER: usize = 24;

/// The header of a binary message, big-endian: version u8 (1), flags u8 (bit 0 key), header length u16, sequence u32,
/// view u32, capture time u64 µs (server's monotonic clock), capture-to-encoded u32 µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub key: bool,
    pub sequence: u32,
    pub view: u32,
    pub captured_us: u64,
    pub encoded_after_us: u32,
}

impl Header {
    const VERSION: u8 = 1;

    /// Writes the header into the first [`HEADER`] bytes of a message.
    pub fn write(&self, out: &mut [u8]) {
        out[0] = Header::VERSION;
        out[1] = self.key.into();
        out[2..4].copy_from_slice(&(HEADER as u16).to_be_bytes());
        out[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        out[8..12].copy_from_slice(&self.view.to_be_bytes());
        out[12..20].copy_from_slice(&self.captured_us.to_be_bytes());
        out[20..24].copy_from_slice(&self.encoded_after_us.to_be_bytes());
    }

    /// The header and the access unit behind it; `None` where the message is none of ours.
    pub fn parse(message: &[u8]) -> Option<(Header, &[u8])> {
        let head = message.first_chunk::<HEADER>()?;
        let be32 = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] != Header::VERSION || length < HEADER {
            return None;
        }
        let header = Header {
            key: head[1] & 1 != 0,
            sequence: be32(4),
            view: be32(8),
            captured_us: u64::from_be_bytes(head[12..20].try_into().unwrap()),
            encoded_after_us: be32(20),
        };
        Some((header, message.get(length..)?))
    }
}

/// What a viewer may say. Unknown fields are passed over; an unknown `type` ends the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Client {
    /// `t` comes back in the answer, unread.
    Ping {
        t: f64,
    },
    Ack(Ack),
    Input(Input),
    Keyframe,
    /// Asks for another bit rate, bit/s.
    Quality {
        bitrate_bps: u32,
    },
}

/// What a viewer measured since its last report: medians, µs; `None` where it does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ack {
    pub sequence: u32,
    pub frames: u32,
    pub network_us: Option<f64>,
    pub decode_us: Option<f64>,
    pub paint_us: Option<f64>,
    pub total_us: Option<f64>,
    pub view_us: Option<f64>,
    /// Access units waiting in the viewer's decoder.
    pub queue: Option<u32>,
}

/// The colour of pictures in WebCodecs' words (`VideoColorSpaceInit`): what the parameter sets say. `None` where WebCodecs
/// has no word, or they leave it open.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Colour {
    pub primaries: Option<&'static str>,
    pub transfer: Option<&'static str>,
    pub matrix: Option<&'static str>,
    pub full_range: bool,
}

impl Colour {
    /// From the code points of ITU-T H.273: colour primaries, transfer characteristics and matrix coefficients.
    pub fn of(primaries: u8, transfer: u8, matrix: u8, full_range: bool) -> Colour {
        let primaries = match primaries {
            1 => Some("bt709"),
            5 => Some("bt470bg"),
            6 => Some("smpte170m"),
            9 => Some("bt2020"),
            12 => Some("smpte432"),
            _ => None,
        };
        let transfer = match transfer {
            1 => Some("bt709"),
            6 => Some("smpte170m"),
            8 => Some("linear"),
            13 => Some("iec61966-2-1"),
            16 => Some("pq"),
            18 => Some("hlg"),
            _ => None,
        };
        let matrix = match matrix {
            0 => Some("rgb"),
            1 => Some("bt709"),
            5 => Some("bt470bg"),
            6 => Some("smpte170m"),
            9 => Some("bt2020-ncl"),
            _ => None,
        };
        Colour { primaries, transfer, matrix, full_range }
    }
}

/// What the server says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Server<'a> {
    /// The first message.
    Hello {
        gsk: &'a str,
        instance: &'a str,
        #[serde(flatten)]
        condition: &'a Condition,
        source: &'a str,
        /// Whether viewers' input reaches the source.
        input: bool,
        /// What `?video=` may ask for here.
        codecs: &'a [&'a str],
        server_us: u64,
    },
    /// Before the first key unit that it governs. Where no video was asked for, of that beside: when it is known, and
    /// when it changes.
    Config {
        codec: &'a str,
        width: u32,
        height: u32,
        fps: f64,
        colour: Option<Colour>,
        backend: &'a str,
        hardware: bool,
        fallback: Option<&'a Fallback>,
    },
    State(&'a Condition),
    /// So many units were skipped; a key unit follows.
    Drop {
        frames: u64,
    },
    Pong {
        t: f64,
        server_us: u64,
    },
    Stats {
        fps: Option<f64>,
        bitrate_bps: Option<f64>,
        /// What the encoder is asked for, bit/s, and the most that a viewer may ask for. JPEG's quality follows it, unless
        /// that is fixed.
        bitrate_asked_bps: u32,
        bitrate_most_bps: u32,
        viewers: usize,
        backend: &'a str,
        /// Units that viewers skipped, all together.
        dropped: u64,
        latency_ms: &'a Latency,
    },
    /// The connection ends, and why.
    Bye {
        reason: &'a str,
    },
}

/// What a viewer understands of what the server says. What it does not need is passed over, unknown types included.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Told {
    Hello {
        instance: String,
        source: String,
        codecs: Vec<String>,
        #[serde(flatten)]
        condition: Condition,
    },
    Config {
        codec: String,
        width: u32,
        height: u32,
        fps: f64,
        backend: String,
        hardware: bool,
        fallback: Option<Fallback>,
    },
    State(Condition),
    Drop {
        frames: u64,
    },
    Pong {
        t: f64,
        server_us: u64,
    },
    Bye {
        reason: String,
    },
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::input::Event;

    #[test]
    fn what_the_server_says_is_what_a_viewer_hears() {
        let condition =
            Condition { state: super::super::status::State::NoSlot, reason: "2 of 2 held".into(), since: "now".into() };
        let heard = |said: &Server<'_>| serde_json::from_str::<Told>(&serde_json::to_string(said).unwrap()).unwrap();
        let hello = Server::Hello {
            gsk: "0",
            instance: "omega-0",
            condition: &condition,
            source: "scene",
            input: true,
            codecs: &["h264"],
            server_us: 1,
        };
        let Told::Hello { condition: told, codecs, .. } = heard(&hello) else { panic!() };
        assert_eq!((told, codecs), (condition.clone(), vec!["h264".to_string()]));
        assert_eq!(heard(&Server::State(&condition)), Told::State(condition));
        assert_eq!(heard(&Server::Drop { frames: 3 }), Told::Drop { frames: 3 });
        assert_eq!(heard(&Server::Pong { t: 1.5, server_us: 7 }), Told::Pong { t: 1.5, server_us: 7 });
        assert_eq!(serde_json::from_str::<Told>(r#"{"type":"news","of":"later"}"#).unwrap(), Told::Other);
        let ping = serde_json::to_string(&Client::Ping { t: 2.0 }).unwrap();
        assert_eq!(ping, r#"{"type":"ping","t":2.0}"#);
    }

    #[test]
    fn the_header_is_the_documented_24_bytes() {
        let header =
            Header { key: true, sequence: 7, view: 9, captured_us: 0x0102_0304_0506_0708, encoded_after_us: 5000 };
        let mut message = vec![0; HEADER + 2];
        header.write(&mut message);
        let expected = [1, 1, 0, 24, 0, 0, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x13, 0x88, 0, 0];
        assert_eq!(message, expected);
        assert_eq!(Header::parse(&message), Some((header, &[0, 0][..])));
    }

    #[test]
    fn a_longer_header_is_skipped_and_nonsense_refused() {
        let mut message = vec![0; 40];
        Header { key: false, sequence: 1, view: 0, captured_us: 2, encoded_after_us: 3 }.write(&mut message);
        message[3] = 32;
        assert_eq!(Header::parse(&message).unwrap().1.len(), 8);
        message[3] = 200;
        assert_eq!(Header::parse(&message), None);
        message[3] = 3;
        assert_eq!(Header::parse(&message), None);
        assert_eq!(Header::parse(&message[..23]), None);
        message[..4].copy_from_slice(&[2, 0, 0, 24]);
        assert_eq!(Header::parse(&message), None);
    }

    #[test]
    fn client_messages_are_read() {
        let input: Client =
            serde_json::from_str(r#"{"type":"input","view":3,"event":"pointer","x":0.5,"y":0.25,"buttons":1}"#)
                .unwrap();
        let Client::Input(input) = input else { panic!("{input:?}") };
        assert_eq!(input.view, 3);
        assert!(matches!(input.event, Event::Pointer { buttons: 1, shift: false, .. }));
        let unknown = r#"{"type":"ack","sequence":1,"frames":2,"decode_us":null,"queue":null}"#;
        assert!(matches!(serde_json::from_str::<Client>(unknown), Ok(Client::Ack(Ack { queue: None, .. }))));
        assert_eq!(serde_json::from_str::<Client>(r#"{"type":"keyframe"}"#).unwrap(), Client::Keyframe);
        assert!(serde_json::from_str::<Client>(r#"{"type":"format-disk"}"#).is_err());
    }
}
