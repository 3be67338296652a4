//! The one error type: what failed, why, and what to do about it.

use std::fmt;

use crate::exit::Code;

/// Why something failed, coarse enough to choose an exit code by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nobody reads standard output any more: not a fault, only the end.
    Closed,
    /// It worked, and the answer is bad: a source that lies, a check that failed.
    Failed,
    /// Wrong use or configuration.
    Usage,
    /// This host lacks something.
    Missing,
    /// The system refused permission.
    Permission,
    /// Timed out or unreachable.
    Unreachable,
    /// No capacity left.
    Capacity,
    /// A fault of gsk itself.
    Bug,
}

impl Kind {
    /// The exit code that a command ends with for an error of this kind.
    pub fn code(self) -> Code {
        match self {
            Kind::Closed => Code::Good,
            Kind::Failed => Code::Bad,
            Kind::Usage => Code::Usage,
            Kind::Missing => Code::Missing,
            Kind::Permission => Code::Permission,
            Kind::Unreachable => Code::Unreachable,
            Kind::Capacity => Code::Capacity,
            Kind::Bug => Code::Bug,
        }
    }
}

/// What failed, its cause, and a hint with the command to run, where there is one.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Error {
    pub kind: Kind,
    pub what: String,
    pub cause: Option<String>,
    pub hint: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), cause: None, hint: None }
    }

    pub fn failed(what: impl Into<String>) -> Error {
        Error::new(Kind::Failed, what)
    }

    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(Kind::Usage, what)
    }

    pub fn missing(what: impl Into<String>) -> Error {
        Error::new(Kind::Missing, what)
    }

    pub fn bug(what: impl Into<String>) -> Error {
        Error::new(Kind::Bug, what)
    }

    /// An I/O error, its kind taken from the system's.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Error {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Kind::Permission,
            std::io::ErrorKind::NotFound => Kind::Usage,
            _ => Kind::Failed,
        };
        Error::new(kind, what).cause(error)
    }

    pub fn cause(mut self, cause: impl fmt::Display) -> Error {
        self.cause = Some(cause.to_string());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

/// One line: what failed and its cause. The hint is left to the printer.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {}", self.what, cause),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Error {}
