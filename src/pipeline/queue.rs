//! What waits for one viewer: whole access units, bounded. Pure: no I/O, no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::broadcast::Packet;

/// What a viewer gets next.
#[derive(Clone, Debug)]
pub enum Item {
    /// So many units were skipped; a key unit follows.
    Drop(u64),
    Unit(Arc<Packet>),
}

/// A viewer's queue. It begins at a key unit; when it overflows, all that waits is skipped and it begins again at the
/// next key unit, so that nothing is ever missing inside a GOP.
#[derive(Debug)]
pub struct Queue {
    units: VecDeque<Arc<Packet>>,
    bytes: usize,
    /// Only a key unit may come next.
    gated: bool,
    /// Skipped since the viewer was last told.
    skipped: u64,
    /// Skipped in all.
    pub dropped: u64,
    asked_us: Option<u64>,
}

impl Queue {
    /// Units that may wait: half a second at 30 fps.
    pub const UNITS: usize = 15;
    /// Bytes that may wait, unless a single unit is larger.
    pub const BYTES: usize = 4 << 20;
    /// A viewer that falls behind again and again may ask for a key unit this often, µs: the others pay for each.
    const ASK_GAP_US: u64 = 1_000_000;

    pub fn new() -> Queue {
        Queue { units: VecDeque::new(), bytes: 0, gated: true, skipped: 0, dropped: 0, asked_us: None }
    }

    /// Offers a unit.
    pub fn push(&mut self, packet: &Arc<Packet>) {
        let len = packet.message.len();
        if self.units.len() >= Queue::UNITS || (!self.units.is_empty() && self.bytes + len > Queue::BYTES) {
            self.skip(self.units.len() as u64);
            self.units.clear();
            self.bytes = 0;
            self.gated = true;
        }
        if self.gated && !packet.key {
            // A viewer that has only joined misses nothing.
            if self.skipped > 0 {
                self.skip(1);
            }
            return;
        }
        self.gated = false;
        self.bytes += len;
        self.units.push_back(packet.clone());
    }

    fn skip(&mut self, units: u64) {
        self.skipped += units;
        self.dropped += units;
    }

    /// The next item, if one waits.
    pub fn pop(&mut self) -> Option<Item> {
        if self.units.is_empty() {
            return None;
        }
        if self.skipped > 0 {
            return Some(Item::Drop(std::mem::take(&mut self.skipped)));
        }
        let packet = self.units.pop_front()?;
        self.bytes -= packet.message.len();
        Some(Item::Unit(packet))
    }

    /// Whether the viewer, ready to read on, needs a key unit to be made. A viewer that does not read never asks, so
    /// that it cannot spoil the picture of those that do.
    pub fn wants_key(&mut self, now_us: u64) -> bool {
        let due = self.asked_us.is_none_or(|at| now_us >= at + Queue::ASK_GAP_US);
        let wants = self.gated && self.units.is_empty() && due;
        if wants {
            self.asked_us = Some(now_us);
        }
        wants
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::broadcast::packet;

    /// A scenario: K and P push key and other units, `.` pops one item. Gives what was popped.
    fn play(script: &str) -> String {
        let mut queue = Queue::new();
        let (mut sequence, mut out) = (0, Vec::new());
        for step in script.chars() {
            match step {
                'K' | 'P' => {
                    queue.push(&packet(sequence, step == 'K', 100));
                    sequence += 1;
                }
                _ => out.push(match queue.pop() {
                    None => "-".to_string(),
                    Some(Item::Drop(n)) => format!("drop{n}"),
                    Some(Item::Unit(p)) => p.sequence.to_string(),
                }),
            }
        }
        out.join(" ")
    }

    #[test]
    fn scenarios() {
        for (script, says) in [
            ("PPKP....", "2 3 - -"),
            ("PP..", "- -"),
            ("KPPPPPPPPPPPPPP.", "0"),
            ("KPPPPPPPPPPPPPPP.", "-"),
            ("KPPPPPPPPPPPPPPPPPPKP....", "drop19 19 20 -"),
            ("KPPPPPPPPPPPPPPPK...", "drop16 16 -"),
        ] {
            assert_eq!(play(script), says, "{script}");
        }
    }

    #[test]
    fn bytes_are_bounded_but_one_large_unit_passes() {
        let mut queue = Queue::new();
        queue.push(&packet(0, true, Queue::BYTES + 1));
        assert!(matches!(queue.pop(), Some(Item::Unit(_))));
        queue.push(&packet(1, false, Queue::BYTES - 10));
        queue.push(&packet(2, false, 100));
        assert!(queue.pop().is_none(), "the overflow waits for a key unit");
        assert_eq!(queue.dropped, 2);
    }

    #[test]
    fn only_a_viewer_that_reads_asks_for_a_key_unit_and_not_too_often() {
        let mut queue = Queue::new();
        assert!(queue.wants_key(0), "it has just joined");
        assert!(!queue.wants_key(10), "it has asked already");
        queue.push(&packet(0, true, 100));
        assert!(!queue.wants_key(5_000_000), "it has one");
        for sequence in 1..=Queue::UNITS as u32 {
            queue.push(&packet(sequence, false, 100));
        }
        assert!(queue.wants_key(5_000_000));
        assert!(!queue.wants_key(5_900_000));
        assert!(queue.wants_key(6_000_000));
    }
}
