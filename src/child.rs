//! Programs that never outlive us.
//!
//! A program is not started by gsk itself but by a guard: gsk's own executable under another name, which makes itself
//! the reaper of all descendants, starts the program, and holds the reading end of a pipe whose writing end only gsk
//! has. When gsk is gone, in whatever way, the kernel closes that end; the guard sees it and ends every descendant. (A
//! parent-death signal alone is tied to a thread of the parent, and misses grandchildren.)
//!
//! Any program that starts children through this module calls [`guard_if_asked`] first thing in `main`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{Error, Result};

/// The guard's argv[0]; its first argument is the number of the pipe's descriptor.
const GUARD: &str = "gsk-guard";

/// Exit codes of shells, for a program that could not be started.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A program under its guard.
pub struct Guarded {
    guard: Child,
    /// Closing it ends the program and its descendants.
    leash: Option<OwnedFd>,
}

impl Guarded {
    /// Between SIGTERM and SIGKILL.
    const GRACE: Duration = Duration::from_millis(400);

    /// Starts a program with pipes on its three streams.
    pub fn spawn(argv: &[OsString]) -> Result<(Guarded, ChildStdin, ChildStdout, ChildStderr)> {
        let name = argv.first().map_or_else(String::new, |a| a.to_string_lossy().into_owned());
        let failed = |error: io::Error| Error::io(format!("cannot start '{name}'"), error);
        let (far, leash) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let number = far.as_raw_fd();
        let mut command = Command::new("/proc/self/exe");
        command.arg0(GUARD).arg(number.to_string()).args(argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C at a terminal is ours to pass on.
        command.process_group(0);
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe; `far` is open until spawn returns.
        unsafe {
            command.pre_exec(move || {
                let far = std::os::fd::BorrowedFd::borrow_raw(number);
                Ok(rustix::io::fcntl_setfd(far, rustix::io::FdFlags::empty())?)
            });
        }
        let mut guard = command.spawn().map_err(failed)?;
        let stdin = guard.stdin.take().expect("piped");
        let stdout = guard.stdout.take().expect("piped");
        let stderr = guard.stderr.take().expect("piped");
        Ok((Guarded { guard, leash: Some(leash) }, stdin, stdout, stderr))
    }

    /// A descriptor that is readable once the program has ended.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        let failed = |error: rustix::io::Errno| Error::io("cannot watch the program", error.into());
        rustix::process::pidfd_open(Pid::from_child(&self.guard), PidfdFlags::empty()).map_err(failed)
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> Result<Ended> {
        let status = self.guard.wait().map_err(|error| Error::io("cannot wait for the program", error))?;
        Ok(Ended::of(status))
    }

    /// Ends the program and all its descendants: SIGTERM, a grace, SIGKILL. Returns when they are gone.
    pub fn end(&mut self) {
        self.leash = None;
        let _ = self.guard.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a program ended, as a shell's exit code and in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub code: u8,
    pub words: String,
}

impl Ended {
    fn of(status: ExitStatus) -> Ended {
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8;
        let words = match code {
            0 => "ended".to_string(),
            NOT_FOUND => "was not found".to_string(),
            NOT_EXECUTABLE => "cannot be executed".to_string(),
            129.. => format!("was ended by signal {}", code - 128),
            _ => format!("ended with exit code {code}"),
        };
        Ended { code, words }
    }
}

/// Turns this process into a guard if it was started as one; returns otherwise. Call it before anything else.
pub fn guard_if_asked() {
    let mut args = std::env::args_os();
    if args.next().as_deref() == Some(OsStr::new(GUARD)) {
        std::process::exit(guard(args).into());
    }
}

fn guard(mut args: impl Iterator<Item = OsString>) -> u8 {
    let number = args.next().and_then(|n| n.to_str()?.parse::<i32>().ok());
    let (Some(number @ 3..), Some(program)) = (number, args.next()) else { return crate::exit::Code::Bug as u8 };
    // SAFETY: the parent left this descriptor open for us and told its number; nothing else here owns it.
    let leash = unsafe { OwnedFd::from_raw_fd(number) };
    if rustix::io::fcntl_setfd(&leash, rustix::io::FdFlags::CLOEXEC).is_err() {
        return crate::exit::Code::Bug as u8;
    }
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let mut command = Command::new(&program);
    command.args(args).process_group(0);
    // SAFETY: prctl is async-signal-safe. The guard has one thread, so the signal is tied to its life.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
            eprintln!("{}: {error}", program.to_string_lossy());
            return code;
        }
    };
    // The program's pipes are its own: were the guard to hold them too, their ends would not show.
    let _ = std::fs::File::open("/dev/null").and_then(|null| {
        rustix::stdio::dup2_stdin(&null)?;
        Ok(())
    });
    let _ = std::fs::File::create("/dev/null").and_then(|null| {
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok(())
    });
    let pid = Pid::from_child(&child);
    let ended = watch(&leash, pid);
    if !ended {
        let _ = rustix::process::kill_process_group(pid, Signal::TERM);
        wait_for_exit(pid, Guarded::GRACE);
    }
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let status = child.wait();
    end_descendants();
    status.map_or(crate::exit::Code::Bug as u8, |status| Ended::of(status).code)
}

/// Waits for the child's exit (`true`) or the leash's end (`false`).
fn watch(leash: &OwnedFd, pid: Pid) -> bool {
    let Ok(child) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    loop {
        let mut fds = [PollFd::new(leash, PollFlags::IN), PollFd::new(&child, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
            Ok(_) => return !fds[1].revents().is_empty(),
        }
    }
}

fn wait_for_exit(pid: Pid, at_most: Duration) {
    let Ok(child) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.subsec_nanos().into() };
    let _ = poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&timeout));
}

/// Kills what is left below us until nothing is: orphans come to us, as we are their reaper.
fn end_descendants() {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        for pid in children() {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        // Each is reaped before the next look, as the death of one may bring us its children.
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Err(rustix::io::Errno::CHILD) => return,
            _ => continue,
        }
    }
}

fn children() -> Vec<Pid> {
    let path = format!("/proc/self/task/{0}/children", rustix::process::getpid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
