//! Sources that feed us: what they carry comes out as it went in, and what is wrong with them is said.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::gsk::{Gsk, SOON, noise, run, until};
use crate::http;
use crate::media::{clip, ffmpeg, path, player};
use crate::viewer::{Got, Viewer};

const SECOND: Duration = Duration::from_secs(1);
const FRAME: usize = 1280 * 720;
const CAPTURED: usize = 100;

/// Pixels of a frame at an eighth of the size, enough to tell frames apart.
const SMALL: usize = 160 * 90;

/// The luma of a file of raw frames, made small.
fn small(frames: &Path) -> Vec<u8> {
    let raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "1280x720", "-i"];
    ffmpeg(&[&raw[..], &[path(frames), "-vf", "scale=160:90:flags=area", "-f", "rawvideo", "-"]].concat())
}

fn difference(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
}

/// The rows' columns that differ least all together, where each lies 1 to 5 behind the one before: the clip runs in a
/// loop, and a frame may be left out where this machine is busy.
fn align(differences: &[Vec<u64>]) -> Vec<usize> {
    let columns = differences[0].len();
    let mut sums = differences[0].clone();
    let mut before = Vec::new();
    for row in &differences[1..] {
        let best = |at: usize| (1..=5).map(|step| (at + columns - step) % columns).min_by_key(|&from| sums[from]);
        let from: Vec<usize> = (0..columns).map(|at| best(at).unwrap()).collect();
        sums = (0..columns).map(|at| sums[from[at]] + row[at]).collect();
        before.push(from);
    }
    let mut path = vec![(0..columns).min_by_key(|&at| sums[at]).unwrap()];
    before.iter().rev().for_each(|from| path.push(from[path[path.len() - 1]]));
    path.reverse();
    path
}

/// Captures frames from `/stream.mp4`, finds each among the clip's, and compares them.
fn comes_out_as_it_went_in(gsk: &Gsk) {
    let file = |name: &str| gsk.dir.path().join(name);
    let (captured, source, reference) = (file("captured"), file("source"), file("reference"));
    let luma = ["-an", "-vf", "extractplanes=y", "-fps_mode", "passthrough", "-f", "rawvideo"];
    let url = format!("http://{}/stream.mp4", gsk.addr);
    ffmpeg(&[&["-analyzeduration", "100000", "-i", &url, "-frames:v", "100"], &luma[..], &[path(&captured)]].concat());
    ffmpeg(&[&["-i", path(&clip(gsk.dir.path()))], &luma[..], &[path(&source)]].concat());
    let (known, seen) = (small(&source), small(&captured));
    let known: Vec<&[u8]> = known.chunks(SMALL).collect();
    assert_eq!(known.len(), 132);
    let seen: Vec<&[u8]> = seen.chunks(SMALL).collect();
    assert_eq!(seen.len(), CAPTURED);
    let differences: Vec<Vec<u64>> =
        seen.iter().map(|frame| known.iter().map(|known| difference(known, frame)).collect()).collect();
    let matches = align(&differences);
    // Each frame by itself tells the same, but for neighbours that hardly differ.
    for (row, &at) in differences.iter().zip(&matches) {
        let nearest = (0..row.len()).min_by_key(|&at| row[at]).unwrap();
        let apart = nearest.abs_diff(at).min(row.len() - nearest.abs_diff(at));
        assert!(apart <= 1, "{nearest} where {at} was due: {matches:?}");
    }
    let mut file = std::fs::File::create(&reference).unwrap();
    let source = std::fs::read(&source).unwrap();
    matches.iter().for_each(|&at| file.write_all(&source[at * FRAME..][..FRAME]).unwrap());
    let raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "1280x720", "-i"];
    let inputs = [&raw[..], &[path(&captured)], &raw[..], &[path(&reference)]].concat();
    let told = ffmpeg(&[&inputs[..], &["-lavfi", "ssim=stats_file=-", "-f", "null", "-"]].concat());
    let told = String::from_utf8(told).unwrap();
    let values = told.lines().filter_map(|line| line.split_once("All:")?.1.split(' ').next()?.parse().ok());
    let values: Vec<f64> = values.collect();
    assert_eq!(values.len(), CAPTURED);
    let (mean, least) = (values.iter().sum::<f64>() / 100.0, values.iter().copied().fold(1.0, f64::min));
    println!("SSIM {mean:.4}, the least of a frame {least:.4}");
    assert!(mean >= 0.975 && least >= 0.95, "SSIM {mean:.4}, the least of a frame {least:.4}");
}

#[test]
fn standard_input_comes_out_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let clip = clip(dir.path());
    let words = player(&["-stream_loop", "-1", "-re", "-i", path(&clip)]);
    let mut ffmpeg = Command::new(&words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn().unwrap();
    let frames = ffmpeg.stdout.take().unwrap();
    let gsk = Gsk::with(&["--source", "-"], |command| _ = command.stdin(frames));
    comes_out_as_it_went_in(&gsk);
    drop(gsk);
    // Nobody reads on: the pipe's end ends it.
    ffmpeg.wait().unwrap();
}

#[test]
fn a_program_comes_out_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let clip = clip(dir.path());
    let words = player(&["-stream_loop", "-1", "-re", "-i", path(&clip)]);
    let words: Vec<&str> = ["--"].into_iter().chain(words.iter().map(|word| &**word)).collect();
    let gsk = Gsk::start(&words);
    comes_out_as_it_went_in(&gsk);
    let status = gsk.status();
    assert_eq!((&status["source"], &status["pixel_src_width"]), (&"ffmpeg".into(), &1280.into()));
}

/// A program that the page is told about while it lives, and that then ends: with these words on the way and in the
/// end, and this exit code.
fn program_fails(script: &str, flags: &[&str], while_it_lives: &[&str], code: i32, in_the_end: &[&str]) {
    let words = [flags, &["--", "sh", "-c", script]].concat();
    let mut gsk = Gsk::start(&words);
    if !while_it_lives.is_empty() {
        let reason = gsk.await_state(SECOND * 2, "error");
        while_it_lives.iter().for_each(|says| assert!(reason.contains(says), "{script}: {reason}"));
        let status = gsk.status();
        assert_eq!(status["stream_error"], reason.clone(), "{script}");
        assert_eq!(status["streamer_last_error"], reason, "{script}");
        assert!(Viewer::join(gsk.addr, "/ws").said("hello")["reason"] == reason, "{script}");
        std::fs::write(gsk.dir.path().join("go"), "").unwrap();
    }
    let (ended, err) = gsk.end(SOON);
    assert_eq!(ended, code, "{script}: {err}");
    in_the_end.iter().for_each(|says| assert_eq!(lines_with(&err, says), 1, "{script}: '{says}' is said once: {err}"));
    let end = err.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
    assert_eq!(lines_with(&err, end), 1, "{script}: {err}");
}

fn lines_with(text: &str, what: &str) -> usize {
    text.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn one_fault_is_one_line_on_standard_error_however_it_ends() {
    let words = "echo words that are no video";
    for (flags, script, code, lines) in [
        // What ends it at once, what it is told of while it lives, and the same where the log is silent.
        (&["--size", "64x64"][..], "exit 3".to_string(), 3, &["error: 'sh' ended with exit code 3"][..]),
        (
            &[],
            format!("{words}; exit 7"),
            7,
            &["the source failed: 'sh': the stream begins with", "error: 'sh' ended with exit code 7"],
        ),
        (&["-q"], format!("{words}; exit 7"), 7, &["error: 'sh' ended with exit code 7; the stream begins with"]),
        // A run that is followed by another is told in the log, each part once.
        (
            &["--restart", "on-failure"],
            format!("echo run >> runs; [ $(wc -l < runs) -ge 3 ] && exit 0; {words}; exit 9"),
            0,
            &[
                "the source failed: 'sh': the stream begins with",
                "the source failed: 'sh' ended with exit code 9; starting it again in 0.25 s",
                "the source failed: 'sh': the stream begins with",
                "the source failed: 'sh' ended with exit code 9; starting it again in 0.50 s",
                "'sh' ended",
            ],
        ),
    ] {
        let mut gsk = Gsk::start(&[flags, &["--", "sh", "-c", &script]].concat());
        let (ended, err) = gsk.end(SOON);
        assert_eq!(ended, code, "{script}: {err}");
        let said: Vec<&str> = err.lines().filter(|line| line.contains("'sh'")).collect();
        assert_eq!(said.len(), lines.len(), "{script}: {err}");
        said.iter().zip(lines).for_each(|(said, line)| assert!(said.contains(line), "{line}: {err}"));
    }
}

/// Lives on until the test says so.
const UNTIL: &str = "until [ -e go ]; do sleep 0.02; done";

#[test]
fn programs_that_fail_are_told_while_they_live_and_by_their_code() {
    let small = ["--size", "64x64"];
    program_fails(
        &format!("echo hello, world of text; {UNTIL}; exit 7"),
        &[],
        &["sh", "\"hello, world", "--size"],
        7,
        &["error: 'sh' ended with exit code 7", "raw frames need --size"],
    );
    program_fails("exit 3", &small, &[], 3, &["error: 'sh' ended with exit code 3"]);
    program_fails("echo oh no >&2; kill -9 $$", &small, &[], 137, &["ended by signal 9", "oh no"]);
    let half = "head -c 18000 /dev/zero";
    program_fails(&format!("{half}; exec >&-; {UNTIL}; exit 4"), &small, &["closed its output"], 4, &["5712 of 12288"]);
    program_fails(&format!("{half}; exit 0"), &small, &[], 1, &["5712 of 12288"]);
    program_fails(&format!("{half}; {UNTIL}; exit 5"), &small, &["5712 of 12288"], 5, &["exit code 5"]);
    program_fails(
        &format!("printf 'YUV4MPEG2 W64 H64 F25:1\\nFRAME\\n'; {half}; {UNTIL}; exit 6"),
        &[],
        &["FRAME was due"],
        6,
        &["does not hold what its header says"],
    );
    program_fails(
        &format!("echo YUV4MPEG2 W65 H64; {UNTIL}"),
        &[],
        &["odd", "4:2:0"],
        2,
        &["odd", "hint: use 64 or 66"],
    );
}

#[test]
fn a_program_that_cannot_be_started_says_so() {
    for (program, code, says) in [("no-such-program", 2, "No such file"), ("/etc/passwd", 4, "Permission denied")] {
        let mut gsk = Gsk::start(&["--size", "64x64", "--", program]);
        let (ended, err) = gsk.end(SOON);
        assert_eq!(ended, code, "{err}");
        assert!(err.contains(says) && err.contains(&format!("error: cannot start '{program}'")), "{err}");
        assert_eq!(lines_with(&err, says), 1, "{err}");
    }
}

#[test]
fn a_good_end_is_a_good_end_for_all() {
    let script = format!("read go; {}", noise(0.05).replace("while :", "for n in 1 2 3 4 5 6 7 8 9 10"));
    let mut gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", &script]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let addr = gsk.addr;
    let whole = std::thread::spawn(move || http::get(addr, "/stream.h264").bytes());
    gsk.await_status(SOON, "two viewers", |status| (status["active_clients"] == 2).then_some(()));
    viewer.say(r#"{"type":"input","view":1,"event":"key","key":"a","down":true}"#);
    let mut last = None;
    let reason = loop {
        match viewer.next() {
            Got::Unit(unit) => last = Some(unit),
            Got::Said(message) if message["type"] == "bye" => break message["reason"].to_string(),
            Got::Closed => panic!("no last word"),
            _ => {}
        }
    };
    assert!(reason.contains("'sh' ended"), "{reason}");
    assert_eq!(viewer.last_word(), "", "and then it is closed");
    // The body is whole: its end is told, and the last unit is in it.
    assert!(whole.join().unwrap().ends_with(&last.unwrap().data));
    assert_eq!(gsk.end(SOON).0, 0);
}

#[test]
fn a_program_runs_to_its_end_unwatched_and_is_never_blocked() {
    let script = "for n in $(seq 200); do head -c 12288 /dev/urandom; echo $n > count; done";
    let mut gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", script]);
    assert_eq!(gsk.end(SOON).0, 0);
    assert_eq!(std::fs::read_to_string(gsk.dir.path().join("count")).unwrap().trim(), "200");
}

#[test]
fn a_program_is_started_again_where_that_was_asked_for() {
    // Each run is counted, gives frames for a while and fails.
    let script = format!("echo run >> runs; {}; exit 9", noise(0.03).replace("while :", "for n in 1 2 3 4 5 6"));
    let gsk = Gsk::start(&["--size", "64x64", "--restart", "on-failure", "--", "sh", "-c", &script]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let runs = || std::fs::read_to_string(gsk.dir.path().join("runs")).unwrap_or_default().lines().count();
    let mut sequence = viewer.unit().sequence;
    let start = Instant::now();
    while runs() < 3 {
        let unit = viewer.unit();
        assert_eq!(unit.sequence, sequence + 1, "the viewer stays through it all");
        sequence = unit.sequence;
        assert!(start.elapsed() < SOON);
    }
    let told = gsk.status()["streamer_last_error"].to_string();
    assert!(told.contains("exit code 9") && told.contains("starting it again in 0.25 s"), "{told}");
    drop(gsk);

    let script = "echo run >> runs; [ $(wc -l < runs) -lt 3 ]";
    let mut gsk = Gsk::start(&["--size", "64x64", "--restart", "always", "--", "sh", "-c", script]);
    gsk.await_status(SOON, "a third run", |_| {
        (std::fs::read_to_string(gsk.dir.path().join("runs")).ok()?.lines().count() >= 3).then_some(())
    });
    gsk.signal(rustix::process::Signal::TERM);
    assert_eq!(gsk.end(SOON).0, 143);
}

/// `gsk serve --source -` fed with these bytes: its exit code and standard error.
fn fed(bytes: &[u8], words: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, bytes).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    let all = [&["serve", "--listen", "0", "--source", "-"], words].concat();
    let (code, _, err) = run(&all, |command| _ = command.stdin(input));
    (code, err)
}

#[test]
fn standard_input_that_is_wrong_is_refused_in_words() {
    for (bytes, words, code, says) in [
        (
            &b"PNG and no video"[..],
            &[][..],
            2,
            &["begins with \"PNG and no v\"", "raw frames need --size", "hint: "][..],
        ),
        (b"YUV4MPEG2 W64 H64 F25:1\nFRAME\nshort", &[], 1, &["5 of 6144"]),
        (b"YUV4MPEG2 W64 H64 F25:1\nFRAMXxxxxxx", &[], 1, &["FRAME was due"]),
        (b"YUV4MPEG2 W20000 H20000 F25:1\n", &[], 2, &["outside 16 to 8192"]),
        (b"YUV4MPEG2 W1 H1 F25:1\n", &[], 2, &["outside 16 to 8192"]),
        (b"YUV4MPEG2 W64 H64 F25:1\n", &["--size", "32x32"], 2, &["the stream is 64x64", "hint: leave --size out"]),
        (b"YUV4MPEG2 W64 H64 C444\n", &[], 1, &["4:2:0", "-pix_fmt yuv420p"]),
        (&[0; 12300], &["--size", "64x64"], 1, &["12 of 12288"]),
        (&[0; 12288], &["--size", "64x64"], 0, &[]),
    ] {
        let begins = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
        let (got, err) = fed(bytes, words);
        assert_eq!(got, code, "{begins}: {err}");
        says.iter().for_each(|text| assert_eq!(lines_with(&err, text), 1, "{begins}: '{text}' is said once: {err}"));
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_in_words() {
    for (size, says) in [
        ("641x480", "hint: use 640 or 642"),
        ("1x1", "outside 16 to 8192"),
        ("20000x20000", "outside 16 to 8192"),
        ("0x0", "outside 16 to 8192"),
    ] {
        let (code, out, err) = run(&["serve", "--listen", "0", "--size", size], |_| {});
        assert_eq!((code, out.as_str()), (2, ""), "{size}");
        assert!(err.contains(says), "{size}: {err}");
    }
}

#[test]
fn what_is_too_large_for_the_encoder_is_said() {
    let script = "printf 'YUV4MPEG2 W8192 H8192 F1:1\\nFRAME\\n'; head -c 100663296 /dev/zero; exec sleep 99";
    let gsk = Gsk::start(&["--", "sh", "-c", script]);
    gsk.await_state(SOON, "idle");
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let reason = gsk.await_state(SOON, "error");
    assert!(reason.contains("OpenH264") && reason.contains("8192x8192") && reason.contains("macroblocks"), "{reason}");
    // It may hear that pictures are on their way before it hears why there are none.
    until(SOON, "the reason", || (viewer.said("state")["reason"] == reason).then_some(()));
    drop(viewer);
    gsk.await_state(SOON, "idle");
}
