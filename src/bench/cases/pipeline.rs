//! A whole pipeline, started as `gsk serve` starts it, and one viewer in this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{codecs, cpu_us};
use crate::bench::Case;
use crate::bench::material::Opening;
use crate::bench::run::{Runner, row_of};
use crate::clock::now_us;
use crate::error::{Error, Kind, Result};
use crate::pipeline::broadcast::{Packet, Viewer};
use crate::pipeline::encode::{self, Codec, Slots, WhenFull};
use crate::pipeline::queue::Item;
use crate::pipeline::stream::Snapshot;
use crate::pipeline::{Config, Health, Pipeline};

/// How long the first unit may take.
const FIRST: Duration = Duration::from_secs(10);

/// How often it is looked whether to stop.
const GLANCE: Duration = Duration::from_millis(50);

pub fn run(runner: &mut Runner, opening: &Opening) -> Result<()> {
    // A worker streams its main codec, unless a viewer asks for the other.
    let asked = runner.options.codec.is_some();
    let codec = codecs(runner.options).next().filter(|codec| asked || *codec == runner.options.encoder.codec());
    let Some(codec) = codec else { return Ok(()) };
    encode::preview(codec, runner.options.encoder, runner.options.gpu.as_ref())?;
    let options = runner.options;
    let mut slots = Slots::new(options.slots, WhenFull::Refuse, "bench".into(), options.source.to_string());
    slots.gpu.clone_from(&options.gpu);
    let pipeline = Pipeline::start(Config {
        source: opening.options.clone(),
        encoder: options.encoder,
        slots: Arc::new(slots),
        bitrate: options.bitrate,
        quality: options.quality,
        nvenc: encode::NvencOptions::default(),
    })?;
    let (tell, ready) = mpsc::channel();
    // One that has gone needs no telling.
    let viewer = pipeline.join_with(
        codec,
        Box::new(move || {
            let _ = tell.send(());
        }),
    );
    watch(runner, &pipeline, codec, &viewer, &ready)
}

fn watch(runner: &mut Runner, pipeline: &Pipeline, codec: Codec, viewer: &Viewer, ready: &Receiver<()>) -> Result<()> {
    let Some((mut packet, mut received)) = first(runner, pipeline, codec, viewer, ready)? else { return Ok(()) };
    let stream = pipeline.stream(codec);
    let (info, fps) = (pipeline.info(), pipeline.fps());
    let backend = stream.snapshot().info.map_or("-", |info| info.backend);
    let mut row = row_of(Case::Pipeline, backend, codec.name(), packet.size);
    row.detail = info.map(|info| info.detail);
    runner.begin(row, fps, runner.frames());
    // Frames that stand still or are dropped give no unit: it is their time that counts.
    let frame_us = 1e6 / fps;
    let begin_us = received + (runner.options.warmup as f64 * frame_us) as u64;
    let end_us = begin_us + (runner.options.frames as f64 * frame_us) as u64;
    let (mut before, mut bytes, mut counted) = (None::<(Snapshot, u64)>, 0, 0u64);
    let mut last = received;
    loop {
        let times = &packet.times;
        let samples = [
            ("total", received.saturating_sub(times.captured_us.0)),
            ("capture", times.captured_us.1 - times.captured_us.0),
            ("wait", times.started_us.saturating_sub(times.captured_us.1)),
            ("convert", times.converted_us - times.started_us),
            ("encode", times.encoded_us - times.converted_us),
            ("publish", received.saturating_sub(times.encoded_us)),
            ("gap", received - last),
        ];
        if received >= begin_us {
            if before.is_none() {
                runner.warm();
                before = Some((stream.snapshot(), cpu_us()));
            }
            (bytes, counted) = (bytes + packet.unit().len() as u64, counted + 1);
        }
        runner.frame(&samples);
        last = received;
        match next(runner, viewer, ready, end_us) {
            Some(next) => (packet, received) = next,
            None => break,
        }
    }
    runner.weigh();
    let after = (stream.snapshot(), cpu_us());
    if let Some(reason) = stopped(pipeline) {
        return Err(Error::failed(reason));
    }
    let row = runner.row();
    if let Some((was, cpu)) = before {
        let is = after.0;
        row.drops = Some(BTreeMap::from([
            ("slow-encoder", is.replaced - was.replaced),
            ("slow-viewer", is.skipped - was.skipped),
            ("no-slot", is.starved - was.starved),
            ("unchanged", is.unchanged - was.unchanged),
        ]));
        let seconds = (last.saturating_sub(begin_us)) as f64 / 1e6;
        row.cpu_ms = (counted > 0).then(|| (after.1 - cpu) as f64 / 1e3 / counted as f64);
        row.bytes = Some(bytes);
        row.bitrate_bps = (seconds > 0.0 && counted > 1).then(|| bytes as f64 * 8.0 / seconds);
    }
    runner.end()
}

/// The first unit; `None` where the run is to stop.
fn first(
    runner: &Runner,
    pipeline: &Pipeline,
    codec: Codec,
    viewer: &Viewer,
    ready: &Receiver<()>,
) -> Result<Option<(Arc<Packet>, u64)>> {
    let began = Instant::now();
    while began.elapsed() < FIRST {
        if let Some(unit) = next(runner, viewer, ready, now_us() + 100_000) {
            return Ok(Some(unit));
        }
        if runner.stopping() {
            return Ok(None);
        }
        if let Some(reason) = stopped(pipeline) {
            return Err(Error::failed(reason));
        }
        let Snapshot { error, no_slot, .. } = pipeline.stream(codec).snapshot();
        match (no_slot, error) {
            (Some(lack), _) => return Err(Error::new(Kind::Capacity, lack.to_string())),
            (None, Some(error)) => return Err(error),
            (None, None) => {}
        }
    }
    Err(Error::failed(format!("no unit came within {} s", FIRST.as_secs())))
}

/// The next unit and when this thread had it, if it comes until then.
fn next(runner: &Runner, viewer: &Viewer, ready: &Receiver<()>, until_us: u64) -> Option<(Arc<Packet>, u64)> {
    loop {
        match viewer.try_next() {
            Some(Item::Unit(packet)) => return Some((packet, now_us())),
            Some(Item::Drop(_)) => continue,
            None => {}
        }
        let left = Duration::from_micros(until_us.saturating_sub(now_us()));
        if left.is_zero() || runner.stopping() || viewer.closed() {
            return None;
        }
        if let Err(RecvTimeoutError::Disconnected) = ready.recv_timeout(left.min(GLANCE)) {
            return None;
        }
    }
}

/// Why the source gives nothing any more.
fn stopped(pipeline: &Pipeline) -> Option<String> {
    match &*pipeline.health().borrow() {
        Health::Failed(reason) => Some(reason.clone()),
        Health::Ended(end) => Some(end.reason.clone()),
        Health::Starting(_) | Health::Running => None,
    }
}
