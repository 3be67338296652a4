//! Whatever of NVDEC or CUDA fails, at whichever of its calls: the decoder says what it was and what to do, and gives all back.
//!
//! The calls of a whole stream are first counted on a stand-in driver that tells them. Then each one of them fails with each
//! code, one case after another in one process, whose scene is changed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use gsk::error::{Error, Kind, Result};
use gsk::gpu::nvdec;
use gsk::gpu::support::Codec;
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::wire::message::HEADER;

use crate::host::{Stage, config, host_with, inside, leaks, open_as};
use crate::standin::Scene;

mod host;
mod standin;

/// Codes (`cudaError_enum` in cuda.h): invalid value, out of memory, no device, invalid context, invalid source, launch failed,
/// not supported, unknown.
const NVDEC: [u32; 8] = [1, 2, 100, 201, 300, 719, 801, 999];

/// Of them those that all of CUDA answers.
const CUDA: [u32; 5] = [2, 100, 201, 719, 999];

/// Calls that give something back, or come before that, and what stays in the driver's hands where it refuses them.
const GIVES_BACK: [(&str, &[&str]); 6] = [
    ("cuvidUnmapVideoFrame64", &["nvdec-frame", "memory"]),
    ("cuvidDestroyDecoder", &["nvdec-decoder"]),
    ("cuvidDestroyVideoParser", &["nvdec-parser"]),
    ("cuStreamDestroy_v2", &["stream"]),
    ("cuDevicePrimaryCtxRelease_v2", &["primary-context"]),
    ("cuCtxPushCurrent_v2", &["nvdec-frame", "memory", "nvdec-decoder", "nvdec-parser", "stream"]),
];

const SIZES: [Size; 6] = {
    let (size, other) = (Size::new(160, 96), Size::new(192, 128));
    [size, size, size, other, other, other]
};

/// What NVENC writes of them.
fn written(dir: &Path) -> Vec<Vec<u8>> {
    let mut settings = config(SIZES[0]);
    let (mut encoder, out) = open_as(dir, &settings);
    for (n, size) in SIZES.into_iter().enumerate() {
        let changed = size != settings.size;
        if changed {
            settings.size = size;
            encoder.reconfigure(&settings).unwrap();
        }
        let mut pixels = Pool::default().take(PixelFormat::Nv12.bytes(size));
        pixels.fill(16 + 20 * n as u8);
        let (format, range, captured_us) = (PixelFormat::Nv12, Range::Limited, (1, 2));
        let frame = Frame { sequence: n as u64, size, format, range, captured_us, view: 0, pixels: pixels.into() };
        encoder.submit(frame, n == 0 || changed).unwrap();
    }
    drop(encoder);
    out.units().into_iter().map(|unit| unit.data[HEADER..].to_vec()).collect()
}

/// A decoder is opened, fed until something fails, and closed: how many pictures came, and what failed.
fn live(units: &[Vec<u8>]) -> (usize, Result<()>) {
    let mut decoder = match nvdec::open(Codec::H264, None) {
        Ok(decoder) => decoder,
        Err(error) => return (0, Err(error)),
    };
    for (n, unit) in units.iter().enumerate() {
        let mut decode = || -> Result<Vec<u8>> {
            let picture = decoder.decode(unit)?;
            let mut pixels = vec![0; picture.bytes()];
            picture.download(&mut pixels).map(|()| pixels)
        };
        match decode() {
            Ok(pixels) => assert!(pixels.iter().all(|&pixel| pixel == 16 + 20 * n as u8), "picture {n}"),
            Err(error) => return (n, Err(error)),
        }
    }
    (units.len(), Ok(()))
}

/// How often each function is called in a life without faults.
fn count(stage: &mut Stage, units: &[Vec<u8>]) -> BTreeMap<String, u64> {
    // What is done once is done before.
    live(units).1.unwrap();
    stage.news();
    stage.set("trace calls");
    let (pictures, done) = live(units);
    assert!(done.is_ok() && pictures == SIZES.len(), "without a fault all goes well: {done:?}");
    let mut calls = BTreeMap::new();
    for event in stage.news().iter().filter(|event| event.name == "call") {
        *calls.entry(event.get("function").to_owned()).or_insert(0) += 1;
    }
    calls.retain(|function, _| function.starts_with("cu"));
    calls
}

/// What a code is to be told as: the kind, and words of the remedy.
fn expected(function: &str, code: u32) -> (Kind, &'static str) {
    match (function.starts_with("cuvid"), code) {
        (_, 2) => (Kind::Capacity, "free GPU memory"),
        (true, 100 | 801) => (Kind::Missing, "MIG instance"),
        (true, 1 | 300) => (Kind::Failed, "gsk verify-gl --bundle"),
        (false, 100) => (Kind::Missing, "CUDA_VISIBLE_DEVICES"),
        _ => (Kind::Failed, "dmesg"),
    }
}

/// Whether a stream goes on although this call failed so.
fn may_pass(function: &str) -> bool {
    GIVES_BACK.iter().any(|(name, _)| *name == function)
        || function == "cuCtxPopCurrent_v2"
        // How its threads wait is a wish.
        || function == "cuDevicePrimaryCtxSetFlags_v2"
        // Not every driver tells it.
        || function == "cuvidGetDecodeStatus"
}

/// That an error says what failed, how, and what to do.
fn is_told(case: &str, function: &str, code: u32, error: &Error) {
    let (kind, remedy) = expected(function, code);
    let words = format!("{} returned {code}", function.trim_end_matches("_v2"));
    let rest = error.cause.as_ref().and_then(|cause| cause.split_once(&words)).map(|(_, rest)| rest);
    assert!(rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())), "{case}: {error:?}");
    assert_eq!(error.kind, kind, "{case}: {error}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(remedy)), "{case}: {error:?}");
}

#[test]
fn every_call_may_fail_with_every_code() {
    let name = "every_call_may_fail_with_every_code";
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        let told = host_with(&scene, name, &[]);
        println!("{}", fs::read_to_string(told.path().join("cases")).unwrap());
        // What the driver refused to take back stays with it, and nothing else does.
        let failed: BTreeSet<String> = scene.events("fault").iter().map(|e| e.get("function").to_owned()).collect();
        for leak in leaks(&scene) {
            let by = GIVES_BACK.iter().filter(|(function, _)| failed.contains(*function));
            assert!(by.into_iter().any(|(_, kinds)| kinds.contains(&leak.get("kind"))), "{leak:?}");
        }
        return;
    };
    let mut stage = Stage::new();
    let units = written(&dir);
    let calls = count(&mut stage, &units);
    for function in ["cuvidGetDecoderCaps", "cuvidParseVideoData", "cuvidMapVideoFrame64", "cuvidGetDecodeStatus"] {
        assert!(calls.contains_key(function), "{calls:?}");
    }
    assert_eq!((calls["cuvidCreateDecoder"], calls["cuvidDecodePicture"], calls["cuvidUnmapVideoFrame64"]), (2, 6, 6));
    let mut cases = 0;
    // What leaves something with the driver comes last.
    let leaves = |function: &str| GIVES_BACK.iter().any(|(name, _)| *name == function);
    let mut order: Vec<(&String, u64)> = calls.iter().map(|(function, calls)| (function, *calls)).collect();
    order.sort_by_key(|(function, _)| (leaves(function), !function.starts_with("cuvid")));
    for (function, calls) in order {
        let codes: &[u32] = if function.starts_with("cuvid") { &NVDEC } else { &CUDA };
        for (call, &code) in (1..=calls).flat_map(|call| codes.iter().map(move |code| (call, code))) {
            let case = format!("{function}, call {call} of {calls}, code {code}");
            stage.set(&format!("fault {function} call={call} code={code} anew=yes"));
            // A thread keeps the contexts that were not popped.
            let (pictures, done) = std::thread::scope(|scope| scope.spawn(|| live(&units)).join()).unwrap();
            let log = stage.news();
            let of = |name: &str| log.iter().filter(|event| event.name == name).count();
            assert_eq!((of("fault"), of("violation")), (1, 0), "{case}: {log:#?}");
            match done {
                Err(error) => is_told(&case, function, code, &error),
                Ok(()) => assert!(may_pass(function) && pictures == SIZES.len(), "{case}: it was passed over"),
            }
            let allowed = GIVES_BACK.iter().find(|(name, _)| name == function).map_or(&[][..], |(_, kinds)| kinds);
            for leak in log.iter().filter(|event| event.name == "leak") {
                assert!(allowed.contains(&leak.get("kind")), "{case}: {leak:?}");
            }
            let kept = usize::from(allowed.contains(&"nvdec-decoder"));
            assert!(of("nvdec-open") - of("nvdec-close") <= kept, "{case}: a decoder is open: {log:#?}");
            cases += 1;
        }
    }
    stage.set("");
    let (pictures, done) = live(&units);
    assert!(done.is_ok() && pictures == SIZES.len(), "afterwards all is as before: {done:?}");
    let total: u64 = calls.values().sum();
    fs::write(dir.join("cases"), format!("{} functions, {total} calls, {cases} cases", calls.len())).unwrap();
}

/// A picture that the driver keeps is told at the next: there is room for one.
#[test]
fn a_picture_that_stays_mapped_is_told() {
    let name = "a_picture_that_stays_mapped_is_told";
    let Some(dir) = inside() else {
        let mut scene = Scene::rtx();
        scene.fault("cuvidUnmapVideoFrame64", 2, 999);
        host_with(&scene, name, &[]);
        return;
    };
    let (pictures, done) = live(&written(&dir));
    let error = done.unwrap_err();
    assert_eq!(pictures, 2);
    assert!(error.cause.unwrap().contains("cuvidUnmapVideoFrame64 returned 999"));
}
