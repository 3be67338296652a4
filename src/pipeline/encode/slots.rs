//! How an encoder that needs a slot of the machine comes by one.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::Codec;
use crate::gpu::{self, Capacity};
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

/// A worker's way to the machine's slots.
#[derive(Debug, Default)]
pub struct Slots {
    /// Encoder sessions that the machine bears, where the user says so.
    pub most: Option<u32>,
    pub when_full: WhenFull,
    /// The worker's name and source, for those who ask who holds a slot.
    pub instance_id: String,
    pub source: String,
    /// What the machine bears, by the support table: it stays as it is while we run.
    capacity: OnceLock<Capacity>,
}

impl Slots {
    pub fn new(most: Option<u32>, when_full: WhenFull, instance_id: String, source: String) -> Slots {
        Slots { most, when_full, instance_id, source, capacity: OnceLock::new() }
    }

    /// Takes a slot for an encoder.
    pub fn take(&self, codec: Codec, size: Size) -> Result<Slot, Denied> {
        let record = Record {
            instance_id: self.instance_id.clone(),
            source: Some(self.source.clone()),
            codec: Some(codec.name().into()),
            width: Some(size.width),
            height: Some(size.height),
            ..Record::default()
        };
        let capacity = self.capacity();
        Pool::open()?.take(capacity.limit, || capacity.pids(DRIVER), record)
    }

    /// Whether there is one to be had now.
    pub fn peek(&self) -> Result<(), Denied> {
        let capacity = self.capacity();
        Pool::open()?.peek(capacity.limit, || capacity.pids(DRIVER))
    }

    /// The state of things where the driver itself refused a session that there was a slot for.
    pub(super) fn refused(&self, reason: String) -> NoSlot {
        let held = Pool::open().and_then(|pool| pool.slots()).unwrap_or_default();
        NoSlot { reason, holders: held.iter().filter(|seen| seen.held).map(holder).collect() }
    }

    fn capacity(&self) -> &Capacity {
        self.capacity.get_or_init(|| gpu::limit(self.most, DRIVER))
    }
}
