//! `/metrics`: the figures of `/status` as Prometheus text (exposition format 0.0.4).

use std::fmt::Write;

use crate::wire::status::{State, Status};

const STATES: [(State, &str); 5] = [
    (State::Starting, "starting"),
    (State::Idle, "idle"),
    (State::Streaming, "streaming"),
    (State::NoSlot, "no-slot"),
    (State::Error, "error"),
];

/// A text of metrics in the making.
struct Text(String);

impl Text {
    /// One metric; each sample is its labels and its value. A metric without samples is left out.
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (String, f64)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// `{a="b"}`, escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

pub fn render(status: &Status) -> String {
    let mut text = Text(String::new());
    let plain = |value: Option<f64>| value.map(|value| (String::new(), value));
    let info = [("version", &*status.gsk), ("instance", &status.instance_id), ("backend", &status.stream_backend)];
    text.metric("gsk_info", "gauge", "The worker.", [(labels(&info), 1.0)]);
    let now = status.condition.state;
    let states = STATES.map(|(state, name)| (labels(&[("state", name)]), f64::from(state == now)));
    text.metric("gsk_state", "gauge", "1 for the state that the worker is in.", states);
    let viewers =
        status.encoders.iter().map(|e| (labels(&[("codec", &e.codec), ("backend", &e.backend)]), e.viewers as f64));
    text.metric("gsk_viewers", "gauge", "Viewers by codec.", viewers);
    text.metric("gsk_viewers_max", "gauge", "Viewers that are let in.", plain(Some(status.stream_max_clients.into())));
    text.metric(
        "gsk_frames_captured_total",
        "counter",
        "Frames that the source gave.",
        plain(Some(status.frames_captured as f64)),
    );
    text.metric("gsk_frames_encoded_total", "counter", "Access units made.", plain(Some(status.frames_ok as f64)));
    text.metric(
        "gsk_frames_unchanged_total",
        "counter",
        "Frames not encoded because the picture stood still.",
        plain(Some(status.frames_unchanged as f64)),
    );
    let drops = status.frames_dropped_by;
    let drops = [("slow-encoder", drops.slow_encoder), ("slow-viewer", drops.slow_viewer)];
    let drops = drops.map(|(cause, n)| (labels(&[("cause", cause)]), n as f64));
    text.metric("gsk_frames_dropped_total", "counter", "Frames that somebody did not get.", drops);
    text.metric("gsk_frames_per_second", "gauge", "Access units a second, over 2 s.", plain(status.frames_fps));
    let bytes = status.bitrate_bps.map(|bps| bps / 8.0);
    text.metric("gsk_bytes_per_second", "gauge", "Encoded bytes a second, over 2 s.", plain(bytes));
    text.metric(
        "gsk_last_keyframe_age_seconds",
        "gauge",
        "Since the last IDR.",
        plain(status.last_keyframe_age_ms.map(|ms| ms / 1e3)),
    );
    let latency = status.latency_ms.iter().flat_map(|(stage, p)| {
        [("0.5", p.p50), ("0.95", p.p95), ("0.99", p.p99), ("1", p.max)]
            .map(|(q, ms)| (labels(&[("stage", stage), ("quantile", q)]), ms / 1e3))
    });
    text.metric("gsk_latency_seconds", "summary", "Latency of a stage over the last 10 to 20 s.", latency);
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), "{a=\"x\\\"y\\\\z\\n\"}");
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let mut text = Text(String::new());
        text.metric("a", "gauge", "A.", None);
        text.metric("b", "gauge", "B.", [(String::new(), 1.5)]);
        assert_eq!(text.0, "# HELP b B.\n# TYPE b gauge\nb 1.5\n");
    }
}
