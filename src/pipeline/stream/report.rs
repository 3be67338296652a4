//! What a stream tells of itself: figures and words.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use super::super::broadcast::Format;
use super::super::encode::{self, Codec, NoSlot};
use super::super::frame::Frame;
use super::super::timing::Rate;
use crate::error::Error;

/// What the encoder's thread tells.
#[derive(Default)]
pub(super) struct Report {
    pub(super) info: Option<encode::Info>,
    /// Of the units that it gives; none before the first.
    pub(super) format: Option<Format>,
    pub(super) error: Option<Error>,
    pub(super) no_slot: Option<NoSlot>,
    pub(super) rate: Rate,
    /// What the open encoder's last units took, µs.
    pub(super) costs: VecDeque<u64>,
    /// The picture that was encoded last, while somebody watches.
    pub(super) newest: Option<Frame>,
    pub(super) last_key_us: Option<u64>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) encoded: AtomicU64,
    /// Frames that a newer one replaced before the encoder took them.
    pub(super) replaced: AtomicU64,
    /// The same while there was no encoder slot.
    pub(super) starved: AtomicU64,
    /// Frames not encoded because the picture stood still.
    pub(super) unchanged: AtomicU64,
}

/// A stream's figures.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub codec: Codec,
    pub info: Option<encode::Info>,
    /// What the open encoder's units are, once there is one.
    pub format: Option<Format>,
    pub error: Option<Error>,
    /// Why there is no encoder slot, while its viewers wait for one.
    pub no_slot: Option<NoSlot>,
    /// Whether the back end has kept a call for longer than any should take.
    pub silent: bool,
    pub viewers: usize,
    /// Units a second and bit/s, where measured.
    pub fps: Option<f64>,
    pub bitrate_bps: Option<f64>,
    /// What a unit takes, conversion and encoding, µs: the median of the open encoder's last ones.
    pub cost_us: Option<u64>,
    pub encoded: u64,
    pub replaced: u64,
    pub starved: u64,
    pub unchanged: u64,
    /// Units that viewers skipped.
    pub skipped: u64,
    pub last_key_us: Option<u64>,
}

/// Units whose cost is kept: a second's at 30 fps.
const COSTS: usize = 30;

impl Report {
    /// Notes what a unit took, µs.
    pub(super) fn cost(&mut self, us: u64) {
        if self.costs.len() == COSTS {
            self.costs.pop_front();
        }
        self.costs.push_back(us);
    }

    /// The median of what the last units took, µs.
    pub(super) fn median_cost(&self) -> Option<u64> {
        let mut costs: Vec<u64> = self.costs.iter().copied().collect();
        costs.sort_unstable();
        costs.get(costs.len() / 2).copied()
    }
}
