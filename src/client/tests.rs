use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::wire::status;

#[test]
fn addresses_of_workers() {
    let cases = [
        ("http://render7:5000", Ok("http://render7:5000/status")),
        ("http://render7:5000/", Ok("http://render7:5000/status")),
        ("http://render7:5000/#token=abc", Ok("http://render7:5000/status")),
        ("http://proxy/w/3/", Ok("http://proxy:80/w/3/status")),
        ("http://proxy/w/3/status", Ok("http://proxy:80/w/3/status")),
        ("render7:5000", Ok("http://render7:5000/status")),
        ("[::1]:5000", Ok("http://[::1]:5000/status")),
        ("https://render7:5000", Err("only http://")),
        ("http://user:word@render7:5000", Err("GSK_TOKEN")),
        ("http://render7:70000", Err("")),
        ("http://", Err("such as")),
        ("", Err("such as")),
        ("a b", Err("such as")),
    ];
    for (text, expected) in cases {
        match (text.parse::<Target>(), expected) {
            (Ok(target), Ok(expected)) => assert_eq!(target.to_string(), expected, "{text}"),
            (Err(error), Err(hint)) => assert!(error.hint.as_deref().unwrap_or("").contains(hint), "{text}: {error:?}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
    assert_eq!(Target::new("[::1]", 7).to_string(), "http://[::1]:7/status");
}

fn parse(json: serde_json::Value) -> Status {
    Status::parse(json.to_string().as_bytes()).unwrap()
}

#[test]
fn a_worker_of_ours_is_read_by_its_names() {
    let status = parse(json!({
        "schema": {"name": "gsk.status", "version": 1}, "instance_id": "omega-3", "state": "no-slot",
        "reason": "2 of 2 held", "since": "2026-11-21T09:00:00.000Z", "stream_backend": "gsk:scene:openh264",
        "encoder": {"backend": "openh264", "slot": "slot-1", "fallback": {"from": "nvenc", "cause": "no-slot"}},
        "streaming": false, "stream_active_clients": 3, "stream_max_clients": 512, "frames_fps": 29.97,
        "frames_dropped": 4, "nvenc_sessions_used": null
    }));
    assert_eq!((status.instance.as_deref(), status.state_derived), (Some("omega-3"), false));
    assert_eq!((status.state, status.reason.as_str()), (State::Worker(status::State::NoSlot), "2 of 2 held"));
    assert_eq!((status.viewers, status.viewers_max, status.frames_dropped), (Some(3), Some(512), Some(4)));
    assert_eq!((status.fps, status.nvenc_sessions_used), (Some(29.97), None));
    assert_eq!((status.slot.as_deref(), status.fallback.as_deref()), (Some("slot-1"), Some("nvenc: no-slot")));
    assert_eq!(parse(json!({"state": "dreaming"})).state, State::Other("dreaming".into()));
}

/// Fields as MetaBonk's workers have them.
fn metabonk(own: serde_json::Value) -> Status {
    let mut all = json!({
        "worker_id": 2, "stream_enabled": true, "streaming": false, "stream_backend": "ffmpeg:h264_nvenc",
        "streamer_last_error": null, "stream_error": "", "stream_active_clients": 1, "stream_max_clients": 3,
        "nvenc_sessions_used": 2, "stream_target_fps": 60, "frames_fps": 60.0, "stream_fps": null, "frames_dropped": 7.0
    });
    all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    parse(all)
}

#[test]
fn a_metabonk_workers_state_is_concluded_and_said_to_be() {
    use status::State::{Error, Idle, Streaming};
    let cases = [
        (json!({"streaming": true}), Streaming, ""),
        (json!({"streaming": true, "streamer_last_error": "EAGAIN"}), Streaming, "its last error: EAGAIN"),
        (json!({"stream_error": "No capable devices found"}), Error, "No capable devices found"),
        (json!({"streamer_last_error": "ffmpeg died"}), Error, "ffmpeg died"),
        (json!({"stream_enabled": false}), Idle, "switched off"),
        (json!({}), Idle, "concluded"),
    ];
    for (own, state, words) in cases {
        let status = metabonk(own.clone());
        assert_eq!((&status.state, status.state_derived), (&State::Worker(state), true), "{own}");
        assert!(status.reason.contains(words) && status.reason.contains("concluded"), "{own}: {}", status.reason);
    }
    let status = metabonk(json!({}));
    assert_eq!((status.instance.as_deref(), status.backend.as_deref()), (Some("2"), Some("ffmpeg:h264_nvenc")));
    assert_eq!((status.viewers, status.nvenc_sessions_used, status.frames_dropped), (Some(1), Some(2), Some(7)));
}

#[test]
fn a_configured_rate_is_not_taken_for_a_measured_one() {
    assert_eq!(metabonk(json!({})).fps, None, "frames_fps is the target");
    assert_eq!(metabonk(json!({"frames_fps": 57.3})).fps, Some(57.3));
    assert_eq!(metabonk(json!({"stream_fps": 41.5})).fps, Some(41.5));
    assert_eq!(metabonk(json!({"stream_fps": "fast", "frames_fps": -1})).fps, None);
    assert_eq!(parse(json!({"state": "streaming", "frames_fps": 60.0, "stream_target_fps": 60})).fps, Some(60.0));
}

#[test]
fn what_is_no_status_is_refused_in_words() {
    for (body, words) in [
        (&b"<html>"[..], "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{\"title\": 1}", "none of the fields"),
        (&[b'['; 100_000], "not JSON"),
    ] {
        let error = Status::parse(body).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A server for one connection, that answers with these bytes and then says or hears no more.
fn server(answer: Vec<u8>) -> (Target, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::new("127.0.0.1", listener.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut part = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") {
            let n = stream.read(&mut part).unwrap();
            asked.extend_from_slice(&part[..n]);
        }
        // Whoever has read enough hangs up.
        let _ = stream.write_all(&answer);
        let _ = stream.read(&mut part);
        String::from_utf8(asked).unwrap()
    });
    (target, thread)
}

fn ask(answer: impl Into<Vec<u8>>, limit: Duration) -> (Result<Status>, String) {
    let (target, thread) = server(answer.into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let token = Secret::from("letmein".to_string());
    let got = runtime.block_on(status(&target, Some(&token), limit));
    drop(runtime);
    (got, thread.join().unwrap())
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn an_answer_is_asked_for_with_the_token_and_read() {
    let (got, asked) = ask("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"state\":\"idle\"}", LONG);
    assert_eq!(got.unwrap().state, State::Worker(status::State::Idle));
    assert!(
        asked.starts_with("GET /status HTTP/1.1\r\n") && asked.contains("authorization: Bearer letmein\r\n"),
        "{asked}"
    );
    assert!(asked.contains("host: 127.0.0.1:"), "{asked}");
    let (got, _) =
        ask("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{\"state\":\"idle\"}\r\n0\r\n\r\n", LONG);
    assert_eq!(got.unwrap().state, State::Worker(status::State::Idle));
}

#[test]
fn nonsense_is_a_reason() {
    let huge = [b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n".to_vec(), vec![b' '; CAP + 1]].concat();
    let cases: [(&[u8], &str); 8] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
            "sends on to http://elsewhere/ (302)",
        ),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "GSK_TOKEN"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "not JSON"),
        (&huge, "larger than 1 MiB"),
        (b"HTTP/1.1 200 OK\r\n", "connected, but no answer within 0.2 s"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{", "an answer that does not end within 0.2 s"),
    ];
    for (answer, words) in cases {
        let limit = if words.contains("within") { Duration::from_millis(200) } else { LONG };
        let (got, _) = ask(answer, limit);
        assert!(got.as_ref().unwrap_err().to_string().contains(words), "{words}: {got:?}");
    }
}

#[test]
fn all_are_asked_at_once() {
    let hung: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut targets: Vec<Target> =
        hung.iter().map(|listener| Target::new("127.0.0.1", listener.local_addr().unwrap().port())).collect();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    targets.push(Target::new("127.0.0.1", free));
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(workers(&targets, None, Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_millis(8 * 300), "{:?}", began.elapsed());
    assert!(found.iter().all(|worker| worker.status.state == State::Unreachable));
    assert_eq!(found[8].status.reason, "nothing listens there");
    assert_eq!(found[0].port, targets[0].port());
}
