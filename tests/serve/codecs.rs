//! HEVC and AV1, and how NVENC is set, over the stand-in driver.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::gsk::{Gsk, SOON, run, until};
use crate::http;
use crate::media::{ffmpeg, path, tool};
use crate::standin::{Board, Event, Foreign, Scene, Video};
use crate::viewer::{Got, Unit, Viewer};

/// `gsk serve` of the scene, small, on a scene's host.
fn worker(scene: &Scene, leases: &tempfile::TempDir, words: &[&str]) -> Gsk {
    worker_of("320x180", scene, leases, words)
}

fn worker_of(size: &str, scene: &Scene, leases: &tempfile::TempDir, words: &[&str]) -> Gsk {
    Gsk::with(&[&["--size", size], words].concat(), |command| {
        scene.apply(command).env("GSK_LEASE_DIR", leases.path());
    })
}

/// Units in a file, and how many pixels FFmpeg finds in it.
fn decoded(gsk: &Gsk, format: &str, units: &[Unit]) -> usize {
    let file = gsk.dir.path().join("units");
    std::fs::write(&file, units.iter().flat_map(|unit| unit.data.clone()).collect::<Vec<_>>()).unwrap();
    let pixels = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"];
    ffmpeg(&[&["-xerror", "-f", format, "-i", path(&file)], &pixels[..]].concat()).len()
}

fn initialized(scene: &Scene) -> Event {
    scene.events("initialize").pop().expect("a session")
}

#[test]
fn a_viewer_gets_the_codec_that_it_asks_for() {
    let (scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    let gsk = worker(&scene, &leases, &[]);
    let wanted = [("hevc", "hevc", "hvc1.1.6.L90.90"), ("av1", "obu", "av01.0."), ("h264", "h264", "avc1.64")];
    for (codec, format, string) in wanted {
        let mut viewer = Viewer::join(gsk.addr, &format!("/ws?video={codec}"));
        assert_eq!(viewer.said("hello")["codecs"], json!(["h264", "hevc", "av1", "jpeg"]));
        let config = viewer.said("config");
        assert!(config["codec"].as_str().unwrap().starts_with(string), "{config}");
        let colour = json!({ "primaries": "bt709", "transfer": "bt709", "matrix": "bt709", "fullRange": false });
        assert_eq!((&config["backend"], &config["colour"]), (&"nvenc".into(), &colour), "{config}");
        let mut units: Vec<Unit> = (0..5).map(|_| viewer.unit()).collect();
        assert!(units[0].key && units[1..].iter().all(|unit| !unit.key), "{codec}");
        assert_eq!(initialized(&scene).get("codec"), codec);
        viewer.say(r#"{"type":"keyframe"}"#);
        let key = until(SOON, "a key unit", || Some(viewer.unit()).filter(|unit| unit.key));
        units.truncate(1);
        units.push(key);
        assert_eq!(decoded(&gsk, format, &units), 2 * 320 * 180, "each can be begun with");
        let status = gsk.status();
        let open: Vec<&Value> = status["encoders"].as_array().unwrap().iter().filter(|e| e["viewers"] == 1).collect();
        assert_eq!((open.len(), &open[0]["codec"], &open[0]["backend"]), (1, &codec.into(), &"nvenc".into()));
        assert!(open[0]["slot"].is_string(), "{status}");
    }
}

#[test]
fn mp4_carries_hevc_and_av1() {
    let (scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    let gsk = worker(&scene, &leases, &["--nvenc-preset", "p1"]);
    let mut probe = vec!["-v", "error", "-analyzeduration", "100000", "-show_entries"];
    probe.extend([
        "stream=codec_name,codec_tag_string,width,height,color_space,color_range,has_b_frames",
        "-of",
        "json",
    ]);
    for (query, codec, tag) in [("?codec=hevc", "hevc", "hvc1"), ("?codec=av1", "av1", "av01"), ("", "h264", "avc1")] {
        let url = format!("http://{}/stream.mp4{query}", gsk.addr);
        let told: Value = serde_json::from_slice(&tool("ffprobe", &[&probe[..], &[&url]].concat())).unwrap();
        let video = json!({ "codec_name": codec, "codec_tag_string": tag, "width": 320, "height": 180, "color_range": "tv",
            "color_space": "bt709", "has_b_frames": 0 });
        assert_eq!(told["streams"], json!([video]));
        let input = ["-xerror", "-analyzeduration", "100000", "-i", &url];
        let frames = ["-frames:v", "10", "-f", "rawvideo", "-pix_fmt", "gray", "-"];
        assert_eq!(ffmpeg(&[&input[..], &frames].concat()).len(), 10 * 320 * 180, "{codec}");
        assert_eq!(initialized(&scene).get("preset"), "P1");
        // Beside such a stream, a session without video is told of it.
        let mut stream = http::get(gsk.addr, &format!("/stream.mp4{query}"));
        stream.read_exact(&mut [0; 1000]).unwrap();
        let mut beside = Viewer::join(gsk.addr, &format!("/ws?video=none&codec={codec}"));
        let config = beside.said("config");
        assert!(config["codec"].as_str().unwrap().starts_with(tag), "{config}");
    }
}

#[test]
fn a_worker_of_av1_says_so_everywhere() {
    let (scene, leases) = (Scene::rtx(), tempfile::tempdir().unwrap());
    let options = ["--codec", "av1", "--nvenc-preset", "p7", "--intra-refresh", "30", "--nvenc-input", "argb"];
    let gsk = worker_of("640x360", &scene, &leases, &options);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let config = viewer.said("config");
    // The engine's own conversion is BT.601's, and AV1's string tells what is not BT.709.
    let codec = config["codec"].as_str().unwrap();
    assert!(codec.starts_with("av01.0.") && codec.ends_with("M.08.0.110.01.01.06.0"), "{config}");
    let colour = json!({ "primaries": "bt709", "transfer": "bt709", "matrix": "smpte170m", "fullRange": false });
    assert_eq!(config["colour"], colour);
    let units: Vec<Unit> = (0..3).map(|_| viewer.unit()).collect();
    assert_eq!(decoded(&gsk, "obu", &units), 3 * 640 * 360);
    let made = initialized(&scene);
    assert_eq!(["codec", "preset", "refresh"].map(|key| made.get(key)), ["av1", "P7", "29/30"]);
    let status = gsk.status();
    assert_eq!((&status["encoder"]["codec"], &status["encoder"]["open"]), (&"av1".into(), &true.into()));
    let page = String::from_utf8(http::get(gsk.addr, "/").bytes()).unwrap();
    assert!(page.contains(r#"<body data-codec="av1">"#));
    let told = http::request(gsk.addr, "HEAD", "/stream.mp4", &[]);
    assert_eq!(told.code, 200);
    // The picture is the scene's all the same: the patches of colour that stand still in it.
    let still = gsk.dir.path().join("still.jpg");
    std::fs::write(&still, http::get(gsk.addr, "/frame.jpg").bytes()).unwrap();
    let patches = |input: &[&str]| -> [f64; 3] {
        let filter = "scale=in_color_matrix=smpte170m,format=rgb24,crop=iw*0.24:ih*0.04:iw*0.73:ih*0.91";
        let pixels = ffmpeg(&[input, &["-frames:v", "1", "-vf", filter, "-f", "rawvideo", "-"]].concat());
        let mean = |c| pixels.chunks(3).map(|pixel| f64::from(pixel[c])).sum::<f64>() / (pixels.len() / 3) as f64;
        [0, 1, 2].map(mean)
    };
    let file = gsk.dir.path().join("units");
    let (here, there) = (patches(&["-f", "obu", "-i", path(&file)]), patches(&["-i", path(&still)]));
    assert!(here.iter().zip(there).all(|(a, b)| (a - b).abs() < 4.0), "{here:?} {there:?}");
    assert!(here.iter().all(|mean| (60.0..160.0).contains(mean)), "{here:?}");
}

/// What a worker that is to encode something says where it cannot, and its exit code.
fn refusal(scene: &Scene, words: &[&str]) -> (i32, String) {
    let leases = tempfile::tempdir().unwrap();
    let (code, _, err) = run(&[&["serve", "--listen", "0"], words].concat(), |command| {
        scene.apply(command).env("GSK_LEASE_DIR", leases.path());
    });
    (code, err)
}

#[test]
fn what_cannot_be_encoded_here_is_refused_in_words() {
    let turing = Scene::of(Board::new("Tesla T4").cc(7, 5).codecs(&[Video::H264, Video::Hevc]));
    let (code, err) = refusal(&turing, &["--codec", "av1"]);
    assert_eq!(code, 3, "{err}");
    assert!(
        err.contains("AV1 cannot be encoded here") && err.contains("Tesla T4 encodes h264 and hevc, not av1"),
        "{err}"
    );
    assert!(err.contains("--codec h264"), "{err}");
    assert_eq!(turing.events("open"), [], "no session is opened to find out");
    let (code, err) = refusal(&Scene::without_driver(), &["--codec", "hevc", "--encoder", "nvenc"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("HEVC cannot be encoded here") && err.contains("libnvidia-encode.so.1 is not on this host"));
    assert!(err.contains("hint: H.264 can: --codec h264 --encoder auto"), "{err}");
    for (flag, value) in
        [("--codec", "hevc"), ("--nvenc-preset", "p3"), ("--intra-refresh", "60"), ("--nvenc-input", "argb")]
    {
        let (code, err) = refusal(&turing, &["--encoder", "openh264", flag, value]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(&format!("{flag} does nothing for --encoder openh264")), "{err}");
    }
    for value in ["1", "3601", "often"] {
        assert_eq!(refusal(&turing, &["--intra-refresh", value]).0, 2);
    }
    // A viewer hears the same.
    let leases = tempfile::tempdir().unwrap();
    let gsk = worker(&turing, &leases, &[]);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=av1");
    assert_eq!(viewer.said("hello")["codecs"], json!(["h264", "hevc", "jpeg"]));
    assert!(viewer.last_word().contains("AV1 cannot be encoded here"));
    let answer = http::get(gsk.addr, "/stream.mp4?codec=av1");
    // In vain again and again.
    assert_eq!((answer.code, answer.header("retry-after")), (409, None));
    let body = answer.json();
    assert!(body["reason"].as_str().unwrap().contains("Tesla T4 encodes h264 and hevc, not av1"), "{body}");
    assert!(body["hint"].as_str().unwrap().contains("--codec h264"), "{body}");
    for path in ["/stream.mp4?codec=vp9", "/ws?video=vp9", "/stream.mp4?timeline=none"] {
        let answer = http::get(gsk.addr, path);
        assert_eq!(answer.code, 400, "{path}");
        let error = answer.json()["error"].to_string();
        assert!(error.contains("the query is not understood: ") && error.contains("expected"), "{error}");
    }
}

#[test]
fn what_an_encoder_lacks_when_it_is_opened_is_logged_once() {
    let scene = Scene::of(Board::geforce().without_intra_refresh());
    let leases = tempfile::tempdir().unwrap();
    let gsk = worker(&scene, &leases, &["--intra-refresh", "60"]);
    for _ in 0..2 {
        let mut viewer = Viewer::join(gsk.addr, "/ws?video=h264");
        assert_eq!(viewer.said("config")["backend"], "openh264");
    }
    let lack = "WARN encoder openh264, not nvenc: ";
    until(SOON, "a word of it", || gsk.err().contains(lack).then_some(()));
    assert_eq!(gsk.err().matches(lack).count(), 1, "{}", gsk.err());
    assert!(gsk.err().contains("has no intra refresh of H.264"), "{}", gsk.err());
}

#[test]
fn settings_of_nvenc_say_so_where_there_is_none() {
    for (scene, told) in [(Scene::a100(), true), (Scene::rtx(), false)] {
        let leases = tempfile::tempdir().unwrap();
        let mut gsk = worker(&scene, &leases, &["--nvenc-preset", "p1"]);
        gsk.signal(Signal::TERM);
        gsk.ended(SOON);
        assert_eq!(gsk.err().contains("do nothing here: this host has no NVENC"), told, "{}", gsk.err());
    }
}

#[test]
fn a_failure_in_flight_is_tried_again_where_nothing_else_can() {
    let mut scene = Scene::rtx();
    scene.fault("nvEncLockBitstream", 5, 20);
    let leases = tempfile::tempdir().unwrap();
    let gsk = worker(&scene, &leases, &["--codec", "hevc"]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let units: Vec<Unit> = (0..4).map(|_| viewer.unit()).collect();
    assert!(units[0].key && units[1..].iter().all(|unit| !unit.key));
    let began = Instant::now();
    assert!(viewer.unit().key, "from a key unit on");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(scene.events("open").len(), 2);
    gsk.await_state(SOON, "streaming");
}

#[test]
fn no_software_stands_in_for_hevc() {
    let mut scene = Scene::geforce(1);
    scene.foreign(Foreign::new(0, 4242));
    let leases = tempfile::tempdir().unwrap();
    let gsk = worker(&scene, &leases, &["--when-full", "software"]);
    let mut h264 = Viewer::join(gsk.addr, "/ws");
    assert_eq!(h264.said("config")["backend"], "openh264");
    let _viewer = Viewer::join(gsk.addr, "/ws?video=hevc");
    gsk.await_state(SOON, "no-slot");
    let answer = http::get(gsk.addr, "/stream.mp4?codec=hevc");
    assert_eq!(answer.code, 503);
    scene.foreign_ends();
    drop(h264);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=hevc");
    until(SOON, "a unit", || matches!(viewer.next(), Got::Unit(unit) if unit.key).then_some(()));
}
