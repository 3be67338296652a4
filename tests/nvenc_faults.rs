//! Whatever of NVENC or CUDA fails, at whichever of its calls: the encoder says what it was and what to do, gives all back, and
//! frees its slot.
//!
//! The calls of a whole session are first counted on a stand-in driver that tells them. Then each one of them fails with each
//! code, one case after another in one process, whose scene is changed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use gsk::error::{Error, Kind, Result};
use gsk::gpu::nvenc::Refused;
use gsk::pipeline::encode::{Unit, nvenc};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::wire::status::Cause;

use crate::host::{Out, Stage, config, host_with, inside, leaks, slot, slot_is_free};
use crate::standin::Scene;

mod host;
mod standin;

/// Codes of NVENC (`NVENCSTATUS` in nvEncodeAPI.h): no device, unsupported, invalid device, lost, invalid parameter, invalid
/// call, out of memory, busy, version, busy, generic, client key.
const NVENC: [u32; 12] = [1, 2, 4, 5, 8, 9, 10, 13, 15, 18, 20, 21];

/// Codes of CUDA (`cudaError_enum` in cuda.h): out of memory, no device, invalid context, launch failed, unknown.
const CUDA: [u32; 5] = [2, 100, 201, 719, 999];

/// NVENC's library is asked for these once in a process.
const ONCE: [&str; 3] = ["NvEncodeAPIGetMaxSupportedVersion", "NvEncodeAPICreateInstance", "cuInit"];

/// Calls that give something back, and what stays in the driver's hands where it refuses that.
const GIVES_BACK: [(&str, &[&str]); 12] = [
    ("nvEncUnlockBitstream", &["locked-bitstream"]),
    ("nvEncUnmapInputResource", &["mapped-resource"]),
    ("nvEncUnregisterResource", &["registered-resource", "mapped-resource"]),
    ("nvEncDestroyBitstreamBuffer", &["bitstream-buffer", "locked-bitstream"]),
    ("nvEncDestroyInputBuffer", &["input-buffer"]),
    ("nvEncDestroyEncoder", &["session"]),
    ("cuMemFree_v2", &["memory"]),
    ("cuMemFreeHost", &["host-memory"]),
    ("cuStreamDestroy_v2", &["stream"]),
    ("cuModuleUnload", &["module"]),
    ("cuDevicePrimaryCtxRelease_v2", &["primary-context"]),
    ("cuCtxPopCurrent_v2", &[]),
];

const SIZE: Size = Size::new(160, 96);
const LARGER: Size = Size::new(192, 128);

/// What a session's life comes to.
struct Life {
    opened: Result<(), Refused>,
    /// Of pictures and changes, in their order.
    said: Vec<Result<()>>,
    units: Vec<Result<Unit>>,
}

/// A session is opened, fed, changed in place, and closed.
fn live(dir: &Path) -> Life {
    let out = Out::default();
    let into = out.clone();
    let output = Box::new(move |unit| into.0.lock().unwrap().push(unit));
    let mut settings = config(SIZE);
    let mut said = Vec::new();
    let mut encoder = match nvenc::open(&settings, slot(dir), &[], output) {
        Ok(encoder) => encoder,
        Err(refused) => return Life { opened: Err(refused), said, units: out.take() },
    };
    for n in 0..7 {
        match n {
            3 => settings.bitrate = 3_000_000,
            5 => settings.size = LARGER,
            _ => {}
        }
        if n == 3 || n == 5 {
            said.push(encoder.reconfigure(&settings));
        }
        if said.last().is_none_or(Result::is_ok) {
            said.push(encoder.submit(picture(n, settings.size), n == 0));
        }
    }
    drop(encoder);
    Life { opened: Ok(()), said, units: out.take() }
}

fn picture(n: u64, size: Size) -> Frame {
    let mut pixels = Pool::default().take(PixelFormat::Nv12.bytes(size));
    pixels.fill(16 + 20 * n as u8);
    Frame {
        sequence: n,
        size,
        format: PixelFormat::Nv12,
        range: Range::Limited,
        captured_us: (1000 * n + 1, 1000 * n + 2),
        view: 0,
        pixels: pixels.into(),
    }
}

/// How often each function is called in a life without faults.
fn count(stage: &mut Stage, dir: &Path) -> BTreeMap<String, u64> {
    // What is done once is done before.
    live(dir);
    stage.news();
    stage.set("trace calls");
    let life = live(dir);
    assert!(life.opened.is_ok() && life.said.iter().all(Result::is_ok), "without a fault all goes well");
    assert_eq!(life.units.len(), 7);
    let mut calls = BTreeMap::new();
    for event in stage.news().iter().filter(|event| event.name == "call") {
        *calls.entry(event.get("function").to_owned()).or_insert(0) += 1;
    }
    calls.retain(|function, _| function.starts_with("nvEnc") || function.starts_with("cu"));
    calls
}

/// What a code is to be told as: the state, the kind, and words of the remedy.
fn expected(function: &str, code: u32, at_work: bool) -> (Cause, Kind, &'static str) {
    let nvenc = function.starts_with("nvEnc") || function.starts_with("NvEnc");
    match (nvenc, code) {
        (true, 1 | 2) if at_work => (Cause::NoEngine, Kind::Missing, "gsk nvenc-status"),
        (true, 10) if at_work => (Cause::Fault, Kind::Capacity, "free GPU memory"),
        (true, 21) if at_work => (Cause::Fault, Kind::Failed, "gsk verify-gl --bundle"),
        (true, 1 | 2) => (Cause::NoEngine, Kind::Missing, "MIG instance"),
        (true, 5) => (Cause::Fault, Kind::Failed, "dmesg"),
        (true, 10) => (Cause::Fault, Kind::Failed, "update the driver"),
        (true, 13 | 18) => (Cause::Fault, Kind::Failed, "gsk nvenc-status"),
        (true, 15) => (Cause::NoDriver, Kind::Missing, "install driver 530"),
        (true, 21) => (Cause::Limit, Kind::Capacity, "gsk nvenc-status"),
        (true, _) => (Cause::Fault, Kind::Failed, "gsk verify-gl --bundle"),
        (false, 2) => (Cause::Fault, Kind::Capacity, "free GPU memory"),
        (false, 100) => (Cause::NoDriver, Kind::Missing, "CUDA_VISIBLE_DEVICES"),
        (false, _) => (Cause::Fault, Kind::Failed, "dmesg"),
    }
}

/// Whether a session lives on although this call failed so.
fn may_pass(function: &str, call: u64, code: u32) -> bool {
    let patient = ["nvEncEncodePicture", "nvEncLockBitstream", "nvEncMapInputResource"];
    GIVES_BACK.iter().any(|(name, _)| *name == function)
        || matches!(code, 13 | 18) && patient.contains(&function)
        // Tried again with a level of the driver's choice; or done without.
        || function == "nvEncReconfigureEncoder" && matches!(code, 8 | 12)
        || function == "nvEncGetSequenceParams"
        || function == "nvEncGetLastErrorString"
        // How its threads wait is a wish.
        || function == "cuDevicePrimaryCtxSetFlags_v2"
        // As something is given back: another context may be current, or it is given back with its session.
        || function == "cuCtxPushCurrent_v2"
        // The last picture of all says only that there are no more.
        || function == "nvEncEncodePicture" && call == 8
}

/// That an error says what failed, how, and what to do.
fn is_told(case: &str, function: &str, code: u32, error: &Error, kind: Kind, remedy: &str) {
    let words = format!("{} returned {code}", function.trim_end_matches("_v2"));
    let told = error.to_string();
    let rest = told.split_once(&words).map(|(_, rest)| rest);
    assert!(rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())), "{case}: {error}");
    assert_eq!(error.kind, kind, "{case}: {error}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(remedy)), "{case}: {error:?}");
}

fn judge(case: &str, function: &str, call: u64, code: u32, life: &Life) {
    let (cause, kind, remedy) = expected(function, code, life.opened.is_ok());
    if let Err(refused) = &life.opened {
        assert!(life.units.is_empty(), "{case}");
        // A device that is gone in the middle of opening is a fault as well as a lack.
        let gone = code == 100 && refused.cause == Cause::Fault;
        assert!(refused.cause == cause || gone, "{case}: {:?}, {refused}", refused.cause);
        return is_told(case, function, code, &refused.error, kind, remedy);
    }
    let first = life.said.iter().find_map(|said| said.as_ref().err());
    let first = first.or_else(|| life.units.iter().find_map(|unit| unit.as_ref().err()));
    let well = life.units.iter().take_while(|unit| unit.is_ok()).count();
    assert!(life.units[well..].iter().all(Result::is_err), "{case}: nothing comes after a failure");
    match first {
        Some(error) => is_told(case, function, code, error, kind, remedy),
        None => {
            assert!(may_pass(function, call, code), "{case}: it was passed over");
            assert_eq!((life.said.len(), well), (9, 7), "{case}");
        }
    }
}

#[test]
fn every_call_may_fail_with_every_code() {
    let name = "every_call_may_fail_with_every_code";
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        let told = host_with(&scene, name, &[]);
        let cases = fs::read_to_string(told.path().join("cases")).unwrap();
        println!("{cases}");
        // What the driver refused to take back stays with it, and nothing else does.
        let failed: BTreeSet<String> = scene.events("fault").iter().map(|e| e.get("function").to_owned()).collect();
        for leak in leaks(&scene) {
            let by = GIVES_BACK.iter().filter(|(function, _)| failed.contains(*function));
            assert!(by.into_iter().any(|(_, kinds)| kinds.contains(&leak.get("kind"))), "{leak:?}");
        }
        assert_eq!(scene.sessions(), []);
        return;
    };
    let mut stage = Stage::new();
    let calls = count(&mut stage, &dir);
    let (mut cases, began) = (0, std::time::Instant::now());
    // What leaves something with the driver comes last.
    let leaves = |function: &str| GIVES_BACK.iter().any(|(name, _)| *name == function);
    let mut order: Vec<(&String, u64)> = calls.iter().map(|(function, calls)| (function, *calls)).collect();
    order.sort_by_key(|(function, _)| (leaves(function), function.starts_with("cu")));
    for (function, calls) in order {
        let codes: &[u32] = if function.starts_with("nvEnc") { &NVENC } else { &CUDA };
        for (call, &code) in (1..=calls).flat_map(|call| codes.iter().map(move |code| (call, code))) {
            let case = format!("{function}, call {call} of {calls}, code {code}");
            // A second time it is asked with less room: that fails as well.
            let onwards = if function == "nvEncInitializeEncoder" { "+" } else { "" };
            stage.set(&format!("fault {function} call={call}{onwards} code={code} anew=yes"));
            // A thread keeps the contexts that were not popped.
            let life = std::thread::scope(|scope| scope.spawn(|| live(&dir)).join()).unwrap();
            let log = stage.news();
            let of = |name: &str| log.iter().filter(|event| event.name == name).count();
            assert_eq!(of("fault"), 1 + onwards.len(), "{case}: {log:#?}");
            assert_eq!(of("violation"), 0, "{case}: {log:#?}");
            judge(&case, function, call, code, &life);
            assert!(slot_is_free(&dir), "{case}: the slot is held");
            let kept = usize::from(function == "nvEncDestroyEncoder");
            assert_eq!(of("open") - of("close"), kept, "{case}: a session is open: {log:#?}");
            let allowed = GIVES_BACK.iter().find(|(name, _)| name == function).map_or(&[][..], |(_, kinds)| kinds);
            for leak in log.iter().filter(|event| event.name == "leak") {
                assert!(allowed.contains(&leak.get("kind")), "{case}: {leak:?}");
            }
            cases += 1;
        }
    }
    stage.set("");
    let life = live(&dir);
    assert!(life.opened.is_ok() && life.units.iter().all(Result::is_ok), "afterwards all is as before");
    let total: u64 = calls.values().sum();
    let told = format!("{} functions, {total} calls, {cases} cases in {:?}", calls.len(), began.elapsed());
    fs::write(dir.join("cases"), told).unwrap();
}

/// What is asked once in a process fails in one of its own.
#[test]
fn what_is_asked_once_may_fail() {
    let name = "what_is_asked_once_may_fail";
    let Some(dir) = inside() else {
        for function in ONCE {
            let codes: &[u32] = if function == "cuInit" { &CUDA } else { &NVENC };
            for &code in codes {
                let mut scene = Scene::rtx();
                scene.fault(function, 1, code);
                let case = format!("{function} {code}");
                host_with(&scene, name, &[("GSK_TEST_FUNCTION", &case)]);
                assert_eq!((leaks(&scene), scene.sessions()), (vec![], vec![]), "{case}");
            }
        }
        return;
    };
    let case = std::env::var("GSK_TEST_FUNCTION").unwrap();
    let (function, code) = case.split_once(' ').unwrap();
    let refused = live(&dir).opened.unwrap_err();
    assert!(slot_is_free(&dir));
    let said = format!("{} {:?}", refused.error, refused.error.hint);
    match (function, code) {
        // Without a device there is nothing to fail.
        ("cuInit", "100") => assert!(said.contains("no device"), "{said}"),
        _ => assert!(said.contains(&format!("{function} returned {code} ")), "{case}: {said}"),
    }
    assert!(refused.error.hint.is_some(), "{case}: {said}");
    let live = live(&dir);
    assert!(live.opened.is_ok(), "{case}: what failed once is asked again: {:?}", live.opened.err());
}
