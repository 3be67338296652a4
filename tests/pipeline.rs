//! The pipeline from source to viewer, over real files, programs and encoders.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gsk::child::guard_with;
use gsk::error::Error;
use gsk::pipeline::broadcast::{Packet, Waiting};
use gsk::pipeline::encode::{self, Choice, Codec, Past, Slots};
use gsk::pipeline::frame::{Frame, PixelFormat, Pool, Range, Size};
use gsk::pipeline::queue::Item;
use gsk::pipeline::rate::Quality;
use gsk::pipeline::source::{Options, Restart, Spec};
use gsk::pipeline::{Config, Health, Pipeline, h264};
use gsk::wire::input::{Event, Input};
use gsk::wire::message::HEADER;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};

const SECOND: Duration = Duration::from_secs(1);
/// For what takes its time under load, and would otherwise never come.
const LONG: Duration = Duration::from_secs(20);
const SIZE: Size = Size::new(64, 48);

fn config(spec: Spec) -> Config {
    guard_with(env!("CARGO_BIN_EXE_gsk"));
    let source = Options {
        spec,
        size: None,
        format: PixelFormat::I420,
        fps: 50.0,
        repeat: true,
        restart: Restart::Never,
        gpu: None,
    };
    Config {
        source,
        encoder: Choice::Openh264,
        slots: Arc::default(),
        bitrate: 2_000_000,
        quality: Quality::Fixed(80),
        nvenc: Default::default(),
    }
}

fn program(script: &str) -> Config {
    config(Spec::Program(["sh", "-c", script].map(Into::into).into()))
}

/// A Y4M file of so many pictures, each filled by `fill`.
fn y4m(dir: &Path, size: Size, frames: usize, fill: impl Fn(usize, &mut [u8])) -> PathBuf {
    let path = dir.join(format!("{size}.y4m"));
    let mut bytes = format!("YUV4MPEG2 W{} H{} F50:1\n", size.width, size.height).into_bytes();
    for n in 0..frames {
        bytes.extend_from_slice(b"FRAME\n");
        let at = bytes.len();
        bytes.resize(at + PixelFormat::I420.bytes(size), 128);
        fill(n, &mut bytes[at..]);
    }
    fs::write(&path, bytes).unwrap();
    path
}

fn noise(n: usize, out: &mut [u8]) {
    let mut state = n as u32 + 1;
    for byte in out {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = 96 + (state >> 26) as u8;
    }
}

fn wait<T>(event: impl Future<Output = T>, at_most: Duration) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(at_most, event).await }).ok()
}

fn health(pipeline: &Pipeline, says: impl FnMut(&Health) -> bool) -> Health {
    let mut health = pipeline.health();
    wait(health.wait_for(says), LONG).expect("in time").unwrap().clone()
}

fn ended(pipeline: &Pipeline) -> (String, u8) {
    match health(pipeline, |health| matches!(health, Health::Ended(_))) {
        Health::Ended(end) => (end.reason, end.code),
        other => panic!("{other:?}"),
    }
}

/// The next unit; drops are passed over.
fn unit(viewer: &Waiting) -> Option<Arc<Packet>> {
    loop {
        match wait(viewer.next(), LONG).expect("in time")? {
            Item::Unit(packet) => return Some(packet),
            Item::Drop(_) => {}
        }
    }
}

/// So many units in a row, their capture times growing.
fn units(viewer: &Waiting, count: usize) -> Vec<Arc<Packet>> {
    let units: Vec<_> = (0..count).map(|_| unit(viewer).expect("a unit")).collect();
    for pair in units.windows(2) {
        assert!(
            pair[0].captured_us < pair[1].captured_us,
            "captured at {} and then {}",
            pair[0].captured_us,
            pair[1].captured_us
        );
    }
    units
}

fn in_a_row(units: &[Arc<Packet>]) -> bool {
    units.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1)
}

#[test]
fn a_file_is_played_only_while_somebody_watches() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::start(config(Spec::File(y4m(dir.path(), SIZE, 10, noise)))).unwrap();
    let mut changes = pipeline.changes();
    while pipeline.info().is_none() {
        wait(changes.changed(), LONG).expect("in time").unwrap();
    }
    // Ten frame times in which nothing should happen.
    std::thread::sleep(Duration::from_millis(200));
    let snapshot = pipeline.stream(Codec::H264).snapshot();
    assert_eq!((pipeline.captured(), snapshot.encoded, snapshot.info), (0, 0, None));
    for codec in [Codec::H264, Codec::Jpeg] {
        let viewer = pipeline.join(codec);
        assert!(unit(&viewer).unwrap().key);
        assert!(in_a_row(&units(&viewer, 20)), "the file is looped");
        drop(viewer);
        let captured = pipeline.captured();
        std::thread::sleep(Duration::from_millis(200));
        assert!(pipeline.captured() <= captured + 2, "{} frames, and then {}", captured, pipeline.captured());
    }
}

#[test]
fn a_programs_frames_are_read_and_dropped_while_nobody_watches() {
    let dir = tempfile::tempdir().unwrap();
    let counter = dir.path().join("counter");
    let script = format!(
        "n=0; while [ $n -lt 300 ]; do head -c 6144 /dev/zero; n=$((n+1)); echo $n > {}; done",
        counter.display()
    );
    let mut config = program(&script);
    config.source.size = Some(Size::new(64, 64));
    let pipeline = Pipeline::start(config).unwrap();
    assert_eq!(ended(&pipeline), ("'sh' ended".into(), 0));
    assert_eq!((pipeline.captured(), fs::read_to_string(&counter).unwrap().as_str()), (300, "300\n"));
    assert_eq!(pipeline.stream(Codec::H264).snapshot().encoded, 0);
}

/// A program that writes a file's frames over and over, a hundred a second and in pieces.
fn forever(file: &Path) -> String {
    format!("head -n1 {0}; while tail -n+2 {0}; do sleep 0.01; done", file.display())
}

#[test]
fn every_viewer_begins_at_a_key_unit_and_those_after_it_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::start(config(Spec::File(y4m(dir.path(), SIZE, 50, noise)))).unwrap();
    let first = pipeline.join(Codec::H264);
    let begun = units(&first, 30);
    assert!(begun[0].key && begun[1..].iter().all(|unit| !unit.key) && in_a_row(&begun));
    let second = pipeline.join(Codec::H264);
    let began = Instant::now();
    assert!(unit(&second).unwrap().key);
    assert!(began.elapsed() < SECOND);
    assert!(units(&second, 30).iter().all(|unit| !unit.key));
}

#[test]
fn the_bytes_of_a_key_unit_begin_with_its_parameter_sets() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::start(config(Spec::File(y4m(dir.path(), SIZE, 50, noise)))).unwrap();
    let viewer = pipeline.join(Codec::H264);
    let key = unit(&viewer).unwrap();
    let kinds: Vec<u8> = h264::nals(&key.unit()).map(|nal| nal[0] & 31).collect();
    assert_eq!(kinds, [h264::SPS, h264::PPS, h264::IDR]);
    assert!(key.sets.is_some() && key.size == SIZE);
}

#[test]
fn a_picture_that_stands_still_is_encoded_once_and_kept_alive() {
    let dir = tempfile::tempdir().unwrap();
    let file = y4m(dir.path(), SIZE, 1, noise);
    for spec in [Spec::File(file.clone()), Spec::Program(["sh", "-c", &forever(&file)].map(Into::into).into())] {
        let pipeline = Pipeline::start(config(spec)).unwrap();
        let viewer = pipeline.join(Codec::H264);
        let units = units(&viewer, 3);
        for pair in units.windows(2) {
            let apart = pair[1].captured_us - pair[0].captured_us;
            assert!((1_900_000..3_000_000).contains(&apart), "{apart} µs");
        }
        assert!(units[0].key && !units[1].key);
        let snapshot = pipeline.stream(Codec::H264).snapshot();
        assert!(snapshot.unchanged > 20 && snapshot.encoded == 3, "{snapshot:?}");
    }
}

#[test]
fn a_second_codec_of_a_picture_that_stands_still_has_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = y4m(dir.path(), SIZE, 1, noise);
    let pipeline = Pipeline::start(program(&format!("cat {}; sleep 999", file.display()))).unwrap();
    health(&pipeline, |health| matches!(health, Health::Running));
    for codec in [Codec::H264, Codec::Jpeg, Codec::H264] {
        let viewer = pipeline.join(codec);
        assert!(unit(&viewer).unwrap().key);
    }
}

#[test]
fn a_paused_scene_comes_back_to_a_viewer() {
    let mut config = config(Spec::Scene);
    config.source.size = Some(Size::new(320, 240));
    let pipeline = Pipeline::start(config).unwrap();
    let viewer = pipeline.join(Codec::H264);
    units(&viewer, 2);
    pipeline.input(Input { view: 1, event: Event::Key { key: " ".into(), down: true } });
    while wait(viewer.next(), Duration::from_millis(500)).is_some() {}
    drop(viewer);
    for codec in [Codec::Jpeg, Codec::H264] {
        assert!(unit(&pipeline.join(codec)).unwrap().key);
    }
}

#[test]
fn a_viewer_that_does_not_read_slows_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::start(config(Spec::File(y4m(dir.path(), SIZE, 50, noise)))).unwrap();
    let (idle, reader) = (pipeline.join(Codec::H264), pipeline.join(Codec::H264));
    let read = units(&reader, 100);
    assert!(in_a_row(&read) && reader.dropped() == 0);
    assert!(read[1..].iter().all(|unit| !unit.key), "one that does not read asks for nothing");
    assert!(idle.dropped() > 50);
    // Back to reading, it is told what it missed, and begins at a key unit.
    let Some(Item::Drop(missed)) = wait(idle.next(), LONG).expect("in time") else { panic!("no word of the skip") };
    assert_eq!(missed, idle.dropped());
    assert!(unit(&idle).unwrap().key);
}

#[test]
fn the_bit_rate_changes_in_place_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let size = Size::new(320, 240);
    let mut config = config(Spec::File(y4m(dir.path(), size, 20, noise)));
    config.bitrate = 6_000_000;
    let pipeline = Pipeline::start(config).unwrap();
    let viewer = pipeline.join(Codec::H264);
    units(&viewer, 50);
    let measure = |bitrate: u32| {
        pipeline.set_bitrate(bitrate);
        let units = units(&viewer, 125);
        assert!(units.iter().all(|unit| !unit.key), "no IDR");
        // What is measured are the two seconds after the first half.
        units[25..].iter().map(|unit| unit.message.len() - HEADER).sum::<usize>() as f64 * 8.0 / 2.0
    };
    for bitrate in [6_000_000, 2_500_000, 6_000_000] {
        let measured = measure(bitrate);
        assert!((0.75..1.25).contains(&(measured / f64::from(bitrate))), "{measured} for {bitrate}");
    }
    assert_eq!(viewer.dropped(), 0);
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn programs_are_started_again_as_asked() {
    // The policy, the code of the first two runs and of the third; what is left of it.
    for (restart, codes, runs, code) in [
        (Restart::Never, [3, 0], 1, 3),
        (Restart::Never, [0, 0], 1, 0),
        (Restart::OnFailure, [0, 0], 1, 0),
        (Restart::OnFailure, [3, 0], 3, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("runs");
        let script =
            format!("echo >> {0}; [ $(wc -l < {0}) -lt 3 ] && exit {1}; exit {2}", log.display(), codes[0], codes[1]);
        let mut config = program(&script);
        config.source.restart = restart;
        let pipeline = Pipeline::start(config).unwrap();
        assert_eq!((ended(&pipeline).1, lines(&log)), (code, runs), "{restart:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("runs");
    let mut config = program(&format!("echo >> {}", log.display()));
    config.source.restart = Restart::Always;
    let pipeline = Pipeline::start(config).unwrap();
    let mut health = pipeline.health();
    for delay in ["0.25", "0.50", "1.00"] {
        let says = |health: &Health| matches!(health, Health::Failed(reason) if reason.contains(&format!("again in {delay} s")));
        wait(health.wait_for(says), LONG).expect("in time").unwrap();
    }
    assert_eq!(lines(&log), 3);
}

#[test]
fn the_end_of_a_file_is_a_good_end_for_those_who_watch_and_those_who_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(Spec::File(y4m(dir.path(), SIZE, 10, noise)));
    config.source.repeat = false;
    let pipeline = Pipeline::start(config).unwrap();
    let viewer = pipeline.join(Codec::H264);
    while unit(&viewer).is_some() {}
    let (reason, code) = ended(&pipeline);
    assert!(code == 0 && reason.ends_with(".y4m' ended"), "{reason}");
    assert_eq!(pipeline.captured(), 10);
    assert!(wait(pipeline.join(Codec::Jpeg).next(), LONG).expect("in time").is_none());
}

#[test]
fn what_cannot_be_opened_ends_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let none = y4m(dir.path(), SIZE, 0, noise);
    let fifo = dir.path().join("fifo.y4m");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    for (spec, code, says) in [
        (Spec::File("/no/such.y4m".into()), 2, "No such file"),
        (Spec::File(fifo), 2, "not a regular file"),
        (Spec::File(none), 1, "holds no frame"),
        (Spec::Program(vec!["/no/such/program".into()]), 2, "No such file"),
    ] {
        let pipeline = Pipeline::start(config(spec)).unwrap();
        let _viewer = pipeline.join(Codec::H264);
        let end = ended(&pipeline);
        assert!(end.1 == code && end.0.contains(says), "{end:?}");
    }
    let mut config = config(Spec::Scene);
    config.source.size = Some(Size::new(1, 1));
    assert_eq!(ended(&Pipeline::start(config).unwrap()).1, 2);
}

#[test]
fn another_size_after_a_restart_reopens_the_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (Size::new(32, 32), Size::new(96, 64));
    let (first, then) = (y4m(dir.path(), small, 3, noise), y4m(dir.path(), large, 3, noise));
    let script = format!(
        "if [ -e {2} ]; then {1}; else > {2}; cat {0}; exit 1; fi",
        first.display(),
        forever(&then),
        dir.path().join("ran").display()
    );
    let mut config = program(&script);
    config.source.restart = Restart::OnFailure;
    let pipeline = Pipeline::start(config).unwrap();
    let viewer = pipeline.join(Codec::H264);
    let mut last = unit(&viewer).unwrap();
    assert!(last.size == small && last.key);
    let began = Instant::now();
    while last.size == small {
        last = unit(&viewer).unwrap();
    }
    // Less than an encoder that has failed is left alone.
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert!(last.size == large && last.key && last.sets.is_some());
    assert_eq!(pipeline.info().unwrap().size, large);
    assert_eq!(pipeline.stream(Codec::H264).viewers(), 1);
}

fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// Runs a test in a process of its own, whose threads and time are its own.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os("GSK_TEST_ALONE").is_some() {
        return test();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env("GSK_TEST_ALONE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_key_unit_may_be_asked_for_before_there_is_a_picture_and_waiting_costs_nothing() {
    alone("a_key_unit_may_be_asked_for_before_there_is_a_picture_and_waiting_costs_nothing", || {
        let dir = tempfile::tempdir().unwrap();
        let file = y4m(dir.path(), SIZE, 1, noise);
        let pipeline = Pipeline::start(program(&format!("read line; {}", forever(&file)))).unwrap();
        let viewer = pipeline.join(Codec::H264);
        viewer.ask_key();
        let spent = cpu();
        assert!(wait(viewer.next(), Duration::from_millis(400)).is_none());
        assert!(cpu() - spent < Duration::from_millis(100), "{:?}", cpu() - spent);
        pipeline.input(Input { view: 1, event: Event::Key { key: "a".into(), down: true } });
        assert!(unit(&viewer).unwrap().key);
        // Keys are asked of a picture that stands still, too often.
        let spent = cpu();
        let began = Instant::now();
        let mut keys = 0;
        while began.elapsed() < SECOND {
            viewer.ask_key();
            keys += usize::from(wait(viewer.next(), Duration::from_millis(50)).is_some());
        }
        assert!((3..=6).contains(&keys), "{keys}");
        assert!(cpu() - spent < Duration::from_millis(400), "{:?}", cpu() - spent);
    });
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn dropping_a_pipeline_ends_all_of_it_soon_whatever_it_does() {
    alone("dropping_a_pipeline_ends_all_of_it_soon_whatever_it_does", || {
        let dir = tempfile::tempdir().unwrap();
        let file = y4m(dir.path(), SIZE, 50, noise);
        let cat = format!("cat {}", file.display());
        let is = |pipeline: &Pipeline, says: fn(&Health) -> bool| drop(health(pipeline, says));
        let running = |pipeline: &Pipeline| is(pipeline, |health| matches!(health, Health::Running));
        let failed = |pipeline: &Pipeline| is(pipeline, |health| matches!(health, Health::Failed(_)));
        let over = |pipeline: &Pipeline| drop(ended(pipeline));
        let now = |_: &Pipeline| {};
        type Reach<'a> = &'a dyn Fn(&Pipeline);
        let states: [(Config, bool, Reach); 11] = [
            (config(Spec::File(file.clone())), false, &now),
            (config(Spec::File(file.clone())), true, &now),
            (config(Spec::File(file.clone())), true, &running),
            (program("sleep 999"), true, &now),
            (program(&format!("{cat}; sleep 999")), true, &running),
            (program(&format!("{cat}; sleep 999")), true, &failed),
            (program(&format!("trap '' TERM; {cat}; while :; do sleep 1; done")), true, &failed),
            (program("echo no frames at all; sleep 999"), true, &failed),
            (program("exit 3"), true, &failed),
            (program("exit 3"), true, &over),
            (config(Spec::Scene), true, &running),
        ];
        for (n, (mut config, watched, reach)) in states.into_iter().enumerate() {
            let drawn = config.source.spec == Spec::Scene;
            if n == 8 {
                config.source.restart = Restart::Always;
            }
            let before = threads();
            let pipeline = Pipeline::start(config).unwrap();
            let viewer = watched.then(|| pipeline.join(Codec::H264));
            reach(&pipeline);
            let began = Instant::now();
            drop(pipeline);
            assert!(began.elapsed() < SECOND, "state {n}: {:?}", began.elapsed());
            // Mesa keeps threads of its own for the life of the process.
            assert!(drawn || threads() == before, "state {n}: {} threads, {before} before", threads());
            if let Some(viewer) = viewer {
                while unit(&viewer).is_some() {}
            }
        }
    });
}

/// A gradient that moves, at 320x240.
fn gradient(n: usize) -> Vec<u8> {
    let (width, height) = (320, 240);
    let luma = (0..width * height).map(|at| (32 + (at % width + at / width + 4 * n) % 192) as u8);
    let chroma = (0..width * height / 2).map(|at| (64 + at % (width / 2) / 2 + n % 32) as u8);
    luma.chain(chroma).collect()
}

/// Encodes pictures, the first and those in `idrs` as IDR.
fn encode(pictures: &[Vec<u8>], idrs: &[usize]) -> Vec<(bool, Vec<u8>)> {
    let config = encode::Config {
        codec: Codec::H264,
        size: Size::new(320, 240),
        fps: 30.0,
        bitrate: 3_000_000,
        quality: Quality::Fixed(80),
        nvenc: Default::default(),
        near: None,
    };
    let units = Arc::new(Mutex::new(Vec::new()));
    let sink = || -> encode::Output {
        let out = units.clone();
        Box::new(move |unit| {
            let unit = unit.unwrap();
            out.lock().unwrap().push((unit.key, unit.data[HEADER..].to_vec()));
        })
    };
    let (mut encoder, _) =
        encode::open(Choice::Openh264, &config, &Slots::default(), Past::default(), sink).map_err(Error::from).unwrap();
    let pool = Pool::default();
    for (n, picture) in pictures.iter().enumerate() {
        let mut pixels = pool.take(picture.len());
        pixels.copy_from_slice(picture);
        let at = n as u64 * 33_333;
        let frame = Frame {
            sequence: n as u64,
            size: config.size,
            format: PixelFormat::I420,
            range: Range::Limited,
            captured_us: (at, at),
            view: 0,
            pixels: pixels.into(),
        };
        encoder.submit(frame, n == 0 || idrs.contains(&n)).unwrap();
        assert_eq!(units.lock().unwrap().len(), n + 1, "one unit out for each frame in, at once");
    }
    drop(encoder);
    Arc::into_inner(units).unwrap().into_inner().unwrap()
}

#[test]
fn each_frame_is_one_access_unit_and_parameter_sets_come_with_every_idr() {
    let pictures: Vec<_> = (0..60).map(gradient).collect();
    for (n, (key, unit)) in encode(&pictures, &[25, 40]).iter().enumerate() {
        let kinds: Vec<u8> = h264::nals(unit).map(|nal| nal[0] & 31).collect();
        let idr = [0, 25, 40].contains(&n);
        let expected: &[u8] = if idr { &[h264::SPS, h264::PPS, h264::IDR] } else { &[1] };
        assert_eq!((*key, &kinds[..]), (idr, expected), "unit {n}");
        assert_eq!(unit[..4], [0, 0, 0, 1]);
        // first_mb_in_slice is 0, whose Exp-Golomb code is one set bit: a picture begins here.
        assert!(h264::nals(unit).last().unwrap()[1] & 0x80 != 0);
    }
}

#[test]
fn the_sps_declares_constrained_baseline_bt709_and_no_reordering() {
    let units = encode(&[gradient(0)], &[]);
    let sps = h264::ParameterSets::find(&units[0].1).unwrap().sps;
    let sps = SeqParameterSet::from_bits(RefNal::new(&sps, &[], true).rbsp_bits()).unwrap();
    assert_eq!(u8::from(sps.profile_idc), 66);
    assert!(sps.constraint_flags.flag1(), "constraint_set1_flag");
    assert_eq!((sps.pixel_dimensions().unwrap(), sps.max_num_ref_frames), ((320, 240), 1));
    let vui = sps.vui_parameters.as_ref().unwrap();
    let signal = vui.video_signal_type.as_ref().unwrap();
    let colour = signal.colour_description.as_ref().unwrap();
    let colour = (colour.colour_primaries, colour.transfer_characteristics, colour.matrix_coefficients);
    assert_eq!((signal.video_full_range_flag, colour), (false, (1, 1, 1)));
    let restrictions = vui.bitstream_restrictions.as_ref().unwrap();
    assert_eq!((restrictions.max_num_reorder_frames, restrictions.max_dec_frame_buffering), (0, 1));
}

#[test]
fn ffmpeg_decodes_what_went_in() {
    let pictures: Vec<_> = (0..90).map(gradient).collect();
    let stream: Vec<u8> = encode(&pictures, &[50]).into_iter().flat_map(|(_, unit)| unit).collect();
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-f", "h264", "-i", "-", "-fps_mode", "passthrough"])
        .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ffmpeg.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&stream).unwrap());
    let output = ffmpeg.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let (whole, luma) = (320 * 240 * 3 / 2, 320 * 240);
    assert_eq!(output.stdout.len(), whole * pictures.len(), "one picture out for each in");
    for (n, (got, want)) in output.stdout.chunks(whole).zip(&pictures).enumerate() {
        let error: f64 = got[..luma].iter().zip(want).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2)).sum();
        let psnr = 10.0 * (255.0 * 255.0 * luma as f64 / error.max(1.0)).log10();
        assert!(psnr > 30.0, "frame {n}: {psnr:.1} dB");
    }
}
