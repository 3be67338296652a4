//! The document's form, key by key: none is missing, none is more, each of its type.

use serde_json::Value;

use super::form::Form::{self, *};
use super::form::{ERRORS, fits};

const IDS: &[&str] = &[
    "driver",
    "nvml",
    "cuda",
    "devices",
    "container",
    "egl-vendor",
    "egl-devices",
    "egl-cuda",
    "context",
    "draw",
    "gl-to-cuda",
    "cuda-to-gl",
    "cycles",
    "capture",
    "nvenc",
    "nvdec",
    "nvjpeg",
];

const DOCUMENT: Form = Object(&[
    ("schema", Object(&[("name", Word(&["gsk.verify-gl"])), ("version", Number)])),
    ("gsk", Text),
    ("host", Text),
    (
        "checks",
        List(&Object(&[
            ("id", Word(IDS)),
            ("title", Text),
            ("verdict", Word(&["pass", "warn", "fail", "skip"])),
            ("because", Maybe(&Text)),
            ("seen", Maybe(&Text)),
            ("remedy", Maybe(&Text)),
        ])),
    ),
    ("capabilities", List(&Object(&[("name", Text), ("usable", Maybe(&Bool)), ("why", Text)]))),
    (
        "devices",
        List(&Object(&[
            ("egl", Maybe(&Number)),
            ("kind", Maybe(&Text)),
            ("cuda", Maybe(&Number)),
            ("name", Maybe(&Text)),
            ("uuid", Maybe(&Text)),
            ("pci", Maybe(&Text)),
        ])),
    ),
    ("exports", Maybe(&Some(&["MUJOCO_EGL_DEVICE_ID", "EGL_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"]))),
    ("nvidia", Bool),
    ("errors", ERRORS),
]);

/// That a document has the form of `gsk.verify-gl`, version 1, and that its parts agree.
pub fn check(document: &Value) {
    fits(document, &DOCUMENT, "$");
    assert_eq!(document["schema"]["version"], 1);
    let ids: Vec<usize> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| IDS.iter().position(|id| check["id"] == *id).unwrap())
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "in their order, and each once: {ids:?}");
}

#[test]
fn what_has_another_form_does_not_pass() {
    let good = serde_json::json!({
        "schema": {"name": "gsk.verify-gl", "version": 1}, "gsk": "1", "host": "h", "nvidia": true, "errors": [],
        "checks": [{"id": "cuda", "title": "t", "verdict": "pass", "because": null, "seen": null, "remedy": null}],
        "capabilities": [], "devices": [], "exports": {"CUDA_VISIBLE_DEVICES": "GPU-0"},
    });
    check(&good);
    let worse: [fn(&mut Value); 7] = [
        |d| d["nvidia"] = Value::Null,
        |d| d["more"] = 1.into(),
        |d| drop(d.as_object_mut().unwrap().remove("exports")),
        |d| d["checks"][0]["verdict"] = "good".into(),
        |d| d["checks"][0]["id"] = "cuba".into(),
        |d| d["checks"] = serde_json::json!([d["checks"][0], d["checks"][0]]),
        |d| d["exports"]["PATH"] = "/".into(),
    ];
    for (n, change) in worse.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(std::panic::catch_unwind(|| check(&bad)).is_err(), "{n}: {bad}");
    }
}
