//! What the stand-in tells a test: events and open sessions.

use std::collections::BTreeMap;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `open`, `refused`, `leak` and so on.
    pub name: String,
    pub pid: u32,
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// Of a line of the log.
    pub fn parse(line: &str) -> Event {
        let mut words = words(line).into_iter();
        let name = words.next().expect("an event has a name");
        let mut fields: BTreeMap<String, String> = words
            .map(|word| {
                let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} in {line}"));
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let pid = fields.remove("pid").and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("no pid: {line}"));
        Event { name, pid, fields }
    }

    /// A field's value; empty if there is none.
    pub fn get(&self, key: &str) -> &str {
        self.fields.get(key).map_or("", String::as_str)
    }

    pub fn number(&self, key: &str) -> i64 {
        self.get(key).parse().unwrap_or_else(|_| panic!("no number {key}: {self:?}"))
    }
}

/// Words separated by blanks; what stands in double quotes has blanks of its own.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars().chain([' ']) {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(letter),
        }
    }
    all
}

/// An encoder session that is open in some process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: u32,
    pub pid: u32,
    pub board: u32,
    /// Zero, as what follows, until the encoder is initialised.
    pub width: u32,
    pub height: u32,
    /// As set: numerator and denominator.
    pub fps: (u32, u32),
    /// As set, bits a second.
    pub bitrate: u32,
    pub max_bitrate: u32,
    /// As set, bits.
    pub vbv: u32,
    pub gop: u32,
    pub frames: u64,
    /// Pictures of the last second, as NVML says.
    pub measured_fps: u32,
    pub latency_us: u32,
}

impl Session {
    pub(super) fn parse(line: &str) -> Session {
        // Its words are those of the log; `fps` and `size` are pairs.
        let event = Event::parse(&format!("session {line}"));
        let pair = |key: &str, between: char| {
            let (a, b) = event.get(key).split_once(between).unwrap_or_else(|| panic!("{key} in {line}"));
            (a.parse().unwrap(), b.parse().unwrap())
        };
        let number = |key: &str| event.number(key) as u32;
        let (width, height) = pair("size", 'x');
        Session {
            id: number("session"),
            pid: event.pid,
            board: number("board"),
            width,
            height,
            fps: pair("fps", '/'),
            bitrate: number("bitrate"),
            max_bitrate: number("max-bitrate"),
            vbv: number("vbv"),
            gop: number("gop"),
            frames: event.number("frames") as u64,
            measured_fps: number("measured-fps"),
            latency_us: number("latency-us"),
        }
    }
}
