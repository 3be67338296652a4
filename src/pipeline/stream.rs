//! One codec of one source: its encoder on a thread of its own, and its viewers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use super::Shared;
use super::broadcast::{Broadcast, Packet, Viewer};
use super::cadence::{Cadence, Step};
use super::encode::{self, Codec, Encoder, Unit};
use super::frame::Frame;
use super::timing::{Rate, Stage};
use crate::clock::now_us;
use crate::error::{Error, Result};

/// A codec's encoder and broadcast.
pub struct Stream {
    codec: Codec,
    broadcast: Arc<Broadcast>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    report: Mutex<Report>,
    counters: Counters,
}

/// What the encoder's thread is to do next.
#[derive(Default)]
struct Inbox {
    /// The newest frame that was not taken yet.
    frame: Option<Frame>,
    ask_idr: bool,
    retarget: bool,
    running: bool,
    stop: bool,
}

/// What the encoder's thread tells.
#[derive(Default)]
struct Report {
    info: Option<encode::Info>,
    error: Option<Error>,
    rate: Rate,
    last_key_us: Option<u64>,
}

#[derive(Default)]
struct Counters {
    encoded: AtomicU64,
    /// Frames that a newer one replaced before the encoder took them.
    replaced: AtomicU64,
    /// Frames not encoded because the picture stood still.
    unchanged: AtomicU64,
}

/// A stream's figures.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub codec: Codec,
    pub info: Option<encode::Info>,
    pub error: Option<Error>,
    pub viewers: usize,
    pub fps: f64,
    pub bitrate_bps: f64,
    pub encoded: u64,
    pub replaced: u64,
    pub unchanged: u64,
    /// Units that viewers skipped.
    pub skipped: u64,
    pub last_key_us: Option<u64>,
}

/// How long an encoder is kept with nobody watching, for one who comes back.
const LINGER: Duration = Duration::from_secs(5);

/// How long after a failure the encoder is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Stream {
    pub(super) fn new(codec: Codec) -> Arc<Stream> {
        Arc::new(Stream {
            codec,
            broadcast: Arc::default(),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            report: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// Adds a viewer. `latest` is the newest picture of a source that feeds us, so that the viewer need not wait.
    pub(super) fn join(self: &Arc<Self>, shared: &Arc<Shared>, latest: Option<Frame>) -> Viewer {
        let asks: Weak<Stream> = Arc::downgrade(self);
        let ask_key = Box::new(move || {
            if let Some(stream) = asks.upgrade() {
                stream.ask_idr();
            }
        });
        let leaves = shared.clone();
        let viewer = self.broadcast.join(ask_key, Box::new(move || leaves.demand_changed()));
        let mut inbox = self.inbox.lock().unwrap();
        if inbox.frame.is_none() {
            inbox.frame = latest;
        }
        if !inbox.running && !inbox.stop {
            inbox.running = true;
            let (stream, shared) = (self.clone(), shared.clone());
            let name = format!("encode {:?}", self.codec).to_lowercase();
            let spawned = std::thread::Builder::new().name(name).spawn(move || stream.run(&shared));
            inbox.running = spawned.is_ok();
        }
        self.wake.notify_all();
        viewer
    }

    pub fn viewers(&self) -> usize {
        self.broadcast.viewers()
    }

    /// Offers a frame: the newest wins.
    pub(super) fn offer(&self, frame: &Frame) {
        if self.viewers() == 0 {
            return;
        }
        if self.inbox.lock().unwrap().frame.replace(frame.clone()).is_some() {
            self.counters.replaced.fetch_add(1, Relaxed);
        }
        self.wake.notify_all();
    }

    /// The source says that its picture is still that of the last frame.
    pub(super) fn unchanged(&self) {
        if self.viewers() > 0 {
            self.counters.unchanged.fetch_add(1, Relaxed);
        }
    }

    fn ask_idr(&self) {
        self.inbox.lock().unwrap().ask_idr = true;
        self.wake.notify_all();
    }

    /// The target changed.
    pub(super) fn retarget(&self) {
        self.inbox.lock().unwrap().retarget = true;
        self.wake.notify_all();
    }

    /// Ends the encoder's thread; viewers still get what waits for them.
    pub(super) fn stop(&self) {
        self.inbox.lock().unwrap().stop = true;
        self.wake.notify_all();
        self.broadcast.close();
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut report = self.report.lock().unwrap();
        let (fps, bitrate_bps) = report.rate.per_second(now_us());
        Snapshot {
            codec: self.codec,
            info: report.info.clone(),
            error: report.error.clone(),
            viewers: self.viewers(),
            fps,
            bitrate_bps,
            encoded: self.counters.encoded.load(Relaxed),
            replaced: self.counters.replaced.load(Relaxed),
            unchanged: self.counters.unchanged.load(Relaxed),
            skipped: self.broadcast.dropped(),
            last_key_us: report.last_key_us,
        }
    }

    /// The encoder's thread.
    fn run(self: Arc<Self>, shared: &Arc<Shared>) {
        let mut work = Work::default();
        loop {
            if self.viewers() == 0 {
                if !self.idle(&mut work) {
                    return;
                }
                continue;
            }
            let Some(idr) = self.next_frame(&mut work) else { continue };
            if idr.is_stop() {
                return;
            }
            if let Err(error) = self.encode(&mut work, shared, idr == Turn::Idr) {
                tracing::error!("{error}");
                work.encoder = None;
                self.report.lock().unwrap().error = Some(error);
                shared.changed();
                let inbox = self.inbox.lock().unwrap();
                drop(self.wake.wait_timeout_while(inbox, RETRY, |inbox| !inbox.stop));
            }
        }
    }

    /// Waits for a viewer. The encoder goes after a while; `false`: stop.
    fn idle(&self, work: &mut Work) -> bool {
        let nobody = |inbox: &mut Inbox| !inbox.stop && self.viewers() == 0;
        let inbox = self.inbox.lock().unwrap();
        let mut inbox = match &work.encoder {
            Some(_) => self.wake.wait_timeout_while(inbox, LINGER, nobody).unwrap().0,
            None => self.wake.wait_while(inbox, nobody).unwrap(),
        };
        if self.viewers() == 0 {
            work.encoder = None;
            inbox.frame = None;
            self.report.lock().unwrap().info = None;
        }
        // What was last encoded is old by now.
        work.last = None;
        !inbox.stop
    }

    /// Waits until there is something to encode, and puts it into `work.last`.
    fn next_frame(&self, work: &mut Work) -> Option<Turn> {
        let fresh = {
            let mut inbox = self.inbox.lock().unwrap();
            if inbox.stop {
                return Some(Turn::Stop);
            }
            if std::mem::take(&mut inbox.ask_idr) {
                work.cadence.ask_idr();
            }
            work.retarget |= std::mem::take(&mut inbox.retarget);
            inbox.frame.take()
        };
        let changed =
            fresh.as_ref().is_some_and(|frame| !work.last.as_ref().is_some_and(|last| same_picture(last, frame)));
        if fresh.is_some() && !changed {
            self.counters.unchanged.fetch_add(1, Relaxed);
        }
        let now = now_us();
        match work.cadence.next(now, changed, fresh.is_some() || work.last.is_some()) {
            Step::Encode { idr } => {
                match fresh {
                    Some(frame) => work.last = Some(frame),
                    // The picture still stands: it is encoded as of now.
                    None => work.last.as_mut().expect("a picture").captured_us = (now, now),
                }
                Some(if idr { Turn::Idr } else { Turn::Delta })
            }
            Step::Wait(until) => {
                let nothing = |inbox: &mut Inbox| {
                    !inbox.stop && inbox.frame.is_none() && !inbox.retarget && !inbox.ask_idr && self.viewers() > 0
                };
                let inbox = self.inbox.lock().unwrap();
                match until {
                    Some(at) => {
                        let timeout = Duration::from_micros(at.saturating_sub(now));
                        drop(self.wake.wait_timeout_while(inbox, timeout, nothing));
                    }
                    None => drop(self.wake.wait_while(inbox, nothing)),
                }
                None
            }
        }
    }

    fn encode(self: &Arc<Self>, work: &mut Work, shared: &Arc<Shared>, idr: bool) -> Result<()> {
        let frame = work.last.clone().expect("a picture");
        let config = shared.encode_config(frame.size);
        let reopen = work.config.as_ref().is_none_or(|used| used.size != config.size) || work.encoder.is_none();
        if reopen {
            work.encoder = None;
            let (stream, with) = (self.clone(), shared.clone());
            let (encoder, info) =
                encode::open(self.codec, shared.choice, &config, Box::new(move |unit| stream.publish(&with, unit)))?;
            work.encoder = Some(encoder);
            let mut report = self.report.lock().unwrap();
            report.info = Some(info);
            report.error = None;
            drop(report);
            shared.changed();
        } else if std::mem::take(&mut work.retarget) {
            work.encoder.as_mut().expect("open").reconfigure(&config)?;
        }
        work.config = Some(config);
        let key = idr || reopen;
        work.encoder.as_mut().expect("open").submit(frame, key)?;
        work.cadence.encoded(now_us(), key);
        Ok(())
    }

    /// Takes a unit from the encoder to the viewers.
    fn publish(&self, shared: &Shared, unit: Result<Unit>) {
        let unit = match unit {
            Ok(unit) => unit,
            Err(error) => {
                tracing::error!("{error}");
                self.report.lock().unwrap().error = Some(error);
                return shared.changed();
            }
        };
        let (captured, started, converted, encoded) =
            (unit.frame.captured_us, unit.started_us, unit.converted_us, unit.encoded_us);
        let sequence = self.counters.encoded.fetch_add(1, Relaxed) as u32;
        let published = now_us();
        let packet = Packet::new(self.codec, sequence, unit, published);
        {
            let mut report = self.report.lock().unwrap();
            report.rate.record(published, packet.message.len());
            if packet.key {
                report.last_key_us = Some(published);
            }
        }
        self.broadcast.publish(packet);
        let handed = now_us();
        let timing = &shared.timing;
        timing.record(Stage::Capture, handed, captured.1 - captured.0);
        timing.record(Stage::Convert, handed, converted - started);
        timing.record(Stage::Encode, handed, encoded - converted);
        timing.record(Stage::Publish, handed, (handed - captured.1).saturating_sub(encoded - started));
    }
}

/// The encoder thread's own state.
#[derive(Default)]
struct Work {
    encoder: Option<Box<dyn Encoder>>,
    /// What the encoder was last given to go by.
    config: Option<encode::Config>,
    cadence: Cadence,
    /// The picture that was encoded last, or is about to be.
    last: Option<Frame>,
    retarget: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Idr,
    Delta,
    Stop,
}

impl Turn {
    fn is_stop(self) -> bool {
        self == Turn::Stop
    }
}

/// Whether two frames show the same. Moving pictures differ early, so that the comparison is short where it matters.
fn same_picture(a: &Frame, b: &Frame) -> bool {
    (a.size, a.format, a.range) == (b.size, b.format, b.range) && a.pixels[..] == b.pixels[..]
}
