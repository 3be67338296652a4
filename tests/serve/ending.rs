//! How it ends: by a signal, in every state, within a second, with nothing left behind.

use std::any::Any;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::gsk::{Gsk, SOON, mark, noise, processes, until};
use crate::http::{self, Answer};
use crate::viewer::Viewer;

const SECOND: Duration = Duration::from_secs(1);

/// A connection that takes little and is not read from.
pub fn narrow(gsk: &Gsk) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&gsk.addr.into()).unwrap();
    socket.into()
}

/// A viewer of this path who reads nothing behind the head of the answer.
pub fn stalled(gsk: &Gsk, path: &str) -> Answer {
    use std::io::Write;
    let mut stream = narrow(gsk);
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gsk.addr);
    stream.write_all(head.as_bytes()).unwrap();
    Answer::read(stream, true)
}

/// Brings a worker into a state, signals it, and sees it end by that signal within a second, its program with it.
/// `{mark}` in the words becomes a word that is the program's own.
fn ends(signal: Signal, words: &[&str], reach: impl FnOnce(&Gsk) -> Box<dyn Any>) {
    let mark = mark();
    let words: Vec<String> = words.iter().map(|word| word.replace("{mark}", &mark)).collect();
    let mut gsk = Gsk::start(&words.iter().map(|word| &**word).collect::<Vec<_>>());
    let kept = reach(&gsk);
    let program = words.iter().any(|word| word.contains(&mark));
    assert_eq!(!processes(&mark, gsk.pid()).is_empty(), program, "the program runs");
    let start = Instant::now();
    gsk.signal(signal);
    let (code, err) = gsk.end(SOON);
    assert!(start.elapsed() < SECOND, "{words:?}: {:?}", start.elapsed());
    assert_eq!(code, 128 + signal.as_raw(), "{words:?}: {err}");
    assert_eq!(processes(&mark, 0), Vec::<u32>::new(), "{words:?}: the program is gone with it");
    drop(kept);
}

#[test]
fn a_signal_ends_it_in_every_state() {
    let nothing = |_: &Gsk| -> Box<dyn Any> { Box::new(()) };
    let raw = ["--size", "64x64", "--restart"];
    let program = |restart: &'static str, script: &'static str| -> Vec<&'static str> {
        [&raw[..], &[restart, "--", "sh", "-c", script, "{mark}"]].concat()
    };
    for signal in [Signal::INT, Signal::TERM] {
        ends(signal, &program("never", "sleep 99"), |gsk| {
            gsk.await_state(SOON, "starting");
            nothing(gsk)
        });
        ends(signal, &program("never", "echo text; sleep 99"), |gsk| {
            gsk.await_state(SOON, "error");
            Box::new(Viewer::join(gsk.addr, "/ws"))
        });
        ends(signal, &["--size", "64x64", "--restart", "always", "--", "false"], |gsk| {
            gsk.await_status(SOON, "restarting", |status| {
                status["reason"].as_str().unwrap().contains("starting it again").then_some(())
            });
            nothing(gsk)
        });
        ends(signal, &["--size", "320x180"], |gsk| {
            gsk.await_state(SOON, "idle");
            nothing(gsk)
        });
        ends(signal, &["--size", "320x180"], |gsk| {
            let viewers = ["/ws", "/ws?video=jpeg", "/ws?video=none"].map(|path| Viewer::join(gsk.addr, path));
            let mp4 = http::get(gsk.addr, "/stream.mp4");
            gsk.await_state(SOON, "streaming");
            Box::new((viewers, mp4, TcpStream::connect(gsk.addr).unwrap()))
        });
        // One that does not read, one that is in the middle of a request's head, and a program that does not want to end.
        let stubborn = "trap '' TERM INT; while :; do head -c 12288 /dev/urandom; sleep 0.01; done";
        ends(signal, &program("never", stubborn), |gsk| {
            use std::io::Write;
            let slow = stalled(gsk, "/stream.mjpg");
            gsk.await_status(SOON, "a slow viewer", |status| {
                (status["frames_dropped_by"]["slow_viewer"].as_u64() > Some(0)).then_some(())
            });
            let mut half = TcpStream::connect(gsk.addr).unwrap();
            half.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
            Box::new((slow, half))
        });
    }
}

#[test]
fn viewers_hear_why_it_ends() {
    let mut gsk = Gsk::start(&["--size", "320x180"]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.unit();
    gsk.signal(Signal::INT);
    assert_eq!(viewer.last_word(), "the worker was stopped");
    assert_eq!(gsk.end(SOON).0, 130);
}

#[test]
fn a_second_signal_skips_the_rest() {
    let slow = |gsk: &Gsk| {
        let viewer = stalled(gsk, "/stream.mjpg");
        gsk.await_status(SOON, "a slow viewer", |status| {
            (status["frames_dropped_by"]["slow_viewer"].as_u64() > Some(0)).then_some(())
        });
        viewer
    };
    let words = ["--size", "64x64", "--", "sh", "-c", &noise(0.01)];
    let mut patient = Gsk::start(&words);
    let kept = slow(&patient);
    let start = Instant::now();
    patient.signal(Signal::INT);
    assert_eq!(patient.end(SOON).0, 130);
    let waited = start.elapsed();
    drop(kept);

    let mut hurried = Gsk::start(&words);
    let kept = slow(&hurried);
    let start = Instant::now();
    hurried.signal(Signal::INT);
    std::thread::sleep(waited / 10);
    hurried.signal(Signal::INT);
    assert_eq!(hurried.end(SOON).0, 130);
    assert!(start.elapsed() < waited / 2, "{:?} and {waited:?}", start.elapsed());
    drop(kept);
}

#[test]
fn a_program_and_its_descendants_do_not_outlive_a_kill() {
    let mark = mark();
    let script = format!("sh -c 'sleep 999 & wait' {mark}-grandchild & setsid sh -c 'sleep 998; :' {mark}-own & wait");
    let mut gsk = Gsk::start(&["--size", "64x64", "--", "sh", "-c", &script, &mark]);
    until(SOON, "the descendants", || (processes(&mark, gsk.pid()).len() >= 4).then_some(()));
    gsk.signal(Signal::KILL);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&gsk.ended(SOON)), Some(9));
    until(Duration::from_secs(3), "their end", || processes(&mark, 0).is_empty().then_some(()));
}

#[test]
fn nobody_watching_costs_next_to_nothing() {
    let gsk = Gsk::start(&["--size", "320x180"]);
    let mut viewer = Viewer::join(gsk.addr, "/ws");
    viewer.units(Duration::from_millis(300));
    drop(viewer);
    gsk.await_state(SOON, "idle");
    let captured = || gsk.status()["frames_captured"].as_u64().unwrap();
    // A picture may have been on its way.
    let settled = until(SOON, "no more frames", || {
        let before = captured();
        std::thread::sleep(Duration::from_millis(100));
        (captured() == before).then_some(before)
    });
    let (before, span) = (gsk.cpu(), Duration::from_secs(4));
    std::thread::sleep(span);
    let used = gsk.cpu() - before;
    assert!(used < span / 50, "{used:?} in {span:?}");
    assert_eq!(captured(), settled);
    assert!(gsk.status()["frames_fps"].is_null());
}

#[test]
fn a_signal_that_was_to_be_ignored_is_ignored() {
    use std::os::unix::process::CommandExt;
    let mut gsk = Gsk::with(&[], |command| {
        // SAFETY: signal() is async-signal-safe, and nothing else is done between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_IGN);
                Ok(())
            })
        };
    });
    gsk.signal(Signal::INT);
    gsk.signal(Signal::TERM);
    assert_eq!(gsk.end(SOON).0, 128 + Signal::TERM.as_raw(), "{}", gsk.err());
}
