//! A worker's own view of itself: its state in words, `/status`, and who may join.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Settings;
use super::ws::{self, Session};
use crate::clock::{now_us, rfc3339_now};
use crate::error::{Error, Kind, Result};
use crate::gpu::{self, Chosen};
use crate::lease::Denied;
use crate::pipeline::broadcast::{Ready, Viewer, Waiting};
use crate::pipeline::encode::{self, Choice, Codec, NoSlot, Slots, WhenFull};
use crate::pipeline::stream;
use crate::pipeline::timing::Stage;
use crate::pipeline::{Health, Pipeline};
use crate::wire::message::Server;
use crate::wire::status::{Cause, Condition, Drops, Encoder, Fallback, Latency, Schema, State, Status};

/// What encodes each codec on this host, and why: settled once, so that "since when" stays as it is.
pub struct Plan {
    /// The codec that viewers get who ask for none.
    pub main: Codec,
    /// Of each of [`Codec::ALL`], or why there is none.
    by_codec: [Result<encode::Info>; Codec::ALL.len()],
}

impl Plan {
    /// `main`: the video to prefer, where the choice of encoder leaves one. That it cannot be encoded here is an error. `gpu`:
    /// the one that was chosen.
    pub fn new(choice: Choice, main: encode::Main, gpu: Option<&Chosen>) -> Result<Plan> {
        let main = if choice.codec() == Codec::Jpeg { Codec::Jpeg } else { main.into() };
        let plan = Plan { main, by_codec: Codec::ALL.map(|codec| encode::preview(codec, choice, gpu)) };
        plan.of(main).map_err(Error::clone)?;
        Ok(plan)
    }

    fn of(&self, codec: Codec) -> Result<&encode::Info, &Error> {
        self.by_codec[codec as usize].as_ref()
    }

    /// Whether this host's NVENC would encode any of them.
    pub fn has_nvenc(&self) -> bool {
        self.by_codec.iter().flatten().any(|info| info.hardware && info.codec != Codec::Jpeg)
    }

    /// What encodes the main codec.
    pub fn main(&self) -> &encode::Info {
        self.of(self.main).expect("the plan has it")
    }
}

/// How long the driver may take to list its encoder sessions.
const DRIVER: Duration = Duration::from_millis(200);

/// What the handlers share.
pub struct Worker {
    pub settings: Settings,
    pub plan: Plan,
    pub pipeline: Pipeline,
    slots: Arc<Slots>,
    condition: watch::Sender<Condition>,
    joined: Arc<AtomicUsize>,
    /// Why sessions that ask for no codec get JPEG and not H.264, while they do.
    jpeg_instead: Mutex<Option<Fallback>>,
    /// Of each of [`Codec::ALL`], whether it was logged what its preferred encoder lacks.
    lacks: [AtomicBool; Codec::ALL.len()],
    pub sessions: Sessions,
    /// The `config` of those without video, by codec. Held while sessions are told of changes, so that news keep their order.
    told: Mutex<Told>,
    stopping: watch::Sender<Option<String>>,
}

/// The `config` of each of [`Codec::ALL`] that is encoded now.
type Told = [Option<Bytes>; Codec::ALL.len()];

/// A viewer and the place that it takes up.
pub struct Seat<V> {
    pub viewer: V,
    _taken: Taken,
}

/// A viewer's place, given back when dropped.
struct Taken(Arc<AtomicUsize>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The WebSocket sessions, those without video included.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<Vec<Arc<Session>>>,
    count: watch::Sender<usize>,
}

impl Sessions {
    pub fn add(&self, session: &Arc<Session>) {
        self.change(|open| open.push(session.clone()));
    }

    pub fn remove(&self, session: &Arc<Session>) {
        self.change(|open| open.retain(|other| !Arc::ptr_eq(other, session)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Session>>)) {
        let mut open = self.open.lock().unwrap();
        change(&mut open);
        self.count.send_replace(open.len());
    }

    /// Sends the same frame to all.
    pub fn post(&self, frame: &Bytes) {
        self.post_to(frame, |_| true);
    }

    fn undecided(&self) -> Vec<Arc<Session>> {
        self.open.lock().unwrap().iter().filter(|session| session.undecided).cloned().collect()
    }

    fn post_to(&self, frame: &Bytes, whom: impl Fn(&Session) -> bool) {
        let open = self.open.lock().unwrap().clone();
        open.iter().filter(|session| whom(session)).for_each(|session| session.post(frame.clone()));
    }

    /// How many there are.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

impl Worker {
    pub fn new(settings: Settings, plan: Plan, slots: Arc<Slots>, pipeline: Pipeline) -> Worker {
        let condition = Condition { state: State::Starting, reason: String::new(), since: rfc3339_now() };
        Worker {
            settings,
            plan,
            pipeline,
            slots,
            condition: watch::Sender::new(condition),
            joined: Arc::default(),
            jpeg_instead: Mutex::default(),
            lacks: Default::default(),
            sessions: Sessions::default(),
            told: Mutex::default(),
            stopping: watch::Sender::new(None),
        }
    }

    /// Follows the pipeline for as long as the worker lives.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.pipeline.changes();
        loop {
            self.refresh();
            let viewed = self.streams().iter().any(|stream| stream.viewers > 0);
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                // That an encoder does not answer is no event.
                () = tokio::time::sleep(Duration::from_secs(1)), if viewed => {}
            }
        }
    }

    /// Works the state out anew, and tells everybody if it is; `since` moves only with the state.
    fn refresh(&self) {
        self.tell_news(&mut self.told.lock().unwrap());
    }

    fn tell_news(&self, told: &mut Told) {
        let (state, reason) = self.judge();
        let new = self.condition.send_if_modified(|old| {
            if (old.state, &old.reason) == (state, &reason) {
                return false;
            }
            let since = if old.state == state { old.since.clone() } else { rfc3339_now() };
            *old = Condition { state, reason, since };
            true
        });
        if new {
            let frame = ws::text(&Server::State(&self.condition.borrow()));
            self.sessions.post(&frame);
        }
        for (told, codec) in told.iter_mut().zip(Codec::ALL) {
            self.tell_of_a_lack(codec);
            let config = self.config_beside(codec);
            if *told != config {
                told.clone_from(&config);
                config.inspect(|frame| {
                    self.sessions.post_to(frame, |session| !session.video && session.codec() == codec)
                });
            }
        }
    }

    /// Logs once what was no fallback by the plan: an encoder that was found on this host, and when it was opened turned
    /// out to lack what was asked of it. Of what may pass the pipeline tells itself.
    fn tell_of_a_lack(&self, codec: Codec) {
        let info = self.pipeline.stream(codec).snapshot().info;
        let Some(info) = info.filter(|_| self.plan.of(codec).is_ok_and(|plan| plan.fallback.is_none())) else { return };
        let lack = info.fallback.filter(|fallback| matches!(fallback.cause, Cause::NoEngine | Cause::NoDriver));
        let Some(Fallback { from, detail, .. }) = lack else { return };
        if !self.lacks[codec as usize].swap(true, Relaxed) {
            tracing::warn!("encoder {}, not {from}: {detail}", info.backend);
        }
    }

    /// Takes a session in: it is told how things stand, and from then on whatever changes.
    pub fn greet(&self, session: &Arc<Session>) {
        let mut told = self.told.lock().unwrap();
        self.tell_news(&mut told);
        session.hello();
        if let (Some(config), false) = (&told[session.codec() as usize], session.video) {
            session.post(config.clone());
        }
        self.sessions.add(session);
    }

    /// What sessions get that ask for no codec.
    pub fn codec(&self) -> Codec {
        if self.jpeg_instead.lock().unwrap().is_some() { Codec::Jpeg } else { self.plan.main }
    }

    /// How many of them watch.
    pub fn undecided(&self) -> usize {
        self.sessions.undecided().len()
    }

    /// Gives them JPEG from here on, and why, or H.264.
    pub fn give(&self, jpeg: Option<Fallback>) {
        *self.jpeg_instead.lock().unwrap() = jpeg;
        self.settle();
    }

    /// Brings them to the codec that they are to get.
    pub fn settle(&self) {
        let codec = self.codec();
        self.sessions.undecided().iter().for_each(|session| session.turn_to(codec));
    }

    /// Whether a GPU's engine could make H.264 now. Asks the driver.
    pub fn could_use_hardware(&self) -> bool {
        let info = encode::preview(Codec::H264, self.settings.encoder, self.slots.gpu.as_ref());
        info.is_ok_and(|info| info.hardware) && self.slots.peek().is_ok()
    }

    /// That of the video that a session without any may have beside it, if it does not say.
    pub fn codec_beside(&self) -> Codec {
        if self.encodes(Codec::H264).is_ok() { Codec::H264 } else { self.plan.main }
    }

    /// Of that video, what it is and what makes it; none while nothing does.
    fn config_beside(&self, codec: Codec) -> Option<Bytes> {
        let stream = self.pipeline.stream(codec).snapshot();
        ws::config(self, &stream, stream.format.as_ref()?, false)
    }

    fn judge(&self) -> (State, String) {
        let health = self.pipeline.health().borrow().clone();
        let streams = self.streams().into_iter().filter(|stream| stream.viewers > 0).collect::<Vec<_>>();
        match health {
            Health::Ended(end) if end.code == 0 => (State::Idle, end.reason),
            Health::Ended(end) => (State::Error, end.reason),
            Health::Failed(reason) => (State::Error, reason),
            Health::Starting(reason) => (State::Starting, reason),
            Health::Running if streams.is_empty() => (State::Idle, "nobody watches".into()),
            Health::Running if self.pipeline.source_is_silent() => {
                (State::Error, format!("{} does not answer", self.settings.source.name()))
            }
            Health::Running => {
                let error = streams.iter().find_map(|stream| stream.error.as_ref());
                let no_slot = streams.iter().find_map(|stream| stream.no_slot.as_ref());
                let silent = streams.iter().find(|stream| stream.silent);
                match (error, no_slot, silent) {
                    (Some(error), _, _) => (State::Error, error.to_string()),
                    (None, Some(lack), _) => (State::NoSlot, lack.reason.clone()),
                    (None, None, Some(stream)) => {
                        let backend = self.encoder(stream).map_or("the encoder", |info| info.backend);
                        (State::Error, format!("{backend} does not answer"))
                    }
                    (None, None, None) => (State::Streaming, String::new()),
                }
            }
        }
    }

    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// The condition, worked out now: where nobody watches it is not worked out again by itself.
    pub fn condition_now(&self) -> Condition {
        self.refresh();
        self.condition.borrow().clone()
    }

    /// The last word to everybody, and the sign to end.
    pub fn stop(&self, reason: &str) {
        self.stopping.send_if_modified(|old| {
            let first = old.is_none();
            old.get_or_insert_with(|| reason.into());
            first
        });
    }

    pub fn stopping(&self) -> watch::Receiver<Option<String>> {
        self.stopping.subscribe()
    }

    /// Waits until a codec's viewers are known to lack an encoder slot.
    pub async fn lacks_slot(&self, codec: Codec) -> NoSlot {
        let mut changes = self.pipeline.changes();
        loop {
            if let Some(lack) = self.pipeline.stream(codec).snapshot().no_slot {
                return lack;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a codec could be encoded now: its encoder is open, or needs no slot, or there is one to be had. Takes none.
    pub fn has_slot(&self, codec: Codec) -> Result<(), Denied> {
        let open = self.pipeline.stream(codec).snapshot().info.is_some();
        let needs_one = self.plan.of(codec).is_ok_and(|info| info.hardware && info.codec != Codec::Jpeg);
        match self.settings.when_full {
            WhenFull::Refuse if needs_one && !open => self.slots.peek(),
            _ => Ok(()),
        }
    }

    /// Whether a codec has an encoder here.
    pub fn encodes(&self, codec: Codec) -> Result<()> {
        self.plan.of(codec).map(drop).map_err(Error::clone)
    }

    /// Takes a viewer in, unless there is no encoder for it or all places are taken.
    pub fn join(&self, codec: Codec) -> Result<Seat<Waiting>> {
        self.seat(codec, || self.pipeline.join(codec))
    }

    /// The same for a viewer that is told by a call when something waits for it.
    pub fn join_with(&self, codec: Codec, ready: Ready) -> Result<Seat<Viewer>> {
        self.seat(codec, || self.pipeline.join_with(codec, ready))
    }

    /// Brings a viewer to another codec, on the place that it has.
    pub fn move_seat(&self, seat: Seat<Viewer>, codec: Codec, ready: Ready) -> Seat<Viewer> {
        let Seat { viewer, _taken } = seat;
        // It leaves last, so that the source goes on.
        let next = self.pipeline.join_with(codec, ready);
        drop(viewer);
        Seat { viewer: next, _taken }
    }

    fn seat<V>(&self, codec: Codec, join: impl FnOnce() -> V) -> Result<Seat<V>> {
        self.encodes(codec)?;
        let most = self.settings.max_viewers as usize;
        let before = self.joined.fetch_add(1, Relaxed);
        let taken = Taken(self.joined.clone());
        if before >= most {
            return Err(Error::new(Kind::Capacity, format!("all places for viewers are taken (--max-viewers {most})")));
        }
        Ok(Seat { viewer: join(), _taken: taken })
    }

    /// Who has the viewers' places, in words.
    pub fn holders(&self) -> Vec<String> {
        let held = self.streams().into_iter().filter(|stream| stream.viewers > 0);
        held.map(|stream| {
            let plural = if stream.viewers == 1 { "" } else { "s" };
            format!("{} viewer{plural} of {}", stream.viewers, stream.codec.name())
        })
        .collect()
    }

    /// Why there is nothing to watch, if so: what a request for a stream is refused with.
    pub fn not_running(&self) -> Option<Condition> {
        let over = matches!(*self.pipeline.health().borrow(), Health::Ended(_) | Health::Failed(_));
        over.then(|| self.condition.borrow().clone())
    }

    /// Of all codecs, that of sessions which ask for none first.
    pub fn streams(&self) -> [stream::Snapshot; Codec::ALL.len()] {
        let mut streams = Codec::ALL.map(|codec| self.pipeline.stream(codec).snapshot());
        streams[..=self.codec() as usize].rotate_right(1);
        streams
    }

    /// What encodes a stream now, or would; `None` where nothing can.
    pub fn encoder(&self, stream: &stream::Snapshot) -> Option<encode::Info> {
        let told = |info: &encode::Info| {
            let fallback = info.fallback.clone().map(|f| (f.from, f.cause, f.detail));
            (info.backend, info.hardware, fallback)
        };
        let planned = self.plan.of(stream.codec).ok();
        match (&stream.info, planned) {
            // As planned: then "since" is the plan's.
            (Some(open), Some(plan)) if told(open) == told(plan) => {
                Some(encode::Info { slot: open.slot.clone(), ..plan.clone() })
            }
            (Some(open), _) => Some(open.clone()),
            (None, plan) => plan.cloned(),
        }
    }

    /// The same, with why it is not H.264's encoder where that was preferred.
    pub fn encoder_instead(&self, stream: &stream::Snapshot) -> Option<encode::Info> {
        let info = self.encoder(stream)?;
        let instead = self.jpeg_instead.lock().unwrap().clone().filter(|_| stream.codec == Codec::Jpeg);
        Some(encode::Info { fallback: instead.or(info.fallback), ..info })
    }

    pub fn latency(&self) -> Latency {
        let now = now_us();
        let timing = self.pipeline.timing();
        let of = |stage: Stage| Some((stage.name().to_string(), timing.percentiles(stage, now)?));
        Stage::ALL.into_iter().filter_map(of).collect::<BTreeMap<_, _>>()
    }

    /// Tells all sessions the figures once a second, while there are any.
    pub async fn tell_figures(self: Arc<Self>) {
        let mut sessions = self.sessions.count();
        while sessions.wait_for(|&open| open > 0).await.is_ok() {
            let streams = self.streams();
            let (viewers, backend) = (streams.iter().map(|stream| stream.viewers).sum(), self.backend(&streams[0]));
            let stream = streams.iter().find(|stream| stream.viewers > 0).unwrap_or(&streams[0]);
            let stats = Server::Stats {
                fps: stream.fps,
                bitrate_bps: stream.bitrate_bps,
                bitrate_asked_bps: self.pipeline.bitrate(),
                bitrate_most_bps: self.settings.bitrate,
                viewers,
                backend: &backend,
                dropped: stream.skipped,
                latency_ms: &self.latency(),
            };
            self.sessions.post(&ws::text(&stats));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// `gsk:<source>:<encoder>`.
    fn backend(&self, main: &stream::Snapshot) -> String {
        let encoder = self.encoder(main).map_or(self.plan.main().backend, |info| info.backend);
        format!("gsk:{}:{encoder}", self.settings.source.name())
    }

    pub fn status(&self) -> Status {
        // A viewer may have its picture before the news of it are worked out.
        let condition = self.condition_now();
        let streams = self.streams();
        let encoders: Vec<Encoder> = streams.iter().filter_map(|s| Some(shown(s, self.encoder_instead(s)?))).collect();
        let main = &streams[0];
        let (info, latency_ms) = (self.pipeline.info(), self.latency());
        let sum = |of: fn(&stream::Snapshot) -> u64| streams.iter().map(of).sum::<u64>();
        let drops =
            Drops { slow_encoder: sum(|s| s.replaced), slow_viewer: sum(|s| s.skipped), no_slot: sum(|s| s.starved) };
        let size = info.as_ref().map(|info| info.size);
        let active = streams.iter().map(|s| s.viewers).sum();
        let error = (condition.state == State::Error).then(|| condition.reason.clone());
        Status {
            schema: Schema { name: "gsk.status".into(), version: 1 },
            gsk: env!("CARGO_PKG_VERSION").into(),
            host: crate::output::host(),
            instance_id: self.settings.instance_id.clone(),
            streaming: condition.state == State::Streaming,
            condition,
            source: self.settings.source.name(),
            source_detail: info.map(|info| info.detail),
            encoder: encoders.first().cloned(),
            encoders,
            stream_backend: self.backend(main),
            stream_enabled: true,
            active_clients: active,
            stream_active_clients: active,
            stream_max_clients: self.settings.max_viewers,
            frames_fps: main.fps,
            frames_ok: sum(|s| s.encoded),
            frames_captured: self.pipeline.captured(),
            frames_unchanged: sum(|s| s.unchanged),
            frames_dropped: drops.slow_encoder + drops.slow_viewer + drops.no_slot,
            frames_dropped_by: drops,
            pixel_src_width: size.map(|size| size.width),
            pixel_src_height: size.map(|size| size.height),
            spectator_width: size.map(|size| size.width),
            spectator_height: size.map(|size| size.height),
            bitrate_bps: main.bitrate_bps,
            nvenc_sessions_used: gpu::recent_sessions(DRIVER).map(|sessions| sessions.len() as u32),
            stream_error: error,
            streamer_last_error: self.pipeline.last_error(),
            last_keyframe_age_ms: main.last_key_us.map(|at| now_us().saturating_sub(at) as f64 / 1e3),
            latency_ms,
            simd: env!("GSK_SIMD") != "none",
            errors: Vec::new(),
        }
    }
}

/// How `/status` shows a codec's encoder.
fn shown(stream: &stream::Snapshot, info: encode::Info) -> Encoder {
    Encoder {
        backend: info.backend.into(),
        codec: stream.codec.name().into(),
        hardware: info.hardware,
        slot: info.slot,
        fallback: info.fallback,
        viewers: stream.viewers,
        open: stream.info.is_some(),
    }
}

/// Waits for the worker's end, and what it says of it.
pub async fn last_word(stopping: &mut watch::Receiver<Option<String>>) -> String {
    match stopping.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => String::new(),
    }
}
