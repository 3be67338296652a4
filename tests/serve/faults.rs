//! Viewers that misbehave, and what the others notice of it: nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::ending::{narrow, stalled};
use crate::gsk::{Gsk, SOON, until};
use crate::http::{self, Answer};
use crate::viewer::{Got, Unit, Viewer, p95_gap};

/// Jpeg at this size is more than enough to fill a narrow connection, and next to no work.
const SMALL: [&str; 2] = ["--size", "320x180"];

/// A good viewer watches while a bad one does its worst: the pictures keep coming, and memory stays.
fn others_notice_nothing(gsk: &Gsk, span: Duration, worst: impl FnOnce()) {
    let addr = gsk.addr;
    let good = std::thread::spawn(move || {
        let mut viewer = Viewer::join(addr, "/ws");
        viewer.unit();
        viewer.units(span)
    });
    gsk.await_state(SOON, "streaming");
    let before = gsk.memory();
    worst();
    let units: Vec<Unit> = good.join().unwrap();
    assert!(units.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "the good viewer missed units");
    let gap = p95_gap(&units);
    assert!(gap < Duration::from_millis(100), "95 in 100 gaps are within {gap:?}");
    let grown = gsk.memory().saturating_sub(before) >> 20;
    assert!(grown < 48, "memory grew by {grown} MiB");
}

#[test]
fn a_viewer_that_reads_a_byte_a_second_and_one_that_stops() {
    let gsk = Gsk::start(&SMALL);
    others_notice_nothing(&gsk, Duration::from_secs(6), || {
        let stopped = [stalled(&gsk, "/stream.mjpg"), stalled(&gsk, "/stream.mp4"), stalled(&gsk, "/stream.h264")];
        let silent = Viewer::over(narrow(&gsk), "/ws?video=jpeg", &[]).unwrap();
        let mut slow = Viewer::over(narrow(&gsk), "/ws?video=jpeg", &[]).unwrap();
        for _ in 0..5 {
            slow.socket.get_mut().read_exact(&mut [0]).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
        drop((stopped, silent, slow));
    });
    let skipped = gsk.status()["frames_dropped_by"]["slow_viewer"].as_u64().unwrap();
    assert!(skipped > 0, "what waited for them was bounded");
}

#[test]
fn a_viewer_that_reads_again_is_told_what_it_missed_and_starts_at_a_key_unit() {
    let gsk = Gsk::start(&["--size", "1280x720", "--bitrate", "20M"]);
    let mut slow = Viewer::over(narrow(&gsk), "/ws", &[]).unwrap();
    slow.unit();
    let skipped = |n: u64| {
        gsk.await_status(SOON * 2, "skipped units", |status| {
            (status["frames_dropped_by"]["slow_viewer"].as_u64() > Some(n)).then_some(())
        });
    };
    skipped(20);
    let mut last: Option<u32> = None;
    let told = loop {
        match slow.next() {
            Got::Unit(unit) => {
                assert!(last.is_none_or(|last| unit.sequence == last + 1), "units are missing, and it was not told");
                last = Some(unit.sequence);
            }
            Got::Said(message) if message["type"] == "drop" => break message["frames"].as_u64().unwrap(),
            Got::Said(_) | Got::Pong => {}
            Got::Closed => panic!("it was let go"),
        }
    };
    let next = slow.unit();
    assert!(next.key, "{next:?}");
    let missed = u64::from(next.sequence - last.unwrap() - 1);
    assert_eq!(told, missed, "it is told how many");
    assert!(!slow.unit().key);
}

#[test]
fn messages_that_are_none_of_ours_end_their_own_connection_only() {
    let gsk = Gsk::start(&SMALL);
    others_notice_nothing(&gsk, Duration::from_secs(3), || {
        let last_word = |message: Message| {
            let mut viewer = Viewer::join(gsk.addr, "/ws");
            viewer.socket.send(message).unwrap();
            let last_word = viewer.last_word();
            let closed_with = viewer.closed_with.unwrap_or_default();
            assert!(last_word.starts_with(&closed_with) && closed_with.is_empty() == last_word.is_empty());
            last_word
        };
        assert!(last_word(Message::text("garbage \u{1f4a5}")).contains("not a gsk.v1 message"));
        // What is quoted of it is longer than a close frame holds.
        let long = format!(r#"{{"type":"{}"}}"#, "\u{1f4a5}".repeat(200));
        assert!(last_word(Message::text(long)).contains("unknown variant"));
        assert!(last_word(Message::text(r#"{"type":"quality","bitrate_bps":-1}"#)).contains("not a gsk.v1 message"));
        assert!(last_word(Message::binary(vec![0; 100])).contains("binary messages"));
        assert_eq!(last_word(Message::text("x".repeat(20_000))), "", "longer than any message: cut off");
        let mut parts = Viewer::join(gsk.addr, "/ws?video=none");
        for opcode in [Data::Text, Data::Continue] {
            let part = Frame::message("x".repeat(10_000), OpCode::Data(opcode), opcode == Data::Continue);
            parts.socket.send(Message::Frame(part)).unwrap();
        }
        assert_eq!(parts.last_word(), "", "so is one in parts");
        // A frame that announces 1 GB, and no mask: each is against the rules.
        for head in [&[0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4][..], &[0x81, 0x05, 1, 2, 3, 4, 5]] {
            let mut viewer = Viewer::join(gsk.addr, "/ws?video=none");
            viewer.said("hello");
            viewer.socket.get_mut().write_all(head).unwrap();
            let asked = Instant::now();
            viewer.last_word();
            assert!(asked.elapsed() < Duration::from_secs(2));
        }
    });
}

#[test]
fn a_viewer_that_asks_and_does_not_read_keeps_the_newest_answers_only() {
    let gsk = Gsk::start(&SMALL);
    let mut viewer = Viewer::over(narrow(&gsk), "/ws?video=jpeg", &[]).unwrap();
    gsk.await_status(SOON, "a full connection", |status| {
        (status["frames_dropped_by"]["slow_viewer"].as_u64() > Some(0)).then_some(())
    });
    (0..600).for_each(|n| viewer.say(&format!(r#"{{"type":"ping","t":{n}}}"#)));
    viewer.say(r#"{"type":"ack","sequence":1,"frames":1,"decode_us":3000}"#);
    gsk.await_status(SOON, "the last message", |status| status["latency_ms"]["decode"].is_object().then_some(()));
    let mut answers = Vec::new();
    while answers.last() != Some(&599) {
        answers.push(viewer.said("pong")["t"].as_f64().unwrap() as u32);
    }
    assert!(answers.len() <= 32, "{} answers were kept", answers.len());
    assert!(answers.windows(2).all(|pair| pair[1] == pair[0] + 1), "the newest: {answers:?}");
}

#[test]
fn ten_thousand_messages_a_second() {
    let gsk = Gsk::start(&SMALL);
    others_notice_nothing(&gsk, Duration::from_secs(4), || {
        let flood = |message: fn(u32) -> Message| {
            let stream = TcpStream::connect(gsk.addr).unwrap();
            let mut viewer = Viewer::over(stream, "/ws?video=none", &[]).unwrap();
            viewer.socket.get_mut().set_nonblocking(true).unwrap();
            let (start, mut sent) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(1500) {
                for _ in 0..100 {
                    // A full socket is the guard at work: what is over the limit is not read.
                    sent += u32::from(viewer.socket.send(message(sent)).is_ok());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            sent
        };
        let key = |n| Message::text(format!(r#"{{"type":"input","view":{n},"event":"key","key":"a","down":true}}"#));
        assert!(flood(key) > 5000, "it was a flood");
        flood(|_| Message::Ping(vec![0; 100].into()));
    });
}

#[test]
fn messages_over_the_limit_wait_for_the_next_second() {
    let gsk = Gsk::start(&SMALL);
    let mut viewer = Viewer::join(gsk.addr, "/ws?video=none");
    let start = Instant::now();
    for n in 0..1200 {
        viewer.say(&format!(r#"{{"type":"ping","t":{n}}}"#));
    }
    for n in 0..1200 {
        assert_eq!(viewer.said("pong")["t"], f64::from(n), "none is lost");
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "500 a second: {:?}", start.elapsed());
}

#[test]
fn who_takes_nothing_or_says_nothing_is_let_go() {
    let gsk = Gsk::start(&["--size", "320x180", "--fps", "60"]);
    let addr = gsk.addr;
    // How long until the worker closes a connection that sends `first` and then a byte now and then.
    let cut = move |first: &'static [u8], drip: bool| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            stream.write_all(first).unwrap();
            let (start, mut answer) = (Instant::now(), [0; 4096]);
            loop {
                match stream.read(&mut answer) {
                    Ok(0) => return start.elapsed(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => return start.elapsed(),
                    Ok(_) => {}
                }
                if drip {
                    let _ = stream.write_all(b"a");
                }
                assert!(start.elapsed() < Duration::from_secs(20), "never");
            }
        })
    };
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let cuts = [
        ("no word", cut(b"", false)),
        ("a head that does not end", cut(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", true)),
        ("nothing after an answer", cut(request, false)),
    ];
    let _stopped = [stalled(&gsk, "/stream.mjpg"), stalled(&gsk, "/stream.mp4")];
    let _silent = Viewer::over(narrow(&gsk), "/ws?video=jpeg", &[]).unwrap();
    let stopped_at = Instant::now();
    gsk.await_status(SOON, "three viewers", |status| (status["active_clients"] == 3).then_some(()));
    for (what, cut) in cuts {
        let after = cut.join().unwrap();
        assert!((9.0..13.0).contains(&after.as_secs_f64()), "{what}: {after:?}");
    }
    let mut good = Viewer::join(gsk.addr, "/ws");
    good.unit();
    until(Duration::from_secs(40), "those who take nothing are let go", || {
        good.units(Duration::from_millis(200));
        (gsk.status()["active_clients"] == 1).then_some(())
    });
    assert!(stopped_at.elapsed() > Duration::from_secs(18), "not before their time: {:?}", stopped_at.elapsed());
}

#[test]
fn a_head_beyond_its_bound_is_refused() {
    let gsk = Gsk::start(&SMALL);
    // What the source itself takes is there by now.
    gsk.await_status(SOON, "the source", |status| (!status["source_detail"].is_null()).then_some(()));
    let before = gsk.memory();
    for kilobytes in [20, 1000] {
        let mut stream = TcpStream::connect(gsk.addr).unwrap();
        stream.write_all(format!("GET /status HTTP/1.1\r\nHost: {}\r\n", gsk.addr).as_bytes()).unwrap();
        let line = format!("X-Padding: {}\r\n", "x".repeat(1000));
        let refused = (0..kilobytes).any(|_| stream.write_all(line.as_bytes()).is_err());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(refused || answer.starts_with("HTTP/1.1 431"), "{kilobytes} kB: {answer}");
    }
    assert!(gsk.memory() < before + (8 << 20));
    assert_eq!(http::get(gsk.addr, "/healthz").code, 200);
}

#[test]
fn connections_are_bounded_those_with_no_video_too() {
    let gsk = Gsk::start(&[&SMALL[..], &["--max-viewers", "2"]].concat());
    let mut good = Viewer::join(gsk.addr, "/ws");
    good.unit();
    let held = || {
        let sockets = std::fs::read_dir(format!("/proc/{}/fd", gsk.pid())).unwrap();
        let links = sockets.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let mut listeners = Vec::new();
    for _ in 0..100 {
        let mut viewer = Viewer::join(gsk.addr, "/ws?video=none");
        viewer.said("hello");
        listeners.push(viewer);
    }
    let crowd: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(gsk.addr).unwrap()).collect();
    // 2 places, 128 beside them, the listening socket and what the runtime has; never all of the crowd.
    until(SOON, "the bound", || (held() >= 130).then_some(()));
    let mut late = TcpStream::connect(gsk.addr).unwrap();
    late.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", gsk.addr).as_bytes()).unwrap();
    assert!(good.units(Duration::from_secs(1)).len() > 10, "who is in stays in");
    assert!(held() <= 140, "{} sockets", held());
    drop((crowd, listeners));
    late.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(Answer::read(late, false).code, 200, "and who waited has a turn");
}
