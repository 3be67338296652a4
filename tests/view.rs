//! `gsk view` against `gsk serve`, over real connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Output};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gsk::pipeline::frame::Size;
use gsk::pipeline::source::scene::read_mark;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use self::gsk_process::{Gsk, SOON, command, run, until};
use self::media::{ffmpeg, path, tool};

#[path = "serve/gsk.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod gsk_process;
#[path = "serve/http.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod http;
#[path = "serve/media.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod media;
mod standin;

const SMALL: [&str; 2] = ["--size", "320x180"];

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}/")
}

/// The summary of a run that ends with this code.
fn view(words: &[&str], code: i32) -> Value {
    let (got, out, err) = run(&[&["view", "--json"], words].concat(), |_| {});
    assert_eq!(got, code, "{words:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}{err}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A running `gsk view` that is to be ended by a signal.
fn start(dir: &tempfile::TempDir, words: &[&str]) -> Child {
    command(dir, &[&["view", "--json"], words].concat()).spawn().unwrap()
}

fn interrupt(child: Child) -> Output {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    child.wait_with_output().unwrap()
}

/// Pictures in a file, and its duration in seconds as ffprobe tells it.
fn probe(file: &Path) -> (usize, f64) {
    let entries = "format=duration:stream=nb_read_frames,codec_name";
    let words = ["-v", "error", "-count_frames", "-show_entries", entries, "-of", "json", path(file)];
    let told: Value = serde_json::from_slice(&tool("ffprobe", &words)).unwrap();
    assert_eq!(told["streams"][0]["codec_name"], "h264", "{told}");
    let text = |value: &Value| value.as_str().unwrap_or("0").parse::<f64>().unwrap();
    (text(&told["streams"][0]["nb_read_frames"]) as usize, text(&told["format"]["duration"]))
}

#[test]
fn each_way_is_measured_from_capture_to_picture() {
    let gsk = Gsk::start(&SMALL);
    let page = url(gsk.addr);
    let ways: [(&[&str], &str); 5] = [
        (&[&page], "h264"),
        (&[&page, "--codec", "jpeg"], "jpeg"),
        (&[&page, "--via", "mp4"], "h264"),
        (&[&page, "--via", "mjpeg"], "jpeg"),
        (&[&format!("{page}stream.mp4")], "h264"),
    ];
    for (words, codec) in ways {
        let seen = view(&[words, &["--frames", "60"]].concat(), 0);
        assert_eq!((&seen["worker"]["codec"], &seen["worker"]["width"]), (&codec.into(), &320.into()), "{words:?}");
        assert_eq!(seen["worker"]["instance"], "omega-0", "{words:?}");
        let frames = seen["frames"].as_u64().unwrap();
        assert!((60..90).contains(&frames), "{words:?}: {frames}");
        assert_eq!((&seen["decoded"], &seen["missing"]), (&frames.into(), &0.into()), "{words:?}");
        assert_eq!((&seen["errors"], &seen["decode_failures"]), (&Value::Array(vec![]), &0.into()));
        let fps = number(&seen["fps"]["median"]);
        assert!((15.0..60.0).contains(&fps), "{words:?}: {fps}");
        let spans = &seen["spans_ms"];
        for span in ["gap", "decode", "mark", "connected", "first_unit", "first_picture"] {
            assert!(number(&spans[span]["p50"]) > 0.0, "{words:?}: {span}: {seen:#}");
        }
        assert!(number(&spans["first_picture"]["p50"]) >= number(&spans["first_unit"]["p50"]));
        let by_ws = seen["via"] == "ws";
        assert_eq!((spans["total"].is_object(), seen["clock"].is_object()), (by_ws, by_ws), "{words:?}");
        if by_ws {
            let at = |span: &str| number(&spans[span]["p50"]);
            assert!(at("received") >= at("encoded") && at("total") >= at("received"), "{spans:#}");
            // The mark has whole milliseconds, of a moment just before the capture's begin.
            let apart = at("mark") - at("total");
            assert!(apart.abs() < 10.0, "the picture's own time says {}, the clocks {}", at("mark"), at("total"));
            assert!(number(&seen["clock"]["offset_ms"]).abs() <= number(&seen["clock"]["error_ms"]), "one machine");
        }
    }
    gsk.await_state(SOON, "idle");
}

#[test]
fn what_it_measures_is_in_the_workers_status() {
    let gsk = Gsk::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    let watching = start(&dir, &[&url(gsk.addr)]);
    gsk.await_status(SOON, "its reports", |status| {
        (status["latency_ms"]["network"].is_object() && status["latency_ms"]["decode"].is_object()).then_some(())
    });
    let output = interrupt(watching);
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["ended"], "it was interrupted");
}

#[test]
fn a_snapshot_has_the_colours_of_the_source() {
    let colours = [[235u8, 30, 30], [20, 180, 60], [40, 60, 220], [200, 200, 200]];
    let mut frame = Vec::new();
    for y in 0..64 {
        for x in 0..64 {
            frame.extend_from_slice(&colours[(y / 32) * 2 + x / 32]);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frame");
    std::fs::write(&file, frame).unwrap();
    let script = format!("cat {}; exec sleep 99", path(&file));
    let gsk = Gsk::start(&["--size", "64x64", "--pixel-format", "rgb24", "--", "sh", "-c", &script]);
    for (name, codec) in [("a.png", "h264"), ("a.jpg", "h264"), ("b.png", "jpeg")] {
        let saved = dir.path().join(name);
        let seen = view(&[&url(gsk.addr), "--codec", codec, "--snapshot", path(&saved)], 0);
        assert_eq!((&seen["ended"], &seen["snapshot"]), (&"the picture was there".into(), &path(&saved).into()));
        let pixels = ffmpeg(&["-i", path(&saved), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
        assert_eq!(pixels.len(), 64 * 64 * 3, "{name}");
        for (patch, colour) in colours.iter().enumerate() {
            let (x, y) = (16 + patch % 2 * 32, 16 + patch / 2 * 32);
            let got = &pixels[(y * 64 + x) * 3..][..3];
            assert!(got.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) <= 6), "{name}: {got:?} for {colour:?}");
        }
    }
}

#[test]
fn the_time_mark_is_readable_in_a_snapshot() {
    let gsk = Gsk::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("scene.png");
    view(&[&url(gsk.addr), "--frames", "10", "--snapshot", path(&saved)], 0);
    let pixels = ffmpeg(&["-i", path(&saved), "-f", "rawvideo", "-pix_fmt", "rgba", "-"]);
    let mark = read_mark(&pixels, Size::new(320, 180)).expect("a mark");
    let age = (gsk::clock::wall_ms() as u32).wrapping_sub(mark) & 0xf_ffff;
    assert!(age < 60_000, "{age} ms old");
}

#[test]
fn recordings_play_and_have_their_duration() {
    let gsk = Gsk::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    for (name, via) in [("a.mp4", "ws"), ("b.mp4", "mp4"), ("c.h264", "ws")] {
        let file = dir.path().join(name);
        let seen = view(&[&url(gsk.addr), "--via", via, "--frames", "45", "--record", path(&file)], 0);
        let frames = seen["record"]["frames"].as_u64().unwrap() as usize;
        assert_eq!(Some(frames as u64), seen["frames"].as_u64(), "{name}");
        let (counted, duration) = probe(&file);
        assert_eq!(counted, frames, "{name}");
        if name.ends_with("mp4") {
            let told = number(&seen["record"]["seconds"]);
            assert!((duration - told).abs() < 0.05 && told > 1.0, "{name}: {duration} s, {told} s told");
        }
        ffmpeg(&["-xerror", "-i", path(&file), "-f", "null", "-"]);
    }
    let jpegs = dir.path().join("d.mjpeg");
    let seen = view(&[&url(gsk.addr), "--via", "mjpeg", "--frames", "20", "--record", path(&jpegs)], 0);
    let size = std::fs::metadata(&jpegs).unwrap().len();
    assert_eq!((seen["record"]["bytes"].as_u64(), size > 20_000), (Some(size), true));
    let pixels =
        ffmpeg(&["-f", "mjpeg", "-i", path(&jpegs), "-vf", "scale=32:18", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    assert_eq!(pixels.len() as u64, 32 * 18 * seen["record"]["frames"].as_u64().unwrap());
}

#[test]
fn ctrl_c_finishes_the_recording() {
    let gsk = Gsk::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cut.mp4");
    let watching = start(&dir, &[&url(gsk.addr), "--record", path(&file)]);
    until(SOON, "a part of the recording", || (std::fs::metadata(&file).ok()?.len() > 60_000).then_some(()));
    let output = interrupt(watching);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(2), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (counted, duration) = probe(&file);
    assert_eq!(Some(counted as u64), seen["record"]["frames"].as_u64());
    assert!((duration - number(&seen["record"]["seconds"])).abs() < 0.05);
    // The header says it, for players that do not read a file to its end.
    let bytes = std::fs::read(&file).unwrap();
    let at = gsk::pipeline::mp4::room(&bytes).expect("room for the duration");
    let told = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert!((told as f64 / 1000.0 - duration).abs() < 0.05, "{told} ms");
}

#[test]
fn a_hundred_viewers_miss_nothing() {
    let gsk = Gsk::start(&[&SMALL[..], &["--bitrate", "500k"]].concat());
    let dir = tempfile::tempdir().unwrap();
    let watching = start(&dir, &[&url(gsk.addr), "--viewers", "100", "--seconds", "3"]);
    gsk.await_status(SOON, "all of them", |status| (status["active_clients"] == 100).then_some(()));
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["viewers"], serde_json::json!({ "asked": 100, "joined": 100 }));
    assert_eq!((&seen["missing"], &seen["spans_ms"]["first_unit"]["n"]), (&0.into(), &100.into()));
    assert!(number(&seen["fps"]["min"]) > 10.0, "{seen:#}");
    // Only the first decodes.
    assert!(seen["decoded"].as_u64().unwrap() * 50 < seen["frames"].as_u64().unwrap(), "{seen:#}");
    gsk.await_state(SOON, "idle");
    let all = view(&[&url(gsk.addr), "--viewers", "3", "--decode", "all", "--frames", "10"], 0);
    assert_eq!((&all["decoded"], &all["spans_ms"]["first_picture"]["n"]), (&all["frames"], &3.into()));
    let none = view(&[&url(gsk.addr), "--decode", "none", "--frames", "10"], 0);
    assert_eq!((&none["decoded"], &none["spans_ms"]["total"]), (&0.into(), &Value::Null));
}

#[test]
fn seconds_are_told_one_a_line() {
    let gsk = Gsk::start(&SMALL);
    let words = ["view", &url(gsk.addr), "--format", "jsonl", "--seconds", "2.5"];
    let (code, out, err) = run(&words, |_| {});
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, seconds) = lines.split_last().unwrap();
    assert_eq!((&last["schema"]["name"], seconds.len() >= 2), (&"gsk.view".into(), true), "{out}");
    for second in seconds {
        assert_eq!((&second["schema"]["name"], &second["viewers"]), (&"gsk.view.second".into(), &1.into()));
        assert!((5.0..60.0).contains(&number(&second["fps"])), "{second}");
    }
    assert!(number(&seconds[1]["total_ms"]["p50"]) > 0.0);
}

#[test]
fn a_token_is_given_in_any_of_its_ways_and_its_lack_told() {
    const TOKEN: &str = "0123456789abcdef";
    let gsk = Gsk::with(&SMALL, |command| {
        command.env("GSK_TOKEN", TOKEN);
    });
    let page = url(gsk.addr);
    for via in ["ws", "mp4", "mjpeg"] {
        let words = ["view", &page, "--via", via, "--frames", "2"];
        let (code, _, err) = run(&words, |_| {});
        assert_eq!(code, 4, "{via}: {err}");
        assert!(err.contains("the worker wants its access token (401)") && err.contains("hint: "), "{err}");
        let (code, _, err) = run(&words, |command| {
            command.env("GSK_TOKEN", "fedcba9876543210");
        });
        assert_eq!((code, err.contains("fedcba9876543210")), (4, false), "{err}");
        let (code, _, err) = run(&words, |command| {
            command.env("GSK_TOKEN", TOKEN);
        });
        assert_eq!(code, 0, "{via}: {err}");
    }
    let (code, out, err) = run(&["view", &gsk.link, "--frames", "2"], |_| {});
    assert_eq!((code, (out + &err).contains(TOKEN)), (0, false), "{err}");
    let file = gsk.dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    view(&[&page, "--token-file", path(&file), "--frames", "2"], 0);
}

#[test]
fn what_is_no_worker_is_unreachable() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let answers = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let mut stream = stream;
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n\x1b[31mno");
        }
    });
    for (addr, says) in [
        (refused, "nothing listens at"),
        (silent.local_addr().unwrap(), "connected, but no answer within 0.3 s"),
        (answers, "no worker answers there: 404"),
    ] {
        for via in ["ws", "mp4", "mjpeg"] {
            let (code, _, err) = run(&["view", &url(addr), "--via", via, "--timeout", "300ms"], |_| {});
            assert_eq!(code, 5, "{says}: {err}");
            assert!(err.contains(says) && !err.contains('\x1b'), "{via}: {err}");
        }
    }
}

#[test]
fn no_room_and_nothing_to_show_have_their_codes() {
    let gsk = Gsk::start(&[&SMALL[..], &["--max-viewers", "1"]].concat());
    let dir = tempfile::tempdir().unwrap();
    let first = start(&dir, &[&url(gsk.addr)]);
    gsk.await_status(SOON, "the first", |status| (status["active_clients"] == 1).then_some(()));
    for via in ["ws", "mp4"] {
        let (code, _, err) = run(&["view", &url(gsk.addr), "--via", via, "--frames", "1"], |_| {});
        assert_eq!((code, err.contains("all places for viewers are taken")), (6, true), "{via}: {err}");
    }
    interrupt(first);

    let gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", "echo no video; exec sleep 99"]);
    gsk.await_state(SOON, "error");
    for via in ["ws", "mp4"] {
        let (code, _, err) = run(&["view", &url(gsk.addr), "--via", via, "--timeout", "500ms"], |_| {});
        assert_eq!(code, 1, "{via}: {err}");
        assert!(err.contains("no data"), "{via}: {err}");
    }
}

/// On a machine that bears one encoder session, which another program has.
#[test]
fn a_worker_without_an_encoder_slot_is_no_capacity() {
    let (scene, leases) = (standin::Scene::geforce(1), tempfile::tempdir().unwrap());
    let pool = gsk::lease::Pool::at(leases.path()).unwrap();
    let taken = pool.take(gsk::lease::Limit::Sessions(1), || None, Default::default()).unwrap();
    let gsk = Gsk::with(&[&SMALL[..], &["--slots", "1"]].concat(), |command| {
        scene.apply(command).env("GSK_LEASE_DIR", leases.path());
    });
    for (via, says) in [("ws", "the worker has no encoder slot"), ("mp4", "1 of 1 held by")] {
        let (code, _, err) = run(&["view", &url(gsk.addr), "--via", via, "--frames", "1", "--timeout", "2s"], |_| {});
        assert_eq!(code, 6, "{via}: {err}");
        assert!(err.contains(says) && err.contains("hint: "), "{via}: {err}");
    }
    // JPEG needs none; and neither does who comes when it is free again.
    view(&[&url(gsk.addr), "--via", "mjpeg", "--frames", "1"], 0);
    drop(taken);
    view(&[&url(gsk.addr), "--frames", "2"], 0);
}

#[test]
fn a_worker_that_ends_says_why() {
    let mut gsk = Gsk::start(&SMALL);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let watching = start(&dirs[0], &[&url(gsk.addr)]);
    let limited = start(&dirs[1], &[&url(gsk.addr), "--seconds", "60"]);
    gsk.await_status(SOON, "both", |status| (status["active_clients"] == 2).then_some(()));
    gsk.await_status(SOON, "pictures", |status| (status["frames_ok"].as_u64()? > 5).then_some(()));
    gsk.signal(Signal::TERM);
    gsk.ended(SOON);
    let output = watching.wait_with_output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &seen["ended"]),
        (Some(0), &"the worker ended it: the worker was stopped".into())
    );
    let output = limited.wait_with_output().unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{seen:#}");
    assert_eq!(seen["errors"][0]["what"], "the worker ended before what was asked for");
}

#[test]
fn a_stall_beyond_the_limit_is_a_bad_answer() {
    // A picture every 400 ms.
    let script = "while :; do head -c 12288 /dev/urandom; sleep 0.4; done";
    let gsk = Gsk::start(&["--size", "64x64", "--pixel-format", "rgb24", "--", "sh", "-c", script]);
    let seen = view(&[&url(gsk.addr), "--frames", "4", "--max-stall", "100ms"], 1);
    assert!(seen["errors"][0]["what"].as_str().unwrap().contains("--max-stall is 100 ms"), "{seen:#}");
    view(&[&url(gsk.addr), "--frames", "4", "--max-stall", "20s"], 0);
}

/// Hands all bytes on after `delay`, both ways. Gives its address.
fn slow_road(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(to).unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            carry(near.try_clone().unwrap(), far.try_clone().unwrap(), delay);
            carry(far, near, delay);
        }
    });
    addr
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

#[test]
fn a_delay_on_the_road_is_in_the_figures_that_it_belongs_to() {
    let gsk = Gsk::start(&SMALL);
    let slow = slow_road(gsk.addr, Duration::from_millis(30));
    let [direct, delayed] = [gsk.addr, slow].map(|addr| view(&[&url(addr), "--frames", "90"], 0));
    let at = |seen: &Value, span: &str| number(&seen["spans_ms"][span]["p50"]);
    for span in ["network", "received", "total", "mark"] {
        let more = at(&delayed, span) - at(&direct, span);
        assert!((22.0..45.0).contains(&more), "{span}: {more} ms more\n{direct:#}\n{delayed:#}");
    }
    for span in ["encoded", "decode", "gap"] {
        let more = at(&delayed, span) - at(&direct, span);
        assert!(more.abs() < 15.0, "{span}: {more} ms more\n{direct:#}\n{delayed:#}");
    }
    assert!(number(&delayed["clock"]["error_ms"]) >= 29.0, "half of the round trip is what it is known to");
}
