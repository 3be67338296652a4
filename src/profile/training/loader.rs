//! Threads that draw the pictures before they are asked for.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::data::{Batch, PICTURES, Set};
use crate::error::{Error, Result};
use crate::range;

/// Batches that a thread has ready, beside the one that it draws.
const AHEAD: usize = 2;

/// The batches of all epochs, in order. Thread `n` of `N` draws the `n`-th of each `N` of them, so that their order is the
/// same whichever is the fastest.
pub struct Loader {
    plan: Plan,
    /// One for each thread, the next batch's first; empty where batches are drawn by who asks.
    lanes: VecDeque<Lane>,
}

struct Lane {
    /// Gone only while `self` is dropped.
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

/// Which batch comes next; the first epoch is 1.
#[derive(Clone, Copy)]
struct Plan {
    epoch: u32,
    first: usize,
    size: usize,
}

impl Plan {
    fn step(&mut self) {
        self.first += self.size;
        if self.first >= PICTURES {
            (self.epoch, self.first) = (self.epoch + 1, 0);
        }
    }

    fn draw(&self) -> Batch {
        let _range = range::open("load");
        Batch::draw(Set::Epoch(self.epoch), self.first, self.size.min(PICTURES - self.first))
    }
}

impl Loader {
    /// For so many epochs of batches of `size`, by so many threads; by none, batches are drawn when they are asked for.
    pub fn new(epochs: u32, size: usize, threads: u32) -> Result<Loader> {
        let start = Plan { epoch: 1, first: 0, size };
        let mut loader = Loader { plan: start, lanes: VecDeque::new() };
        for number in 0..threads {
            let (send, batches) = sync_channel(AHEAD);
            let name = format!("loader-{number}");
            let work = move || {
                range::name_thread("loader");
                let mut plan = start;
                (0..number).for_each(|_| plan.step());
                // The other end is gone where the run was ended.
                while plan.epoch <= epochs && send.send(plan.draw()).is_ok() {
                    (0..threads).for_each(|_| plan.step());
                }
            };
            let thread = std::thread::Builder::new().name(name).spawn(work);
            let thread = thread.map_err(|error| Error::io("cannot start a thread", error))?;
            loader.lanes.push_back(Lane { batches: Some(batches), thread: Some(thread) });
        }
        Ok(loader)
    }

    /// The next batch, and whether it is its epoch's last.
    pub fn next(&mut self) -> Result<(Batch, bool)> {
        let lost = || Error::bug("a loader has ended before its time");
        let batch = match self.lanes.front() {
            Some(lane) => lane.batches.as_ref().and_then(|batches| batches.recv().ok()).ok_or_else(lost)?,
            None => self.plan.draw(),
        };
        if !self.lanes.is_empty() {
            self.lanes.rotate_left(1);
        }
        self.plan.step();
        Ok((batch, self.plan.first == 0))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.batches = None);
        for lane in &mut self.lanes {
            // A panic there has been reported by its thread.
            let _ = lane.thread.take().map(JoinHandle::join);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_threads_draw_the_batches_are_the_same() {
        let all = |threads| {
            let mut loader = Loader::new(2, 1500, threads).unwrap();
            (0..6).map(|_| loader.next().unwrap()).collect::<Vec<_>>()
        };
        let alone = all(0);
        let sizes: Vec<(usize, bool)> = alone.iter().map(|(batch, last)| (batch.digits.len(), *last)).collect();
        assert_eq!(sizes, [(1500, false), (1500, false), (1096, true)].repeat(2));
        for threads in [1, 2, 3, 8] {
            assert!(all(threads) == alone, "{threads} threads");
        }
    }

    #[test]
    fn a_run_that_ends_early_leaves_no_thread() {
        let mut loader = Loader::new(1000, 64, 3).unwrap();
        loader.next().unwrap();
        drop(loader);
    }
}
