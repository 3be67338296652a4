//! What `GET /status` says, and the words that `/ws` and the page share with it.
//!
//! The flat names are those that existing worker dashboards read. A figure that was not measured is null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Starting,
    Idle,
    Streaming,
    NoSlot,
    Error,
}

/// A worker's state, why, and since when (RFC 3339).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    pub state: State,
    /// In plain words; empty where the state says it all.
    pub reason: String,
    pub since: String,
}

/// Why an encoder other than the preferred one is at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// The back end that was preferred.
    pub from: String,
    pub cause: Cause,
    pub detail: String,
    /// RFC 3339.
    pub since: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    NoSlot,
    NoEngine,
    NoDriver,
    Limit,
    Fault,
    Requested,
}

/// Percentiles, ms; in `/status` of a stage over the last 10 to 20 s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Samples behind the figures.
    pub n: u64,
}

/// Percentiles by the stage's name.
pub type Latency = BTreeMap<String, Percentiles>;

/// One encoder: a codec that is watched or can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    pub backend: String,
    pub codec: String,
    pub hardware: bool,
    /// The encoder slot that it holds; null where it needs none.
    pub slot: Option<String>,
    pub fallback: Option<Fallback>,
    pub viewers: usize,
    /// Whether it is open now, or would be with the next viewer.
    pub open: bool,
}

/// Frames that were not shown to somebody, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// A newer frame came before the encoder was free.
    pub slow_encoder: u64,
    /// A viewer did not read fast enough.
    pub slow_viewer: u64,
    /// A newer one came while there was no encoder slot.
    #[serde(default)]
    pub no_slot: u64,
}

/// The document of `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema: Schema,
    pub gsk: String,
    pub host: String,
    pub instance_id: String,
    #[serde(flatten)]
    pub condition: Condition,
    pub source: String,
    /// What the source is in words, once known.
    pub source_detail: Option<String>,
    pub encoders: Vec<Encoder>,
    /// The first of `encoders`.
    pub encoder: Option<Encoder>,
    /// `gsk:<source>:<encoder>`.
    pub stream_backend: String,
    pub stream_enabled: bool,
    pub streaming: bool,
    pub active_clients: usize,
    pub stream_active_clients: usize,
    pub stream_max_clients: u32,
    /// Access units a second, measured over 2 s; null while nothing is encoded.
    pub frames_fps: Option<f64>,
    /// Access units made.
    pub frames_ok: u64,
    /// Frames that the source gave.
    pub frames_captured: u64,
    /// Frames that were not encoded because the picture stood still.
    pub frames_unchanged: u64,
    pub frames_dropped: u64,
    pub frames_dropped_by: Drops,
    pub pixel_src_width: Option<u32>,
    pub pixel_src_height: Option<u32>,
    pub spectator_width: Option<u32>,
    pub spectator_height: Option<u32>,
    /// bit/s of the first encoder, measured over 2 s; null while nothing is encoded.
    pub bitrate_bps: Option<f64>,
    /// Encoder sessions on this machine; null where that cannot be asked.
    pub nvenc_sessions_used: Option<u32>,
    pub stream_error: Option<String>,
    pub streamer_last_error: Option<String>,
    pub last_keyframe_age_ms: Option<f64>,
    pub latency_ms: Latency,
    /// Whether OpenH264 and JPEG were built with SIMD; without it they take twice the time.
    pub simd: bool,
    pub errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    pub name: String,
    pub version: u32,
}
