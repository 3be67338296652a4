//! H.264 or JPEG for viewers that ask for neither, on a host that is too slow for H.264.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gsk::Gsk;
use crate::viewer::{Got, Viewer};

/// More than a core encodes as H.264 in time, and bits enough for JPEG.
const TOO_MUCH: [&str; 6] = ["--size", "2560x1440", "--fps", "120", "--bitrate", "200M"];

/// A first trial may fail on a machine that does other things too; the next one is 10 s later.
const BOUND: Duration = Duration::from_secs(60);

/// The next `config` of another codec than this one, and the first unit behind it.
fn other(viewer: &mut Viewer, codec: &str) -> (Value, crate::viewer::Unit) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < BOUND, "it stays with {codec}");
        match viewer.next() {
            Got::Said(config)
                if config["type"] == "config" && !config["codec"].as_str().unwrap().starts_with(codec) =>
            {
                return (config, viewer.unit());
            }
            Got::Closed => panic!("it was let go"),
            _ => {}
        }
    }
}

fn is_jpeg(unit: &crate::viewer::Unit) -> bool {
    unit.data.starts_with(&[0xff, 0xd8])
}

#[test]
fn a_session_is_brought_to_jpeg_where_h264_is_too_slow_and_back_where_jpeg_does_not_fit() {
    let gsk = Gsk::start(&[&TOO_MUCH[..], &["--max-viewers", "2"]].concat());
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    let first = viewer.said("config");
    assert!(first["codec"].as_str().unwrap().starts_with("avc1."), "{first}");
    assert!(!is_jpeg(&viewer.unit()));
    // All places are taken: who is brought over keeps his.
    let mut asked = Viewer::join(gsk.addr, "/ws?video=h264");
    asked.unit();
    let asks = std::thread::spawn(move || {
        // It reads on for as long as it is let.
        while !matches!(asked.next(), Got::Closed) {}
    });
    let (config, unit) = other(&mut viewer, "avc1.");
    assert_eq!((&config["codec"], &config["width"]), (&"mjpeg".into(), &2560.into()));
    assert!(is_jpeg(&unit) && unit.key, "config precedes the first JPEG");
    let fallback = &config["fallback"];
    assert_eq!((&fallback["from"], &fallback["cause"]), (&first["backend"], &"limit".into()), "{config}");
    assert!(fallback["detail"].as_str().unwrap().contains("too slow for H.264: a picture takes "), "{fallback}");
    let status = gsk.status();
    assert_eq!((&status["encoder"]["codec"], &status["encoder"]["fallback"]), (&"jpeg".into(), fallback));
    assert_eq!(
        (&status["encoder"]["viewers"], &status["encoders"][1]["viewers"]),
        (&1.into(), &1.into()),
        "{status:#}"
    );
    assert_eq!(gsk.err().matches("viewers get JPEG, not H.264 by ").count(), 1, "{}", gsk.err());
    for unit in viewer.units(Duration::from_millis(500)) {
        assert!(is_jpeg(&unit));
    }
    // JPEG at the coarsest quality takes far more than this.
    viewer.say(r#"{"type":"quality","bitrate_bps":1000000}"#);
    let (config, unit) = other(&mut viewer, "mjpeg");
    assert!(config["codec"].as_str().unwrap().starts_with("avc1.") && !is_jpeg(&unit) && unit.key, "{config}");
    assert_ne!(config["fallback"]["cause"], "limit");
    assert_eq!(gsk.status()["encoder"]["codec"], "h264");
    assert!(gsk.err().contains("viewers get H.264 again: JPEG does not fit the bit rate"), "{}", gsk.err());
    drop((viewer, gsk));
    asks.join().unwrap();
}

#[test]
fn an_encoder_that_was_chosen_stays() {
    let gsk = Gsk::start(&[&TOO_MUCH[..], &["--encoder", "openh264"]].concat());
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.said("config");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        assert!(!is_jpeg(&viewer.unit()));
    }
    let status = gsk.status();
    assert!(status["frames_dropped_by"]["slow_encoder"].as_u64().unwrap() > 0, "it is too slow all the same");
    assert_eq!(status["encoder"]["backend"], "openh264");
}
