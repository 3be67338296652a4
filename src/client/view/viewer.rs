//! One viewer: a connection to a worker, and what it measures.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::clock::Clock;
use super::connect;
use super::decode::Decoder;
use super::figures::{Sequence, Span};
use super::save::{Recorded, Recording};
use super::unit::{Cut, Mp4, Multipart, Unit};
use super::{Options, Sample, Shared, Via, Why, stopped};
use crate::client::unreachable;
use crate::clock::now_us;
use crate::error::{Error, Kind, Result};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::{Frame, Size};
use crate::wire::message::{Ack, Client, Told};
use crate::wire::status::{Condition, State};

/// How often a viewer reports and looks after its clock: as the page does.
const TICK: Duration = Duration::from_millis(250);
/// After so many answers a ping a second is enough.
const QUICK_PINGS: usize = 6;
/// A worker says something every second on `/ws`, and sends a picture every 2 s elsewhere: silence means a dead connection.
const SILENCE: Duration = Duration::from_secs(6);
/// Units whose times wait for the clock's offset or the decoder.
const REMEMBERED: usize = 600;
/// The longest text message that is read, bytes.
const MAX_TEXT: usize = 1 << 20;

/// How a viewer's watching came to its end.
#[derive(Clone, Debug)]
pub enum Over {
    /// As asked for.
    Done,
    /// The worker ended it, and said why.
    Bye(String),
    /// It could not begin, or broke off.
    Failed(Error),
}

impl Over {
    pub fn error(&self) -> Option<&Error> {
        match self {
            Over::Failed(error) => Some(error),
            Over::Done | Over::Bye(_) => None,
        }
    }
}

/// What a viewer has seen in the end.
#[derive(Debug)]
pub struct Outcome {
    pub over: Over,
    pub units: u64,
    pub bytes: u64,
    /// When the first unit came and the last, µs.
    pub span_us: Option<(u64, u64)>,
    pub longest_gap_us: u64,
    pub clock: Clock,
    pub decode_failures: (u64, Vec<String>),
    pub decode_skipped: u64,
    pub last_picture: Option<Frame>,
    pub recorded: Option<Result<Recorded>>,
}

/// A unit's times, until all is known of it.
struct Times {
    sequence: u32,
    captured_us: u64,
    encoded_after_us: u32,
    arrived_us: u64,
}

pub struct Viewer {
    options: Arc<Options>,
    shared: Arc<Shared>,
    /// Whether it is the one that tells what the worker is, and may keep a recording.
    first: bool,
    began_us: u64,
    condition: Option<Condition>,
    codec: Option<Codec>,
    size: Option<Size>,
    fps: f64,
    clock: Clock,
    last_ping_us: u64,
    sequence: Sequence,
    /// Arrivals whose latency is not worked out yet, oldest first.
    unsettled: VecDeque<Times>,
    /// Those that are, for their pictures.
    settled: VecDeque<Times>,
    decoder: Option<Decoder>,
    recording: Option<Recording>,
    pictures: u64,
    bye: Option<String>,
    /// Since the last report: the newest unit, and samples, µs.
    newest: Option<u32>,
    network: Vec<f64>,
    decode: Vec<f64>,
    units: u64,
    bytes: u64,
    span_us: Option<(u64, u64)>,
    longest_gap_us: u64,
}

impl Viewer {
    pub fn new(number: u32, options: Arc<Options>, shared: Arc<Shared>) -> Viewer {
        Viewer {
            options,
            shared,
            first: number == 0,
            began_us: now_us(),
            condition: None,
            codec: None,
            size: None,
            fps: 30.0,
            clock: Clock::default(),
            last_ping_us: 0,
            sequence: Sequence::default(),
            unsettled: VecDeque::new(),
            settled: VecDeque::new(),
            decoder: None,
            recording: None,
            pictures: 0,
            bye: None,
            newest: None,
            network: Vec::new(),
            decode: Vec::new(),
            units: 0,
            bytes: 0,
            span_us: None,
            longest_gap_us: 0,
        }
    }

    /// Watches until it is told to stop, or it ends by itself.
    pub async fn watch(mut self) -> Outcome {
        self.began_us = now_us();
        let over = match self.options.via {
            Via::Ws => self.over_ws().await,
            Via::Mp4 => self.over_http("stream.mp4?codec=h264", Mp4::default()).await,
            Via::Mjpeg => self.over_http("stream.mjpg", Multipart::default()).await,
        };
        let over = over.unwrap_or_else(Over::Failed);
        self.shared.ended(self.units > 0);
        self.finish(over).await
    }

    /// Waits for what is still to be decoded and written.
    async fn finish(mut self, over: Over) -> Outcome {
        let (mut decoder, recording) = (self.decoder.take(), self.recording.take());
        let closed = tokio::task::spawn_blocking(move || {
            decoder.iter_mut().for_each(Decoder::finish);
            (decoder, recording.map(Recording::finish))
        });
        let (decoder, recorded) = closed.await.unwrap_or_else(|error| (None, Some(Err(Error::bug(error.to_string())))));
        self.decoder = decoder;
        self.settle();
        Outcome {
            over,
            units: self.units,
            bytes: self.bytes,
            span_us: self.span_us,
            longest_gap_us: self.longest_gap_us,
            clock: self.clock,
            decode_failures: self.decoder.as_ref().map_or((0, Vec::new()), Decoder::failures),
            decode_skipped: self.decoder.as_ref().map_or(0, |decoder| decoder.skipped),
            last_picture: self.decoder.as_ref().and_then(Decoder::last),
            recorded,
        }
    }

    /// When the first unit must be there.
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    async fn within<T>(&self, what: &str, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.options.timeout;
        timeout(limit, attempt).await.unwrap_or_else(|_| {
            Err(unreachable(format!("{what} within {} s", limit.as_secs_f64())).hint("give it longer: --timeout 30s"))
        })
    }

    async fn connect(&self) -> Result<tokio::net::TcpStream> {
        let stream = self.within("no connection", connect::tcp(&self.options.target)).await?;
        self.shared.record(Span::Connected, now_us() - self.began_us);
        Ok(stream)
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.options.target.base())
    }

    // ---- /ws ----

    async fn over_ws(&mut self) -> Result<Over> {
        let path = match self.options.codec {
            None => self.path("ws"),
            Some(codec) => self.path(&format!("ws?video={}", codec.name())),
        };
        let deadline = self.deadline();
        let stream = self.connect().await?;
        let (options, mut stop) = (self.options.clone(), self.shared.stop.subscribe());
        let opening = connect::websocket(stream, &options.target, &path, options.token.as_ref());
        let mut socket = self.within("connected, but no answer", opening).await?;
        let (mut tick, mut heard) = (ticks(), Instant::now());
        loop {
            tokio::select! {
                message = socket.next() => {
                    let arrived_us = now_us();
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Binary(message))) => match Unit::parse(message, arrived_us) {
                            Some(unit) => self.unit(unit)?,
                            None => return Err(unreachable("what comes is not gsk.v1")),
                        },
                        Some(Ok(Message::Text(text))) => self.told(&text, arrived_us)?,
                        Some(Ok(Message::Close(_))) | None => return Ok(self.gone(None)),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Ok(self.gone(Some(error.to_string()))),
                    }
                }
                _ = tick.tick() => {
                    for message in self.report() {
                        let text = serde_json::to_string(&message).map_err(|error| Error::bug(error.to_string()))?;
                        if let Err(error) = socket.send(Message::text(text)).await {
                            return Ok(self.gone(Some(error.to_string())));
                        }
                    }
                    if heard.elapsed() > SILENCE {
                        return Ok(self.gone(Some(format!("no word from it for {} s", SILENCE.as_secs()))));
                    }
                }
                () = news(&self.decoder) => self.settle(),
                () = sleep_until(deadline), if self.units == 0 => return Err(self.nothing_came()),
                () = stopped(&mut stop) => {
                    // The worker need not answer.
                    let _ = timeout(Duration::from_millis(200), socket.close(None)).await;
                    return Ok(Over::Done);
                }
            }
        }
    }

    fn told(&mut self, text: &str, arrived_us: u64) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(unreachable("what comes is not gsk.v1: a text of more than 1 MiB"));
        }
        // What a newer worker says in other words is passed over.
        match serde_json::from_str(text).unwrap_or(Told::Other) {
            Told::Hello { instance, source, condition, .. } => {
                self.condition = Some(condition);
                if self.first {
                    self.shared.learn(|facts| (facts.instance, facts.source) = (Some(instance), Some(source)));
                }
                // The clock's offset is to be known early.
                self.last_ping_us = 0;
            }
            Told::Config { codec, width, height, fps, backend, hardware, fallback } => {
                let size = Size::new(width, height).check();
                self.size = Some(size.map_err(|error| unreachable("its pictures are of no size").cause(error))?);
                self.codec = Some(named(&codec)?);
                self.fps = if (1.0..=1000.0).contains(&fps) { fps } else { 30.0 };
                let (size, fps, kind) = (self.size, self.fps, self.codec);
                if self.first {
                    self.shared.learn(|facts| {
                        facts.codec = kind;
                        (facts.codec_string, facts.size, facts.fps) = (Some(codec), size, Some(fps));
                        (facts.backend, facts.hardware) = (Some(backend), Some(hardware));
                        facts.fallback = fallback.map(|fallback| format!("{}: {}", fallback.from, fallback.detail));
                    });
                }
            }
            Told::State(condition) => self.condition = Some(condition),
            Told::Drop { frames } => {
                self.sequence.drop(frames);
                self.shared.figures(|figures| {
                    figures.drops += 1;
                    figures.dropped = figures.dropped.saturating_add(frames);
                });
            }
            Told::Pong { t, server_us } => self.clock.pong(t as u64, arrived_us, server_us),
            Told::Bye { reason } => self.bye = Some(reason),
            Told::Other => {}
        }
        Ok(())
    }

    /// What is to be said now: a ping, what was measured, and that a key unit is needed.
    fn report(&mut self) -> Vec<Client> {
        self.settle();
        let (now, mut messages) = (now_us(), Vec::new());
        let pause = if self.clock.answers() < QUICK_PINGS { TICK } else { Duration::from_secs(1) };
        // A tick that comes a little early is meant too.
        if now + 20_000 >= self.last_ping_us + pause.as_micros() as u64 {
            self.last_ping_us = now;
            messages.push(Client::Ping { t: now as f64 });
        }
        if let Some(sequence) = self.newest.take() {
            let frames = self.decode.len() as u32;
            let (network_us, decode_us) = (median(&mut self.network), median(&mut self.decode));
            let queue = self.decoder.as_ref().map(|decoder| decoder.waiting() as u32);
            messages.push(Client::Ack(Ack { sequence, frames, network_us, decode_us, queue, ..Ack::default() }));
        }
        if self.decoder.as_ref().is_some_and(Decoder::needs_key) {
            messages.push(Client::Keyframe);
        }
        messages
    }

    /// The connection is over.
    fn gone(&mut self, why: Option<String>) -> Over {
        match (self.bye.take(), why) {
            (Some(reason), _) if self.units > 0 => Over::Bye(reason),
            // What it says to one whom it does not let in.
            (Some(reason), _) if reason.contains("all places") => {
                Over::Failed(Error::new(Kind::Capacity, "the worker has no room").cause(reason))
            }
            (Some(reason), _) => Over::Failed(Error::failed("the worker sent nothing").cause(reason)),
            (None, why) => {
                let error = unreachable("the connection to the worker is gone");
                Over::Failed(why.into_iter().fold(error, Error::cause))
            }
        }
    }

    // ---- The plain streams ----

    async fn over_http(&mut self, name: &str, mut cut: impl Cut) -> Result<Over> {
        let deadline = self.deadline();
        let stream = self.connect().await?;
        let (options, mut stop) = (self.options.clone(), self.shared.stop.subscribe());
        let path = self.path(name);
        let opening = connect::http(stream, &options.target, &path, options.token.as_ref());
        let (answer, _driver) = tokio::select! {
            // The worker itself waits for its first picture before it answers.
            opened = self.within("connected, but no answer", opening) => opened?,
            () = stopped(&mut stop) => return Ok(Over::Done),
        };
        let mut body = answer.into_body();
        let (mut tick, mut heard, mut units) = (ticks(), Instant::now(), Vec::new());
        loop {
            tokio::select! {
                data = connect::next(&mut body) => {
                    let arrived_us = now_us();
                    heard = Instant::now();
                    match data {
                        Some(Ok(data)) => cut.feed(&data, &mut units)?,
                        None => return Ok(Over::Bye("the stream came to its end".into())),
                        Some(Err(error)) => return Ok(self.gone(Some(error.to_string()))),
                    }
                    for unit in units.drain(..) {
                        self.size = unit.size.or(self.size);
                        self.unit(Unit { arrived_us, ..unit })?;
                    }
                }
                _ = tick.tick() => {
                    self.settle();
                    // Nobody is told.
                    self.decode.clear();
                    if heard.elapsed() > SILENCE && self.units > 0 {
                        return Ok(self.gone(Some(format!("no word from it for {} s", SILENCE.as_secs()))));
                    }
                }
                () = news(&self.decoder) => self.settle(),
                () = sleep_until(deadline), if self.units == 0 => return Err(self.nothing_came()),
                () = stopped(&mut stop) => return Ok(Over::Done),
            }
        }
    }

    // ---- Units ----

    fn unit(&mut self, unit: Unit) -> Result<()> {
        if self.units == 0 {
            self.begin(&unit)?;
        }
        self.units += 1;
        self.bytes += unit.data().len() as u64;
        let at = unit.arrived_us;
        let gap = self.span_us.map(|(_, last)| at.saturating_sub(last));
        self.span_us = Some((self.span_us.map_or(at, |(first, _)| first), at));
        self.longest_gap_us = self.longest_gap_us.max(gap.unwrap_or(0));
        let missing = self.sequence.next(unit.header.sequence);
        self.shared.figures(|figures| {
            figures.unit(&unit);
            figures.missing += missing;
            gap.inspect(|&us| figures.record(Span::Gap, us));
        });
        self.newest = Some(unit.header.sequence);
        if unit.timed {
            let (sequence, captured_us, encoded_after_us) =
                (unit.header.sequence, unit.header.captured_us, unit.header.encoded_after_us);
            self.unsettled.push_back(Times { sequence, captured_us, encoded_after_us, arrived_us: at });
            if self.unsettled.len() > REMEMBERED {
                self.unsettled.pop_front();
            }
        }
        if let Some(size) = self.size {
            self.decoder.iter_mut().for_each(|decoder| decoder.feed(&unit, size));
            self.recording.iter_mut().for_each(|recording| recording.feed(&unit, size));
        }
        if self.first && self.options.frames.is_some_and(|most| self.units >= most) {
            self.shared.stop(Why::Frames);
        }
        Ok(())
    }

    /// The first unit: what it is decides what decodes and keeps it.
    fn begin(&mut self, unit: &Unit) -> Result<()> {
        let codec = match self.options.via {
            Via::Ws => self.codec.ok_or_else(|| unreachable("what comes is not gsk.v1: a unit before its config"))?,
            Via::Mp4 => Codec::H264,
            Via::Mjpeg => Codec::Jpeg,
        };
        self.fps = unit.fps.unwrap_or(self.fps);
        self.shared.joined();
        self.shared.record(Span::FirstUnit, unit.arrived_us.saturating_sub(self.began_us));
        if self.first {
            let (size, fps, ws) = (self.size, unit.fps, self.options.via == Via::Ws);
            self.shared.learn(|facts| {
                facts.codec = Some(codec);
                if !ws {
                    (facts.size, facts.fps) = (size, fps);
                }
            });
            let record: Option<PathBuf> = self.options.record.clone();
            self.recording = record.map(|path| Recording::start(&path, codec, self.fps)).transpose()?;
        }
        if !codec.has_software() && self.options.snapshot.is_some() {
            return Err(Error::missing(format!("no decoder of {} is built in", codec.title()))
                .hint("ask the worker for another codec: --codec h264"));
        }
        if self.options.decode.of(self.first) && codec.has_software() {
            self.decoder = Some(Decoder::start(codec, self.fps)?);
        }
        Ok(())
    }

    /// Works out what can be by now.
    fn settle(&mut self) {
        while let Some(times) = self.unsettled.front() {
            let Some(captured) = self.clock.ours(times.captured_us) else { break };
            let received = (times.arrived_us as i64).saturating_sub(captured);
            let network = received.saturating_sub(i64::from(times.encoded_after_us));
            // The clocks' offset is known to half a round trip: a way shorter than that can come out below nothing.
            let (received, network) = (received.max(0) as u64, network.max(0) as u64);
            self.shared.figures(|figures| {
                figures.record(Span::Encoded, times.encoded_after_us.into());
                figures.record(Span::Network, network);
                figures.record(Span::Received, received);
            });
            self.shared.tap(Sample {
                arrived_us: times.arrived_us,
                encoded_us: times.encoded_after_us.into(),
                network_us: network,
                received_us: received,
            });
            self.network.push(network as f64);
            self.settled.extend(self.unsettled.pop_front());
            if self.settled.len() > REMEMBERED {
                self.settled.pop_front();
            }
        }
        let done = self.decoder.as_ref().map(Decoder::take).unwrap_or_default();
        for picture in done {
            if self.pictures == 0 {
                self.shared.record(Span::FirstPicture, picture.decoded_us.saturating_sub(self.began_us));
                if self.first {
                    self.shared.pictured();
                }
            }
            self.pictures += 1;
            self.decode.push(picture.decoded_us.saturating_sub(picture.arrived_us) as f64);
            let times = self.settled.iter().rev().find(|times| times.sequence == picture.sequence);
            let captured = times.and_then(|times| self.clock.ours(times.captured_us));
            let total = captured.map(|captured| (picture.decoded_us as i64).saturating_sub(captured).max(0) as u64);
            self.shared.figures(|figures| {
                figures.decoded(&picture);
                total.inspect(|&us| figures.record(Span::Total, us));
            });
        }
    }

    /// Why there is no picture, as far as the worker says it.
    fn nothing_came(&self) -> Error {
        let limit = self.options.timeout.as_secs_f64();
        let nothing = format!("no picture came within {limit} s");
        match &self.condition {
            Some(Condition { state: State::NoSlot, reason, .. }) => {
                Error::new(Kind::Capacity, "the worker has no encoder slot")
                    .cause(reason)
                    .hint("see who holds them: gsk nvenc-status")
            }
            Some(Condition { reason, .. }) if !reason.is_empty() => Error::failed(nothing).cause(reason),
            _ => Error::failed(nothing),
        }
    }
}

/// A codec by the string that browsers know it by (RFC 6381).
fn named(codec: &str) -> Result<Codec> {
    match codec.split('.').next().unwrap_or_default() {
        "mjpeg" => Ok(Codec::Jpeg),
        "avc1" => Ok(Codec::H264),
        "hvc1" | "hev1" => Ok(Codec::Hevc),
        "av01" => Ok(Codec::Av1),
        other => Err(unreachable(format!("the worker sends '{other}', which is not known here"))),
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for news of the decoder, for ever where there is none.
async fn news(decoder: &Option<Decoder>) {
    match decoder {
        Some(decoder) => decoder.news().await,
        None => std::future::pending().await,
    }
}

/// Of what there is since the last time, which is forgotten.
fn median(samples: &mut Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let middle = samples.get(samples.len() / 2).copied();
    samples.clear();
    middle
}
