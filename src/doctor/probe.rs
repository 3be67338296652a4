//! `gsk nvenc-status --probe`: how many encoder sessions the machine bears, by opening them until the driver refuses one.

use std::time::Duration;

use crate::clock::rfc3339_now;
use crate::error::{Error, Result};
use crate::gpu::nvenc::{Config, Refused, Session};
use crate::gpu::{self, Driver};
use crate::lease::{Limit, Pool};
use crate::wire::lease::{Record, Trial};
use crate::wire::status::Cause;

/// How many are opened at most: twice what any GeForce driver is known to bear. Each takes the driver some 50 ms, and
/// nobody else takes a slot meanwhile.
const MOST: u32 = 24;

/// How long the driver may take to name its boards and sessions.
const DRIVER: Duration = Duration::from_secs(5);

/// Small, so that memory is not what ends it.
const PICTURE: Config = Config::h264(320, 240, 30.0, 500_000);

/// Holds the gate, opens sessions until one is refused, closes them all, and keeps the answer for whoever takes slots on
/// this machine with this driver.
pub fn run() -> Result<Trial> {
    let inventory = gpu::inventory(DRIVER);
    let driver = match (&inventory.driver, &inventory.driver_version) {
        (Driver::Ready, Some(version)) => version.clone(),
        _ => return Err(no_driver(&inventory)),
    };
    let capacity = gpu::capacity(&inventory);
    let pool = Pool::open()?;
    let gate = pool.gate()?;
    let before = capacity.pids(DRIVER).map(|pids| pids.len() as u32);
    let mut open = Vec::new();
    let refused = loop {
        if open.len() as u32 == MOST {
            break None;
        }
        let record = Record { instance_id: "probe".into(), ..Record::default() };
        let slot = gate.take(Limit::Unlimited, || None, record).map_err(Error::from)?;
        match Session::open(slot, &capacity.boards, &PICTURE) {
            Ok(session) => open.push(session),
            Err(Refused { cause: Cause::Limit, error }) => break Some(error.to_string()),
            Err(refused) => return Err(refused.error),
        }
    };
    let opened = open.len() as u32;
    drop(open);
    drop(gate);
    let before = before.ok_or_else(|| {
        Error::failed(format!("{opened} encoder sessions could be opened, but not how many there are in all"))
            .cause("the driver does not list the sessions of other programs")
            .hint("set the limit yourself: GSK_NVENC_MAX_SESSIONS=N")
    })?;
    let boards = gpu::boards(&inventory);
    let trial = Trial { driver, boards, sessions: before + opened, refusal: refused, at: rfc3339_now() };
    pool.keep(&trial)?;
    Ok(trial)
}

fn no_driver(inventory: &gpu::Inventory) -> Error {
    let library = gpu::nvenc::find().map_err(|refused| refused.to_string());
    let verdict = gpu::verdict(inventory, library.as_ref().copied().map_err(String::as_str));
    let error = Error::missing("there are no encoder sessions to try").cause(&verdict.detail);
    verdict.remedy.iter().fold(error, |error, remedy| error.hint(remedy))
}

/// A trial in words.
pub fn told(trial: &Trial) -> String {
    let Trial { sessions, driver, refusal, .. } = trial;
    match refusal {
        Some(refusal) => format!("driver {driver} bears {sessions} encoder sessions; the next: {refusal}"),
        None => format!("driver {driver} bears {sessions} encoder sessions and more: none was refused"),
    }
}
