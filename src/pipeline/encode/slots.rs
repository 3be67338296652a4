//! How an encoder that needs a slot of the machine comes by one.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::Codec;
use crate::error::Result;
use crate::gpu::{self, Capacity, Chosen};
use crate::lease::broker::holder;
use crate::lease::{Denied, Pool, Refusal, Slot};
use crate::pipeline::frame::Size;
use crate::wire::lease::Record;

/// What a worker does while no encoder slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Viewers are refused, and told who holds the slots; the worker lives on.
    #[default]
    Refuse,
    /// The CPU encodes until a slot is free.
    Software,
    /// Viewers wait for a slot.
    Wait,
}

/// There is no encoder slot: why, and who holds those that there are, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSlot {
    pub reason: String,
    pub holders: Vec<String>,
}

impl From<&Refusal> for NoSlot {
    fn from(refusal: &Refusal) -> NoSlot {
        NoSlot { reason: refusal.to_string(), holders: refusal.held.iter().map(holder).collect() }
    }
}

impl fmt::Display for NoSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no encoder slot: {}", self.reason)
    }
}

/// How long the driver may take to list its sessions.
const DRIVER: Duration = Duration::from_secs(1);

/// The same for one who encodes meanwhile.
const GLANCE: Duration = Duration::from_millis(5);

/// A worker's way to the machine's slots.
#[derive(Debug, Default)]
pub struct Slots {
    /// Encoder sessions that the machine bears, where the user says so.
    pub most: Option<u32>,
    pub when_full: WhenFull,
    /// The worker's name and source, for those who ask who holds a slot.
    pub instance_id: String,
    pub source: String,
    /// The GPU to encode on, where one was chosen.
    pub gpu: Option<Chosen>,
    /// What the machine bears, once that is known: it stays as it is while we run.
    capacity: Mutex<Option<Capacity>>,
}

impl Slots {
    pub fn new(most: Option<u32>, when_full: WhenFull, instance_id: String, source: String) -> Slots {
        Slots { most, when_full, instance_id, source, gpu: None, capacity: Mutex::default() }
    }

    /// Takes a slot for an encoder; with the GPUs to open it on, the best first (none: any).
    pub fn take(&self, codec: Codec, size: Size) -> Result<(Slot, Vec<String>), Denied> {
        let record = Record {
            instance_id: self.instance_id.clone(),
            source: Some(self.source.clone()),
            codec: Some(codec.name().into()),
            width: Some(size.width),
            height: Some(size.height),
            ..Record::default()
        };
        let capacity = self.capacity(DRIVER)?;
        let slot = Pool::open()?.take(capacity.limit, || capacity.pids(DRIVER), record)?;
        Ok((slot, self.gpu.as_ref().map_or(capacity.boards, |gpu| vec![gpu.uuid.clone()])))
    }

    /// Whether there is one to be had now.
    pub fn peek(&self) -> Result<(), Denied> {
        let capacity = self.capacity(DRIVER)?;
        Pool::open()?.peek(capacity.limit, || capacity.pids(DRIVER))
    }

    /// The same for one who has better to do than to wait: it does not say why not.
    pub(super) fn glance(&self) -> bool {
        let look = || -> Result<(), Denied> {
            let capacity = self.capacity(GLANCE)?;
            Pool::open()?.with_patience(GLANCE).peek(capacity.limit, || capacity.pids(GLANCE))
        };
        look().is_ok()
    }

    /// The state of things where the driver itself refused a session that there was a slot for.
    pub(super) fn refused(&self, reason: String) -> NoSlot {
        let held = Pool::open().and_then(|pool| pool.slots()).unwrap_or_default();
        NoSlot { reason, holders: held.iter().filter(|seen| seen.held).map(holder).collect() }
    }

    fn capacity(&self, time: Duration) -> Result<Capacity> {
        if let Some(known) = &*self.capacity.lock().unwrap() {
            return Ok(known.clone());
        }
        let capacity = gpu::limit(self.gpu.as_ref().and_then(|gpu| gpu.board.as_deref()), self.most, time)?;
        *self.capacity.lock().unwrap() = Some(capacity.clone());
        Ok(capacity)
    }
}
