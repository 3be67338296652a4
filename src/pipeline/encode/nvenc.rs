//! H.264, HEVC and AV1 by NVENC.
//!
//! Frames are converted into the encoder's own memory, on the thread that submits them; a second thread waits for
//! the access units and hands them to the output, in order. At most `IN_FLIGHT` frames are in the encoder: `submit`
//! returns when the next one may come, so that it is the newest there is then, and not one that has waited.
//!
//! A driver that keeps an access unit to itself is given `ANSWER`: then `submit` fails, and dropping the encoder leaves
//! the waiting thread behind, with the session and its slot, which are given back if the driver ever does answer. What
//! cannot be bounded are the calls that `submit`, `reconfigure` and [`open`] make themselves; the driver's documentation
//! has none of them wait.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;

use super::{Codec, Config, Encoder, Output, Unit};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::gpu::nvenc::{self, Collector, Pending, Refused, Session};
use crate::gpu::support;
use crate::lease::Slot;
use crate::pipeline::convert::ToSurface;
use crate::pipeline::frame::Frame;
use crate::pipeline::sets::is_key;
use crate::pipeline::timing::Stage;
use crate::range;
use crate::wire::message::HEADER;
use crate::wire::status::Cause;

/// Frames in the encoder at once: one is encoded while the next is converted and lies ready.
const IN_FLIGHT: usize = 2;
const _: () = assert!(IN_FLIGHT < nvenc::SURFACES);

/// How long the driver may take for one frame, or for closing the session: a hundred times what it should.
const ANSWER: Duration = Duration::from_secs(1);

/// Opens a session with `slot`, which it keeps until it is closed, on the first of `boards` (UUIDs; none: all) that takes it.
pub fn open(config: &Config, slot: Slot, boards: &[String], output: Output) -> Result<Box<dyn Encoder>, Refused> {
    let fault = |error| Refused { cause: Cause::Fault, error };
    let (session, collector) = Session::open(slot, boards, &settings(config).map_err(fault)?)?;
    let convert = ToSurface::new(session.context()).map_err(fault)?;
    let queue = Arc::new(Queue::default());
    let (alive, ended) = mpsc::channel();
    let (waits, codec) = (queue.clone(), config.codec);
    let thread = std::thread::Builder::new().name("nvenc".into()).spawn(move || {
        let _alive = alive;
        collect(collector, codec, &waits, output);
    });
    let thread = thread.map_err(|error| fault(Error::io("cannot start a thread", error)))?;
    Ok(Box::new(Nvenc { session: Some(session), convert, config: config.clone(), queue, thread: Some(thread), ended }))
}

/// As NVENC names it, if it does.
pub fn codec(codec: Codec) -> Option<support::Codec> {
    match codec {
        Codec::H264 => Some(support::Codec::H264),
        Codec::Hevc => Some(support::Codec::Hevc),
        Codec::Av1 => Some(support::Codec::Av1),
        Codec::Jpeg => None,
    }
}

fn settings(config: &Config) -> Result<nvenc::Config> {
    let codec = codec(config.codec).ok_or_else(|| Error::bug("NVENC was to encode JPEG"))?;
    let Config { size, fps, bitrate, nvenc: options, near, .. } = *config;
    Ok(nvenc::Config { codec, width: size.width, height: size.height, fps, bitrate, options, near })
}

struct Nvenc {
    /// Gone only while `self` is dropped.
    session: Option<Session>,
    convert: ToSurface,
    config: Config,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended and given all back.
    ended: Receiver<Infallible>,
}

impl Encoder for Nvenc {
    fn submit(&mut self, frame: Frame, idr: bool) -> Result<()> {
        let started_us = now_us();
        if frame.size != self.config.size {
            return Err(Error::bug(format!("a frame of {} for an encoder of {}", frame.size, self.config.size)));
        }
        // After a failure the next frame would refer to one that nobody has.
        self.queue.check()?;
        let mut converted_us = started_us;
        let session = self.session.as_mut().expect("open");
        let pending = session.encode(idr, frame.captured_us.0, |surface| {
            range::within(Stage::Convert.name(), || self.convert.write(&frame, surface))?;
            converted_us = now_us();
            Ok(())
        })?;
        self.queue.put(Job { frame, pending, started_us, converted_us });
        self.queue.wait_below(IN_FLIGHT)
    }

    fn reconfigure(&mut self, config: &Config) -> Result<()> {
        if config.size != self.config.size {
            // Until then, the encoder's memory is in use.
            self.queue.wait_below(1)?;
        }
        self.session.as_mut().expect("open").reconfigure(&settings(config)?)?;
        self.config = config.clone();
        Ok(())
    }
}

impl Drop for Nvenc {
    fn drop(&mut self) {
        // The thread has the last hold on the session, so that it and not this one waits for the driver to close it.
        self.session = None;
        self.queue.close();
        // Once it has been given its time, it gets no more.
        let patience = if self.queue.lock().abandoned { Duration::ZERO } else { ANSWER };
        match self.ended.recv_timeout(patience) {
            Err(RecvTimeoutError::Disconnected) => {
                // A panic there has been reported by its thread.
                let _ = self.thread.take().map(JoinHandle::join);
            }
            Err(RecvTimeoutError::Timeout) => {
                self.queue.lock().abandoned = true;
                tracing::error!("the NVIDIA driver does not answer: an encoder session and its slot are left to it");
            }
            Ok(never) => match never {},
        }
    }
}

/// A frame in the encoder.
struct Job {
    frame: Frame,
    pending: Pending,
    started_us: u64,
    converted_us: u64,
}

/// What goes from the submitting thread to the waiting one, and comes back.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    in_flight: usize,
    /// No job comes any more.
    closed: bool,
    failed: Option<Error>,
    /// The driver had its time: what it gives now comes too late.
    abandoned: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn put(&self, job: Job) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        state.in_flight += 1;
        self.changed.notify_all();
    }

    /// The next job; `None` when no more come.
    fn take(&self) -> Option<Job> {
        let mut state = self.changed.wait_while(self.lock(), |state| state.jobs.is_empty() && !state.closed).unwrap();
        state.jobs.pop_front()
    }

    /// A frame has left the encoder, or failed there; gives what is to be told of it. After the first failure all that
    /// comes is useless, as it refers to what is lost.
    fn done(&self, unit: Result<Unit>) -> Option<Result<Unit>> {
        let mut state = self.lock();
        state.in_flight -= 1;
        if let Err(error) = &unit {
            state.failed.get_or_insert_with(|| error.clone());
        }
        self.changed.notify_all();
        let failed = state.failed.clone();
        (!state.abandoned).then(|| failed.map_or(unit, Err))
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn check(&self) -> Result<()> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Waits until less than `frames` are in the encoder.
    fn wait_below(&self, frames: usize) -> Result<()> {
        let full = |state: &mut State| state.in_flight >= frames && state.failed.is_none();
        let (mut state, waited) = self.changed.wait_timeout_while(self.lock(), ANSWER, full).unwrap();
        if waited.timed_out() {
            state.abandoned = true;
            let seconds = ANSWER.as_secs();
            state.failed = Some(
                Error::failed("NVENC failed")
                    .cause(format!("the driver did not give an access unit within {seconds} s")),
            );
        }
        state.failed.clone().map_or(Ok(()), Err)
    }
}

/// The waiting thread.
fn collect(mut collector: Collector, codec: Codec, queue: &Queue, mut output: Output) {
    // However the thread ends, nobody waits for it in vain.
    let _gone = Gone(queue);
    while let Some(job) = queue.take() {
        let Job { frame, pending, started_us, converted_us } = job;
        let unit = queue.check().and_then(|()| {
            let coded = range::within(Stage::Encode.name(), || collector.collect(pending))?;
            let encoded_us = now_us();
            let mut data = BytesMut::with_capacity(HEADER + coded.len());
            data.resize(HEADER, 0);
            data.extend_from_slice(&coded);
            Ok(Unit { frame, key: is_key(codec, &coded), data, started_us, converted_us, encoded_us })
        });
        if let Some(unit) = queue.done(unit) {
            output(unit);
        }
    }
}

struct Gone<'a>(&'a Queue);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.failed.get_or_insert_with(|| Error::bug("the thread that waits for NVENC has ended"));
        self.0.changed.notify_all();
    }
}
