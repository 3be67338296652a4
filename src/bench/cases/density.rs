//! How many streams this host holds: workers with a viewer each, twice as many each time until the frame rate is lost, then
//! halving the step back.
//!
//! So many streams hold if over 3 s each of them gives its viewer at least 97 % of the frame rate, and no more than 3 % of the
//! frames are dropped before the encoder or skipped for the viewer; and if, where they are more than one, a tenth of the
//! machine's cores is left, as what holds on the last of them does not hold for long. What holds in the end is watched for 10 s
//! more, and where it does not hold for so long, one stream fewer is. Viewers receive only: they decode nothing. What other
//! programs take meanwhile is told: beside them so many streams hold, and no more.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::network::{cpu, join, runtime};
use crate::bench::Case;
use crate::bench::report::{GaveOut, Load, Row};
use crate::bench::run::{Runner, row_of};
use crate::bench::worker::{Worker, no_room};
use crate::client::view::{Facts, Over, Sample, Seen, Shared, Watching};
use crate::client::{self, Target};
use crate::clock::now_us;
use crate::error::{Error, Kind, Result};
use crate::pipeline::frame::Size;
use crate::proc::{self, Ticks, Usage};

/// How long streams are watched for a judgement, and left alone before it.
const WATCHED: Duration = Duration::from_secs(3);
/// For how long the number that is found is watched.
const CONFIRMED: Duration = Duration::from_secs(10);
const SETTLING: Duration = Duration::from_millis(1500);
const GLANCE: Duration = Duration::from_millis(50);
/// How long a new stream's first unit may take where many start at once.
const FIRST: Duration = Duration::from_secs(20);

/// The part of the frame rate that each stream must keep, and the part of its frames that it may drop.
const KEPT: f64 = 0.97;
const DROPPED: f64 = 0.03;
/// A machine is busy beyond this part of its cores, and its memory gone below this part.
const BUSY: f64 = 0.90;
const MEMORY_LEFT: f64 = 0.05;
/// What other programs take of the machine is told from this part on.
const OTHERS: f64 = 0.02;

pub fn run(runner: &mut Runner, size: Option<Size>) -> Result<()> {
    let runtime = runtime()?;
    let (tell, samples) = mpsc::channel();
    let mut streams = Streams { runtime: &runtime, tell, all: Vec::new() };
    let most = runner.options.streams as usize;
    let mut held: Option<Held> = None;
    let mut lost: Option<(usize, String)> = None;
    let mut count = 1;
    loop {
        if runner.stopping() {
            streams.end();
            return Ok(());
        }
        match attempt(runner, size, &mut streams, (count, WATCHED), &samples)? {
            Verdict::Holds(holds) => held = Some(*holds),
            Verdict::Lost(what) => lost = Some((count, what)),
            Verdict::Stopped => continue,
        }
        let holds = held.as_ref().map_or(0, |held| held.streams);
        let next = match &lost {
            None if holds >= most => break,
            None => (holds * 2).min(most),
            Some((lost, _)) if *lost <= holds + 1 => break,
            Some((lost, _)) => (holds + lost) / 2,
        };
        count = next;
    }
    let mut count = held.map_or(0, |held| held.streams);
    let mut held = None;
    while count > 0 && held.is_none() {
        match attempt(runner, size, &mut streams, (count, CONFIRMED), &samples)? {
            Verdict::Holds(holds) => held = Some(*holds),
            Verdict::Lost(what) => {
                lost = Some((count, what));
                count -= 1;
            }
            Verdict::Stopped => {
                streams.end();
                return Ok(());
            }
        }
    }
    streams.end();
    let Some(held) = held else {
        let (_, what) = lost.unwrap_or_default();
        return Err(Error::new(Kind::Capacity, "not even one stream holds the frame rate").cause(what));
    };
    keep(runner, held, lost)
}

/// What was measured of so many streams that held.
struct Held {
    streams: usize,
    facts: Facts,
    fps: f64,
    /// The slowest stream's.
    least_fps: f64,
    samples: Vec<Sample>,
    cpu: Option<f64>,
    /// What programs that are not of this run took, as a part of the machine.
    others: Option<f64>,
    memory: Option<u64>,
    dropped: u64,
}

enum Verdict {
    Holds(Box<Held>),
    /// What gave out.
    Lost(String),
    Stopped,
}

/// One worker and its viewer.
struct Stream {
    worker: Worker,
    shared: Arc<Shared>,
    watched: JoinHandle<Result<Seen>>,
}

/// What has come of a stream by now.
struct Look {
    /// When it was looked: to ask a worker for its status takes its time on a busy machine.
    at_us: u64,
    usage: Option<Usage>,
    /// Units that its viewer has got, and those that it was skipped.
    units: u64,
    skipped: u64,
    /// Frames that were dropped on the way, as the worker counts them; those skipped are among them.
    replaced: Option<u64>,
}

impl Stream {
    fn look(&self, runtime: &Runtime) -> Look {
        let (target, token): (&Target, _) = (&self.worker.address.target, self.worker.address.token.as_ref());
        let (at_us, usage, (units, skipped)) = (now_us(), self.worker.usage(), self.shared.counts());
        let status = runtime.block_on(client::status(target, token, Duration::from_secs(2)));
        let replaced = status.ok().and_then(|status| status.frames_dropped);
        Look { at_us, usage, units, skipped, replaced }
    }
}

struct Streams<'a> {
    runtime: &'a Runtime,
    tell: Sender<Sample>,
    all: Vec<Stream>,
}

impl Streams<'_> {
    fn add(&mut self, runner: &Runner, size: Option<Size>) -> Result<()> {
        let worker = Worker::start(runner.options, size)?;
        let _inside = self.runtime.enter();
        let mut options = worker.view(runner.options, 1);
        options.timeout = FIRST;
        let tell = self.tell.clone();
        let watching = Watching::start(
            options,
            Some(Box::new(move |sample| {
                // Nobody listens after the end.
                let _ = tell.send(sample);
            })),
        )?;
        let shared = watching.shared.clone();
        let watched = self.runtime.spawn(watching.run(None, |_| Ok(())));
        self.all.push(Stream { worker, shared, watched });
        Ok(())
    }

    /// Ends those beyond so many.
    fn keep(&mut self, count: usize) {
        for stream in self.all.drain(count.min(self.all.len())..) {
            stream.shared.enough();
            // What a stream that is let go says does not count any more.
            let _ = join(self.runtime, stream.watched);
        }
    }

    fn end(&mut self) {
        self.keep(0);
    }
}

/// Brings it to so many streams, and judges them over a span.
fn attempt(
    runner: &Runner,
    size: Option<Size>,
    streams: &mut Streams,
    (count, watched): (usize, Duration),
    samples: &Receiver<Sample>,
) -> Result<Verdict> {
    streams.keep(count);
    while streams.all.len() < count {
        if runner.stopping() {
            return Ok(Verdict::Stopped);
        }
        match streams.add(runner, size) {
            Ok(()) => {}
            Err(error) if no_room(&error) => return Ok(Verdict::Lost(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    let first = now_us() + FIRST.as_micros() as u64;
    while !streams.all.iter().all(|stream| stream.shared.settled().0 == 1) {
        if let Some(what) = streams.all.iter().position(|stream| stream.watched.is_finished()) {
            return ended(streams, what);
        }
        if runner.stopping() {
            return Ok(Verdict::Stopped);
        }
        if now_us() > first {
            return Ok(Verdict::Lost(format!("the start: no picture within {} s", FIRST.as_secs())));
        }
        std::thread::sleep(GLANCE);
    }
    pause(runner, SETTLING);
    samples.try_iter().for_each(drop);
    let look =
        |streams: &Streams| -> Vec<Look> { streams.all.iter().map(|stream| stream.look(streams.runtime)).collect() };
    let all = || Ticks::machine().zip(proc::usage(std::process::id()));
    let (before, machine, from_us) = (look(streams), all(), now_us());
    pause(runner, watched);
    let (to_us, machine_later, after) = (now_us(), all(), look(streams));
    if runner.stopping() {
        return Ok(Verdict::Stopped);
    }
    if let Some(what) = streams.all.iter().position(|stream| stream.watched.is_finished()) {
        return ended(streams, what);
    }
    let seconds = (to_us - from_us) as f64 / 1e6;
    let facts = streams.all[0].shared.facts();
    let fps = facts.fps.unwrap_or(runner.options.fps);
    let each = before.iter().zip(&after);
    let spans = each.clone().map(|(was, is)| (is.at_us - was.at_us) as f64 / 1e6);
    let rates = each.clone().zip(spans.clone()).map(|((was, is), span)| (is.units - was.units) as f64 / span);
    let least_fps = rates.fold(f64::INFINITY, f64::min);
    let dropped: u64 = each.clone().map(|(was, is)| is.skipped - was.skipped).sum();
    let replaced: Option<u64> = each.clone().map(|(was, is)| Some(is.replaced?.saturating_sub(was.replaced?))).sum();
    let due = fps * spans.clone().sum::<f64>();
    // The worker counts those skipped for its viewer too.
    let lost = replaced.unwrap_or(dropped);
    let took: Option<f64> = each.zip(spans).map(|((was, is), span)| Some(cpu(was.usage?, is.usage?, span))).sum();
    let machine = machine.zip(machine_later).map(|((was, ours), (is, ours_later))| {
        let (cores, busy) = (is.cores.max(1) as f64, (is.busy - was.busy) / seconds);
        (busy / cores, took.map(|took| ((busy - took - cpu(ours, ours_later, seconds)) / cores).max(0.0)))
    });
    let (busy, others) = (machine.map(|(busy, _)| busy), machine.and_then(|(_, others)| others));
    let memory_left = proc::memory().map(|(left, all)| left as f64 / all as f64);
    let encoder = replaced.is_some_and(|replaced| replaced > 0);
    if let Some(what) = (Came { streams: count, fps, least_fps, lost, due, encoder, busy, memory_left }).gave_out() {
        return Ok(Verdict::Lost(what));
    }
    let memory: Option<u64> = after.iter().map(|is| Some(is.usage?.resident)).sum();
    let samples = samples.try_iter().filter(|sample| (from_us..to_us).contains(&sample.arrived_us)).collect();
    let streams = count;
    Ok(Verdict::Holds(Box::new(Held {
        streams,
        facts,
        fps,
        least_fps,
        samples,
        cpu: took,
        others,
        memory,
        dropped: lost,
    })))
}

/// A stream that ended by itself: no encoder slot is what a host may run out of, all else is a failure.
fn ended(streams: &mut Streams, which: usize) -> Result<Verdict> {
    let stream = streams.all.swap_remove(which);
    let seen = join(streams.runtime, stream.watched)?;
    match seen.outcomes.into_iter().next().map(|outcome| outcome.over) {
        Some(Over::Failed(error)) if no_room(&error) => Ok(Verdict::Lost(format!("encoder slots: {error}"))),
        Some(Over::Failed(error)) => Ok(Verdict::Lost(error.to_string())),
        Some(Over::Bye(reason)) => Ok(Verdict::Lost(reason)),
        Some(Over::Done) | None => Err(Error::bug("a stream ended as asked, and nobody asked")),
    }
}

/// What so many streams came to over a span.
struct Came {
    streams: usize,
    /// Asked for, and the slowest stream's.
    fps: f64,
    least_fps: f64,
    /// Frames that were dropped or skipped, and those that were due.
    lost: u64,
    due: f64,
    /// Whether some were dropped before an encoder.
    encoder: bool,
    /// Parts of the whole, where the system tells.
    busy: Option<f64>,
    memory_left: Option<f64>,
}

impl Came {
    /// What the machine has no more of; none: they hold.
    fn gave_out(&self) -> Option<String> {
        let Came { streams, fps, least_fps, lost, due, encoder, busy, memory_left } = *self;
        let busy = busy.filter(|busy| *busy > BUSY).map(|busy| format!("CPU, {:.0} % of all cores busy", busy * 100.0));
        if least_fps >= KEPT * fps && lost as f64 <= DROPPED * due {
            return busy.filter(|_| streams > 1).map(|busy| busy + ": the frame rate held, and nothing is left");
        }
        let what = match (busy, memory_left) {
            (_, Some(left)) if left < MEMORY_LEFT => "memory".into(),
            (Some(busy), _) => busy,
            (None, _) if encoder => "the encoder".into(),
            (None, _) => "the source's pace".into(),
        };
        Some(format!("{what}: {least_fps:.1} fps of the slowest, {lost} of {due:.0} frames dropped"))
    }
}

fn pause(runner: &Runner, span: Duration) {
    let until = now_us() + span.as_micros() as u64;
    while now_us() < until && !runner.stopping() {
        std::thread::sleep(GLANCE);
    }
}

fn keep(runner: &mut Runner, held: Held, lost: Option<(usize, String)>) -> Result<()> {
    let Held { streams, facts, fps, least_fps, samples, .. } = held;
    let (Some(codec), Some(size)) = (facts.codec, facts.size) else {
        return Err(Error::bug("streams held, and nothing is known of them"));
    };
    let row: Row = row_of(Case::Density, facts.backend.as_deref().unwrap_or("-"), codec.name(), size);
    runner.begin(row, fps, samples.len());
    runner.warm();
    samples.iter().for_each(|sample| runner.frame(&[("received", sample.received_us), ("network", sample.network_us)]));
    let row = runner.row();
    row.fps = Some(least_fps);
    row.drops = Some([("dropped", held.dropped)].into());
    let gave_out = lost.map(|(streams, what)| GaveOut { streams: streams as u32, what });
    let end = match &gave_out {
        Some(gave) => format!("at {} gave out {}", gave.streams, gave.what),
        None => "more were not tried (--streams)".into(),
    };
    let plural = if streams == 1 { "stream" } else { "streams" };
    let others = match held.others.filter(|others| *others > OTHERS) {
        Some(others) => format!("; other programs took {:.0} % of the machine meanwhile", others * 100.0),
        None => String::new(),
    };
    row.detail = Some(format!("this host holds {streams} {plural} of {size} at {fps} fps; {end}{others}"));
    row.load = Some(Load {
        streams: Some(streams as u32),
        viewers: Some(streams as u32),
        cpu_percent: held.cpu.map(|cpu| cpu * 100.0),
        memory_bytes: held.memory,
        others_percent: held.others.map(|others| others * 100.0),
        gave_out,
        ..Load::default()
    });
    runner.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_hold_with_their_frames_and_something_left() {
        let four = |change: fn(&mut Came)| {
            let (busy, memory_left) = (Some(0.85), Some(0.5));
            let mut came =
                Came { streams: 4, fps: 30.0, least_fps: 29.9, lost: 2, due: 360.0, encoder: false, busy, memory_left };
            change(&mut came);
            came.gave_out()
        };
        assert_eq!(four(|_| {}), None);
        assert_eq!(four(|came| (came.busy, came.memory_left) = (None, None)), None, "where the system does not tell");
        for (change, says) in [
            ((|came| came.least_fps = 29.0) as fn(&mut Came), "the source's pace: 29.0 fps of the slowest, 2 of 360"),
            (|came| (came.lost, came.encoder) = (11, true), "the encoder: 29.9 fps of the slowest, 11 of 360"),
            (|came| (came.lost, came.busy) = (11, Some(0.97)), "CPU, 97 % of all cores busy: 29.9 fps"),
            (|came| (came.least_fps, came.memory_left) = (9.0, Some(0.04)), "memory: 9.0 fps"),
            (|came| came.busy = Some(0.91), "CPU, 91 % of all cores busy: the frame rate held, and nothing is left"),
        ] {
            let what = four(change).unwrap_or_default();
            assert!(what.starts_with(says), "{what}");
        }
        // Of one there is nothing less.
        assert_eq!(four(|came| (came.streams, came.busy) = (1, Some(0.99))), None);
    }
}
