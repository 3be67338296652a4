//! A viewer's decoder, on a thread of its own, so that it never delays what arrives.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::Notify;

use super::unit::Unit;
use crate::clock::{now_us, wall_ms};
use crate::error::{Error, Result};
use crate::pipeline::decode::{self, Config, Decoder as Backend};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Frame, Pool, Size};
use crate::pipeline::source::scene;

/// Units that may wait. One that is further behind goes on at the next key unit.
const MOST_WAITING: usize = 120;
/// After so many pictures without one, there is no mark to be had.
const MARKLESS: u32 = 20;
/// A mark repeats after 2^20 ms; one that seems older than this was not read right, or its clock is not ours.
const OLDEST_MARK_MS: u32 = 60_000;

/// A decoded picture's times.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    pub sequence: u32,
    pub arrived_us: u64,
    /// When the picture was there, µs.
    pub decoded_us: u64,
    /// The decoder's own share, µs.
    pub took_us: u64,
    /// From the time that the picture shows to when it was there, ms, by the machines' wall clocks.
    pub mark_ms: Option<u32>,
}

/// What the thread tells.
#[derive(Default)]
struct Told {
    waiting: AtomicUsize,
    /// It can go on with a key unit only.
    needs_key: AtomicBool,
    done: Mutex<Vec<Decoded>>,
    last: Mutex<Option<Frame>>,
    errors: Mutex<Vec<String>>,
    failed: AtomicUsize,
    news: Notify,
}

/// The way to the thread.
pub struct Decoder {
    units: Option<Sender<(Unit, Size)>>,
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
    /// Units that were not given to it because it was behind.
    pub skipped: u64,
    behind: bool,
}

impl Decoder {
    pub fn start(codec: Codec, fps: f64) -> Result<Decoder> {
        let (units, from) = channel();
        let told = Arc::new(Told::default());
        let with = told.clone();
        let run = move || Worker::new(codec, fps, with).run(&from);
        let thread = std::thread::Builder::new().name("decode".into()).spawn(run);
        let thread = thread.map_err(|error| Error::io("cannot start a thread", error))?;
        Ok(Decoder { units: Some(units), told, thread: Some(thread), skipped: 0, behind: false })
    }

    /// Never waits.
    pub fn feed(&mut self, unit: &Unit, size: Size) {
        self.behind |= self.told.waiting.load(Relaxed) >= MOST_WAITING;
        if self.behind && !unit.header.key {
            self.told.needs_key.store(true, Relaxed);
            self.skipped += 1;
            return;
        }
        self.behind = false;
        self.told.waiting.fetch_add(1, Relaxed);
        if let Some(units) = &self.units {
            // A thread that is gone has said why.
            let _ = units.send((unit.clone(), size));
        }
    }

    /// Units that wait for it.
    pub fn waiting(&self) -> usize {
        self.told.waiting.load(Relaxed)
    }

    /// Whether a key unit is to be asked for; once for each need.
    pub fn needs_key(&self) -> bool {
        self.told.needs_key.swap(false, Relaxed)
    }

    /// Waits for a picture, or what went wrong with one.
    pub async fn news(&self) {
        self.told.news.notified().await;
    }

    /// What was decoded since the last call.
    pub fn take(&self) -> Vec<Decoded> {
        std::mem::take(&mut self.told.done.lock().unwrap())
    }

    /// How many units gave no picture, and the first reasons.
    pub fn failures(&self) -> (u64, Vec<String>) {
        (self.told.failed.load(Relaxed) as u64, self.told.errors.lock().unwrap().clone())
    }

    /// The newest picture.
    pub fn last(&self) -> Option<Frame> {
        self.told.last.lock().unwrap().clone()
    }

    /// Takes no more, and waits until what waits is decoded.
    pub fn finish(&mut self) {
        self.units = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }
}

struct Worker {
    codec: Codec,
    fps: f64,
    told: Arc<Told>,
    pool: Pool,
    backend: Option<(Box<dyn Backend>, Size)>,
    mark: Mark,
}

impl Worker {
    fn new(codec: Codec, fps: f64, told: Arc<Told>) -> Worker {
        Worker { codec, fps, told, pool: Pool::default(), backend: None, mark: Mark::default() }
    }

    fn run(mut self, units: &Receiver<(Unit, Size)>) {
        while let Ok((unit, size)) = units.recv() {
            self.take(&unit, size);
            self.told.waiting.fetch_sub(1, Relaxed);
            self.told.news.notify_one();
        }
    }

    fn take(&mut self, unit: &Unit, size: Size) {
        if unit.header.key && self.backend.as_ref().is_none_or(|(_, open)| *open != size) {
            let config = Config { codec: self.codec, size, fps: self.fps, gpu: None };
            self.backend = match decode::reference(&config) {
                Ok(backend) => Some((backend, size)),
                Err(error) => return self.fail(&error),
            };
        }
        let Some((backend, _)) = &mut self.backend else { return };
        let began_us = now_us();
        match backend.decode(unit.data(), &self.pool) {
            Ok(frame) => {
                let decoded_us = now_us();
                let mark_ms = self.mark.read(&frame, decoded_us);
                let (sequence, arrived_us) = (unit.header.sequence, unit.arrived_us);
                let took_us = decoded_us - began_us;
                let done = Decoded { sequence, arrived_us, decoded_us, took_us, mark_ms };
                self.told.done.lock().unwrap().push(done);
                *self.told.last.lock().unwrap() = Some(frame);
            }
            Err(error) => {
                self.backend = None;
                self.fail(&error);
            }
        }
    }

    /// Goes on at the next key unit.
    fn fail(&self, error: &Error) {
        self.told.failed.fetch_add(1, Relaxed);
        self.told.needs_key.store(true, Relaxed);
        let mut errors = self.told.errors.lock().unwrap();
        if errors.len() < 3 {
            errors.push(error.to_string());
        }
    }
}

/// Reads the demo scene's time mark, while there is one.
#[derive(Default)]
struct Mark {
    misses: u32,
}

impl Mark {
    /// From the time that the picture shows to when it was there, ms.
    fn read(&mut self, frame: &Frame, decoded_us: u64) -> Option<u32> {
        if self.misses >= MARKLESS {
            return None;
        }
        let Some(shown) = scene::read_frame_mark(frame) else {
            self.misses += 1;
            return None;
        };
        self.misses = 0;
        // The wall clock when the picture was there, in the mark's 20 bits.
        let at = wall_ms().wrapping_sub((now_us() - decoded_us) / 1000);
        let age = (at as u32).wrapping_sub(shown) & 0xf_ffff;
        (age <= OLDEST_MARK_MS).then_some(age)
    }
}
