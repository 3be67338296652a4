//! `/status`, `/metrics`, and the probes.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::gsk::{Gsk, SOON, noise};
use crate::http;
use crate::viewer::Viewer;

const SMALL: [&str; 2] = ["--size", "320x180"];

/// Lets jq judge a document, and gives what it prints.
fn jq(program: &str, json: &str) -> String {
    let mut jq = Command::new("jq").args(["-r", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    jq.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let output = jq.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// The fields that dashboards read, and the types that each may have.
const FIELDS: &[(&str, &str)] = &[
    ("instance_id", "string"),
    ("state", "string"),
    ("reason", "string"),
    ("since", "string"),
    ("source", "string"),
    ("encoders", "array"),
    ("encoder", "object"),
    ("stream_backend", "string"),
    ("stream_enabled", "boolean"),
    ("streaming", "boolean"),
    ("active_clients", "number"),
    ("stream_active_clients", "number"),
    ("stream_max_clients", "number"),
    ("frames_fps", "number null"),
    ("frames_ok", "number"),
    ("frames_dropped", "number"),
    ("frames_dropped_by", "object"),
    ("pixel_src_width", "number null"),
    ("pixel_src_height", "number null"),
    ("spectator_width", "number null"),
    ("spectator_height", "number null"),
    ("bitrate_bps", "number null"),
    ("nvenc_sessions_used", "number null"),
    ("stream_error", "string null"),
    ("streamer_last_error", "string null"),
    ("last_keyframe_age_ms", "number null"),
    ("latency_ms", "object"),
    ("schema", "object"),
    ("gsk", "string"),
    ("host", "string"),
    ("errors", "array"),
];

fn check_fields(json: &str) {
    for (field, types) in FIELDS {
        let got = jq(&format!("if has(\"{field}\") then .{field} | type else \"missing\" end"), json);
        assert!(types.split(' ').any(|one| one == got), "{field} is {got}, not {types}");
    }
    let encoder = ".encoders[] | [(.backend, .codec | type), (.hardware | type), (.slot, .fallback | type), (.viewers | type)] | join(\" \")";
    for line in jq(encoder, json).lines() {
        let types: Vec<&str> = line.split(' ').collect();
        assert_eq!((types[0], types[1], types[2], types[5]), ("string", "string", "boolean", "number"), "{line}");
        assert!(["null", "string"].contains(&types[3]) && ["null", "object"].contains(&types[4]), "{line}");
    }
    let fallback =
        ".encoders[].fallback | select(.) | [.from, .cause, .detail, .since] | map(type) | unique | join(\" \")";
    assert!(jq(fallback, json).lines().all(|types| types == "string"));
    let stages = ".latency_ms[] | [.p50, .p95, .p99, .max] | (map(type) | unique == [\"number\"]) and .[0] <= .[1] and .[1] <= .[2] and .[2] <= .[3]";
    assert!(jq(stages, json).lines().all(|sound| sound == "true"));
}

#[test]
fn status_has_every_field_measured_or_null() {
    let gsk = Gsk::start(&[&SMALL[..], &["--instance-id", "omega-7", "--max-viewers", "9"]].concat());
    gsk.await_state(SOON, "idle");
    let text = || http::get(gsk.addr, "/status").text();
    let idle = text();
    check_fields(&idle);
    let unmeasured = "[.frames_fps, .bitrate_bps, .last_keyframe_age_ms, .stream_error, .streamer_last_error] | unique";
    assert_eq!(jq(&format!("{unmeasured} | tojson"), &idle), "[null]");
    assert_eq!(jq("[.frames_ok, .frames_captured, .latency_ms] | tojson", &idle), "[0,0,{}]");
    assert_eq!(jq("[.instance_id, .stream_max_clients, .source] | tojson", &idle), r#"["omega-7",9,"scene"]"#);
    assert_eq!(jq(".stream_backend", &idle), format!("gsk:scene:{}", jq(".encoder.backend", &idle)));

    let since = |text: &str| jq("[.since, (.encoders[] | .fallback.since)] | tojson", text);
    let before = since(&idle);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(since(&text()), before, "nothing has changed in between");

    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.units(Duration::from_secs(3));
    let live = text();
    check_fields(&live);
    let sound = ".state == \"streaming\" and .streaming and .active_clients == 1 and .encoder.viewers == 1
        and .encoder.open and .frames_fps > 20 and .frames_fps < 33 and .bitrate_bps > 1000 and .frames_ok > 30
        and .pixel_src_width == 320 and .spectator_height == 180 and .last_keyframe_age_ms > 0
        and ([.latency_ms | keys[] | select(. == \"capture\" or . == \"encode\" or . == \"send\")] | length == 3)";
    assert_eq!(jq(sound, &live), "true", "{live}");
    let fallbacks = |text: &str| jq("[.encoders[] | .fallback.since] | tojson", text);
    assert_eq!(fallbacks(&live), fallbacks(&idle), "opening an encoder as planned is no new fallback");
}

#[test]
fn the_frame_rate_is_the_one_that_was_measured() {
    // Raw frames that say 30 a second and come ten times a second.
    let gsk = Gsk::start(&["--size", "64x64", "--fps", "30", "--", "sh", "-c", &noise(0.1)]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.units(Duration::from_secs(3));
    let fps = gsk.status()["frames_fps"].as_f64().unwrap();
    assert!((4.0..=11.0).contains(&fps), "{fps}");
}

/// What `promtool check metrics` looks at: each metric's HELP and TYPE once and before its samples, names, units and
/// suffixes, labels, values.
fn check_metrics(text: &str) -> HashMap<String, f64> {
    let (mut types, mut helps, mut samples) = (HashMap::new(), HashSet::new(), HashMap::new());
    let name_is_good = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helps.insert(name.to_string()) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "summary"].contains(&kind), "{line}");
            assert!(helps.contains(name) && types.insert(name.to_string(), kind.to_string()).is_none(), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("gsk_") && name_is_good(name), "{line}");
            assert!(!["bits", "ms", "milliseconds", "minutes"].iter().any(|unit| name.split('_').any(|w| w == *unit)));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
            let kind = types.get(name).unwrap_or_else(|| panic!("a sample before its TYPE: {line}"));
            let labels = labels.map(|rest| parse_labels(rest.strip_suffix('}').unwrap())).unwrap_or_default();
            assert_eq!(labels.iter().any(|(name, _)| name == "quantile"), kind == "summary", "{line}");
            let names: HashSet<_> = labels.iter().map(|(name, _)| name.clone()).collect();
            assert!(names.len() == labels.len() && names.iter().all(|name| name_is_good(name)), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && (kind != "counter" || value >= 0.0), "{line}");
            assert!(samples.insert(series.to_string(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

/// `a="b",c="d"`, with backslash escapes.
fn parse_labels(text: &str) -> Vec<(String, String)> {
    let (mut labels, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_string(), value));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    labels
}

#[test]
fn metrics_are_sound() {
    // The program's name, which the back end's label carries, has all that must be escaped.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("a\"b\\c\nd");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let gsk = Gsk::start(&["--size", "64x64", "--", program.to_str().unwrap(), "-c", &noise(0.03)]);
    let metrics = || {
        let answer = http::get(gsk.addr, "/metrics");
        assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
        check_metrics(&answer.text())
    };
    let idle = metrics();
    assert!(!idle.contains_key("gsk_frames_per_second"), "what is not measured is left out");
    assert_eq!(idle["gsk_frames_encoded_total"], 0.0);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.units(Duration::from_millis(2500));
    let live = metrics();
    assert_eq!(live["gsk_state{state=\"streaming\"}"], 1.0, "{live:?}");
    assert!(live["gsk_frames_encoded_total"] > 10.0 && live["gsk_frames_per_second"] > 5.0, "{live:?}");
    assert!(live.keys().any(|series| series.starts_with("gsk_latency_seconds{stage=\"encode\"")), "{live:?}");
    let info = live.keys().find(|series| series.starts_with("gsk_info")).unwrap();
    assert!(info.contains(r#"a\"b\\c\nd"#), "{info}");
}

#[test]
fn probes_tell_a_live_worker_from_a_ready_one() {
    let gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", "echo text that is no video; exec sleep 99"]);
    gsk.await_state(Duration::from_secs(1), "error");
    assert_eq!(http::get(gsk.addr, "/healthz").code, 200);
    let unready = http::get(gsk.addr, "/readyz");
    assert_eq!(unready.code, 503);
    assert!(unready.text().contains("sh"));

    let gsk = Gsk::start(&SMALL);
    gsk.await_state(SOON, "idle");
    assert_eq!((http::get(gsk.addr, "/healthz").code, http::get(gsk.addr, "/readyz").code), (200, 200));
}
