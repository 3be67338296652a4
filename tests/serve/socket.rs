//! `/ws`: the protocol `gsk.v1`.

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Message;

use crate::gsk::{Gsk, SOON, noise, until};
use crate::media::player;
use crate::viewer::{Got, Viewer};

const SMALL: [&str; 2] = ["--size", "320x180"];

#[test]
fn hello_comes_first_and_config_before_the_key_unit_that_it_governs() {
    let gsk = Gsk::start(&[&SMALL[..], &["--instance-id", "omega-3"]].concat());
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let Got::Said(hello) = viewer.next() else { panic!("a unit before hello") };
    assert_eq!((&hello["type"], &hello["instance"]), (&"hello".into(), &"omega-3".into()));
    assert_eq!((&hello["source"], &hello["input"]), (&"scene".into(), &true.into()));
    assert!(hello["state"].is_string() && hello["server_us"].is_u64());
    let config = loop {
        match viewer.next() {
            Got::Said(config) if config["type"] == "config" => break config,
            Got::Said(_) => {}
            other => panic!("{other:?} before config"),
        }
    };
    assert_eq!((&config["width"], &config["height"]), (&320.into(), &180.into()));
    let first = viewer.unit();
    assert!(first.key && first.data.starts_with(&[0, 0, 0, 1, 0x67]), "an IDR behind its SPS");
    let codec = format!("avc1.{:02x}{:02x}{:02x}", first.data[5], first.data[6], first.data[7]);
    assert!(config["codec"].as_str().unwrap().eq_ignore_ascii_case(&codec), "{config} {codec}");
    assert_eq!((&config["colour"]["matrix"], &config["colour"]["fullRange"]), (&"bt709".into(), &false.into()));

    let mut last = first;
    for _ in 0..60 {
        let unit = viewer.unit();
        assert_eq!(unit.sequence, last.sequence + 1);
        assert!(unit.captured_us > last.captured_us && unit.encoded_after_us < 1_000_000, "{unit:?}");
        assert!(!unit.key, "key units come on demand only");
        last = unit;
    }
    let now = gsk::clock::now_us();
    assert!(now - last.captured_us < 5_000_000, "on the monotonic clock of this machine");
}

#[test]
fn video_can_be_declined_or_be_jpeg() {
    let gsk = Gsk::start(&SMALL);
    let mut quiet = Viewer::join(gsk.addr, "/ws?video=none");
    quiet.said("hello");
    quiet.said("stats");
    assert_eq!(gsk.status()["frames_captured"], 0, "one who only listens starts nothing");
    let mut jpeg = Viewer::join(gsk.addr, "/ws?video=jpeg");
    let config = jpeg.said("config");
    assert_eq!((&config["codec"], &config["colour"]), (&"mjpeg".into(), &serde_json::Value::Null));
    for unit in jpeg.units(Duration::from_millis(500)) {
        assert!(unit.key && unit.data.starts_with(&[0xff, 0xd8]) && unit.data.ends_with(&[0xff, 0xd9]));
    }
    let heard = quiet.said("state");
    assert_eq!(heard["state"], "streaming");
    drop(jpeg);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert!(!matches!(quiet.next(), Got::Unit(_)));
    }
    drop(quiet);
    let mut live = Viewer::join(gsk.addr, "/ws");
    until(SOON, "a measured rate", || live.said("stats")["fps"].is_number().then_some(()));
    drop(live);
    gsk.await_status(SOON, "nothing measured", |status| status["frames_fps"].is_null().then_some(()));
    let mut late = Viewer::join(gsk.addr, "/ws?video=none");
    assert_eq!(late.said("stats")["fps"], serde_json::Value::Null, "figures of long ago are not told");
}

#[test]
fn a_viewer_is_greeted_with_the_state_that_its_coming_makes() {
    let gsk = Gsk::start(&SMALL);
    for path in ["/ws", "/ws?video=jpeg"].repeat(5) {
        gsk.await_state(SOON, "idle");
        let mut viewer = Viewer::join(gsk.addr, path);
        let Got::Said(hello) = viewer.next() else { panic!("a unit before hello") };
        assert_eq!(
            (&hello["type"], &hello["state"], &hello["reason"]),
            (&"hello".into(), &"streaming".into(), &"".into())
        );
        loop {
            match viewer.next() {
                Got::Said(message) => assert_ne!(message["type"], "state", "nothing has changed since"),
                Got::Unit(_) => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_session_without_video_is_told_of_that_beside_it() {
    let rate = |size: &str, bytes: u32, fps: u32| {
        let frames = format!("printf 'FRAME\\n'; head -c {bytes} /dev/urandom; sleep {}", 1.0 / f64::from(fps));
        (format!("printf 'YUV4MPEG2 {size} F{fps}:1\\n'"), frames)
    };
    let ((head, frames), (other_head, other_frames)) = (rate("W64 H64", 6144, 25), rate("W128 H96", 18432, 10));
    let first = format!("if [ ! -e go ]; then {head}; until [ -e go ]; do {frames}; done; exit 1; fi");
    let script = format!("{first}; {other_head}; while :; do {other_frames}; done");
    let gsk = Gsk::start(&["--restart", "on-failure", "--", "sh", "-c", &script]);
    let nothing_told = |mut viewer: Viewer| {
        let start = Instant::now();
        loop {
            match viewer.next() {
                Got::Said(message) if message["type"] == "stats" && start.elapsed() > Duration::from_secs(1) => break,
                Got::Said(message) => assert_ne!(message["type"], "config", "nothing is encoded"),
                other => panic!("{other:?}"),
            }
        }
        viewer
    };
    let mut quiet = nothing_told(Viewer::join(gsk.addr, "/ws?video=none"));

    let mut watcher = Viewer::join(gsk.addr, "/ws");
    let config = watcher.said("config");
    assert_eq!((&config["width"], &config["fps"]), (&64.into(), &25.0.into()));
    let encoder = &gsk.status()["encoder"];
    assert_eq!(
        (&config["backend"], &config["hardware"], &config["fallback"]),
        (&encoder["backend"], &encoder["hardware"], &encoder["fallback"])
    );
    assert_eq!(quiet.said("config"), config, "when it is known");
    let mut late = Viewer::join(gsk.addr, "/ws?video=none");
    assert!(matches!(late.next(), Got::Said(hello) if hello["type"] == "hello"));
    assert!(matches!(late.next(), Got::Said(told) if told == config), "to one who comes later at once");

    std::fs::write(gsk.dir.path().join("go"), "").unwrap();
    let changed = watcher.said("config");
    assert_eq!((&changed["width"], &changed["fps"]), (&128.into(), &10.0.into()));
    for listener in [&mut quiet, &mut late] {
        until(SOON, "what has changed", || (listener.said("config") == changed).then_some(()));
    }
    drop(watcher);
    gsk.await_status(SOON, "the encoder's end", |status| (status["encoder"]["open"] == false).then_some(()));
    nothing_told(Viewer::join(gsk.addr, "/ws?video=none"));
}

#[test]
fn pings_are_answered_with_both_clocks() {
    let gsk = Gsk::start(&SMALL);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=none");
    let before = gsk::clock::now_us();
    viewer.say(r#"{"type":"ping","t":1234.5}"#);
    let pong = viewer.said("pong");
    let server = pong["server_us"].as_u64().unwrap();
    assert_eq!(pong["t"], 1234.5);
    assert!((before..=gsk::clock::now_us()).contains(&server));
    viewer.socket.send(Message::Ping("x".into())).unwrap();
    until(SOON, "the protocol's own pong", || matches!(viewer.next(), Got::Pong).then_some(()));
}

#[test]
fn what_viewers_measure_is_in_the_status() {
    let gsk = Gsk::start(&SMALL);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.unit();
    viewer.say(r#"{"type":"ack","sequence":1,"frames":1,"decode_us":3000,"paint_us":-5,"network_us":1e300}"#);
    let latency = gsk.await_status(SOON, "the report", |status| {
        let latency = &status["latency_ms"];
        latency["decode"].is_object().then(|| latency.clone())
    });
    let p50 = latency["decode"]["p50"].as_f64().unwrap();
    assert!((2.9..3.1).contains(&p50), "{latency}");
    assert!(latency["paint"].is_null() && latency["network"].is_null(), "nonsense is not measured: {latency}");
}

#[test]
fn key_units_come_on_demand_but_not_too_often() {
    let gsk = Gsk::start(&SMALL);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    assert!(viewer.unit().key);
    assert!(viewer.units(Duration::from_secs(1)).iter().all(|unit| !unit.key));
    viewer.say(r#"{"type":"keyframe"}"#);
    let asked = Instant::now();
    until(SOON, "a key unit", || viewer.unit().key.then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(1));
    let (start, mut keys, mut units) = (Instant::now(), 0, 0);
    while start.elapsed() < Duration::from_secs(2) {
        viewer.say(r#"{"type":"keyframe"}"#);
        keys += u32::from(viewer.unit().key);
        units += 1;
    }
    assert!((2..=11).contains(&keys) && units > 2 * keys, "{keys} of {units} in 2 s, at most one each 200 ms");
}

#[test]
fn input_reaches_a_program_and_its_number_comes_back() {
    let keep = format!("exec 3<&0; cat <&3 > inputs & {}", noise(0.05));
    let gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", &keep]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    assert_eq!(viewer.unit().view, 0);
    viewer.say(r#"{"type":"input","view":7,"event":"pointer","x":0.5,"y":0.25,"dx":0.125,"dy":0,"buttons":1}"#);
    viewer.say(r#"{"type":"input","view":8,"event":"wheel","x":0.5,"y":0.5,"dx":0,"dy":-120}"#);
    viewer.say(r#"{"type":"input","view":9,"event":"key","key":"Ä\"\n","down":true}"#);
    viewer.say(r#"{"type":"input","view":10,"event":"resize","width":800,"height":600}"#);
    let lines = until(SOON, "the events", || {
        let text = std::fs::read_to_string(gsk.dir.path().join("inputs")).ok()?;
        (text.lines().count() >= 4).then_some(text)
    });
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        (&lines[0]["event"], &lines[0]["dx"], &lines[0]["buttons"]),
        (&"pointer".into(), &0.125.into(), &1.into())
    );
    assert_eq!((&lines[1]["dy"], &lines[2]["key"]), (&(-120.0).into(), &"Ä\"\n".into()));
    assert_eq!((&lines[3]["view"], &lines[3]["width"]), (&10.into(), &800.into()));
    until(SOON, "the number in the header", || (viewer.unit().view == 10).then_some(()));
}

#[test]
fn quality_changes_the_measured_bit_rate_both_ways() {
    let card = ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25,noise=alls=30:allf=t"];
    let player = player(&card);
    let words: Vec<&str> = ["--bitrate", "3M", "--"].into_iter().chain(player.iter().map(|word| &**word)).collect();
    let gsk = Gsk::start(&words);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let measured = |viewer: &mut Viewer| {
        // The encoder is given a second to get there.
        viewer.units(Duration::from_secs(1));
        let bytes: usize = viewer.units(Duration::from_secs(2)).iter().map(|unit| unit.data.len()).sum();
        bytes as f64 * 8.0 / 2.0
    };
    let before = measured(&mut viewer);
    viewer.say(r#"{"type":"quality","bitrate_bps":1000000}"#);
    let low = measured(&mut viewer);
    let told = gsk.status()["bitrate_bps"].as_f64().unwrap();
    viewer.say(r#"{"type":"quality","bitrate_bps":3000000}"#);
    let after = measured(&mut viewer);
    assert!(low < before * 0.6 && after > low * 1.6, "{before} {low} {after}");
    assert!((told / low - 1.0).abs() < 0.4, "/status says {told} where {low} was measured");
    // More than the worker was started with is not to be had.
    viewer.say(r#"{"type":"quality","bitrate_bps":4000000000}"#);
    assert!(measured(&mut viewer) < 3_000_000.0 * 1.4);
    viewer.say(r#"{"type":"quality","bitrate_bps":1500000}"#);
    until(SOON, "what is asked for", || (viewer.said("stats")["bitrate_asked_bps"] == 1_500_000).then_some(()));
    assert_eq!(viewer.said("stats")["bitrate_most_bps"], 3_000_000);
}

#[test]
fn a_hundred_viewers_get_the_same_units_and_miss_none() {
    let gsk = Gsk::start(&[&SMALL[..], &["--bitrate", "500k"]].concat());
    let addr = gsk.addr;
    let viewers: Vec<_> = (0..100).map(|_| Viewer::join(addr, "/ws")).collect();
    let watch = |mut viewer: Viewer| {
        let first = viewer.unit();
        assert!(first.key);
        let units = viewer.units(Duration::from_secs(3));
        [first].into_iter().chain(units).map(|unit| unit.sequence).collect::<Vec<_>>()
    };
    let threads: Vec<_> = viewers.into_iter().map(|viewer| std::thread::spawn(move || watch(viewer))).collect();
    let seen: Vec<Vec<u32>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for sequences in &seen {
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
        assert!(sequences.len() > 30, "{}", sequences.len());
    }
    let (from, to) = (seen.iter().map(|s| s[0]).max().unwrap(), seen.iter().map(|s| s[s.len() - 1]).min().unwrap());
    assert!(to > from + 20, "all watched at the same time: {from} to {to}");
    assert_eq!(gsk.status()["frames_dropped_by"]["slow_viewer"], 0);
}
