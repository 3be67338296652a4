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

/// Calls `act` with each that comes from now on, on a thread of its own, for who waits for something else.
pub fn each(mut act: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    let failed = |error| Error::io("cannot catch signals", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let wait = async move {
        loop {
            act(signals.next().await);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait)).map_err(failed)?;
    Ok(())
}
