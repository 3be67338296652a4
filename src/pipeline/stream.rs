//! One codec of one source: its encoder on a thread of its own, and its viewers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::report::Snapshot;
use self::report::{Counters, Report};
use super::Shared;
use super::broadcast::{Broadcast, Packet, Ready, Viewer};
use super::cadence::{Cadence, Step};
use super::encode::{self, Codec, Encoder, Failure, NoSlot, Output, Past, Unit};
use super::frame::Frame;
use super::timing::Stage;
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::range;
use crate::wire::status::{Cause, Fallback};

mod report;

/// A codec's encoder and broadcast.
pub struct Stream {
    codec: Codec,
    broadcast: Arc<Broadcast>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    report: Mutex<Report>,
    /// Its viewers wait for an encoder slot.
    starves: AtomicBool,
    /// Since when the encoder's thread is in a call of the back end's, µs; 0 while it is in none.
    busy_since_us: AtomicU64,
    /// Encoders that were opened so far.
    opened: AtomicU32,
    counters: Counters,
}

/// What the encoder's thread is to do next.
#[derive(Default)]
struct Inbox {
    /// The newest frame that was not taken yet.
    frame: Option<Frame>,
    ask_idr: bool,
    retarget: bool,
    /// How the encoder failed on its own thread.
    broken: Option<Error>,
    stop: bool,
    thread: Option<JoinHandle<()>>,
}

/// How long an encoder is kept with nobody watching, for one who comes back.
const LINGER: Duration = Duration::from_secs(5);

/// How long after a failure the encoder is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a back end may take for one call, its opening included, before that is told, µs. A source that we draw likewise.
pub(super) const SILENT_US: u64 = 4_000_000;

/// How often a slot is asked for while viewers wait for one.
const ASK: Duration = Duration::from_millis(250);

/// How often, while another back end stands in, the one that is preferred is tried again, µs.
const PROMOTE_US: u64 = 5_000_000;

/// How long after its return a back end that had failed must hold for its next failure to be a first one again, µs.
const SETTLED_US: u64 = 60_000_000;

impl Stream {
    pub(super) fn new(codec: Codec) -> Arc<Stream> {
        Arc::new(Stream {
            codec,
            broadcast: Arc::default(),
            inbox: Mutex::default(),
            wake: Condvar::new(),
            report: Mutex::default(),
            starves: AtomicBool::new(false),
            busy_since_us: AtomicU64::new(0),
            opened: AtomicU32::new(0),
            counters: Counters::default(),
        })
    }

    /// Adds a viewer. `latest` is the newest picture of a source that feeds us, so that the viewer need not wait.
    pub(super) fn join(self: &Arc<Self>, shared: &Arc<Shared>, latest: Option<Frame>, ready: Ready) -> Viewer {
        let asks: Weak<Stream> = Arc::downgrade(self);
        let ask_key = Box::new(move || {
            if let Some(stream) = asks.upgrade() {
                stream.ask_idr();
            }
        });
        let (left, leaves) = (Arc::downgrade(self), shared.clone());
        let left = Box::new(move || {
            if let Some(stream) = left.upgrade() {
                drop(stream.inbox.lock().unwrap());
                stream.wake.notify_all();
            }
            leaves.demand_changed();
        });
        let viewer = self.broadcast.join(ready, ask_key, left);
        let mut inbox = self.inbox.lock().unwrap();
        if let (None, Some(mut frame)) = (&inbox.frame, latest) {
            // It still stands.
            let now = now_us();
            frame.captured_us = (now, now);
            inbox.frame = Some(frame);
        }
        if inbox.thread.is_none() && !inbox.stop {
            let (stream, shared) = (self.clone(), shared.clone());
            let name = format!("encode {:?}", self.codec).to_lowercase();
            match std::thread::Builder::new().name(name).spawn(move || stream.run(&shared)) {
                Ok(thread) => inbox.thread = Some(thread),
                Err(error) => self.failed(Error::io("cannot start a thread", error)),
            }
        }
        self.wake.notify_all();
        viewer
    }

    pub fn viewers(&self) -> usize {
        self.broadcast.viewers()
    }

    /// Whether its viewers wait for an encoder slot.
    pub(super) fn starves(&self) -> bool {
        self.starves.load(Relaxed)
    }

    /// Offers a frame: the newest wins.
    pub(super) fn offer(&self, frame: &Frame) {
        if self.viewers() == 0 {
            return;
        }
        if self.inbox.lock().unwrap().frame.replace(frame.clone()).is_some() {
            let lost = if self.starves() { &self.counters.starved } else { &self.counters.replaced };
            lost.fetch_add(1, Relaxed);
        }
        self.wake.notify_all();
    }

    /// Asks for a key unit; how often one is given is limited.
    pub fn ask_idr(&self) {
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

    /// Waits for the end of a stopped encoder's thread.
    pub(super) fn join_thread(&self) {
        let thread = self.inbox.lock().unwrap().thread.take();
        if let Some(thread) = thread {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }

    /// Notes an error, and logs it if it is not the last one again.
    fn failed(&self, error: Error) {
        let mut report = self.report.lock().unwrap();
        if report.error.as_ref().is_none_or(|last| last.to_string() != error.to_string()) {
            tracing::error!("{error}");
        }
        report.error = Some(error);
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut report = self.report.lock().unwrap();
        let (fps, bitrate_bps) = report.rate.per_second(now_us()).unzip();
        Snapshot {
            codec: self.codec,
            info: report.info.clone(),
            format: report.format.clone(),
            error: report.error.clone(),
            no_slot: report.no_slot.clone(),
            silent: match self.busy_since_us.load(Relaxed) {
                0 => false,
                since => now_us().saturating_sub(since) > SILENT_US,
            },
            viewers: self.viewers(),
            fps,
            bitrate_bps,
            cost_us: report.median_cost(),
            encoded: self.counters.encoded.load(Relaxed),
            replaced: self.counters.replaced.load(Relaxed),
            starved: self.counters.starved.load(Relaxed),
            unchanged: self.counters.unchanged.load(Relaxed),
            skipped: self.broadcast.dropped(),
            last_key_us: report.last_key_us,
        }
    }

    /// The picture that was encoded last; none where nobody watches.
    pub(super) fn newest(&self) -> Option<Frame> {
        self.report.lock().unwrap().newest.clone()
    }

    /// The encoder's thread.
    fn run(self: Arc<Self>, shared: &Arc<Shared>) {
        let mut work = Work::default();
        loop {
            if self.viewers() == 0 {
                if !self.idle(&mut work, shared) {
                    break;
                }
                continue;
            }
            let idr = match self.next_frame(&mut work) {
                Turn::Stop => break,
                Turn::Again => continue,
                Turn::Broken(error) => {
                    self.step_down(&mut work, shared, error);
                    continue;
                }
                Turn::Encode { idr } => idr,
            };
            self.busy_since_us.store(now_us(), Relaxed);
            // A panic is an error of this one frame.
            let done = catch_unwind(AssertUnwindSafe(|| self.encode(&mut work, shared, idr)))
                .unwrap_or_else(|_| Err(Error::bug("the encoder failed by a fault of gsk").into()));
            self.busy_since_us.store(0, Relaxed);
            match done {
                Ok(()) => {}
                Err(Failure::NoSlot(lack)) => self.starve(lack, shared),
                Err(Failure::Failed(error)) => {
                    self.failed(error.clone());
                    self.step_down(&mut work, shared, error);
                }
            }
        }
        // It may lie on a device.
        self.report.lock().unwrap().newest = None;
    }

    /// The encoder failed: another stands in where one may, at once, and the failed one is tried again after a while, which
    /// doubles with each failure in a row. Where none may, the same is tried again.
    fn step_down(&self, work: &mut Work, shared: &Shared, error: Error) {
        let at_work = self.report.lock().unwrap().info.clone().filter(|_| work.encoder.is_some());
        self.close(work);
        shared.changed();
        let other = self.codec.has_software() && shared.choice == encode::Choice::Auto;
        match at_work.filter(|info| info.hardware && other) {
            Some(info) => {
                let now = now_us();
                let again = work.setback.take().filter(|last| now < last.until_us + SETTLED_US);
                let times = again.map_or(0, |last| last.times + 1).min(4);
                let until_us = now + (PROMOTE_US << times);
                work.setback =
                    Some(Setback { failed: encode::Setback { backend: info.backend, error }, until_us, times });
            }
            None => self.pause(RETRY, |inbox| !inbox.stop),
        }
    }

    /// Drops the encoder, whose thread may have last words for the report; none of them is about the next.
    fn close(&self, work: &mut Work) {
        work.encoder = None;
        self.inbox.lock().unwrap().broken = None;
    }

    /// Waits that long, or until `while_so` no longer holds.
    fn pause(&self, time: Duration, while_so: impl FnMut(&mut Inbox) -> bool) {
        let inbox = self.inbox.lock().unwrap();
        drop(self.wake.wait_timeout_while(inbox, time, while_so));
    }

    /// Tells that there is no encoder slot, and waits until it is worth asking again.
    fn starve(&self, lack: NoSlot, shared: &Shared) {
        if !self.starves.swap(true, Relaxed) {
            tracing::warn!("{lack}");
        }
        let mut report = self.report.lock().unwrap();
        let new = report.no_slot.as_ref() != Some(&lack);
        (report.no_slot, report.error) = (Some(lack), None);
        drop(report);
        if new {
            shared.demand_changed();
        }
        self.pause(ASK, |inbox| !inbox.stop && self.viewers() > 0);
    }

    /// Nobody waits for an encoder slot any more.
    fn sated(&self, shared: &Shared) {
        self.report.lock().unwrap().no_slot = None;
        if self.starves.swap(false, Relaxed) {
            shared.demand_changed();
        }
    }

    /// Waits for a viewer. The encoder goes after a while; `false`: stop.
    fn idle(&self, work: &mut Work, shared: &Shared) -> bool {
        let nobody = |inbox: &mut Inbox| !inbox.stop && self.viewers() == 0;
        self.sated(shared);
        let mut inbox = self.inbox.lock().unwrap();
        // Both are old when the next viewer comes; a viewer that has come by now brought its own.
        work.last = None;
        self.report.lock().unwrap().newest = None;
        if self.viewers() == 0 {
            inbox.frame = None;
        }
        if work.encoder.is_some() {
            let (inbox, waited) = self.wake.wait_timeout_while(inbox, LINGER, nobody).unwrap();
            let stop = inbox.stop;
            drop(inbox);
            if waited.timed_out() {
                self.close(work);
                let mut report = self.report.lock().unwrap();
                (report.info, report.format) = (None, None);
                drop(report);
                shared.changed();
            }
            return !stop;
        }
        !self.wake.wait_while(inbox, nobody).unwrap().stop
    }

    /// Waits until there is something to encode, and puts it into `work.last`.
    fn next_frame(&self, work: &mut Work) -> Turn {
        let fresh = {
            let mut inbox = self.inbox.lock().unwrap();
            if inbox.stop {
                return Turn::Stop;
            }
            if std::mem::take(&mut inbox.ask_idr) {
                work.cadence.ask_idr();
            }
            work.retarget |= std::mem::take(&mut inbox.retarget);
            if let Some(error) = inbox.broken.take() {
                return Turn::Broken(error);
            }
            inbox.frame.take()
        };
        let changed = fresh.as_ref().is_some_and(|frame| !work.last.as_ref().is_some_and(|last| last.shows(frame)));
        if fresh.is_some() && !changed {
            self.counters.unchanged.fetch_add(1, Relaxed);
        }
        let now = now_us();
        // A new encoder's first unit waits for nothing.
        let due = changed || work.encoder.is_none();
        match work.cadence.next(now, due, fresh.is_some() || work.last.is_some()) {
            Step::Encode { idr } => {
                let stands = fresh.is_none();
                work.last = fresh.or(work.last.take());
                let captured = &mut work.last.as_mut().expect("a picture").captured_us;
                if stands {
                    // It is encoded as of now.
                    *captured = (now, now);
                }
                // A frame may have begun to arrive before the last one was encoded again.
                captured.0 = captured.0.max(work.captured_us + 1);
                captured.1 = captured.1.max(captured.0);
                work.captured_us = captured.0;
                Turn::Encode { idr }
            }
            Step::Wait(until) => {
                let nothing = |inbox: &mut Inbox| {
                    !inbox.stop
                        && inbox.frame.is_none()
                        && inbox.broken.is_none()
                        && !inbox.retarget
                        && !inbox.ask_idr
                        && self.viewers() > 0
                };
                let inbox = self.inbox.lock().unwrap();
                match until {
                    Some(at) => {
                        let timeout = Duration::from_micros(at.saturating_sub(now));
                        drop(self.wake.wait_timeout_while(inbox, timeout, nothing));
                    }
                    None => drop(self.wake.wait_while(inbox, nothing)),
                }
                Turn::Again
            }
        }
    }

    fn encode(self: &Arc<Self>, work: &mut Work, shared: &Arc<Shared>, idr: bool) -> Result<(), Failure> {
        let frame = work.last.clone().expect("a picture");
        self.report.lock().unwrap().newest = Some(frame.clone());
        let config = shared.encode_config(self.codec, &frame);
        let resized = work.config.as_ref().is_some_and(|used| used.size != config.size);
        // One that cannot take the size in place is closed first: it may hold the only slot.
        if resized && work.encoder.as_mut().is_some_and(|encoder| encoder.reconfigure(&config).is_err()) {
            self.close(work);
        }
        let mut new = work.encoder.is_none();
        if new {
            self.open(work, shared, &config)?;
        } else if work.promote_us.is_some_and(|at| now_us() >= at) {
            // One that cannot be had now is no fault: another stands in.
            new = self.open(work, shared, &config).is_ok();
            if !new {
                work.promotions = (work.promotions + 1).min(4);
                work.promote_us = Some(now_us() + (PROMOTE_US << work.promotions));
            }
        }
        if !new && std::mem::take(&mut work.retarget) {
            work.encoder.as_mut().expect("open").reconfigure(&config)?;
        }
        work.config = Some(config);
        let key = idr || new || resized;
        work.encoder.as_mut().expect("open").submit(frame, key)?;
        work.cadence.encoded(now_us(), key);
        Ok(())
    }

    /// Opens the encoder; where one is at work, one that is preferred to it.
    fn open(self: &Arc<Self>, work: &mut Work, shared: &Arc<Shared>, config: &encode::Config) -> Result<(), Failure> {
        let output = || -> Output {
            let (stream, with) = (self.clone(), shared.clone());
            Box::new(move |unit| stream.publish(&with, unit))
        };
        let set_back = work.setback.as_ref().filter(|setback| now_us() < setback.until_us);
        let at_work = work.encoder.as_ref().and(self.report.lock().unwrap().info.as_ref().map(|info| info.backend));
        let past = Past { setback: set_back.map(|setback| &setback.failed), at_work };
        let (encoder, info) = encode::open(shared.choice, config, &shared.slots, past, output)?;
        let stands_in = info.fallback.as_ref().is_some_and(|fallback| may_pass(fallback.cause));
        work.promote_us = stands_in.then(|| set_back.map_or(now_us() + PROMOTE_US, |setback| setback.until_us));
        work.promotions = 0;
        tell(&info);
        self.close(work);
        work.encoder = Some(encoder);
        // That which was before has given its last unit.
        self.opened.fetch_add(1, Relaxed);
        let mut report = self.report.lock().unwrap();
        report.costs.clear();
        report.info = Some(info);
        drop(report);
        self.sated(shared);
        shared.changed();
        Ok(())
    }

    /// Takes a unit from the encoder to the viewers.
    fn publish(&self, shared: &Shared, unit: Result<Unit>) {
        let unit = match unit {
            Ok(unit) => unit,
            Err(error) => {
                self.failed(error.clone());
                self.inbox.lock().unwrap().broken.get_or_insert(error);
                self.wake.notify_all();
                return shared.changed();
            }
        };
        let _range = range::open(Stage::Publish.name());
        let (captured, started, converted, encoded) =
            (unit.frame.captured_us, unit.started_us, unit.converted_us, unit.encoded_us);
        let sequence = self.counters.encoded.fetch_add(1, Relaxed) as u32;
        let published = now_us();
        let packet = Packet::new(self.codec, self.opened.load(Relaxed), sequence, unit, published);
        let news = {
            let mut report = self.report.lock().unwrap();
            report.rate.record(published, packet.message.len());
            report.cost(encoded - started);
            let format = packet.format();
            let reformed = format.is_some() && format != report.format;
            if format.is_some() {
                report.last_key_us = Some(published);
                report.format = format;
            }
            report.error.take().is_some() || reformed
        };
        if packet.key {
            // Whoever asked until now gets this one.
            self.inbox.lock().unwrap().ask_idr = false;
        }
        self.broadcast.publish(packet);
        let handed = now_us();
        let timing = &shared.timing;
        timing.record(Stage::Capture, handed, captured.1 - captured.0);
        timing.record(Stage::Convert, handed, converted - started);
        timing.record(Stage::Encode, handed, encoded - converted);
        timing.record(Stage::Coded, handed, encoded.saturating_sub(captured.0));
        timing.record(Stage::Publish, handed, (handed - captured.1).saturating_sub(encoded - started));
        if news {
            shared.changed();
        }
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
    /// Its capture time: that of units grows strictly.
    captured_us: u64,
    retarget: bool,
    /// When the back end that is preferred to the one at work is tried again, µs.
    promote_us: Option<u64>,
    /// How often in a row it could not be had.
    promotions: u32,
    setback: Option<Setback>,
}

/// A back end that failed at work.
struct Setback {
    failed: encode::Setback,
    /// Until then it is passed over, µs.
    until_us: u64,
    /// Failures in a row before this one.
    times: u32,
}

enum Turn {
    /// `work.last`.
    Encode {
        idr: bool,
    },
    /// Something happened: look again.
    Again,
    /// The encoder failed on its own thread.
    Broken(Error),
    Stop,
}

/// Whether what is in the way of an encoder may go by itself.
fn may_pass(cause: Cause) -> bool {
    matches!(cause, Cause::NoSlot | Cause::Limit | Cause::Fault)
}

/// Logs which encoder it is from here on; and as a warning, why not the preferred one, where that may pass. What the host
/// lacks is told when the worker starts.
fn tell(info: &encode::Info) {
    match (&info.fallback, &info.slot) {
        (Some(Fallback { from, cause, detail, .. }), _) if may_pass(*cause) => {
            tracing::warn!("encoder {}, not {from}: {detail}", info.backend);
        }
        (_, Some(slot)) => tracing::debug!("encoder {} in {slot}", info.backend),
        (_, None) => tracing::debug!("encoder {}", info.backend),
    }
}
