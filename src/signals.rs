//! The signals that ask a command to end.

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::error::{Error, Result};

/// SIGINT and SIGTERM, for who has something to end first.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn new() -> Result<Signals> {
        let on = |kind| unix::signal(kind).map_err(|error| Error::io("cannot catch signals", error));
        Ok(Signals { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// The next one that comes.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}
