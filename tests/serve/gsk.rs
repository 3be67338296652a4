//! The program under test as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::http;

/// Looks again and again until there is something to see, for a bounded time.
pub fn until<T>(bound: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub const SOON: Duration = Duration::from_secs(10);

/// A running `gsk serve`. Dropping it kills it.
pub struct Gsk {
    child: Child,
    /// The first line of standard output, if it is a link.
    pub link: String,
    pub addr: SocketAddr,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    pub dir: tempfile::TempDir,
}

/// `gsk` in an empty folder, with nothing of ours in its environment.
pub fn command(dir: &tempfile::TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gsk"));
    command.args(words).current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().env("HOME", dir.path()).env("PATH", std::env::var_os("PATH").unwrap());
    command
}

impl Gsk {
    /// `gsk serve` with these words on a port of the system's choice, once it has printed its link.
    pub fn start(words: &[&str]) -> Gsk {
        Gsk::with(words, |_| {})
    }

    pub fn with(words: &[&str], prepare: impl FnOnce(&mut Command)) -> Gsk {
        let mut all = vec!["serve"];
        if !words.contains(&"--listen") {
            all.extend(["--listen", "0"]);
        }
        all.extend(words);
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(&dir, &all);
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let (out, err) = (gather(child.stdout.take().unwrap()), gather(child.stderr.take().unwrap()));
        let link = until(SOON, "the first line", || {
            let ended = child.try_wait().unwrap();
            let line = out.lock().unwrap().split_once('\n').map(|(line, _)| line.to_string());
            // What it wrote before its end may still be on its way.
            let silent = Arc::strong_count(&out) == 1 && line.is_none();
            assert!(ended.is_none() || !silent, "it ended: {}", err.lock().unwrap());
            line
        });
        let port = link.strip_prefix("http://").and_then(|rest| rest.split('/').next()?.rsplit(':').next());
        let port: u16 = port.and_then(|port| port.parse().ok()).unwrap_or(0);
        Gsk { child, link, addr: ([127, 0, 0, 1], port).into(), out, err, dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is on standard output by now.
    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// What is on standard error by now.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    pub fn status(&self) -> Value {
        let answer = http::get(self.addr, "/status");
        assert_eq!(answer.code, 200);
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// Waits until `/status` shows what `look` looks for.
    pub fn await_status<T>(&self, bound: Duration, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let mut last = Value::Null;
        let start = Instant::now();
        until(bound + SOON, what, || {
            last = self.status();
            let seen = look(&last);
            assert!(
                seen.is_some() || start.elapsed() < bound,
                "{what}: not within {bound:?}: {last:#}\n{}",
                self.err()
            );
            seen
        })
    }

    /// Waits for a state, and gives its reason.
    pub fn await_state(&self, bound: Duration, state: &str) -> String {
        self.await_status(bound, state, |status| {
            (status["state"] == state).then(|| status["reason"].as_str().unwrap().to_string())
        })
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub fn ended(&mut self, bound: Duration) -> ExitStatus {
        until(bound, "the end of gsk", || self.child.try_wait().unwrap())
    }

    /// The exit code and what is on standard error in the end.
    pub fn end(&mut self, bound: Duration) -> (i32, String) {
        let status = self.ended(bound);
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        // Its descendants may hold standard error a little longer.
        until(SOON, "the end of standard error", || (Arc::strong_count(&self.err) == 1).then_some(()));
        (code, self.err())
    }

    /// Resident memory, bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // SAFETY: sysconf only reads.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
        Duration::from_millis(ticks * 1000 / per_second)
    }
}

impl Drop for Gsk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream to its end on a thread.
fn gather(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = text.clone();
    std::thread::spawn(move || {
        let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
        while let Ok(1..) = stream.read_until(b'\n', &mut line) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// Runs `gsk` to its end: exit code, standard output, standard error.
pub fn run(words: &[&str], prepare: impl FnOnce(&mut Command)) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&dir, words);
    prepare(&mut command);
    let output = command.output().unwrap();
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// Processes that have this word in their command line, other than `but`.
pub fn processes(word: &str, but: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|&pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pid != but && memchr::memmem::find(&line, word.as_bytes()).is_some()
    })
    .collect()
}

/// A word that no other process has.
pub fn mark() -> String {
    format!("mark-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "-")
}

/// A shell program that writes a raw 64x64 frame of noise every so many seconds.
pub fn noise(every_s: f64) -> String {
    format!("while :; do head -c 12288 /dev/urandom; sleep {every_s}; done")
}
