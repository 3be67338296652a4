//! The shared pipeline: source → newest-frame slot → encoder → broadcast.
//!
//! The source has a thread, and so has each codec that is watched. Between source and encoder lies one frame: the newest
//! wins. Between encoder and viewers lies a bounded queue for each viewer. Nothing runs while nobody watches, but
//! sources that feed us are read on. Of a GPU, the scene keeps its OpenGL context then, and nothing of CUDA is kept once the
//! encoder has gone (which waits some seconds for one who comes back).

pub mod av1;
mod bits;
pub mod broadcast;
mod cadence;
pub mod convert;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod h264;
pub mod hevc;
pub mod inputs;
pub mod lane;
pub mod mp4;
pub mod queue;
pub mod rate;
pub mod sets;
pub mod source;
pub mod stream;
pub mod timing;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use self::broadcast::{Ready, Viewer, Waiting};
use self::encode::Codec;
use self::frame::{Frame, Pool};
use self::inputs::Inputs;
use self::rate::Quality;
use self::source::{Context, End, Next, Options, Restart, Source, Spec, Stop};
use self::stream::Stream;
use self::timing::Timing;
use crate::clock::{Pacer, now_us};
use crate::error::{Error, Result};
use crate::wire::input::Input;

/// What a pipeline is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: Options,
    pub encoder: encode::Choice,
    /// How encoders come by the slots that they need.
    pub slots: Arc<encode::Slots>,
    /// bit/s.
    pub bitrate: u32,
    /// Of JPEG pictures.
    pub quality: Quality,
    pub nvenc: encode::NvencOptions,
}

/// How the source fares.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// No frame yet, and why.
    Starting(String),
    Running,
    /// It failed, stalls, or waits to be started again.
    Failed(String),
    /// It is over.
    Ended(End),
}

/// A running pipeline. Dropping it stops everything.
pub struct Pipeline {
    shared: Arc<Shared>,
    stop: Stop,
    source: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    choice: encode::Choice,
    slots: Arc<encode::Slots>,
    nvenc: encode::NvencOptions,
    target: Mutex<Target>,
    /// One for each of [`Codec::ALL`].
    streams: [Arc<Stream>; Codec::ALL.len()],
    /// The newest frame of a source that feeds us.
    latest: Mutex<Option<Frame>>,
    info: Mutex<Option<source::Info>>,
    captured: AtomicU64,
    /// Since when the source's thread is in a call of a source that we draw, µs; 0 while it is in none.
    drawing_since_us: AtomicU64,
    timing: Timing,
    inputs: Arc<Inputs>,
    health: watch::Sender<Health>,
    /// Bumped when anything that a status shows in words has changed.
    changes: watch::Sender<u64>,
    last_error: Mutex<Option<String>>,
    stopping: Mutex<bool>,
    /// Wakes the source's thread: a viewer came or went, or it is time to stop.
    wake: Condvar,
}

/// What encoders aim at.
#[derive(Clone, Copy, Debug)]
struct Target {
    fps: f64,
    bitrate: u32,
    quality: Quality,
}

impl Shared {
    /// What an encoder of such frames goes by.
    fn encode_config(&self, codec: Codec, frame: &Frame) -> encode::Config {
        let Target { fps, bitrate, quality } = *self.target.lock().unwrap();
        let near = frame.picture().map(|picture| picture.context().ordinal());
        encode::Config { codec, size: frame.size, fps, bitrate, quality, nvenc: self.nvenc, near }
    }

    /// Whether pictures are of use: without an encoder slot they are not.
    fn watched(&self) -> bool {
        self.streams.iter().any(|stream| stream.viewers() > 0 && !stream.starves())
    }

    fn demand_changed(&self) {
        drop(self.stopping.lock().unwrap());
        self.wake.notify_all();
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Sets the source's health, if it is new. Called by the source's thread alone.
    fn health(&self, health: Health) {
        if *self.health.borrow() == health {
            return;
        }
        // Told first: who waits for the end may end the process with it.
        match &health {
            Health::Failed(reason) => self.log_failure(reason),
            Health::Starting(reason) => tracing::debug!("{reason}"),
            Health::Running => tracing::debug!("the source gives frames"),
            Health::Ended(end) if *end == End::stopped() => tracing::debug!("{}", end.reason),
            Health::Ended(end) if end.code == 0 => tracing::info!("{}", end.reason),
            // Whoever runs the pipeline is given this end to report.
            Health::Ended(end) => tracing::debug!("{}", end.reason),
        }
        self.set_health(&health);
    }

    fn log_failure(&self, reason: &str) {
        tracing::warn!(target: source::LOG, "the source failed: {reason}");
    }

    /// Sets the source's health; whether it is new.
    fn set_health(&self, health: &Health) -> bool {
        let new = self.health.send_if_modified(|old| {
            let new = old != health;
            if new {
                old.clone_from(health);
            }
            new
        });
        if new {
            if let Health::Failed(reason) | Health::Ended(End { reason, code: 1.., .. }) = health {
                *self.last_error.lock().unwrap() = Some(reason.clone());
            }
            self.changed();
        }
        new
    }
}

impl Pipeline {
    /// Starts the source's thread.
    pub fn start(config: Config) -> Result<Pipeline> {
        let stop = Stop::new()?;
        let target = Target { fps: config.source.fps, bitrate: config.bitrate, quality: config.quality };
        let waiting = Health::Starting(format!("waiting for the first frame of {}", config.source.spec.name()));
        let shared = Arc::new(Shared {
            choice: config.encoder,
            slots: config.slots,
            nvenc: config.nvenc,
            target: Mutex::new(target),
            streams: Codec::ALL.map(Stream::new),
            latest: Mutex::default(),
            info: Mutex::default(),
            captured: Default::default(),
            drawing_since_us: Default::default(),
            timing: Timing::default(),
            inputs: Arc::default(),
            health: watch::Sender::new(waiting),
            changes: watch::Sender::new(0),
            last_error: Mutex::default(),
            stopping: Mutex::new(false),
            wake: Condvar::new(),
        });
        let context = Context { pool: Pool::default(), inputs: shared.inputs.clone(), stop: stop.clone() };
        let runner = shared.clone();
        let source = std::thread::Builder::new()
            .name("source".into())
            .spawn(move || runner.run_source(&config.source, &context))
            .map_err(|error| Error::io("cannot start a thread", error))?;
        Ok(Pipeline { shared, stop, source: Some(source) })
    }

    /// Adds a viewer of a codec; its first unit will be a key unit.
    pub fn join(&self, codec: Codec) -> Waiting {
        Waiting::new(|ready| self.join_with(codec, ready))
    }

    /// Adds a viewer that is told by a call when something waits for it.
    pub fn join_with(&self, codec: Codec, ready: Ready) -> Viewer {
        let latest = self.shared.latest.lock().unwrap().clone();
        let viewer = self.stream(codec).join(&self.shared, latest, ready);
        self.shared.demand_changed();
        viewer
    }

    pub fn stream(&self, codec: Codec) -> &Arc<Stream> {
        &self.shared.streams[codec as usize]
    }

    /// Hands an input event to the source.
    pub fn input(&self, input: Input) {
        self.shared.inputs.push(input);
    }

    /// Another bit rate (bit/s), taken up by the running encoder.
    pub fn set_bitrate(&self, bitrate: u32) {
        self.shared.target.lock().unwrap().bitrate = bitrate;
        self.shared.streams.iter().for_each(|stream| stream.retarget());
    }

    /// The bit rate that is aimed at, bit/s.
    pub fn bitrate(&self) -> u32 {
        self.shared.target.lock().unwrap().bitrate
    }

    /// Frames a second that are aimed at.
    pub fn fps(&self) -> f64 {
        self.shared.target.lock().unwrap().fps
    }

    /// What the source is, once known.
    pub fn info(&self) -> Option<source::Info> {
        self.shared.info.lock().unwrap().clone()
    }

    /// Frames captured.
    pub fn captured(&self) -> u64 {
        self.shared.captured.load(Relaxed)
    }

    /// Whether a source that we draw has kept a call for longer than any should take: a driver hangs.
    pub fn source_is_silent(&self) -> bool {
        match self.shared.drawing_since_us.load(Relaxed) {
            0 => false,
            since => now_us().saturating_sub(since) > stream::SILENT_US,
        }
    }

    pub fn timing(&self) -> &Timing {
        &self.shared.timing
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Begins to stop everything, without waiting for it; viewers still get what waits for them.
    pub fn stop(&self) {
        *self.shared.stopping.lock().unwrap() = true;
        self.stop.stop();
        self.shared.wake.notify_all();
        self.shared.streams.iter().for_each(|stream| stream.stop());
    }

    /// Waits, after [`Pipeline::stop`], until every encoder is closed and what it had of the driver is given back.
    pub fn wait_for_encoders(&self) {
        self.shared.streams.iter().for_each(|stream| stream.join_thread());
    }

    /// What last went wrong, if anything did.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().unwrap().clone()
    }

    /// Changes whenever health, an encoder, or the number of viewers does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stop();
        if let Some(source) = self.source.take() {
            // A panic there has been reported by its thread.
            let _ = source.join();
        }
        self.wait_for_encoders();
    }
}

/// Between the end of a program and its next start: 0.25 s, doubling to 5 s with each run in a row without a frame.
fn restart_delay(failures: u32) -> Duration {
    Duration::from_millis(250 << failures.min(5)).min(Duration::from_secs(5))
}

impl Shared {
    /// The source's thread: runs the source to its end, and again if it is to be restarted.
    fn run_source(&self, options: &Options, context: &Context) {
        let mut failures = 0;
        let end = loop {
            let before = self.captured.load(Relaxed);
            let run = || source::open(options, context).and_then(|mut source| self.run_once(source.as_mut(), context));
            // A panic ends the source, not silently its thread.
            let end = catch_unwind(AssertUnwindSafe(run))
                .unwrap_or_else(|_| Err(Error::bug("the source ended by a fault of gsk")))
                .unwrap_or_else(End::from);
            let again = match options.restart {
                _ if !matches!(options.spec, Spec::Program(_)) || *self.stopping.lock().unwrap() => false,
                Restart::Never => false,
                Restart::OnFailure => end.code != 0,
                Restart::Always => true,
            };
            if !again {
                break end;
            }
            if self.captured.load(Relaxed) > before {
                failures = 0;
            }
            let delay = restart_delay(failures);
            failures += 1;
            let again = format!("starting it again in {:.2} s", delay.as_secs_f64());
            if self.set_health(&Health::Failed(format!("{}; {again}", end.reason))) {
                self.log_failure(&format!("{}; {again}", end.news()));
            }
            if !self.sleep(delay) {
                break end;
            }
        };
        self.health(Health::Ended(end));
        self.streams.iter().for_each(|stream| stream.stop());
    }

    /// Waits that long; `false`: stop.
    fn sleep(&self, delay: Duration) -> bool {
        let stopping = self.stopping.lock().unwrap();
        !*self.wake.wait_timeout_while(stopping, delay, |stopping| !*stopping).unwrap().0
    }

    fn run_once(&self, source: &mut dyn Source, context: &Context) -> Result<End> {
        let mut pacer = None;
        let mut last: Option<Frame> = None;
        self.learn(source);
        if source.paced() {
            self.health(Health::Running);
        }
        loop {
            if source.paced() {
                if !self.watched() {
                    // The last picture lies where the source's pictures do.
                    last = None;
                    self.drawing_since_us.store(now_us(), Relaxed);
                    source.rest();
                    self.drawing_since_us.store(0, Relaxed);
                    context.pool.trim();
                }
                if !self.await_turn(source, &mut pacer) {
                    return Ok(End::stopped());
                }
            }
            if source.paced() {
                self.drawing_since_us.store(now_us(), Relaxed);
            }
            let next = source.next(context);
            self.drawing_since_us.store(0, Relaxed);
            let next = next?;
            self.learn(source);
            match next {
                Next::Frame(frame) => {
                    self.captured.fetch_add(1, Relaxed);
                    self.health(Health::Running);
                    self.streams.iter().for_each(|stream| stream.offer(&frame));
                    if source.paced() {
                        last = Some(frame);
                    } else {
                        *self.latest.lock().unwrap() = Some(frame);
                    }
                }
                Next::Unchanged => {
                    // A codec whose first viewer has just come has no picture yet.
                    if let Some(frame) = &mut last {
                        let now = now_us();
                        frame.captured_us = (now, now);
                        self.streams.iter().for_each(|stream| stream.offer(frame));
                    }
                }
                Next::Stalled(reason) => self.health(Health::Failed(reason)),
                Next::End(end) => return Ok(end),
            }
        }
    }

    /// Takes over what the source has said of itself.
    fn learn(&self, source: &dyn Source) {
        let Some(new) = source.info() else { return };
        let mut info = self.info.lock().unwrap();
        if info.as_ref() != Some(new) {
            *info = Some(new.clone());
            self.target.lock().unwrap().fps = new.fps;
            drop(info);
            self.streams.iter().for_each(|stream| stream.retarget());
            self.changed();
        }
    }

    /// Waits for a viewer, then for the next deadline; `false`: stop.
    fn await_turn(&self, source: &dyn Source, pacer: &mut Option<Pacer>) -> bool {
        let mut stopping = self.stopping.lock().unwrap();
        if !*stopping && !self.watched() {
            stopping = self.wake.wait_while(stopping, |stopping| !*stopping && !self.watched()).unwrap();
            *pacer = None;
        }
        let now = now_us();
        let Some(pacer) = pacer else {
            *pacer = Some(Pacer::new(now, source.info().map_or(30.0, |info| info.fps)));
            return !*stopping;
        };
        let until = Duration::from_micros(pacer.next(now).saturating_sub(now));
        !*self.wake.wait_timeout_while(stopping, until, |stopping| !*stopping).unwrap().0
    }
}
