//! Programs as sources, and the guard that ends them: with the real program as the guard.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gsk::child::{Ended, Guarded, guard_with};
use gsk::error::Kind;
use gsk::pipeline::frame::{PixelFormat, Pool, Size};
use gsk::pipeline::source::{self, Context, End, Next, Options, Restart, Source, Spec, Stop};
use gsk::wire::input::{Event, Input};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

const SECOND: Duration = Duration::from_secs(1);
/// For what takes its time under load, and would otherwise never come.
const LONG: Duration = Duration::from_secs(20);

fn argv(words: &[&str]) -> Vec<OsString> {
    guard_with(env!("CARGO_BIN_EXE_gsk"));
    words.iter().map(Into::into).collect()
}

fn sh(script: &str) -> Vec<OsString> {
    argv(&["sh", "-c", script])
}

fn readable(fd: impl AsFd, at_most: Duration) -> bool {
    let timeout = Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos().into() };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// A process that this one need not be the parent of.
struct Watched(OwnedFd);

impl Watched {
    fn new(pid: &str) -> Watched {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Watched(rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn kill(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.0, signal).unwrap();
    }

    fn gone(&self, at_most: Duration) -> bool {
        readable(&self.0, at_most)
    }
}

/// Starts `script`, which prints the numbers of processes, one a line.
fn started(script: &str, lines: usize) -> (Guarded, Vec<Watched>, Vec<String>) {
    let (child, _, stdout, _) = Guarded::spawn(&sh(script)).unwrap();
    let lines: Vec<String> = BufReader::new(stdout).lines().take(lines).map(Result::unwrap).collect();
    (child, lines.iter().map(|pid| Watched::new(pid)).collect(), lines)
}

fn output(script: &str) -> (String, Ended) {
    let (mut child, _stdin, mut stdout, _stderr) = Guarded::spawn(&sh(script)).unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    (text, child.wait())
}

#[test]
fn ends_are_told_as_they_were() {
    for (script, code, words) in [
        ("exit 0", 0, "ended"),
        ("exit 3", 3, "ended with exit code 3"),
        ("exit 127", 127, "ended with exit code 127"),
        ("exit 255", 255, "ended with exit code 255"),
        ("kill -SEGV $$", 139, "was ended by signal 11"),
    ] {
        let Ended { code: seen, signal, words: said } = output(script).1;
        assert_eq!((seen, said.as_str()), (code, words));
        assert_eq!(signal, (code == 139).then_some(11));
    }
}

#[test]
fn a_program_that_cannot_be_started_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    for (program, kind, says) in [
        ("/no/such/program", Kind::Usage, "cannot start '/no/such/program': No such file"),
        (plain.to_str().unwrap(), Kind::Permission, "Permission denied"),
    ] {
        let error = Guarded::spawn(&argv(&[program])).err().unwrap();
        assert_eq!(error.kind, kind);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn no_descendant_outlives_the_program_or_its_dropping() {
    let family = "echo $$; sleep 999 & echo $!; setsid sleep 998 & echo $!; (sh -c 'echo $$; exec sleep 997' &)";
    for (then, drops) in [("; wait", true), ("; read line", false)] {
        let (child, stdin, stdout, _stderr) = Guarded::spawn(&sh(&format!("{family}{then}"))).unwrap();
        let pids = BufReader::new(stdout).lines().take(4).map(|pid| Watched::new(&pid.unwrap()));
        let pids: Vec<_> = pids.collect();
        let began = Instant::now();
        let _child = (!drops).then_some(child);
        drop(stdin);
        for pid in &pids {
            assert!(pid.gone(LONG));
        }
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    }
}

#[test]
fn a_program_gets_sigterm_first_and_a_deaf_one_ends_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let polite = format!("trap 'echo bye > {}; exit' TERM; echo $$; while :; do sleep 1 & wait; done", told.display());
    let (child, pids, _) = started(&polite, 1);
    drop(child);
    assert!(pids[0].gone(SECOND) && told.exists());
    let (child, pids, _) = started("trap '' TERM; echo $$; while :; do sleep 1; done", 1);
    let began = Instant::now();
    drop(child);
    assert!(pids[0].gone(Duration::ZERO), "it is gone when the drop returns");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[test]
fn a_killed_guard_takes_the_program_along_and_a_terminated_one_does_not_go() {
    let (mut child, pids, lines) = started("echo $$; echo $PPID; exec sleep 999", 2);
    assert!(Path::new(&format!("/proc/{}", lines[1])).exists());
    pids[1].kill(Signal::TERM);
    pids[1].kill(Signal::INT);
    assert!(!pids[1].gone(Duration::from_millis(50)));
    pids[1].kill(Signal::KILL);
    assert!(pids[0].gone(LONG));
    assert!(readable(&child, SECOND));
    assert_eq!(child.wait().code, 137);
    assert!(!Path::new(&format!("/proc/{}", lines[1])).exists(), "the guard is no zombie");
}

#[test]
fn no_zombie_is_left() {
    for script in ["echo $PPID; exit 0", "echo $PPID; exec sleep 999"] {
        let (child, _, lines) = started(script, 1);
        drop(child);
        assert!(!Path::new(&format!("/proc/{}", lines[0])).exists());
    }
}

/// The test below runs this one in a process of its own, and kills it.
#[test]
fn victim() {
    if std::env::var_os("GSK_TEST_VICTIM").is_some() {
        let (_child, _pids, lines) =
            started("echo $$; sleep 999 & echo $!; setsid sleep 998 & echo $!; echo $PPID; wait", 4);
        // Its output is the test harness's: whatever else stands there, these lines begin so.
        lines.iter().for_each(|pid| eprintln!("pid {pid}"));
        std::thread::park_timeout(LONG);
    }
}

#[test]
fn nothing_outlives_a_killed_parent() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env("GSK_TEST_VICTIM", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stderr.take().unwrap()).lines();
    let pids = lines.filter_map(|line| line.unwrap().strip_prefix("pid ").map(Watched::new)).take(4);
    let pids: Vec<_> = pids.collect();
    assert_eq!(pids.len(), 4);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let began = Instant::now();
    for pid in &pids {
        assert!(pid.gone(LONG));
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[test]
fn a_program_is_born_clean() {
    // A library's descriptor without close-on-exec.
    let stray = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
    let (fds, _) = output("ls /proc/$$/fd");
    assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    let (masks, _) = output("exec grep -E '^Sig(Blk|Ign)' /proc/self/status");
    let masks: Vec<_> =
        masks.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()).collect();
    assert_eq!((masks[0], masks[1] & (1 << (libc::SIGPIPE - 1))), (0, 0), "blocked and ignored signals");
}

#[test]
fn a_terminals_signals_do_not_reach_the_program() {
    let group = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().to_string()
    };
    let (_child, _, lines) = started("echo $$; echo $PPID; exec sleep 999", 2);
    let ours = group("self");
    assert_eq!((group(&lines[0]), group(&lines[1])), (lines[0].clone(), lines[1].clone()));
    assert!(ours != lines[0] && ours != lines[1]);
}

struct Rig {
    source: Box<dyn Source>,
    context: Context,
}

const SIZE: Size = Size::new(16, 16);

fn options(argv: Vec<OsString>, size: Option<Size>) -> Options {
    let (format, restart) = (PixelFormat::I420, Restart::Never);
    Options { spec: Spec::Program(argv), size, format, fps: 30.0, repeat: false, restart, gpu: None }
}

impl Rig {
    fn new(script: &str) -> Rig {
        Rig::open(options(sh(script), Some(SIZE)))
    }

    fn open(options: Options) -> Rig {
        let context = Context { pool: Pool::default(), inputs: Arc::default(), stop: Stop::new().unwrap() };
        Rig { source: source::open(&options, &context).unwrap(), context }
    }

    /// Runs on to the end: the numbers of frames, the stalls, the end.
    fn end(&mut self) -> (usize, Vec<String>, End) {
        let (mut frames, mut stalls) = (0, Vec::new());
        loop {
            match self.source.next(&self.context).unwrap() {
                Next::Frame(_) => frames += 1,
                Next::Unchanged => panic!("a program says nothing of that"),
                Next::Stalled(reason) => stalls.push(reason),
                Next::End(end) => return (frames, stalls, end),
            }
        }
    }
}

#[test]
fn a_program_runs_from_start_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let counter = dir.path().join("counter");
    // 5 frames of 384 bytes, then its code.
    let script = format!("for i in 1 2 3 4 5; do head -c 384 /dev/zero; echo $i > {}; done; exit 7", counter.display());
    let (frames, stalls, end) = Rig::new(&script).end();
    assert_eq!((frames, stalls, end), (5, vec![], End::new("'sh' ended with exit code 7", 7)));
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "5\n");
}

#[test]
fn output_that_is_no_frames_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    // More than any pipe holds.
    let script = format!("echo hello, world of text; head -c 3000000 /dev/zero; echo > {}; exit 0", done.display());
    let mut rig = Rig::open(options(sh(&script), None));
    let (frames, stalls, end) = rig.end();
    assert_eq!((frames, stalls.len(), end.code), (0, 1, 2));
    assert!(stalls[0].starts_with("'sh': the stream begins with \"hello, world\": not YUV4MPEG2"), "{stalls:?}");
    assert!(end.reason.starts_with("'sh' ended; the stream begins") && end.hint.unwrap().contains("--size"));
    assert!(done.exists());
}

#[test]
fn a_program_may_close_its_output_early() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let script = format!("head -c 400 /dev/zero; exec >&-; read line < {}; exit 4", fifo.display());
    let mut rig = Rig::new(&script);
    assert!(matches!(rig.source.next(&rig.context), Ok(Next::Frame(_))));
    let Ok(Next::Stalled(reason)) = rig.source.next(&rig.context) else { panic!("no stall") };
    assert_eq!(reason, "'sh' closed its output; the stream ended inside frame 2: 16 of 384 bytes came");
    std::fs::write(&fifo, "go\n").unwrap();
    let (_, _, end) = rig.end();
    assert_eq!(end.code, 4);
    assert!(end.reason.ends_with("with exit code 4; the stream ended inside frame 2: 16 of 384 bytes came"));
}

#[test]
fn a_program_that_dies_in_mid_frame_or_at_once_is_told() {
    let (frames, _, end) = Rig::new("head -c 500 /dev/zero; kill -KILL $$").end();
    assert_eq!((frames, end.code), (1, 137));
    assert!(end.reason.contains("was ended by signal 9; the stream ended inside frame 2"), "{}", end.reason);
    assert_eq!(Rig::new("head -c 10 /dev/zero").end().2.code, 1, "a good code over a cut frame is not good");
    assert_eq!(Rig::new("exit 5").end(), (0, vec![], End::new("'sh' ended with exit code 5", 5)));
    assert_eq!(Rig::new("exit 0").end(), (0, vec![], End::new("'sh' ended", 0)));
}

#[test]
fn a_program_that_hangs_is_told_soon_and_stopped_at_once() {
    let mut rig = Rig::new("head -c 500 /dev/zero; sleep 999");
    assert!(matches!(rig.source.next(&rig.context), Ok(Next::Frame(_))));
    let began = Instant::now();
    let Ok(Next::Stalled(reason)) = rig.source.next(&rig.context) else { panic!("no stall") };
    assert!(reason.contains("'sh': no data for 0.8 s: 116 of 384 bytes of frame 2"), "{reason}");
    assert!(began.elapsed() < SECOND);
    let began = Instant::now();
    rig.context.stop.stop();
    assert!(matches!(rig.source.next(&rig.context), Ok(Next::End(_))));
    drop(rig);
    assert!(began.elapsed() < SECOND);
}

fn key(view: u32) -> Input {
    Input { view, event: Event::Key { key: "a".into(), down: true } }
}

#[test]
fn events_go_in_as_json_lines_and_frames_tell_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let heard = dir.path().join("heard");
    let script = "while head -c 384 /dev/zero; do sleep 0.01; done & while read l; do echo $l; done >>";
    let mut rig = Rig::new(&format!("{script} {}", heard.display()));
    for view in 0..4 {
        if view > 0 {
            rig.context.inputs.push(key(view));
        }
        let shown = (0..1000).find(|_| match rig.source.next(&rig.context).unwrap() {
            Next::Frame(frame) if frame.view == view => true,
            Next::Frame(frame) if frame.view + 1 == view => false,
            _ => panic!("event {view} brought something else"),
        });
        assert!(shown.is_some(), "no frame bears event {view}");
    }
    while std::fs::read_to_string(&heard).unwrap().lines().count() < 3 {
        assert!(matches!(rig.source.next(&rig.context), Ok(Next::Frame(_))));
    }
    let lines: Vec<Input> =
        std::fs::read_to_string(&heard).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [key(1), key(2), key(3)]);
}

#[test]
fn a_program_that_never_reads_is_no_problem() {
    let mut rig = Rig::new("head -c 384 /dev/zero; sleep 999");
    assert!(matches!(rig.source.next(&rig.context), Ok(Next::Frame(_))));
    for view in 1..=10_000 {
        rig.context.inputs.push(Input { view, event: Event::Key { key: "x".repeat(100), down: view % 2 == 0 } });
    }
    let began = Instant::now();
    drop(rig);
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn standard_error_goes_to_the_log_and_cannot_harm_a_terminal() {
    let log = Log::default();
    let writer = log.clone();
    // Programs' lines are logged by a thread of their own.
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    // Not dropped before the log is read: dropping waits for that thread too.
    let mut rig = Rig::new(r"seq 2000 >&2; printf '\033[31mred\033[0m \302\233bad\r\nlast words' >&2; exit 9");
    let (_, _, end) = rig.end();
    assert_eq!(end.code, 9);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("bad") || line.contains("last")).collect();
    assert!(lines.len() == 2 && lines[0].contains("red bad") && lines[1].contains("last words"), "{lines:?}");
    assert!(!text.contains(['\u{1b}', '\u{9b}', '\r']), "{text:?}");
}
