//! A program of anybody's that runs with a slot: how encoders that are not gsk's take part.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Denied, Limit, Pool, Refusal, Slot};
use crate::child::{Ended, Guarded};
use crate::error::{Error, Kind, Result};
use crate::wire::lease::Record;

/// How often a holder's end is looked for: no event tells of a lock that is let go.
const HELD: Duration = Duration::from_millis(20);
/// The same where the driver must be asked for sessions that hold no slot.
const FOREIGN: Duration = Duration::from_millis(250);

/// Takes a slot as [`Pool::take`] does, and waits for one up to `wait`; `waits` is told once why.
pub fn take(
    pool: &Pool,
    limit: Limit,
    mut sessions: impl FnMut() -> Option<Vec<u32>>,
    record: &Record,
    wait: Duration,
    waits: impl FnOnce(&Refusal),
) -> Result<Slot> {
    let until = Instant::now() + wait;
    let mut waits = Some(waits);
    loop {
        let denied = match pool.take(limit, &mut sessions, record.clone()) {
            Ok(slot) => return Ok(slot),
            Err(denied) => denied,
        };
        let left = until.saturating_duration_since(Instant::now());
        let pause = match &denied {
            Denied::Full(Refusal { limit: 0, .. }) => return Err(denied.into()),
            Denied::Full(refusal) if left.is_zero() => return Err(in_vain(refusal, wait)),
            Denied::Full(refusal) => {
                if let Some(waits) = waits.take() {
                    waits(refusal);
                }
                if refusal.foreign > 0 { FOREIGN } else { HELD }
            }
            // Somebody had the gate for long.
            Denied::Failed(error) if error.kind == Kind::Unreachable && !left.is_zero() => HELD,
            Denied::Failed(_) => return Err(denied.into()),
        };
        std::thread::sleep(left.min(pause));
    }
}

fn in_vain(refusal: &Refusal, wait: Duration) -> Error {
    let error = refusal.error();
    if wait.is_zero() {
        return error.hint("wait for one: gsk lease run --wait 60s -- CMD\nor see who holds them: gsk nvenc-status");
    }
    Error { what: format!("no encoder slot within {}", humantime::format_duration(wait)), ..error }
}

/// Runs a program that keeps the slot's descriptor, and so do those that it starts. Returns when it has ended, and what it
/// left behind with it.
pub fn run(pool: &Pool, slot: Slot, argv: &[OsString]) -> Result<Ended> {
    let mut program = Guarded::attached(argv, slot.as_fd())?;
    let ended = program.wait();
    // The guard ends what the program left behind, but was perhaps itself ended.
    slot.leave(pool)?;
    Ok(ended)
}
