//! H.264 or JPEG, for the WebSocket sessions that ask for neither: measured here, decided in [`crate::pipeline::lane`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::worker::Worker;
use crate::clock::{now_us, rfc3339_now};
use crate::pipeline::encode::{Choice, Codec};
use crate::pipeline::lane::{Lane, Meanwhile, Miss, Second};
use crate::pipeline::rate;
use crate::pipeline::stream::Snapshot;
use crate::wire::status::{Cause, Fallback};

/// How often it is measured.
const SECOND: Duration = Duration::from_secs(1);

/// Seconds that nobody watches after which the decision is forgotten.
const FORGET: u32 = 5;

/// Gives such sessions the codec that this host can make for them, for as long as the worker lives. What was chosen
/// is not changed.
pub async fn follow(worker: Arc<Worker>) {
    if worker.settings.encoder != Choice::Auto || worker.plan.main != Codec::H264 {
        return;
    }
    let mut sessions = worker.sessions.count();
    let (mut lane, mut last, mut idle) = (Lane::default(), None, 0);
    while sessions.wait_for(|&open| open > 0 || lane.is_jpeg()).await.is_ok() {
        sleep(SECOND).await;
        if worker.undecided() == 0 {
            (idle, last) = (idle + 1, None);
            if idle >= FORGET && lane.is_jpeg() {
                lane.forget();
                worker.give(None);
            }
            continue;
        }
        idle = 0;
        if lane.is_jpeg() {
            let with = worker.clone();
            // The driver is asked.
            let Ok(seen) = tokio::task::spawn_blocking(move || meanwhile(&with)).await else { return };
            if let Some(back) = seen.and_then(|seen| lane.meanwhile(now_us(), &seen)) {
                tracing::info!("viewers get H.264 again: {back}");
                worker.give(None);
            }
            last = None;
        } else {
            let seen = Seen::of(&worker.pipeline.stream(Codec::H264).snapshot());
            let miss = last.zip(seen.as_ref()).and_then(|(last, seen)| lane.second(now_us(), &seen.since(&last)?));
            last = seen;
            if let Some(miss) = miss {
                try_jpeg(&worker, &mut lane, &miss).await;
            }
        }
        // Whoever joined while it was decided.
        worker.settle();
    }
}

/// H.264's counters at one time.
struct Seen {
    at_us: u64,
    encoder: u32,
    hardware: bool,
    cost_us: u64,
    encoded: u64,
    replaced: u64,
}

impl Seen {
    /// `None` while none is made.
    fn of(stream: &Snapshot) -> Option<Seen> {
        Some(Seen {
            at_us: now_us(),
            encoder: stream.format.as_ref()?.encoder,
            hardware: stream.info.as_ref()?.hardware,
            cost_us: stream.cost_us?,
            encoded: stream.encoded,
            replaced: stream.replaced,
        })
    }

    /// What was between; `None` where an encoder was opened, for which pictures wait.
    fn since(&self, last: &Seen) -> Option<Second> {
        (self.encoder == last.encoder).then(|| Second {
            hardware: self.hardware,
            cost_us: self.cost_us,
            encoded: self.encoded - last.encoded,
            replaced: self.replaced - last.replaced,
            span_us: self.at_us - last.at_us,
        })
    }
}

/// Tries a picture as JPEG, and turns to it where that is better.
async fn try_jpeg(worker: &Arc<Worker>, lane: &mut Lane, miss: &Miss) {
    let with = worker.clone();
    let tried = tokio::task::spawn_blocking(move || with.pipeline.try_jpeg()).await;
    let (trial, pixels) = match tried {
        Ok(Ok((trial, pixels))) => (Some(trial), pixels),
        Ok(Err(failure)) => {
            tracing::debug!("JPEG was tried in vain: {}", crate::error::Error::from(failure));
            (None, 0)
        }
        Err(_) => (None, 0),
    };
    let budget = rate::budget(worker.pipeline.bitrate(), worker.pipeline.fps());
    tracing::debug!("H.264 misses the frame rate: {miss}; JPEG: {trial:?} where {budget:.0} bytes are allowed");
    if !lane.tried(now_us(), miss, trial, pixels, budget) {
        return;
    }
    let stream = worker.pipeline.stream(Codec::H264).snapshot();
    let from = worker.encoder(&stream).map_or("openh264", |info| info.backend);
    let detail = format!("this host is too slow for H.264: {miss}");
    tracing::warn!("viewers get JPEG, not H.264 by {from}: {miss}");
    worker.give(Some(Fallback { from: from.into(), cause: Cause::Limit, detail, since: rfc3339_now() }));
}

/// What is seen while JPEG is given; `None` while none is made.
fn meanwhile(worker: &Worker) -> Option<Meanwhile> {
    let stream = worker.pipeline.stream(Codec::Jpeg).snapshot();
    Some(Meanwhile {
        hardware: worker.could_use_hardware(),
        pixels: stream.format?.size.pixels(),
        fps: worker.pipeline.fps(),
        bitrate: stream.bitrate_bps,
        target: worker.pipeline.bitrate(),
    })
}
