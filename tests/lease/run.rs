//! `gsk lease run` as a person at a shell and a script meet it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gsk::lease::{Limit, Pool, Seen};
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(10);

/// A machine of its own: a home, and a lease directory that nobody else uses.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gsk"));
        command.args(["lease", "run"]).args(words).current_dir(self.home.path());
        command.env_clear().env("HOME", self.home.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("GSK_LEASE_DIR", self.home.path().join("leases"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn pool(&self) -> Pool {
        Pool::at(&self.home.path().join("leases")).unwrap()
    }

    fn slots(&self) -> Vec<Seen> {
        self.pool().slots().unwrap()
    }
}

/// A program that says when it runs, and then waits for its standard input's end.
const HOLD: &str = "echo running; read line; exit 7";

fn start(place: &Place, words: &[&str]) -> Child {
    let mut child = place.command(words).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "running\n", "{}", child.stderr.take().map_or(String::new(), text));
    child
}

fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

fn until(what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    began.elapsed()
}

fn gone(pid: u32) -> bool {
    gsk::proc::stat(pid).is_none_or(|stat| stat.ended)
}

#[test]
fn a_slot_is_held_while_the_program_runs_and_its_code_handed_on() {
    let place = Place::new();
    let mut child = start(&place, &["--slots", "1", "--", "sh", "-c", HOLD]);
    let slots = place.slots();
    let record = slots[0].record.clone().unwrap();
    assert!(slots.len() == 1 && slots[0].held, "{slots:?}");
    assert_eq!((record.pid, record.label.as_deref()), (child.id(), Some("sh")));
    assert_eq!(gsk::lease::alive(&record), Some(true));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(place.slots(), [Seen { index: 0, held: false, record: None }]);
}

#[test]
fn who_finds_none_free_is_told_who_holds_them() {
    let place = Place::new();
    let mut holder = start(&place, &["--slots", "1", "--instance-id", "omega-3", "--", "sh", "-c", HOLD]);
    let second = place.command(&["--slots", "1", "--", "sh", "-c", HOLD]).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(6), "{error}");
    assert!(error.contains(&format!("1 of 1 held by omega-3 (pid {})", holder.id())), "{error}");
    assert!(error.contains("hint: ") && second.stdout.is_empty(), "{error}");
    let began = Instant::now();
    let third = place.command(&["--slots", "1", "--wait", "300ms", "--", "true"]).output().unwrap();
    assert_eq!(third.status.code(), Some(6));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let error = String::from_utf8(third.stderr).unwrap();
    assert!(error.contains("within 300ms") && error.contains("waiting for an encoder slot"), "{error}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
}

#[test]
fn who_waits_goes_on_when_a_slot_is_free() {
    let place = Place::new();
    let mut holder = start(&place, &["--slots", "1", "--", "sh", "-c", HOLD]);
    let mut waiter = place.command(&["--slots", "1", "--wait", "60s", "--", "echo", "running"]).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(waiter.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("waiting for an encoder slot: 1 of 1"), "{said}");
    assert_eq!(waiter.try_wait().unwrap(), None);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(text(waiter.stdout.take().unwrap()), "running\n");
    assert!(waiter.wait().unwrap().success());
}

#[test]
fn the_limit_may_come_from_the_environment() {
    let place = Place::new();
    let run =
        |limit| place.command(&["--", "true"]).env("GSK_NVENC_MAX_SESSIONS", limit).output().unwrap().status.code();
    assert_eq!((run("1"), run("0"), run("many")), (Some(0), Some(6), Some(2)));
}

#[test]
fn a_killed_gsk_frees_the_slot_and_ends_the_program_and_what_it_started() {
    let place = Place::new();
    let script = "sleep 999 & echo $! > grandchild; echo $$ > child; echo running; wait";
    let mut child = start(&place, &["--slots", "1", "--", "sh", "-c", script]);
    let pid = |name: &str| fs::read_to_string(place.home.path().join(name)).unwrap().trim().parse::<u32>().unwrap();
    let below = [pid("child"), pid("grandchild")];
    assert!(below.iter().all(|&pid| !gone(pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    until("the slot is free", || !place.slots()[0].held);
    until("the program is gone", || below.into_iter().all(gone));
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let place = Place::new();
    let script = "sleep 999 & echo $! > left; exit 3";
    let done = place.command(&["--slots", "1", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    let left = fs::read_to_string(place.home.path().join("left")).unwrap().trim().parse().unwrap();
    assert!(gone(left) && !place.slots()[0].held);
}

#[test]
fn every_descendant_keeps_the_slot() {
    let place = Place::new();
    let child = start(&place, &["--slots", "1", "--", "sh", "-c", "sh -c 'sh -c \"echo running; read line\"'"]);
    let slot = fs::canonicalize(place.home.path().join("leases/slot-0")).unwrap();
    let names = || -> Vec<String> {
        let holders = gsk::proc::pids().into_iter().filter(|pid| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == slot))
        });
        holders.filter_map(gsk::proc::name).collect()
    };
    // Once the program runs, the guard lets go of it.
    until("the guard has let go", || !names().iter().any(|name| name == "gsk-guard"));
    // gsk itself and the shells, some of which become what they call.
    let names = names();
    assert!(names.iter().any(|name| name == "gsk") && names.iter().any(|name| name == "sh"), "{names:?}");
    finish(child);
}

fn finish(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn signals_reach_the_program_and_gsk_ends_with_it() {
    let place = Place::new();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP")] {
        let script =
            format!("trap 'echo got {name}; exit 9' {name}; echo running; while :; do read line || sleep 0.05; done");
        let mut child = start(&place, &["--slots", "1", "--", "sh", "-c", &script]);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(text(child.stdout.take().unwrap()), format!("got {name}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(9), "{name}");
    }
    let mut child = start(&place, &["--slots", "1", "--", "sh", "-c", "echo running; exec sleep 999"]);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "as a shell tells a signal");
}

#[test]
fn signals_that_are_to_be_ignored_stay_so() {
    let place = Place::new();
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_gsk")).args([
        "lease",
        "run",
        "--slots",
        "1",
        "--",
        "grep",
        "SigIgn",
        "/proc/self/status",
    ]);
    nohup.current_dir(place.home.path()).env("GSK_LEASE_DIR", place.home.path().join("leases"));
    let told = String::from_utf8(nohup.stdin(Stdio::null()).output().unwrap().stdout).unwrap();
    let mask = u64::from_str_radix(told.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & 1, 1, "SIGHUP, as nohup has it: {told}");
}

#[test]
fn who_waits_waits_for_the_gate_too() {
    let place = Place::new();
    let pool = place.pool();
    let gate = pool.gate().unwrap();
    let waiter = place.command(&["--slots", "1", "--wait", "60s", "--", "echo", "running"]).spawn().unwrap();
    // Longer than it is waited for at once.
    std::thread::sleep(Duration::from_millis(3300));
    drop(gate);
    let done = waiter.wait_with_output().unwrap();
    assert_eq!((done.status.code(), &done.stdout[..]), (Some(0), &b"running\n"[..]));
}

#[test]
fn a_program_that_is_not_there_takes_no_slot() {
    let place = Place::new();
    let done = place.command(&["--slots", "1", "--", "no-such-program"]).output().unwrap();
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot start 'no-such-program'"), "{error}");
    assert!(!place.slots()[0].held);
    let none = place.command(&["--slots", "1"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn a_waiter_that_is_interrupted_is_out_at_once() {
    let place = Place::new();
    let holder = start(&place, &["--slots", "1", "--", "sh", "-c", HOLD]);
    let mut waiter = place.command(&["--slots", "1", "--wait", "60s", "--", "true"]).spawn().unwrap();
    BufReader::new(waiter.stderr.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let began = Instant::now();
    kill_process(Pid::from_child(&waiter), Signal::INT).unwrap();
    assert_eq!(waiter.wait().unwrap().signal(), Some(2));
    assert!(began.elapsed() < Duration::from_secs(1));
    finish(holder);
}

/// Without a terminal of its own a shell refuses job control; with gsk between, it must not notice.
#[test]
fn a_terminal_belongs_to_the_program() {
    let place = Place::new();
    let gsk = env!("CARGO_BIN_EXE_gsk");
    let inner = format!("{gsk} lease run --slots 1 -- bash --norc -i");
    let mut script = Command::new("script");
    script.args(["-qefc", &inner, "/dev/null"]).current_dir(place.home.path());
    script.env("GSK_LEASE_DIR", place.home.path().join("leases")).env("PS1", "");
    let mut session = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = session.stdin.take().unwrap();
    let mut out = BufReader::new(session.stdout.take().unwrap());
    let mut heard = String::new();
    keys.write_all(b"echo ready-$((40+2)); sleep 999\n").unwrap();
    while !heard.contains("ready-42") {
        assert_ne!(out.read_line(&mut heard).unwrap(), 0, "{heard}");
    }
    // Once sleep has the terminal, Ctrl-C is its alone.
    until("sleep runs in front", || foreground(place.home.path()).is_some_and(|name| name == "sleep"));
    keys.write_all(b"\x03").unwrap();
    keys.write_all(b"echo code-$?; exit 5\n").unwrap();
    out.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("code-130") && !heard.contains("job control"), "{heard}");
    assert_eq!(session.wait().unwrap().code(), Some(5), "{heard}");
}

/// The program that has the terminal of whoever works in that folder: its process group is the terminal's.
fn foreground(folder: &Path) -> Option<String> {
    gsk::proc::pids().into_iter().find_map(|pid| {
        let here = fs::read_link(format!("/proc/{pid}/cwd")).ok()? == fs::canonicalize(folder).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // Behind the name: state, parent, process group, session, terminal, its foreground group.
        (here && fields[2] == fields[5] && fields[2] == pid.to_string()).then(|| gsk::proc::name(pid))?
    })
}

#[test]
fn the_slot_is_the_same_for_workers_and_programs() {
    let place = Place::new();
    let mine = place.pool().take(Limit::Sessions(1), || None, Default::default()).unwrap();
    assert_eq!(place.command(&["--slots", "1", "--", "true"]).output().unwrap().status.code(), Some(6));
    drop(mine);
    assert_eq!(place.command(&["--slots", "1", "--", "true"]).output().unwrap().status.code(), Some(0));
}
