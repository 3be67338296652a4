//! What goes to standard output, and how it ends where nobody reads it.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::gsk::{Gsk, SOON, run, until};

const SMALL: [&str; 2] = ["--size", "320x180"];

fn start(words: &[&str]) -> Gsk {
    Gsk::start(&[&SMALL[..], words].concat())
}

fn whole(gsk: &Gsk, lines: usize) -> String {
    until(SOON, "the document", || (gsk.out().lines().count() >= lines).then(|| gsk.out()))
}

#[test]
fn the_first_line_is_the_link_and_the_rest_goes_to_standard_error() {
    let gsk = start(&[]);
    assert_eq!(gsk.link, format!("http://{}/", gsk.addr));
    until(SOON, "the source's note", || gsk.err().contains("note: source scene, ").then_some(()));
    assert!(gsk.err().contains("note: encoder "), "{}", gsk.err());
    assert_eq!(gsk.out(), format!("{}\n", gsk.link));
}

#[test]
fn quiet_leaves_the_link_only() {
    let gsk = start(&["-q"]);
    gsk.await_state(SOON, "idle");
    assert_eq!((gsk.out(), gsk.err()), (format!("http://{}/\n", gsk.addr), String::new()));
}

#[test]
fn documents_carry_the_link() {
    let gsk = start(&["--format", "json", "--instance-id", "omega-5"]);
    let document: Value = until(SOON, "a document", || serde_json::from_str(&gsk.out()).ok());
    assert_eq!(document["schema"], serde_json::json!({ "name": "gsk.serve", "version": 1 }));
    assert!(document["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!((&document["instance_id"], &document["source"]), (&"omega-5".into(), &"scene".into()));
    assert!(document["encoder"]["backend"].is_string() && document["errors"] == serde_json::json!([]));

    let gsk = start(&["--format", "jsonl"]);
    let line: Value = serde_json::from_str(&whole(&gsk, 1)).unwrap();
    assert!(line["url"].is_string());

    let gsk = start(&["--format", "csv"]);
    let csv = whole(&gsk, 2);
    assert!(csv.starts_with("url,instance_id,source,encoder\nhttp://127.0.0.1:"), "{csv}");
}

#[test]
fn a_taken_port_is_named_with_whom_to_ask() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let (code, out, err) = run(&["serve", "--listen", &port], |_| {});
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with(&format!("error: port {port} is taken\n  cause: ")), "{err}");
    assert!(err.contains(&format!("\n\nhint: see who has it: ss -ltnp 'sport = :{port}'")), "{err}");
}

#[test]
fn an_encoder_that_is_not_here_is_refused_before_anything_starts() {
    if std::path::Path::new("/proc/driver/nvidia/version").exists() {
        println!("skipped: this host has NVIDIA's driver");
        return;
    }
    let (code, out, err) = run(&["serve", "--listen", "0", "--encoder", "nvenc", "--", "touch", "started"], |_| {});
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("--encoder nvenc") && err.contains("hint: ") && err.contains("use --encoder auto"), "{err}");
}

#[test]
fn a_closed_standard_output_ends_quietly() {
    for format in ["table", "json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let words = ["serve", "--listen", "0", "--format", format, "--", "sleep", "99"];
        let start = std::time::Instant::now();
        let (code, _, err) = run(&words, |command| _ = command.stdout(writer));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}
