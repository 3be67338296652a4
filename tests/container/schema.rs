//! The documents' forms, key by key: none is missing, none is more, each of its type.

use serde_json::{Value, json};

use super::form::Form::{self, *};
use super::form::{ERRORS, fits};

const ENGINE: Form = Object(&[("address", Text), ("from", Text), ("version", Maybe(&Text))]);

const PORT: Form =
    Object(&[("name", Text), ("number", Number), ("inside", Number), ("protocol", Word(&["tcp", "udp"]))]);

const SEEN: Form = Object(&[
    ("name", Text),
    ("container", Text),
    ("id", Text),
    ("title", Text),
    ("state", Word(&["starting", "ready", "unhealthy", "exited"])),
    ("reason", Maybe(&Text)),
    ("since", Maybe(&Text)),
    ("image", Text),
    ("digest", Maybe(&Text)),
    ("address", Text),
    ("ports", List(&PORT)),
    ("page", Maybe(&Text)),
    ("tunnel", Maybe(&Text)),
    ("login", Maybe(&Object(&[("user", Text), ("password", Maybe(&Text)), ("file", Maybe(&Text))]))),
    ("gpu", Text),
    (
        "reports",
        Maybe(&Object(&[
            ("dir", Text),
            ("files", Maybe(&List(&Object(&[("name", Text), ("bytes", Number), ("modified", Text)])))),
        ])),
    ),
]);

const STREAMS: Form = Object(&[
    ("schema", Object(&[("name", Word(&["gsk.streams"])), ("version", Number)])),
    ("gsk", Text),
    ("host", Text),
    ("stream", Word(&["nsight", "isaac"])),
    ("engine", ENGINE),
    ("streams", List(&SEEN)),
    (
        "changes",
        List(&Object(&[
            ("container", Text),
            ("action", Word(&["created", "kept", "recreated", "removed"])),
            ("why", Text),
            ("done", Bool),
        ])),
    ),
    ("errors", ERRORS),
]);

const LOG: Form = Object(&[
    ("schema", Object(&[("name", Word(&["gsk.stream-log"])), ("version", Number)])),
    ("gsk", Text),
    ("host", Text),
    ("stream", Word(&["nsight", "isaac"])),
    ("lines", List(&Object(&[("from", Word(&["stdout", "stderr"])), ("text", Text)]))),
    ("errors", ERRORS),
]);

/// That a document has the form of `gsk.streams`, version 1.
pub fn streams(document: &Value) {
    fits(document, &STREAMS, "$");
    assert_eq!(document["schema"]["version"], 1);
}

/// That a document has the form of `gsk.stream-log`, version 1.
pub fn log(document: &Value) {
    fits(document, &LOG, "$");
    assert_eq!(document["schema"]["version"], 1);
}

#[test]
fn what_has_another_form_does_not_pass() {
    let good = json!({
        "schema": {"name": "gsk.streams", "version": 1}, "gsk": "1", "host": "h", "stream": "nsight", "errors": [],
        "engine": {"address": "a", "from": "f", "version": null},
        "streams": [{
            "name": "n", "container": "c", "id": "i", "title": "t", "state": "ready", "reason": null, "since": null,
            "image": "i", "digest": null, "address": "127.0.0.1", "page": null, "tunnel": null, "gpu": "none",
            "ports": [{"name": "http", "number": 1, "inside": 1, "protocol": "tcp"}],
            "login": {"user": "u", "password": null, "file": null},
            "reports": {"dir": "d", "files": [{"name": "n", "bytes": 1, "modified": "m"}]},
        }],
        "changes": [{"container": "c", "action": "kept", "why": "w", "done": true}],
    });
    streams(&good);
    let worse: [fn(&mut Value); 6] = [
        |d| d["more"] = 1.into(),
        |d| drop(d.as_object_mut().unwrap().remove("engine")),
        |d| d["streams"][0]["state"] = "fine".into(),
        |d| d["streams"][0]["login"]["token"] = "x".into(),
        |d| d["streams"][0]["ports"][0]["number"] = "1".into(),
        |d| d["changes"][0]["done"] = Value::Null,
    ];
    for (n, change) in worse.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(std::panic::catch_unwind(|| streams(&bad)).is_err(), "{n}: {bad}");
    }
}
