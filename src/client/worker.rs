//! What is understood of a `/status`: gsk's own, and that of MetaBonk's workers, whose flat names gsk's has too.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Target, unreachable};
use crate::error::{Error, Result};
use crate::wire::status;

/// What a worker does, or that it cannot be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    Worker(status::State),
    /// The word of a worker that is newer than this program.
    Other(String),
    Unreachable,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Worker(status::State::Starting) => "starting",
            State::Worker(status::State::Idle) => "idle",
            State::Worker(status::State::Streaming) => "streaming",
            State::Worker(status::State::NoSlot) => "no-slot",
            State::Worker(status::State::Error) => "error",
            State::Other(word) => word,
            State::Unreachable => "unreachable",
        })
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a worker says of itself, whoever wrote it. What it does not say is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub instance: Option<String>,
    pub state: State,
    /// In words; empty where the state says it all.
    pub reason: String,
    /// Whether the worker named no state of its own, and this one was concluded from its other fields.
    pub state_derived: bool,
    /// RFC 3339.
    pub since: Option<String>,
    pub backend: Option<String>,
    /// The preferred back end and the cause why it is not used, such as "nvenc: no-slot".
    pub fallback: Option<String>,
    /// The encoder slot that it holds.
    pub slot: Option<String>,
    pub viewers: Option<u64>,
    pub viewers_max: Option<u64>,
    /// Frames a second, measured by the worker.
    pub fps: Option<f64>,
    pub frames_dropped: Option<u64>,
    /// Encoder sessions on its machine, as it sees them.
    pub nvenc_sessions_used: Option<u64>,
}

impl Status {
    /// # Errors
    /// What is no JSON object, and one in which nothing is a worker's.
    pub fn parse(body: &[u8]) -> Result<Status> {
        let no_worker = |why: &str| unreachable(format!("no worker answers there: {why}"));
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Err(no_worker("the answer is not JSON"));
        };
        let Value::Object(json) = json else {
            return Err(no_worker("the answer is not a JSON object"));
        };
        let fields = Fields(&json);
        if ["state", "streaming", "stream_backend", "instance_id", "worker_id"]
            .iter()
            .all(|key| !json.contains_key(*key))
        {
            return Err(no_worker("the answer has none of the fields of a /status"));
        }
        let (state, reason, state_derived) = match fields.text(&["state"]) {
            Some(word) => (named(word), fields.text(&["reason"]).unwrap_or_default(), false),
            None => fields.derived(),
        };
        let encoder = fields.within("encoder");
        let fallback = encoder.as_ref().and_then(|encoder| encoder.within("fallback"));
        Ok(Status {
            instance: fields.text(&["instance_id", "worker_id"]),
            state,
            reason,
            state_derived,
            since: fields.text(&["since"]),
            backend: fields.text(&["stream_backend"]),
            fallback: fallback.and_then(|f| Some(format!("{}: {}", f.text(&["from"])?, f.text(&["cause"])?))),
            slot: encoder.and_then(|encoder| encoder.text(&["slot"])),
            viewers: fields.count(&["stream_active_clients", "active_clients"]),
            viewers_max: fields.count(&["stream_max_clients"]),
            fps: fields.fps(state_derived),
            frames_dropped: fields.count(&["frames_dropped"]),
            nvenc_sessions_used: fields.count(&["nvenc_sessions_used"]),
        })
    }
}

fn named(word: String) -> State {
    serde_json::from_value(Value::String(word.clone())).map_or(State::Other(word), State::Worker)
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of<T>(&self, names: &[&str], read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        names.iter().find_map(|name| self.0.get(*name).and_then(&read))
    }

    /// The first that says anything.
    fn text(&self, names: &[&str]) -> Option<String> {
        self.of(names, |value| match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }

    fn count(&self, names: &[&str]) -> Option<u64> {
        // Other languages write a count as 3.0 as well.
        let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64);
        self.of(names, |value| value.as_u64().or_else(|| value.as_f64().and_then(whole)))
    }

    fn within(&self, name: &str) -> Option<Fields<'a>> {
        self.0.get(name).and_then(Value::as_object).map(Fields)
    }

    /// MetaBonk's `frames_fps` is the configured rate where none was measured, and says so nowhere: in a document that is
    /// not gsk's, a rate that equals the target is taken for it, and nothing is known.
    fn fps(&self, foreign: bool) -> Option<f64> {
        let rate = |value: &Value| value.as_f64().filter(|rate| rate.is_finite() && *rate >= 0.0);
        if !foreign {
            return self.of(&["frames_fps"], rate);
        }
        let target = self.of(&["stream_target_fps"], rate);
        let measured = |value: &Value| rate(value).filter(|rate| Some(*rate) != target);
        self.of(&["stream_fps", "frames_fps", "capture_fps", "fps"], measured)
    }

    /// The state of a worker that names none: an error unless it streams all the same.
    fn derived(&self) -> (State, String, bool) {
        let error = self.text(&["stream_error", "streamer_last_error"]);
        let is = |name: &str| self.0.get(name).and_then(Value::as_bool);
        let (state, reason) = match (is("streaming"), error) {
            (Some(true), None) => (status::State::Streaming, String::new()),
            (Some(true), Some(error)) => (status::State::Streaming, format!("its last error: {error}")),
            (_, Some(error)) => (status::State::Error, error),
            (_, None) if is("stream_enabled") == Some(false) => {
                (status::State::Idle, "streaming is switched off".into())
            }
            (_, None) => (status::State::Idle, String::new()),
        };
        let words = "concluded, as it names no state";
        let reason = if reason.is_empty() { words.into() } else { format!("{reason} ({words})") };
        (State::Worker(state), reason, true)
    }
}

/// A worker as it was found: its address and what it said, or why it said nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worker {
    /// The address that was asked.
    pub url: String,
    pub port: u16,
    #[serde(flatten)]
    pub status: Status,
}

impl Worker {
    pub fn new(target: &Target, asked: Result<Status>) -> Worker {
        Worker { url: target.to_string(), port: target.port(), status: asked.unwrap_or_else(Status::unreachable) }
    }
}

impl Status {
    fn unreachable(error: Error) -> Status {
        Status {
            instance: None,
            state: State::Unreachable,
            reason: error.to_string(),
            state_derived: false,
            since: None,
            backend: None,
            fallback: None,
            slot: None,
            viewers: None,
            viewers_max: None,
            fps: None,
            frames_dropped: None,
            nvenc_sessions_used: None,
        }
    }
}
