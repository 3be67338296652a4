//! A worker of its own, and viewers of it in this process, by `/ws` over loopback.
//!
//! From the whole unit to its arrival: the viewer's queue in the worker, the socket's two ends, and the time until a thread
//! here has read it. Loopback stands in for the network, which adds its own. The clocks are one and the same machine's, and
//! their offset is measured by pings all the same, as viewers elsewhere have to.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::codecs;
use crate::bench::Case;
use crate::bench::report::Load;
use crate::bench::run::{Runner, row_of};
use crate::bench::worker::Worker;
use crate::client::view::{Over, Sample, Seen, Watching};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::pipeline::frame::Size;
use crate::proc::Usage;

/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// For how long one viewer alone is watched, to know what the others add.
const ALONE: Duration = Duration::from_millis(1500);

pub fn run(runner: &mut Runner, size: Option<Size>) -> Result<()> {
    if codecs(runner.options).next().is_none() {
        return Ok(());
    }
    let worker = Worker::start(runner.options, size)?;
    let runtime = runtime()?;
    let viewers = runner.options.viewers;
    let alone = if viewers > 1 { alone(runner, &worker, &runtime)? } else { None };
    if runner.stopping() {
        return Ok(());
    }
    measure(runner, &worker, &runtime, alone)
}

/// The threads of viewers.
pub fn runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("view").enable_all().build();
    built.map_err(|error| Error::io("cannot start threads", error))
}

/// CPU, as a part of a core, and memory that a worker takes for one viewer.
struct Alone {
    cpu: f64,
    memory: u64,
}

fn alone(runner: &Runner, worker: &Worker, runtime: &Runtime) -> Result<Option<Alone>> {
    let _inside = runtime.enter();
    let watching = Watching::start(worker.view(runner.options, 1), None)?;
    let shared = watching.shared.clone();
    let watched = runtime.spawn(watching.run(None, |_| Ok(())));
    while shared.settled() == (0, 0) && !watched.is_finished() && !runner.stopping() {
        std::thread::sleep(GLANCE);
    }
    let (before, began) = (worker.usage(), now_us());
    std::thread::sleep(ALONE);
    let (after, seconds) = (worker.usage(), (now_us() - began) as f64 / 1e6);
    shared.enough();
    judge(join(runtime, watched)?)?;
    Ok(before.zip(after).map(|(was, is)| Alone { cpu: cpu(was, is, seconds), memory: is.resident }))
}

/// CPU time between two looks, as a part of a core.
pub fn cpu(was: Usage, is: Usage, seconds: f64) -> f64 {
    is.cpu_us.saturating_sub(was.cpu_us) as f64 / 1e6 / seconds
}

/// What came of viewers that run on their own.
pub fn join(runtime: &Runtime, watched: tokio::task::JoinHandle<Result<Seen>>) -> Result<Seen> {
    runtime.block_on(watched).map_err(|error| Error::bug(error.to_string()))?
}

/// A viewer that failed fails the case.
fn judge(seen: Seen) -> Result<Seen> {
    for outcome in &seen.outcomes {
        match &outcome.over {
            Over::Done => {}
            Over::Bye(reason) => return Err(Error::failed("the worker ended").cause(reason)),
            Over::Failed(error) => return Err(error.clone()),
        }
    }
    Ok(seen)
}

fn measure(runner: &mut Runner, worker: &Worker, runtime: &Runtime, alone: Option<Alone>) -> Result<()> {
    let (viewers, fps) = (runner.options.viewers, runner.options.fps);
    let (tell, samples) = mpsc::channel::<Sample>();
    let _inside = runtime.enter();
    let tap = Box::new(move |sample| {
        // Nobody listens after the end.
        let _ = tell.send(sample);
    });
    let watching = Watching::start(worker.view(runner.options, viewers), Some(tap))?;
    let shared = watching.shared.clone();
    let watched = runtime.spawn(watching.run(None, |_| Ok(())));
    let all_in = || shared.settled().0 + shared.settled().1 >= viewers as usize;
    while !all_in() && !watched.is_finished() && !runner.stopping() {
        std::thread::sleep(GLANCE);
    }
    let facts = shared.facts();
    let (Some(codec), Some(picture)) = (facts.codec, facts.size) else {
        shared.enough();
        judge(join(runtime, watched)?)?;
        return if runner.stopping() { Ok(()) } else { Err(Error::failed("nothing came from the worker")) };
    };
    let fps = facts.fps.unwrap_or(fps);
    let frame_us = 1e6 / fps;
    let begin_us = now_us() + (runner.options.warmup as f64 * frame_us) as u64;
    let end_us = begin_us + (runner.options.frames as f64 * frame_us) as u64;
    let row = row_of(Case::Network, facts.backend.as_deref().unwrap_or("-"), codec.name(), picture);
    runner.begin(row, fps, runner.frames() * viewers as usize);
    let (mut before, mut after) = (None, None);
    loop {
        match samples.recv_timeout(GLANCE) {
            Ok(sample) => {
                if sample.arrived_us >= begin_us && before.is_none() {
                    runner.warm();
                    before = Some((worker.usage(), now_us(), shared.counts()));
                }
                // They come viewer by viewer, not in the order of their arrival.
                if sample.arrived_us < end_us && (before.is_none() || sample.arrived_us >= begin_us) {
                    let Sample { network_us, received_us, encoded_us, .. } = sample;
                    runner.frame(&[("network", network_us), ("received", received_us), ("encoded", encoded_us)]);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if now_us() >= end_us && after.is_none() {
            after = Some((worker.usage(), now_us(), shared.counts()));
        }
        // Samples come with the viewers' clock, four times a second.
        if now_us() >= end_us + 300_000 || runner.stopping() || watched.is_finished() {
            break;
        }
    }
    runner.weigh();
    shared.enough();
    let seen = join(runtime, watched)?;
    let figures = seen.figures.clone();
    if !runner.stopping() {
        judge(seen)?;
    }
    let row = runner.row();
    row.drops = Some([("slow-viewer", figures.dropped), ("missing", figures.missing)].into());
    // Those of all viewers together are no frame rate.
    row.fps = None;
    let mut load = Load { viewers: Some(viewers), ..Load::default() };
    if let (Some((was, from_us, counts)), Some((is, to_us, later))) = (before, after) {
        let seconds = (to_us - from_us) as f64 / 1e6;
        row.fps = Some((later.0 - counts.0) as f64 / seconds / f64::from(viewers));
        if let (Some(was), Some(is)) = (was, is) {
            let took = cpu(was, is, seconds);
            load.cpu_percent = Some(took * 100.0);
            load.memory_bytes = Some(is.resident);
            let others = f64::from(viewers - 1);
            load.cpu_percent_a_viewer = alone.as_ref().map(|alone| (took - alone.cpu) * 100.0 / others);
            load.memory_bytes_a_viewer =
                alone.as_ref().map(|alone| is.resident.saturating_sub(alone.memory) / u64::from(viewers - 1));
        }
    }
    row.detail = Some(words(&load));
    row.load = Some(load);
    runner.end()
}

fn words(load: &Load) -> String {
    let viewers = load.viewers.unwrap_or(0);
    let plural = if viewers == 1 { "viewer" } else { "viewers" };
    let mut words = format!("{viewers} {plural} by /ws over loopback, queue and sockets included");
    if let (Some(cpu), Some(memory)) = (load.cpu_percent, load.memory_bytes) {
        words += &format!("; the worker takes {cpu:.1} % of a core and {} MiB", memory >> 20);
    }
    if let (Some(cpu), Some(memory)) = (load.cpu_percent_a_viewer, load.memory_bytes_a_viewer) {
        words += &format!(", {cpu:.3} % and {} KiB for each viewer beyond the first", memory >> 10);
    }
    words
}
