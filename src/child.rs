//! Programs that never outlive us.
//!
//! A program is not started by gsk itself but by a guard: gsk's own executable under another name, which makes itself
//! the reaper of all descendants, starts the program, and holds one end of a socket pair, the leash, whose other end
//! only gsk has. When gsk is gone, in whatever way, the kernel closes that end; the guard sees it and ends every
//! descendant. (A parent-death signal alone is tied to a thread of the parent, and misses grandchildren.)
//!
//! Over the leash the guard tells two numbers: the program's pid, or the error of its start as a negative number, and at
//! the end the program's wait status, once nothing of it is left.
//!
//! A program that starts others through this module calls [`guard_if_asked`] first thing in `main`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::error::{Error, Result};
use crate::signals::is_ignored;

/// The guard's argv[0]; its first arguments are the numbers of the leash's descriptor and of the one that the program is
/// given, or [`APART`].
const GUARD: &str = "gsk-guard";

/// In place of a descriptor's number: the program gets none, and a process group of its own.
const APART: &str = "-";

/// The executable that becomes the guard. Unset in a program that would not become one when started again, but
/// another of itself, and so on.
static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();

/// A program under its guard. Once the program has ended, the descriptor is readable.
pub struct Guarded {
    guard: Child,
    /// Closing it ends the program and its descendants.
    leash: UnixStream,
    program: Option<OwnedFd>,
    pid: Option<u32>,
    /// Its end was waited for, as long as that is worth while.
    ended: bool,
}

impl Guarded {
    /// Between SIGTERM and SIGKILL.
    const GRACE: Duration = Duration::from_millis(400);
    /// How long an end is waited for: beyond it, a process hangs in the kernel, and the guard alone waits on.
    const PATIENCE: Duration = Duration::from_millis(900);

    /// Starts a program with pipes on its three streams, in a process group of its own.
    pub fn spawn(argv: &[OsString]) -> Result<(Guarded, ChildStdin, ChildStdout, ChildStderr)> {
        let prepare = |command: &mut Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            // Ctrl-C at a terminal is ours to pass on.
            command.process_group(0);
        };
        let mut guarded = Guarded::start(argv, None, prepare)?;
        let stdin = guarded.guard.stdin.take().expect("piped");
        let stdout = guarded.guard.stdout.take().expect("piped");
        let stderr = guarded.guard.stderr.take().expect("piped");
        Ok((guarded, stdin, stdout, stderr))
    }

    /// Starts a program with more environment, which writes where we do but for its standard output, in a process group of
    /// its own: what a terminal sends is ours to pass on. Its standard input is ours, unless that is a terminal, which a
    /// program in the background may not read.
    pub fn apart(argv: &[OsString], environment: &[(&str, OsString)], stdout: Stdio) -> Result<Guarded> {
        Guarded::start(argv, None, |command| {
            if io::stdin().is_terminal() {
                command.stdin(Stdio::null());
            }
            command.stdout(stdout).envs(environment.iter().map(|(name, value)| (name, value))).process_group(0);
        })
    }

    /// Starts a program with our own streams, in our process group, so that a terminal is as much its own as ours. `keep`
    /// stays open in it and in what it starts.
    ///
    /// From here on, a signal that would end us goes to the program in our place, and we are to end when it does. Those
    /// that a terminal sends are passed over: it sends them to the program too.
    pub fn attached(argv: &[OsString], keep: BorrowedFd<'_>) -> Result<Guarded> {
        pass_signals().map_err(|error| Error::io("cannot catch signals", error))?;
        let guarded = Guarded::start(argv, Some(keep), |_| {})?;
        if let Some(program) = &guarded.program {
            PASSED_TO.store(program.as_raw_fd(), SeqCst);
            hand_on();
        }
        Ok(guarded)
    }

    fn start(argv: &[OsString], keep: Option<BorrowedFd<'_>>, prepare: impl FnOnce(&mut Command)) -> Result<Guarded> {
        let name = argv.first().map_or_else(String::new, |a| a.to_string_lossy().into_owned());
        let failed = |error: io::Error| Error::io(format!("cannot start '{name}'"), error);
        let executable =
            EXECUTABLE.get().ok_or_else(|| Error::bug("child::guard_if_asked was not called at the start"))?;
        let (leash, far) = UnixStream::pair().map_err(failed)?;
        let inherited = [Some(far.as_raw_fd()), keep.map(|fd| fd.as_raw_fd())];
        let mut command = Command::new(executable);
        let kept = inherited[1].map_or(APART.into(), |number| number.to_string());
        command.arg0(GUARD).arg(far.as_raw_fd().to_string()).arg(kept).args(argv);
        prepare(&mut command);
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe; both descriptors are open until
        // spawn returns.
        unsafe {
            command.pre_exec(move || {
                for number in inherited.into_iter().flatten() {
                    rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(number), rustix::io::FdFlags::empty())?;
                }
                Ok(())
            });
        }
        let guard = command.spawn().map_err(failed)?;
        drop(far);
        let mut guarded = Guarded { guard, leash, program: None, pid: None, ended: false };
        match guarded.hear() {
            Ok(pid @ 0..) => {
                guarded.pid = u32::try_from(pid).ok();
                guarded.program =
                    Pid::from_raw(pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
                Ok(guarded)
            }
            Ok(errno) => Err(failed(io::Error::from_raw_os_error(-errno))),
            Err(error) => Err(failed(error)),
        }
    }

    fn hear(&mut self) -> io::Result<i32> {
        let mut number = [0; 4];
        self.leash.read_exact(&mut number)?;
        Ok(i32::from_ne_bytes(number))
    }

    /// The program's process.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Waits for the program's end; `None`: it did not come in time, and it is ended.
    pub fn wait_at_most(&mut self, limit: Duration) -> Option<Ended> {
        match readable(&self.leash, limit) {
            true => Some(self.wait()),
            false => {
                self.end();
                None
            }
        }
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> Ended {
        let told = self.hear();
        let _ = self.guard.wait();
        match told {
            Ok(status) => Ended::of(ExitStatus::from_raw(status)),
            Err(_) => {
                let words = "was killed with its guard".into();
                Ended { code: 128 + Signal::KILL.as_raw() as u8, signal: Some(Signal::KILL.as_raw()), words }
            }
        }
    }

    /// Ends the program and all its descendants: SIGTERM, a grace, SIGKILL. Returns when they are gone.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _ = self.leash.shutdown(Shutdown::Write);
        // The guard's last word precedes its end by nothing that could take time.
        if readable(&self.leash, Guarded::PATIENCE) {
            let _ = self.guard.wait();
        }
    }
}

impl AsFd for Guarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.leash.as_fd()
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
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    pub words: String,
}

impl Ended {
    fn of(status: ExitStatus) -> Ended {
        match (status.code(), status.signal()) {
            (Some(0), _) => Ended { code: 0, signal: None, words: "ended".into() },
            (Some(code), _) => Ended { code: code as u8, signal: None, words: format!("ended with exit code {code}") },
            (None, signal) => {
                let number = signal.unwrap_or(0);
                Ended { code: (128 + number) as u8, signal, words: format!("was ended by signal {number}") }
            }
        }
    }
}

/// Turns this process into a guard if it was started as one; returns otherwise. Call it before anything else.
pub fn guard_if_asked() {
    let mut args = std::env::args_os();
    if args.next().as_deref() == Some(OsStr::new(GUARD)) {
        std::process::exit(guard(args).into());
    }
    guard_with("/proc/self/exe");
}

/// Names an executable whose `main` calls [`guard_if_asked`], for a program that cannot do so itself, such as a test
/// under its harness. The first call counts.
pub fn guard_with(executable: impl Into<PathBuf>) {
    let _ = EXECUTABLE.set(executable.into());
}

fn guard(mut args: impl Iterator<Item = OsString>) -> u8 {
    const MISUSED: u8 = crate::exit::Code::Bug as u8;
    let number = |arg: Option<OsString>| arg?.to_str()?.parse::<RawFd>().ok().filter(|&fd| fd > 2);
    let (leash, keep) = (number(args.next()), number(args.next()));
    let (Some(leash), Some(program)) = (leash, args.next()) else { return MISUSED };
    close_strays(leash, keep);
    // SAFETY: the parent left these descriptors open for us and told their numbers; nothing else here owns them.
    let (mut leash, keep) = unsafe { (UnixStream::from_raw_fd(leash), keep.map(|fd| OwnedFd::from_raw_fd(fd))) };
    if rustix::io::fcntl_setfd(&leash, rustix::io::FdFlags::CLOEXEC).is_err() {
        return MISUSED;
    }
    let _ = rustix::thread::set_name(c"gsk-guard");
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let status = match start(&program, args, keep.is_none()) {
        Ok(mut child) => {
            let pid = Pid::from_child(&child);
            let _ = tell(&mut leash, pid.as_raw_nonzero().get());
            // These are the program's own: were the guard to hold them too, their ends would not show.
            let _ = let_go_of_pipes();
            let apart = keep.is_none();
            drop(keep);
            let end = |signal| match apart {
                true => rustix::process::kill_process_group(pid, signal),
                false => rustix::process::kill_process(pid, signal),
            };
            if !watch(&leash, pid) {
                let _ = end(Signal::TERM);
                wait_for_exit(pid, Guarded::GRACE);
            }
            let _ = end(Signal::KILL);
            let status = child.wait().map_or(Signal::KILL.as_raw(), ExitStatus::into_raw);
            end_descendants();
            status
        }
        Err(error) => -error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    };
    let _ = tell(&mut leash, status);
    0
}

fn tell(leash: &mut UnixStream, number: i32) -> io::Result<()> {
    leash.write_all(&number.to_ne_bytes())
}

/// Closes what was inherited beyond the standard streams, the leash, and what the program is to keep: whatever gsk was
/// started with, or a library of its opened without close-on-exec.
fn close_strays(leash: RawFd, keep: Option<RawFd>) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|&fd| fd > 2 && fd != leash && Some(fd) != keep) {
        // SAFETY: this process has just begun, and nothing in it owns a descriptor yet. One of these numbers
        // was the directory's own, closed by now: closing it again does nothing.
        unsafe { libc::close(fd) };
    }
}

/// Starts the program, to be killed when this thread, the guard's only one, ends; `apart`: as the leader of a process group.
///
/// From here on signals do not reach the guard (a service manager sends its SIGTERM to all of a group's processes): it
/// goes when the program does, or gsk.
fn start(program: &OsStr, args: impl Iterator<Item = OsString>, apart: bool) -> io::Result<Child> {
    let guard = rustix::process::getpid();
    // SAFETY: both sets are plain data, initialised by the calls they are passed to; the default disposition runs no
    // code. An ignored SIGCHLD, if inherited, would have the kernel reap children unseen.
    let before = unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let (mut all, mut before) = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    let mut command = Command::new(program);
    command.args(args);
    if apart {
        command.process_group(0);
    }
    // SAFETY: prctl, getppid and pthread_sigmask are async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The guard may have gone before that.
            if rustix::process::getppid() != Some(guard) {
                return Err(Errno::SRCH.into());
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
            Ok(())
        });
    }
    command.spawn()
}

fn let_go_of_pipes() -> io::Result<()> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

/// The pidfd of the program that signals are passed to; -1 before it is there.
static PASSED_TO: AtomicI32 = AtomicI32::new(-1);
/// A signal that is still to be passed on, or 0.
static PENDING: AtomicI32 = AtomicI32::new(0);

fn pass_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // What is to be ignored (nohup, a shell's background job) the program inherits as it is.
        if is_ignored(signal) {
            continue;
        }
        // SAFETY: the action is plain data, whole once its three fields are set; `pass` is async-signal-safe.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = pass as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn pass(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands a valid siginfo. errno is put back for the code that was interrupted.
    unsafe {
        // The kernel itself speaks for a terminal.
        if (*info).si_code != libc::SI_KERNEL {
            let errno = *libc::__errno_location();
            PENDING.store(signal, SeqCst);
            hand_on();
            *libc::__errno_location() = errno;
        }
    }
}

/// Passes on what is pending, as soon as there is whom to. Async-signal-safe.
fn hand_on() {
    let program = PASSED_TO.load(SeqCst);
    if program < 0 {
        return;
    }
    let signal = PENDING.swap(0, SeqCst);
    if signal != 0 {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the system call touches no memory of ours; a program that has ended is an error that needs no answer.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, program, signal, nothing, 0) };
    }
}

/// Waits for the child's exit (`true`) or the leash's end (`false`).
fn watch(leash: &UnixStream, pid: Pid) -> bool {
    let Ok(child) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let mut fds = [PollFd::new(leash, PollFlags::IN), PollFd::new(&child, PollFlags::IN)];
    poll(&mut fds, None).is_ok() && !fds[1].revents().is_empty()
}

fn wait_for_exit(pid: Pid, at_most: Duration) {
    if let Ok(child) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        readable(&child, at_most);
    }
}

/// Waits until `fd` is readable; `false`: it did not come to that in time.
fn readable(fd: impl AsFd, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => continue,
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Kills what is left below us until nothing is: orphans come to us, as we are their reaper.
fn end_descendants() {
    let until = Instant::now() + Duration::from_secs(1);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let children = children();
        for &pid in &children {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let Some(&first) = children.first() else { return };
        wait_for_exit(first, left);
        // The dead are reaped before the next look: until then, their children have come to us.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
    }
}

/// Our children, dead ones included. (Not all kernels have `/proc/PID/task/TID/children`.)
fn children() -> Vec<Pid> {
    let me = std::process::id();
    let ours = crate::proc::pids().into_iter().filter(|&pid| crate::proc::stat(pid).is_some_and(|s| s.parent == me));
    ours.filter_map(|pid| Pid::from_raw(pid as i32)).collect()
}
