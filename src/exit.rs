//! The exit codes, the same for every command.

use rustix::process::Signal;

/// An exit code and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Good = 0,
    Bad = 1,
    Usage = 2,
    Missing = 3,
    Permission = 4,
    Unreachable = 5,
    Capacity = 6,
    Bug = 70,
}

/// The table as `--help` and the man pages show it.
pub const TABLE: &str = "\
Exit codes:
  0         it worked, and the answer is good
  1         it worked, and the answer is bad
  2         usage or configuration
  3         something this host lacks
  4         permission
  5         timed out or unreachable
  6         no capacity
  70        a bug in gsk
  130, 143  interrupted, terminated";

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

/// Ends the process by `signal`, so that the caller sees 128 + its number and knows that it was a signal.
pub fn by_signal(signal: Signal) -> ! {
    let number = signal.as_raw();
    // SAFETY: the default disposition runs no code of ours, and `set` is initialised by sigemptyset before it is read.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, number);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::raise(number);
    }
    // Only a signal whose default is to be ignored comes this far.
    std::process::exit(128 + number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// Run by the test below in a process of its own, which it ends.
    #[test]
    fn victim() {
        if let Some(signal) = std::env::var_os("GSK_TEST_SIGNAL") {
            // SAFETY: ignoring a signal runs no code.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            by_signal(if signal == "INT" { Signal::INT } else { Signal::TERM });
        }
    }

    #[test]
    fn a_signal_is_raised_again_even_where_it_was_ignored() {
        for (name, number) in [("INT", libc::SIGINT), ("TERM", libc::SIGTERM)] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "exit::tests::victim"]).env("GSK_TEST_SIGNAL", name);
            let status = child.output().unwrap().status;
            assert_eq!(status.signal(), Some(number), "{status:?}");
        }
    }

    #[test]
    fn the_table_shows_every_code() {
        use Code::*;
        for code in [Good, Bad, Usage, Missing, Permission, Unreachable, Capacity, Bug] {
            assert!(TABLE.lines().any(|line| line.trim_start().starts_with(&format!("{} ", code as u8))), "{code:?}");
        }
    }
}
