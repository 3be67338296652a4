//! JPEG by nvJPEG, over the stand-in driver: a board without an engine for video.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gsk::{Gsk, SOON};
use crate::http;
use crate::standin::Scene;
use crate::viewer::Viewer;

fn h200() -> Scene {
    let mut scene = Scene::h200();
    scene.with_nvjpeg();
    scene
}

/// A worker on the scene's host, whose pictures a program draws: in host memory, and always another.
fn worker(scene: &Scene, words: &[&str]) -> Gsk {
    let draws = "while :; do head -c 46080 /dev/urandom; sleep 0.03; done";
    let words = [&["--size", "160x96", "--pixel-format", "rgb24"], words, &["--", "sh", "-c", draws]].concat();
    Gsk::with(&words, |command| {
        scene.apply(command).env("GSK_LEASE_DIR", scene.libraries().with_file_name("leases"));
    })
}

/// What `/status` says of the JPEG encoder.
fn jpeg(status: &Value) -> &Value {
    status["encoders"].as_array().unwrap().iter().find(|encoder| encoder["codec"] == "jpeg").unwrap()
}

#[test]
fn jpeg_streams_are_made_by_the_gpu() {
    let scene = h200();
    let gsk = worker(&scene, &[]);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=jpeg");
    let config = viewer.said("config");
    assert_eq!((&config["backend"], &config["hardware"]), (&"nvjpeg".into(), &true.into()));
    assert_eq!((&config["codec"], &config["fallback"]), (&"mjpeg".into(), &Value::Null));
    viewer.unit();
    let status = gsk.status();
    let encoder = jpeg(&status);
    assert_eq!(
        (&encoder["backend"], &encoder["hardware"], &encoder["slot"]),
        (&"nvjpeg".into(), &true.into(), &Value::Null)
    );
    assert_eq!((&encoder["open"], &encoder["fallback"]), (&true.into(), &Value::Null));
    let still = http::get(gsk.addr, "/frame.jpg").bytes();
    assert!(still.starts_with(&[0xff, 0xd8]) && still.ends_with(&[0xff, 0xd9]));
    assert!(scene.events("nvjpeg-open").len() == 1, "encoded once, however many watch");
    // By name, it is what `/ws` carries.
    let named = worker(&scene, &["--encoder", "nvjpeg"]);
    assert_eq!(Viewer::join(named.addr, "/ws").said("config")["backend"], "nvjpeg");
    assert_eq!(named.status()["stream_backend"], "gsk:sh:nvjpeg");
    assert_eq!(scene.violations(), []);
}

#[test]
fn without_the_library_the_cpu_makes_jpeg_and_says_why() {
    let scene = Scene::h200();
    let gsk = worker(&scene, &[]);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=jpeg");
    let config = viewer.said("config");
    assert_eq!((&config["backend"], &config["fallback"]["cause"]), (&"jpeg".into(), &"no-driver".into()));
    assert_eq!(config["fallback"]["detail"], "libnvjpeg.so.12 is not on this host");
    let (code, _, err) = crate::gsk::run(&["serve", "--listen", "0", "--encoder", "nvjpeg"], |command| {
        scene.apply(command);
    });
    assert_eq!(code, 3);
    for says in [
        "--encoder nvjpeg cannot be used here",
        "libnvjpeg.so.12 is not on this host",
        "pip install nvidia-nvjpeg-cu12",
    ] {
        assert!(err.contains(says), "{says}: {err}");
    }
}

/// An encoder that fails at work is replaced at once, and takes its place again later.
#[test]
fn a_gpu_that_fails_is_stood_in_for_within_a_second() {
    for function in ["nvjpegEncodeYUV", "cuMemcpy2DAsync_v2"] {
        let mut scene = h200();
        scene.fault_from(function, 40, 6);
        let gsk = worker(&scene, &[]);
        let mut viewer = Viewer::join(gsk.addr, "/ws?video=jpeg");
        assert_eq!(viewer.said("config")["backend"], "nvjpeg", "{function}");
        // The next config comes with the first unit of another encoder.
        let mut last = viewer.unit();
        let mut gap = Duration::ZERO;
        let config = loop {
            match viewer.next() {
                crate::viewer::Got::Unit(unit) => {
                    gap = gap.max(unit.at.duration_since(last.at));
                    last = unit;
                }
                crate::viewer::Got::Said(message) if message["type"] == "config" => break message,
                crate::viewer::Got::Said(_) | crate::viewer::Got::Pong => {}
                crate::viewer::Got::Closed => panic!("{function}: it was let go"),
            }
        };
        let began = Instant::now();
        let unit = viewer.unit();
        gap = gap.max(unit.at.duration_since(last.at));
        assert!(gap < Duration::from_secs(1) && began.elapsed() < SOON, "{function}: {gap:?}");
        assert_eq!((&config["backend"], &config["hardware"]), (&"jpeg".into(), &false.into()), "{function}");
        let fallback = &config["fallback"];
        assert_eq!((&fallback["from"], &fallback["cause"]), (&"nvjpeg".into(), &"fault".into()), "{function}");
        let says = format!("{} returned 6", function.trim_end_matches("_v2"));
        assert!(fallback["detail"].as_str().unwrap().contains(&says), "{fallback}");
        assert_eq!(jpeg(&gsk.status())["fallback"]["cause"], "fault");
        assert!(gsk.err().contains("encoder jpeg, not nvjpeg: "), "{}", gsk.err());
        scene.faults_end();
        let config = loop {
            let config = viewer.said("config");
            if config["backend"] == "nvjpeg" {
                break config;
            }
        };
        assert_eq!(config["fallback"], Value::Null, "{function}");
        drop((viewer, gsk));
        assert_eq!(scene.violations(), [], "{function}");
    }
}
