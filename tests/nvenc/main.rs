//! The NVENC back end, over the stand-in driver and its real libraries' names.
//!
//! Libraries stay loaded in a process, so that each test runs itself again in a process of its own ([`host`]), which meets the
//! host of a scene; what the driver saw of it is then read from the scene's log.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gsk::error::{Error, Result};
use gsk::gpu::nvenc::Session;
use gsk::pipeline::convert::ToI420;
use gsk::pipeline::encode::{Config, Encoder, Unit, nvenc};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::pipeline::h264;
use gsk::wire::message::HEADER;
use gsk::wire::status::Cause;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};

use crate::host::{config, decode, expect_refusal, host, host_with, inside, leaks, open, slot, slot_is_free};
use crate::standin::{Board, Event, Foreign, Scene};

mod codecs;
#[path = "../host/mod.rs"]
mod host;
#[path = "../standin/mod.rs"]
mod standin;

/// Neither side is a multiple of a macroblock's.
const SIZE: Size = Size::new(642, 362);

/// Picture `n`: a gradient, with a square of noise that wanders over it.
fn frame(n: u64, size: Size, format: PixelFormat, range: Range) -> Frame {
    let mut pixels = Pool::default().take(format.bytes(size));
    let row = pixels.len() / size.height as usize;
    let mut state = n as u32 + 1;
    for (at, byte) in pixels.iter_mut().enumerate() {
        let (x, y) = ((at % row) * size.width as usize / row, at / row);
        let square = (x as u64).wrapping_sub(10 + 9 * n) < 90 && (y as u64).wrapping_sub(20 + 5 * n) < 90;
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = if square { (state >> 24) as u8 } else { (16 + (x + y) / 5 % 220) as u8 };
    }
    let captured = 1_000_000 + n * 16_667;
    Frame { sequence: n, size, format, range, captured_us: (captured, captured + 100), view: 0, pixels: pixels.into() }
}

fn nv12(n: u64) -> Frame {
    frame(n, SIZE, PixelFormat::Nv12, Range::Limited)
}

/// Planes one after another, as FFmpeg writes yuv420p.
fn i420(frame: &Frame) -> Vec<u8> {
    ToI420::default().planes(frame).unwrap().into_iter().flat_map(|(plane, _)| plane.to_vec()).collect()
}

fn sps(unit: &Unit) -> SeqParameterSet {
    let sets = h264::ParameterSets::find(&unit.data[HEADER..]).expect("parameter sets");
    SeqParameterSet::from_bits(RefNal::new(&sets.sps, &[], true).rbsp_bits()).unwrap()
}

fn keys(units: &[Unit]) -> Vec<usize> {
    (0..units.len()).filter(|&n| units[n].key).collect()
}

#[test]
fn every_format_comes_out_as_it_was_converted() {
    let formats = [PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Rgb24, PixelFormat::Rgba, PixelFormat::Bgra];
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "every_format_comes_out_as_it_was_converted");
        let made = scene.events("initialize");
        assert_eq!(made.len(), formats.len() + 1);
        for event in made {
            let is = |key: &str, value: &str| assert_eq!(event.get(key), value, "{event:?}");
            is("size", "642x362");
            is("fps", "60000/1000");
            is("bitrate", "6000000");
            is("gop", "4294967295");
            is("preset", "P3");
            is("tuning", "3");
            is("bframes", "0");
        }
        let forced: Vec<i64> = scene.events("force-idr").iter().map(|event| event.number("frame")).collect();
        assert_eq!(forced, [0, 17].repeat(6));
        assert_eq!(scene.events("end-of-stream").len(), 6);
        return;
    };
    let ranges = formats.map(|format| (format, Range::Limited));
    for (format, range) in ranges.into_iter().chain([(PixelFormat::I420, Range::Full)]) {
        let (mut encoder, out) = open(&dir, SIZE);
        let frames: Vec<Frame> = (0..30).map(|n| frame(n, SIZE, format, range)).collect();
        for frame in &frames {
            encoder.submit(frame.clone(), [0, 17].contains(&frame.sequence)).unwrap();
        }
        drop(encoder);
        let units = out.units();
        assert_eq!(keys(&units), [0, 17], "{format:?}");
        assert!(units.iter().map(|unit| unit.frame.sequence).eq(0..30), "one for each, in order");
        for unit in &units {
            assert!(unit.started_us <= unit.converted_us && unit.converted_us <= unit.encoded_us);
            let kinds: Vec<u8> = h264::nals(&unit.data[HEADER..]).map(|nal| nal[0] & 31).collect();
            assert_eq!(kinds, if unit.key { vec![h264::SPS, h264::PPS, h264::IDR] } else { vec![1] });
        }
        let sps = sps(&units[17]);
        assert_eq!(sps.pixel_dimensions().unwrap(), (642, 362));
        let vui = sps.vui_parameters.as_ref().unwrap();
        let signal = vui.video_signal_type.as_ref().unwrap();
        let colour = signal.colour_description.as_ref().unwrap();
        let colour = (colour.colour_primaries, colour.transfer_characteristics, colour.matrix_coefficients);
        assert_eq!((signal.video_full_range_flag, colour), (false, (1, 1, 1)));
        assert_eq!(vui.bitstream_restrictions.as_ref().unwrap().max_num_reorder_frames, 0);
        let pictures = decode(&dir, &units, SIZE);
        assert_eq!(pictures.len(), 30);
        for (picture, frame) in pictures.iter().zip(&frames) {
            assert!(*picture == i420(frame), "{format:?}: picture {}", frame.sequence);
        }
    }
}

#[test]
fn settings_change_in_place() {
    let Some(dir) = inside() else {
        let scene = Scene::rtx();
        host(&scene, "settings_change_in_place");
        assert_eq!(scene.events("open").len(), 1);
        let seen: Vec<_> = scene
            .events("reconfigure")
            .iter()
            .map(|event| {
                let fields = ["size", "fps", "bitrate", "max-bitrate", "vbv", "reset", "idr"]
                    .map(|key| event.get(key).to_owned());
                fields.join(" ")
            })
            .collect();
        assert_eq!(
            seen,
            [
                "642x362 60000/1000 3000000 3000000 50000 0 0",
                "642x362 30000/1000 3000000 3000000 100000 0 0",
                "642x362 30000/1000 40000000 40000000 1333333 0 0",
                "1280x720 30000/1000 40000000 40000000 1333333 1 1",
            ]
        );
        return;
    };
    let (mut encoder, out) = open(&dir, SIZE);
    let mut settings = config(SIZE);
    let changes: [fn(&mut Config); 3] = [|c| c.bitrate = 3_000_000, |c| c.fps = 30.0, |c| c.bitrate = 40_000_000];
    let mut number = 0..;
    let mut submit = |encoder: &mut Box<dyn Encoder>, size, idr| {
        encoder.submit(frame(number.next().unwrap(), size, PixelFormat::I420, Range::Limited), idr).unwrap();
    };
    submit(&mut encoder, SIZE, true);
    for change in changes {
        change(&mut settings);
        encoder.reconfigure(&settings).unwrap();
        submit(&mut encoder, SIZE, false);
        submit(&mut encoder, SIZE, false);
    }
    submit(&mut encoder, SIZE, true);
    // What does not fit is refused, and changes nothing.
    let huge = Config { size: Size::new(2560, 1440), ..settings.clone() };
    assert!(encoder.reconfigure(&huge).unwrap_err().what.contains("room for 1920x1080"));
    submit(&mut encoder, SIZE, false);
    settings.size = Size::new(1280, 720);
    encoder.reconfigure(&settings).unwrap();
    assert!(encoder.submit(nv12(0), false).unwrap_err().what.contains("a frame of 642x362"));
    submit(&mut encoder, settings.size, false);
    submit(&mut encoder, settings.size, false);
    drop(encoder);
    let mut units = out.units();
    assert_eq!(keys(&units), [0, 7, 9], "an IDR where one was asked for, and with a new size");
    assert_eq!(sps(&units[0]).level_idc, sps(&units[7]).level_idc, "forty times the bit rate, and the level stays");
    let larger = units.split_off(9);
    assert_eq!(sps(&larger[0]).pixel_dimensions().unwrap(), (1280, 720));
    for (units, size) in [(units, SIZE), (larger, settings.size)] {
        let pictures = decode(&dir, &units, size);
        assert_eq!(pictures.len(), units.len());
        for (picture, unit) in pictures.iter().zip(&units) {
            assert!(*picture == i420(&unit.frame), "picture {}", unit.frame.sequence);
        }
    }
}

#[test]
fn sessions_open_and_close_without_end() {
    let Some(dir) = inside() else {
        let scene = Scene::geforce(1);
        host(&scene, "sessions_open_and_close_without_end");
        let log = scene.log();
        let of = |log: &[Event], name: &str| log.iter().filter(|event| event.name == name).count();
        assert_eq!((of(&log, "open"), of(&log, "close"), of(&log, "refused")), (64, 64, 0));
        return;
    };
    for n in 0..64 {
        let (mut encoder, out) = open(&dir, SIZE);
        for n in 0..n % 4 {
            encoder.submit(nv12(n), n == 0).unwrap();
        }
        drop(encoder);
        assert_eq!(out.units().len() as u64, n % 4);
        assert!(slot_is_free(&dir));
    }
}

/// What the tests below give their inner halves to do.
const REFUSED: &str = "refusals";

#[test]
fn refusals() {
    let name = REFUSED;
    if let Some(dir) = inside() {
        let Err(refused) = nvenc::open(&config(SIZE), slot(&dir), &[], Box::new(|_| panic!("a unit"))).map(drop) else {
            panic!("a session");
        };
        assert!(slot_is_free(&dir));
        let said = serde_json::json!({ "cause": refused.cause, "error": refused.error });
        return fs::write(dir.join("said"), said.to_string()).unwrap();
    }
    let memory = Board::rtx().memory_mib(8192, 8180).session_mib(64);
    let open = "nvEncOpenEncodeSessionEx";
    let a = |scene: fn(&mut Scene) -> &mut Scene| {
        let mut made = Scene::rtx();
        scene(&mut made);
        made
    };
    let mut full = Scene::geforce(2);
    full.foreign(Foreign::new(0, 4242)).foreign(Foreign::new(0, 4243));
    let mut old_full = Scene::geforce(2);
    old_full.limit(1, 10).foreign(Foreign::new(0, 4242));
    let mut beside = Scene::a100_and_rtx();
    beside.fault(open, 2, 21);
    let none: &[(&str, &str)] = &[];
    let compute: &[(&str, &str)] = &[("NVIDIA_DRIVER_CAPABILITIES", "compute,utility")];
    use Cause::*;
    let table = [
        (Scene::h200(), none, NoEngine, "missing", "NVIDIA H200 has no NVENC engine"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 2)), compute, NoDriver, "missing", "was not given the encoder"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 2)), none, NoEngine, "missing", "has an NVENC engine, but"),
        (full, none, Limit, "capacity", "2 are open on this machine; nvEncOpenEncodeSessionEx returned 21 "),
        (old_full, none, Limit, "capacity", "1 are open on this machine; nvEncOpenEncodeSessionEx returned 10 "),
        (beside, none, Limit, "capacity", "no further encoder session"),
        (Scene::of(memory), none, Fault, "capacity", "Ada Generation has 12 MiB free, and a session needs 64"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 10)), none, Fault, "failed", "no session is open and"),
        (a(|s| s.nvenc_api(12, 0)), none, NoDriver, "missing", "it has NVENC API 12.0, and gsk needs 12.1 (driver 530"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 15)), none, NoDriver, "missing", "too old"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 5)), none, Fault, "failed", "was lost"),
        (a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 18)), none, Fault, "failed", "busy"),
        (
            a(|s| s.fault("nvEncOpenEncodeSessionEx", 1, 77)),
            none,
            Fault,
            "failed",
            "77, which NVENC 12.1 does not know",
        ),
        (a(Scene::without_nvenc_library), none, NoDriver, "missing", "libnvidia-encode.so.1 is not on this host"),
        (a(Scene::without_nvenc_library), compute, NoDriver, "missing", "libnvidia-encode.so.1 is not on this host"),
        (a(Scene::without_cuda), none, NoDriver, "missing", "libcuda.so.1 is not on this host"),
        (Scene::without_driver(), none, NoDriver, "missing", "libnvidia-encode.so.1 is not on this host"),
        (Scene::new(), none, NoEngine, "missing", "no device"),
        (a(|s| s.fault("cuInit", 1, 999)), none, Fault, "failed", "cuInit returned 999 (CUDA_ERROR_UNKNOWN)"),
        (
            a(|s| s.fault("cuDevicePrimaryCtxRetain", 1, 2)),
            none,
            Fault,
            "capacity",
            "cuDevicePrimaryCtxRetain returned 2",
        ),
    ];
    for (scene, environment, cause, kind, says) in table {
        let dir = host_with(&scene, name, environment);
        assert_eq!((leaks(&scene), scene.sessions()), (vec![], vec![]));
        expect_refusal(&dir.path().join("said"), cause, kind, says);
    }
}

#[test]
fn an_opening_that_fails_half_way_gives_all_back() {
    if inside().is_none() {
        let steps = [
            ("nvEncGetEncodeGUIDCount", 1),
            ("nvEncGetEncodeGUIDs", 1),
            ("nvEncGetEncodeCaps", 7),
            ("nvEncGetEncodePresetConfigEx", 1),
            ("nvEncInitializeEncoder", 0),
            ("nvEncRegisterResource", 4),
            ("nvEncCreateBitstreamBuffer", 4),
        ];
        for (function, calls) in steps {
            for call in 1..=calls.max(1) {
                let mut scene = Scene::rtx();
                match calls {
                    0 => scene.fault_from(function, 1, 8),
                    _ => scene.fault(function, call, 8),
                };
                let dir = host(&scene, REFUSED);
                let said = fs::read_to_string(dir.path().join("said")).unwrap();
                assert!(said.contains("fault") && said.contains(&format!("{function} returned 8")), "{said}");
            }
        }
    }
}

#[test]
fn an_opening_goes_on_without_what_it_can_do_without() {
    let Some(dir) = inside() else {
        for function in ["nvEncInitializeEncoder", "nvEncGetSequenceParams"] {
            let mut scene = Scene::a100_and_rtx();
            scene.fault(function, 1, 8);
            host(&scene, "an_opening_goes_on_without_what_it_can_do_without");
            assert_eq!(scene.events("close").last().unwrap().number("frames"), 1);
            assert!(scene.events("open").iter().all(|event| event.number("board") == 1), "the board with an engine");
        }
        return;
    };
    let (mut encoder, out) = open(&dir, SIZE);
    encoder.submit(nv12(0), true).unwrap();
    drop(encoder);
    assert_eq!(out.units().len(), 1);
}

/// What submitting said, and what the output did.
fn run(dir: &Path, frames: u64) -> (Vec<Result<()>>, Vec<Result<Unit>>) {
    let (mut encoder, out) = open(dir, SIZE);
    let submitted = (0..frames).map(|n| encoder.submit(nv12(n), n == 0)).collect();
    drop(encoder);
    assert!(slot_is_free(dir));
    (submitted, out.take())
}

/// How many went well before the first that did not; none after it may.
fn well<T>(results: &[Result<T>]) -> usize {
    let count = results.iter().take_while(|result| result.is_ok()).count();
    assert!(results[count..].iter().all(Result::is_err), "after a failure all fail");
    count
}

#[test]
fn a_failure_in_flight_is_told_and_gives_all_back() {
    let name = "a_failure_in_flight_is_told_and_gives_all_back";
    let Some(dir) = inside() else {
        for (function, code) in [
            ("nvEncMapInputResource", 20),
            ("nvEncEncodePicture", 5),
            ("nvEncEncodePicture", 20),
            ("nvEncLockBitstream", 5),
            ("nvEncLockBitstream", 20),
        ] {
            let mut scene = Scene::rtx();
            scene.fault_from(function, 5, code);
            host_with(&scene, name, &[("GSK_TEST_FUNCTION", function)]);
            assert_eq!((leaks(&scene), scene.sessions()), (vec![], vec![]));
        }
        return;
    };
    let (submitted, units) = run(&dir, 10);
    let says = |error: &Error| {
        assert!(error.to_string().contains(&std::env::var("GSK_TEST_FUNCTION").unwrap()), "{error}");
    };
    assert_eq!(well(&units), 4);
    says(submitted.iter().find_map(|result| result.as_ref().err()).unwrap());
    if std::env::var("GSK_TEST_FUNCTION").unwrap() == "nvEncLockBitstream" {
        // The fifth may be told of as it is submitted, or up to two more be on their way by then.
        let more = well(&submitted);
        assert!((4..=6).contains(&more), "{more}");
        assert!((5..=7).contains(&units.len()) && units.len().abs_diff(more) <= 1, "{more} {}", units.len());
        says(units[4].as_ref().unwrap_err());
    } else {
        assert_eq!((well(&submitted), units.len()), (4, 4));
    }
}

#[test]
fn a_busy_encoder_is_asked_again() {
    let Some(dir) = inside() else {
        for (function, code) in [("nvEncEncodePicture", 18), ("nvEncLockBitstream", 13), ("nvEncMapInputResource", 13)]
        {
            let mut scene = Scene::rtx();
            scene.fault(function, 3, code).fault(function, 4, code);
            host(&scene, "a_busy_encoder_is_asked_again");
            assert_eq!(scene.events("fault").len(), 2);
        }
        return;
    };
    let (submitted, units) = run(&dir, 10);
    assert_eq!((well(&submitted), well(&units)), (10, 10));
}

/// Far longer than taking a frame takes, on a machine under load too.
const ENCODING: Duration = Duration::from_millis(400);

#[test]
fn what_is_in_the_encoder_comes_out_before_it_closes() {
    let Some(dir) = inside() else {
        let scene = Scene::of(Board::rtx().encode_time(ENCODING));
        return drop(host(&scene, "what_is_in_the_encoder_comes_out_before_it_closes"));
    };
    let (mut encoder, out) = open(&dir, SIZE);
    let began = Instant::now();
    encoder.submit(nv12(0), true).unwrap();
    assert_eq!(out.0.lock().unwrap().len(), 0, "the first is not waited for");
    encoder.submit(nv12(1), false).unwrap();
    assert!(began.elapsed() >= ENCODING, "at most two are in the encoder");
    drop(encoder);
    assert!(began.elapsed() >= 2 * ENCODING);
    assert_eq!(keys(&out.units()), [0]);
    assert!(slot_is_free(&dir));
}

#[test]
fn a_driver_that_does_not_answer_holds_nobody_up() {
    let Some(dir) = inside() else {
        // The time is far beyond what it is given, and yet passes.
        for hangs in [None, Some(Duration::from_secs(6))] {
            let mut scene = Scene::rtx();
            scene.hang("nvEncLockBitstream", 3, hangs);
            host_with(
                &scene,
                "a_driver_that_does_not_answer_holds_nobody_up",
                &[("GSK_TEST_COMES_BACK", if hangs.is_some() { "yes" } else { "" })],
            );
            assert_eq!(leaks(&scene).is_empty(), hangs.is_some());
            assert_eq!(scene.events("close").len(), hangs.iter().len());
        }
        return;
    };
    let (mut encoder, out) = open(&dir, SIZE);
    let began = Instant::now();
    let error = (0..10).find_map(|n| encoder.submit(nv12(n), n == 0).err()).expect("a word");
    assert!(error.to_string().contains("within 1 s"), "{error}");
    drop(encoder);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(out.units().len(), 2);
    assert!(!slot_is_free(&dir), "the driver has the session still");
    if std::env::var("GSK_TEST_COMES_BACK").unwrap() == "yes" {
        while !slot_is_free(&dir) {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(out.take().len(), 0, "what comes too late is told to nobody");
    }
}

/// A session that is given up with pictures in it reads them in their order; and one whose caller panics gives all back.
#[test]
fn a_session_that_is_given_up_leaves_nothing_behind() {
    let Some(dir) = inside() else {
        host(&Scene::rtx(), "a_session_that_is_given_up_leaves_nothing_behind");
        return;
    };
    let config = gsk::gpu::nvenc::Config::h264(640, 480, 30.0, 1_000_000);
    let (mut session, mut collector) = Session::open(slot(&dir), &[], &config).unwrap();
    // Of the four surfaces, the last and then the first have a picture that nobody collects.
    for n in 1..=5 {
        let pending = session.encode(n == 1, n, |_| Ok(())).unwrap();
        if n <= 3 {
            drop(collector.collect(pending).unwrap());
        }
    }
    drop((session, collector));
    let (mut session, collector) = Session::open(slot(&dir), &[], &config).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| session.encode(true, 1, |_| panic!("while it was written")).map(drop));
    std::panic::catch_unwind(panics).unwrap_err();
    drop((session, collector));
    assert!(slot_is_free(&dir));
}

#[test]
fn a_board_is_chosen_by_uuid_and_by_address() {
    let Some(dir) = inside() else {
        let boards = |n: u32| Board::rtx().uuid(&format!("GPU-0000000{n}-0000-0000-0000-00000000000{n}"));
        let mut scene = Scene::of(boards(1).pci("00000000:01:00.0"));
        scene.board(boards(2).pci("00000000:02:00.0"));
        host(&scene, "a_board_is_chosen_by_uuid_and_by_address");
        let opened: Vec<i64> = scene.events("open").iter().map(|event| event.number("board")).collect();
        assert_eq!(opened, [0, 1, 1, 1, 1, 0, 0, 1], "as asked for; and what one cannot do, the other is asked");
        return;
    };
    let config = gsk::gpu::nvenc::Config::h264(640, 480, 30.0, 1_000_000);
    for wanted in [&[][..], &["GPU-00000002-0000-0000-0000-000000000002".into()], &["00000000:02:00.0".into()]] {
        Session::open(slot(&dir), wanted, &config).map(drop).unwrap();
    }
    // Where the pictures lie, of those that may.
    let near = gsk::gpu::nvenc::Config { near: Some(1), ..config };
    let [first, second] = [1, 2].map(|n| format!("GPU-0000000{n}-0000-0000-0000-00000000000{n}"));
    for wanted in [&[][..], &[first.clone(), second], &[first]] {
        Session::open(slot(&dir), wanted, &near).map(drop).unwrap();
    }
    let refused = Session::open(slot(&dir), &["GPU-3".into()], &config).map(drop).unwrap_err();
    assert_eq!((refused.cause, refused.error.what.as_str()), (Cause::NoEngine, "no CUDA device is GPU-3"));
    let small = gsk::gpu::nvenc::Config { width: 64, height: 48, ..config };
    let refused = Session::open(slot(&dir), &[], &small).map(drop).unwrap_err();
    assert!(
        refused.to_string().contains("64x48: NVIDIA RTX 6000 Ada Generation encodes H.264 from 145x49"),
        "{refused}"
    );
}
