//! A program of anybody's that runs with a slot: how encoders that are not gsk's take part.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Denied, Limit, Pool, Refusal, Slot};
use crate::child::{Ended, Guarded};
use crate::error::{Error, Result};
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
        let refusal = match pool.take(limit, &mut sessions, record.clone()) {
            Ok(slot) => return Ok(slot),
            Err(Denied::Failed(error)) => return Err(error),
            Err(Denied::Full(refusal)) => refusal,
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(match wait.is_zero() {
                true => refusal
                    .error()
                    .hint("wait for one: gsk lease run --wait 60s -- CMD\nor see who holds them: gsk nvenc-status"),
                false => Error {
                    what: format!("no encoder slot within {}", humantime::format_duration(wait)),
                    ..refusal.error()
                },
            });
        }
        if let Some(waits) = waits.take() {
            waits(&refusal);
        }
        std::thread::sleep(left.min(if refusal.foreign > 0 { FOREIGN } else { HELD }));
    }
}

/// Runs a program that keeps the slot's descriptor, and so do those that it starts. Returns when it has ended, and what it
/// left behind with it.
pub fn run(slot: Slot, argv: &[OsString]) -> Result<Ended> {
    let mut program = Guarded::attached(argv, slot.as_fd())?;
    let ended = program.wait();
    drop(slot);
    Ok(ended)
}
