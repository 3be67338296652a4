//! Ctrl-C, as a terminal sends it to gsk's whole process group, and SIGTERM.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::place::{Answer, Place, example};

struct Running {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Running { child, err }
    }

    /// Reads messages up to one with this text.
    fn await_word(&mut self, text: &str) {
        let mut all = String::new();
        while !all.contains(text) {
            assert!(self.err.read_line(&mut all).unwrap() > 0, "no {text:?}: {all}");
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn ctrl_c(&self) {
        kill_process_group(self.pid(), Signal::INT).unwrap();
    }

    fn end(mut self) -> Answer {
        let mut err = String::new();
        self.err.read_to_string(&mut err).unwrap();
        let mut answer = Answer::of(self.child.wait_with_output().unwrap());
        answer.err = err;
        answer
    }
}

fn document(answer: &Answer) -> Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// A program that says on standard output, which is gsk's standard error here, that it runs, and counts its interrupts.
const CAREFUL: &str =
    "trap 'echo program >>seen.program; exit 9' INT TERM; echo running; while :; do read -r _ <gate; done";

#[test]
fn ctrl_c_goes_to_the_program_and_the_report_is_written() {
    for (signal, nsys) in [(Signal::INT, true), (Signal::TERM, true), (Signal::INT, false)] {
        let place = Place::with_nsys();
        rustix::fs::mknodat(rustix::fs::CWD, place.path("gate"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let own: &[&str] = if nsys { &[] } else { &["--no-nsys"] };
        let words = [&["1", "1", "c", "0", "--json"], own, &["--", "sh", "-c", CAREFUL]].concat();
        let mut run = Running::start(place.gsk(&words));
        run.await_word("running");
        match signal {
            Signal::INT => run.ctrl_c(),
            signal => kill_process(run.pid(), signal).unwrap(),
        }
        let answer = run.end();
        let document = document(&answer);
        assert_eq!((answer.code, &document["exit_code"]), (Some(9), &9.into()), "{answer:?}");
        assert_eq!(document["interrupted"], signal.as_raw());
        assert_eq!(fs::read_to_string(place.path("seen.program")).unwrap(), "program\n", "once");
        assert!(!place.path("seen.signals").exists(), "nsys was left to write");
        assert_eq!(document["ranges"].is_array(), nsys, "{document:#}");
    }
}

#[test]
fn a_slow_nsys_is_waited_for_and_a_second_ctrl_c_gives_it_up() {
    for again in [false, true] {
        let place = Place::with_nsys();
        for fifo in ["gate", "nsys-gate"] {
            rustix::fs::mknodat(rustix::fs::CWD, place.path(fifo), rustix::fs::FileType::Fifo, 0o600.into(), 0)
                .unwrap();
        }
        // It says that it ends: from then on nsys writes its report.
        let script = CAREFUL.replace("exit 9", "echo ends; exit 9");
        let mut command = place.gsk(&["1", "1", "slow", "0", "--json", "--", "sh", "-c", &script]);
        command.env("NSYS_MODE", "slow").env("NSYS_GATE", place.path("nsys-gate"));
        let mut run = Running::start(command);
        run.await_word("running");
        run.ctrl_c();
        run.await_word("ends");
        // Opened once nsys is at it.
        let mut gate = fs::File::options().write(true).open(place.path("nsys-gate")).unwrap();
        if again {
            run.ctrl_c();
        } else {
            gate.write_all(b"now\n").unwrap();
        }
        let answer = run.end();
        let document = document(&answer);
        match again {
            false => {
                assert_eq!(answer.code, Some(9), "{answer:?}");
                assert!(document["files"]["report"].is_string() && document["ranges"].is_array(), "{document:#}");
            }
            true => {
                assert_eq!((answer.code, answer.signal), (None, Some(2)), "{answer:?}");
                assert_eq!(document["files"]["report"], Value::Null);
            }
        }
        drop(gate);
    }
}

#[test]
fn the_first_ctrl_c_that_finds_the_program_only_asks_it_to_end() {
    let place = Place::with_nsys();
    for fifo in ["gate", "nsys-gate"] {
        rustix::fs::mknodat(rustix::fs::CWD, place.path(fifo), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }
    let mut command = place.gsk(&["1", "1", "early", "0", "--json", "--", "sh", "-c", CAREFUL]);
    command.env("NSYS_MODE", "slow-start").env("NSYS_GATE", place.path("nsys-gate"));
    let mut run = Running::start(command);
    // Opened once nsys is at it.
    let mut gate = fs::File::options().write(true).open(place.path("nsys-gate")).unwrap();
    run.ctrl_c();
    run.await_word("nsys starts the program");
    gate.write_all(b"now\n").unwrap();
    run.await_word("running");
    run.ctrl_c();
    let answer = run.end();
    let document = document(&answer);
    assert_eq!((answer.code, &document["exit_code"]), (Some(9), &9.into()), "{answer:?}");
    assert!(document["files"]["report"].is_string() && document["ranges"].is_array(), "{document:#}");
}

/// Impatience costs no report: nsys, which writes it, is not disturbed.
#[test]
fn ctrl_c_behind_the_program_is_for_nobody() {
    let place = Place::with_nsys();
    rustix::fs::mknodat(rustix::fs::CWD, place.path("nsys-gate"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut command = place.gsk(&["1", "1", "late", "0", "--json", "--", "true"]);
    command.env("NSYS_MODE", "slow").env("NSYS_GATE", place.path("nsys-gate"));
    let mut run = Running::start(command);
    let mut gate = fs::File::options().write(true).open(place.path("nsys-gate")).unwrap();
    run.ctrl_c();
    run.await_word("or writes its report: once more gives it up");
    gate.write_all(b"now\n").unwrap();
    let answer = run.end();
    let document = document(&answer);
    assert_eq!((answer.code, &document["interrupted"]), (Some(0), &2.into()), "{answer:?}");
    assert!(document["files"]["report"].is_string() && document["ranges"].is_array(), "{document:#}");
    assert!(!place.path("seen.signals").exists());
}

/// Python ends by the signal, and so does gsk.
#[test]
fn an_interrupted_program_interrupts_gsk() {
    let place = Place::new();
    let words = [&["1000000", "2000", "c", "0", "--no-nsys", "--json"], &example()[..]].concat();
    let mut run = Running::start(place.gsk(&words));
    run.await_word("epoch 2: loss");
    run.ctrl_c();
    let answer = run.end();
    assert_eq!((answer.code, answer.signal), (None, Some(2)), "{answer:?}");
    let document = document(&answer);
    assert_eq!((&document["signal"], &document["exit_code"]), (&2.into(), &Value::Null));
    let (_, list) = place.json(&["--list"]);
    assert_eq!((&list["runs"][0]["state"], &list["runs"][0]["signal"]), (&"ended".into(), &2.into()));
}

#[test]
fn the_built_in_run_ends_at_its_batch_and_keeps_its_trace() {
    for nsys in [false, true] {
        let place = if nsys { Place::with_nsys() } else { Place::new() };
        let own: &[&str] = if nsys { &[] } else { &["--no-nsys"] };
        let mut run = Running::start(place.gsk(&[&["100000", "256", "c", "2", "--json"], own].concat()));
        run.await_word("epoch 1: loss");
        run.ctrl_c();
        let answer = run.end();
        assert_eq!((answer.code, answer.signal), (None, Some(2)), "{answer:?}");
        let document = document(&answer);
        assert_eq!(document["training"]["stopped"], true, "{document:#}");
        let file = if nsys { "report" } else { "trace" };
        assert!(place.path("profiling_output").join(document["files"][file].as_str().unwrap()).is_file());
    }
}

/// gsk, killed, takes all with it, and the run is known to be broken off.
#[test]
fn nothing_outlives_a_killed_gsk() {
    let place = Place::with_nsys();
    rustix::fs::mknodat(rustix::fs::CWD, place.path("gate"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let script = "echo $$ >program; exec 3<>gate; echo running; read -r _ <&3";
    let mut run = Running::start(place.gsk(&["1", "1", "k", "0", "--json", "--", "sh", "-c", script]));
    run.await_word("running");
    let program: i32 = fs::read_to_string(place.path("program")).unwrap().trim().parse().unwrap();
    let held =
        rustix::process::pidfd_open(Pid::from_raw(program).unwrap(), rustix::process::PidfdFlags::empty()).unwrap();
    kill_process(run.pid(), Signal::KILL).unwrap();
    assert_eq!(run.end().signal, Some(9));
    // The descriptor is readable once the program has ended.
    let mut fds = [rustix::event::PollFd::new(&held, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1, "it is still there");
    let (_, list) = place.json(&["--list"]);
    assert_eq!(list["runs"][0]["state"], "broken", "{list:#}");
}
