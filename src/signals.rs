//! The signals that ask a command to end.

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use crate::error::{Error, Result};

/// SIGINT and SIGTERM, for who has something to end first. One that was to be ignored (nohup, a shell's background job) still
/// is, by us and by what we start.
pub struct Signals {
    interrupt: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
}

impl Signals {
    /// Catches them from now on.
    pub fn new() -> Result<Signals> {
        let on = |kind: SignalKind| {
            let caught = (!is_ignored(kind.as_raw_value())).then(|| unix::signal(kind)).transpose();
            caught.map_err(|error| Error::io("cannot catch signals", error))
        };
        Ok(Signals { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// The next one that comes.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = come(&mut self.interrupt) => Signal::INT,
            () = come(&mut self.terminate) => Signal::TERM,
        }
    }
}

/// Never, for one that is not caught.
async fn come(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a signal is ignored by whoever started us.
pub fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: the action is plain data, which the call fills in; nothing is changed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
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
