//! The plain HTTP streams, read by FFmpeg and by hand.

use std::io::BufRead;
use std::time::{Duration, Instant};

use crate::gsk::{Gsk, SOON, until};
use crate::http;
use crate::media::{ffmpeg, path, tool};
use crate::viewer::Viewer;

const STREAMS: [(&str, &str); 4] = [
    ("/stream.mp4", "video/mp4"),
    ("/stream.h264", "video/h264"),
    ("/stream.mjpg", "multipart/x-mixed-replace; boundary=gsk-frame"),
    ("/frame.jpg", "image/jpeg"),
];

#[test]
fn head_answers_as_get_would_and_starts_nothing() {
    let gsk = Gsk::start(&["--size", "320x180"]);
    gsk.await_state(SOON, "idle");
    for (path, kind) in STREAMS {
        let answer = http::request(gsk.addr, "HEAD", path, &[]);
        assert_eq!((answer.code, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("content-length"), None, "{path}: it would be that of an empty body");
        assert!(answer.bytes().is_empty());
    }
    let status = gsk.status();
    assert_eq!((&status["frames_captured"], &status["state"]), (&0.into(), &"idle".into()));
    for (path, kind) in STREAMS {
        let answer = http::get(gsk.addr, path);
        assert_eq!((answer.code, answer.header("content-type")), (200, Some(kind)), "{path}");
    }
    assert!(gsk.status()["frames_captured"].as_u64().unwrap() > 0);
}

#[test]
fn mp4_and_h264_are_what_they_say() {
    let gsk = Gsk::start(&[]);
    let url = |path: &str| format!("http://{}{path}", gsk.addr);
    let mut probe = vec!["-v", "error", "-analyzeduration", "100000", "-show_entries"];
    probe.extend(["stream=codec_name,width,height,color_space,color_range,has_b_frames", "-of", "json"]);
    for stream in ["/stream.mp4", "/stream.h264"] {
        let url = url(stream);
        let told = tool("ffprobe", &[&probe[..], &[&url]].concat());
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        let video = serde_json::json!({ "codec_name": "h264", "width": 1280, "height": 720, "color_space": "bt709",
            "color_range": "tv", "has_b_frames": 0 });
        assert_eq!(told["streams"], serde_json::json!([video]), "{stream}");
        let input = ["-xerror", "-analyzeduration", "100000", "-i", &url];
        let frames = ["-frames:v", "10", "-vf", "scale=64:36", "-f", "rawvideo", "-"];
        let pixels = ffmpeg(&[&input[..], &frames].concat());
        assert_eq!(pixels.len(), 10 * 64 * 36 * 3 / 2, "{stream}");
    }
    gsk.await_state(SOON, "idle");
}

#[test]
fn mjpeg_parts_and_stills_are_whole_jpegs() {
    let gsk = Gsk::start(&["--size", "320x180"]);
    let check = |jpeg: &[u8]| {
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
        let file = gsk.dir.path().join("one.jpg");
        std::fs::write(&file, jpeg).unwrap();
        assert_eq!(ffmpeg(&["-xerror", "-i", path(&file), "-f", "rawvideo", "-pix_fmt", "gray", "-"]).len(), 320 * 180);
    };
    let still = http::get(gsk.addr, "/frame.jpg");
    assert_eq!(still.header("cache-control"), Some("no-store"));
    let length: usize = still.header("content-length").unwrap().parse().unwrap();
    let still = still.bytes();
    assert_eq!(still.len(), length);
    check(&still);

    let mut stream = std::io::BufReader::new(http::get(gsk.addr, "/stream.mjpg"));
    (0..5).for_each(|_| check(&part(&mut stream)));
    drop(stream);
    gsk.await_state(SOON, "idle");
}

/// The next part's body; the boundary behind it stays to be read.
fn part(stream: &mut impl BufRead) -> Vec<u8> {
    assert_eq!(http::line(stream), "--gsk-frame");
    assert_eq!(http::line(stream), "Content-Type: image/jpeg");
    let length = http::line(stream);
    let length: usize = length.strip_prefix("Content-Length: ").unwrap().parse().unwrap();
    assert_eq!(http::line(stream), "");
    let mut jpeg = vec![0; length];
    stream.read_exact(&mut jpeg).unwrap();
    assert_eq!(http::line(stream), "");
    jpeg
}

#[test]
fn a_picture_that_none_follows_comes_twice_in_mjpeg() {
    let frame = "head -c 12288 /dev/urandom";
    let script = format!("{frame}; until [ -e go ]; do sleep 0.02; done; {frame}; exec sleep 99");
    let gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", &script]);
    let mut stream = std::io::BufReader::new(http::get(gsk.addr, "/stream.mjpg"));
    let second = Duration::from_secs(1);
    let mut twice = || {
        let (first, began) = (part(&mut stream), Instant::now());
        assert_eq!(part(&mut stream), first);
        assert!(began.elapsed() < second, "well before the keepalive");
        (first, began)
    };
    let (first, _) = twice();
    std::fs::write(gsk.dir.path().join("go"), "").unwrap();
    let (second_picture, began) = twice();
    assert_ne!(second_picture, first);
    // Not again and again: what comes then is the keepalive.
    assert_eq!(part(&mut stream), second_picture);
    assert!(began.elapsed() > second, "{:?}", began.elapsed());
}

#[test]
fn where_jpeg_was_chosen_h264_is_refused_and_nothing_breaks() {
    let gsk = Gsk::start(&["--size", "320x180", "--encoder", "jpeg"]);
    for method in ["HEAD", "GET"] {
        let answer = http::request(gsk.addr, method, "/stream.mp4", &[]);
        assert_eq!(answer.code, 409, "{method}");
    }
    let reason = http::get(gsk.addr, "/stream.mp4").json()["reason"].to_string();
    assert!(reason.contains("JPEG only"), "{reason}");
    assert!(Viewer::join(gsk.addr, "/ws?video=h264").last_word().contains("JPEG only"));
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    assert_eq!(viewer.said("hello")["codecs"], serde_json::json!(["jpeg"]));
    assert_eq!(viewer.said("config")["codec"], "mjpeg");
    assert!(viewer.unit().data.starts_with(&[0xff, 0xd8]));
    let status = gsk.status();
    assert_eq!((&status["state"], &status["stream_error"]), (&"streaming".into(), &serde_json::Value::Null));
}

#[test]
fn a_source_that_does_not_run_is_a_conflict() {
    let gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", "read line; echo no video; exec sleep 99"]);
    // One who waits for the first picture hears of the failure as soon as it is known.
    let addr = gsk.addr;
    let waiting = std::thread::spawn(move || {
        let answer = http::get(addr, "/stream.mp4");
        (answer.code, std::time::Instant::now())
    });
    gsk.await_status(SOON, "the one who waits", |status| (status["active_clients"] == 1).then_some(()));
    let mut steering = Viewer::join(gsk.addr, "/ws?video=none");
    steering.say(r#"{"type":"input","view":1,"event":"key","key":"a","down":true}"#);
    let reason = gsk.await_state(SOON, "error");
    let failed = std::time::Instant::now();
    let (code, at) = waiting.join().unwrap();
    assert_eq!(code, 409);
    assert!(at.saturating_duration_since(failed) < Duration::from_secs(1));
    for (path, _) in STREAMS {
        assert_eq!(http::request(gsk.addr, "HEAD", path, &[]).code, 409);
        let answer = http::get(gsk.addr, path);
        assert_eq!((answer.code, answer.header("retry-after")), (409, Some("2")), "{path}");
        let body = answer.json();
        assert_eq!((&body["state"], &body["reason"]), (&"error".into(), &reason.clone().into()), "{path}");
    }
}

#[test]
fn beyond_the_most_viewers_one_is_told_who_has_the_places() {
    let gsk = Gsk::start(&["--size", "320x180", "--max-viewers", "1"]);
    let mut first = Viewer::join(gsk.addr, "/ws");
    first.unit();
    let answer = http::get(gsk.addr, "/stream.mp4");
    assert_eq!((answer.code, answer.header("retry-after")), (503, Some("2")));
    let body = answer.json();
    assert_eq!(body["state"], "streaming");
    assert!(body["reason"].as_str().unwrap().contains("all places for viewers are taken (--max-viewers 1)"), "{body}");
    assert_eq!(body["holders"], serde_json::json!(["1 viewer of h264"]));
    assert!(Viewer::join(gsk.addr, "/ws").last_word().contains("all places for viewers are taken (--max-viewers 1)"));
    // One who only listens takes no place.
    assert_eq!(Viewer::join(gsk.addr, "/ws?video=none").said("hello")["state"], "streaming");
    first.unit();
    drop(first);
    until(SOON, "the place is free", || (http::get(gsk.addr, "/stream.h264").code == 200).then_some(()));
}
