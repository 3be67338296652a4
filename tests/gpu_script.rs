//! `tests/gpu.sh` itself, over the stand-in driver: what it would say on a real machine must be what it sees.

use std::process::{Command, Stdio};

use serde_json::Value;
use standin::Scene;

#[path = "standin/mod.rs"]
mod standin;

/// The checks by their ids, and whether each is good.
fn checks(scene: &Scene) -> (Vec<(String, bool)>, Value) {
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu.sh")).env("GSK", env!("CARGO_BIN_EXE_gsk"));
    command.env("GSK_FIGURE_SECONDS", "3");
    command.env("GSK_BENCH", "--size 160x160 --fps 60 --frames 10 --warmup 2");
    let done = scene.apply(&mut command).stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    let document: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {words}"));
    let checks = document["checks"].as_array().unwrap();
    let good: Vec<_> =
        checks.iter().map(|c| (c["id"].as_str().unwrap().to_string(), c["good"].as_bool().unwrap())).collect();
    let failed = good.iter().filter(|(_, good)| !good).count();
    assert_eq!((&document["failed"], done.status.code()), (&failed.into(), Some(i32::from(failed > 0))));
    (good, document)
}

fn bad(good: &[(String, bool)]) -> Vec<&str> {
    good.iter().filter(|(_, good)| !good).map(|(id, _)| id.as_str()).collect()
}

/// OpenGL is Mesa's here, which the script is to notice; all else is as on a machine of that kind.
#[test]
fn a_board_with_an_engine() {
    let (good, document) = checks(&Scene::geforce(3));
    assert_eq!(bad(&good), ["verify_gl", "scene_on_gpu"], "{document:#}");
    assert_eq!(good.len(), 10);
    assert_eq!(measured(&document), [("h264-1920x1080", "nvenc"), ("h264-3840x2160", "nvenc")]);
    let rows = ["encode nvenc h264", "encode nvenc hevc", "encode nvenc av1"];
    assert_eq!(benched(&document, "encode", "nvenc"), rows);
    assert_eq!(benched(&document, "decode", "nvdec"), rows.map(|row| row.replace("encode nvenc", "decode nvdec")));
    assert_eq!(benched(&document, "encode", "nvjpeg"), Vec::<String>::new());
    absent(&document, "encode", "nvjpeg", "libnvjpeg.so.12 is not on this host");
    let capture = document["bench"]["rows"][0]["detail"].as_str().unwrap();
    assert!(capture.starts_with("drawn by ") && capture.ends_with(", on the device"), "{capture}");
}

/// The figures that there are, and the encoders that they are of.
fn measured(document: &Value) -> Vec<(&str, &str)> {
    let figures = document["figures"].as_array().unwrap().iter().filter(|figure| !figure["status"].is_null());
    figures
        .map(|figure| {
            assert!(figure["cpu_percent"].as_f64().unwrap() > 0.0, "{figure:#}");
            for stage in ["capture", "coded"] {
                assert!(figure["status"]["latency_ms"][stage]["n"].as_u64().unwrap() > 0, "{figure:#}");
            }
            (figure["id"].as_str().unwrap(), figure["status"]["encoder"]["backend"].as_str().unwrap())
        })
        .collect()
}

/// Rows of the bench that were measured: case, back end and codec.
fn benched(document: &Value, case: &str, backend: &str) -> Vec<String> {
    let bench = &document["bench"];
    assert_eq!((&bench["schema"]["name"], &bench["complete"]), (&"gsk.bench".into(), &true.into()), "{document:#}");
    let rows = bench["rows"].as_array().unwrap().iter();
    let of = rows.filter(|row| row["case"] == case && row["backend"] == backend);
    of.map(|row| {
        assert!(row["stages"][0]["n"].as_u64().unwrap() >= 10, "{row:#}");
        format!("{case} {backend} {}", row["codec"].as_str().unwrap())
    })
    .collect()
}

fn absent(document: &Value, case: &str, backend: &str, says: &str) {
    let rows = document["bench"]["absent"].as_array().unwrap();
    let row = rows.iter().find(|row| row["case"] == case && row["backend"] == backend);
    let reason = row.unwrap_or_else(|| panic!("{case} {backend}: {rows:#?}"))["reason"].as_str().unwrap();
    assert!(reason.contains(says), "{reason}");
    let told = document["checks"].as_array().unwrap().iter().find(|check| check["id"] == "bench").unwrap();
    assert!(told["out"].as_str().unwrap().contains(says), "{told:#}");
}

#[test]
fn a_board_without_one() {
    let mut scene = Scene::h200();
    scene.with_nvjpeg();
    let (good, document) = checks(&scene);
    assert_eq!(bad(&good), ["verify_gl", "scene_on_gpu"], "{document:#}");
    let backends: Vec<&str> = measured(&document).into_iter().map(|(_, backend)| backend).collect();
    assert_eq!(backends, ["openh264", "nvjpeg", "openh264", "nvjpeg"]);
    absent(&document, "encode", "nvenc", "no NVENC engine");
    assert_eq!(benched(&document, "decode", "nvdec"), ["decode nvdec h264"]);
    assert_eq!(benched(&document, "encode", "nvjpeg"), ["encode nvjpeg jpeg"]);
}

#[test]
fn no_driver() {
    let (good, document) = checks(&Scene::without_driver());
    assert_eq!(
        bad(&good),
        ["inventory", "probe", "verify_gl", "scene_on_gpu", "encoder", "nvenc", "training"],
        "{document:#}"
    );
    absent(&document, "decode", "nvdec", "libnvcuvid.so.1 is not on this host");
    absent(&document, "encode", "nvenc", "libnvidia-encode.so.1 is not on this host");
    absent(&document, "capture", "cuda", "pictures pass through host memory: drawn by ");
}
