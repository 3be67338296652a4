//! The exit codes, the same for every command.

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
