//! Whatever of the GPU's encoder fails, `gsk serve` goes on by the next back end within a second, and its slot is free.
//!
//! Which error each call gives is `tests/nvenc_faults.rs`; here each function fails once, in a worker of its own.

use std::time::{Duration, Instant};

use crate::gsk::{SOON, until};
use crate::slots::{Machine, config_of};
use crate::standin::Scene;
use crate::viewer::Viewer;

/// At what opens a session.
const OPENING: [(&str, u32, &str); 12] = [
    ("cuInit", 999, "fault"),
    ("cuDeviceGetCount", 999, "fault"),
    ("cuDevicePrimaryCtxRetain", 2, "fault"),
    ("cuCtxPushCurrent_v2", 201, "fault"),
    ("cuMemAlloc_v2", 2, "fault"),
    ("nvEncOpenEncodeSessionEx", 5, "fault"),
    ("nvEncOpenEncodeSessionEx", 2, "no-engine"),
    ("nvEncGetEncodeCaps", 15, "no-driver"),
    ("nvEncGetEncodePresetConfigEx", 8, "fault"),
    ("nvEncInitializeEncoder", 20, "fault"),
    ("nvEncRegisterResource", 20, "fault"),
    ("nvEncCreateBitstreamBuffer", 18, "fault"),
];

/// At what is done for each picture.
const AT_WORK: [(&str, u32, &str); 8] = [
    ("cuCtxPushCurrent_v2", 201, "fault"),
    ("cuMemcpy2DAsync_v2", 719, "fault"),
    ("cuStreamSynchronize", 719, "fault"),
    ("nvEncMapInputResource", 20, "fault"),
    ("nvEncEncodePicture", 5, "fault"),
    ("nvEncLockBitstream", 20, "fault"),
    ("nvEncUnlockBitstream", 9, "fault"),
    ("nvEncUnmapInputResource", 9, "fault"),
];

/// What the driver keeps where it refuses to take it back.
const KEPT: [&str; 2] = ["nvEncUnlockBitstream", "nvEncUnmapInputResource"];

const SECOND: Duration = Duration::from_secs(1);

/// From this call on the function fails; a worker that streamed by it streams on without it.
fn goes_on(case: &str, function: &str, call: u64, code: u32, cause: &str) {
    let mut scene = Scene::geforce(1);
    scene.fault_from(function, call, code);
    let machine = Machine::new(scene);
    let worker = machine.worker(0, &["--slots", "1"]);
    let mut viewer = Viewer::join(worker.addr, "/ws");
    if call > 1 {
        assert_eq!(config_of(&mut viewer, "nvenc").0["fallback"], serde_json::Value::Null, "{case}");
    }
    machine.scene.wait_for(case, |log| log.iter().any(|event| event.name == "fault").then_some(()));
    let failed = Instant::now();
    let (config, _) = config_of(&mut viewer, "openh264");
    assert!(viewer.unit().key, "{case}: from a fresh IDR");
    assert!(failed.elapsed() < SECOND, "{case}: {:?}", failed.elapsed());
    let fallback = &config["fallback"];
    assert_eq!((&fallback["from"], &fallback["cause"]), (&"nvenc".into(), &cause.into()), "{case}: {fallback}");
    let words = format!("{} returned {code}", function.trim_end_matches("_v2"));
    assert!(fallback["detail"].as_str().unwrap().contains(&words), "{case}: {fallback}");
    worker.await_state(SOON, "streaming");
    assert_eq!(worker.status()["encoders"][0]["hardware"], false, "{case}");
    until(SOON, case, || machine.pool().slots().unwrap().iter().all(|seen| !seen.held).then_some(()));
    until(SOON, case, || machine.scene.sessions().is_empty().then_some(()));
    assert_eq!(machine.scene.violations(), [], "{case}");
    let leaks = machine.scene.leaks();
    assert!(leaks.is_empty() || KEPT.contains(&function), "{case}: {leaks:?}");
}

fn table(rows: &[(&str, u32, &str)], call: u64) {
    // A few workers at a time.
    for rows in rows.chunks(4) {
        std::thread::scope(|scope| {
            for &(function, code, cause) in rows {
                scope.spawn(move || goes_on(&format!("{function}, code {code}"), function, call, code, cause));
            }
        });
    }
}

#[test]
fn what_fails_in_opening_is_passed_over() {
    table(&OPENING, 1);
}

#[test]
fn what_fails_at_work_is_replaced() {
    // Beyond the calls of opening, at work in every picture.
    table(&AT_WORK[..3], 60);
    table(&AT_WORK[3..], 20);
}
