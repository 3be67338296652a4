//! What was measured, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::Span;
use super::save::Recorded;
use super::viewer::Over;
use super::{Facts, Options, Second, Seen, Via, Why};
use crate::error::{Error, Result};
use crate::exit::Code;
use crate::output::text::sanitise;
use crate::output::{Show, Table};
use crate::pipeline::encode::Codec;
use crate::wire::status::Percentiles;

/// The document of `gsk view`.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub url: String,
    pub via: Via,
    pub worker: Worker,
    /// How long it was watched, from when everybody was in, s.
    pub seconds: Option<f64>,
    /// Why it ended, in words.
    pub ended: String,
    pub viewers: Viewers,
    pub frames: u64,
    pub key_frames: u64,
    pub bytes: u64,
    /// Units a second of each viewer.
    pub fps: Option<Spread>,
    /// Of each viewer, without the transport's own bytes.
    pub bitrate_bps: Option<Spread>,
    /// Arrivals more than two frame times apart; null where the rate aimed at is not known. A picture that stands still is
    /// sent every 2 s only, and counts.
    pub stalls: Option<u64>,
    pub drops: Drops,
    /// Units that are missing from the sequence and that the worker did not tell of.
    pub missing: u64,
    pub decoded: u64,
    pub decode_failures: u64,
    /// Units that the decoder had no time for.
    pub decode_skipped: u64,
    pub clock: Option<Clock>,
    /// By the span's name, ms; what was not measured is not there.
    pub spans_ms: BTreeMap<&'static str, Percentiles>,
    pub snapshot: Option<String>,
    pub record: Option<Recorded>,
    #[serde(skip)]
    errors: Vec<Error>,
}

#[derive(Debug, Default, Serialize)]
pub struct Worker {
    pub instance: Option<String>,
    pub source: Option<String>,
    pub backend: Option<String>,
    pub hardware: Option<bool>,
    pub fallback: Option<String>,
    pub codec: Option<Codec>,
    pub codec_string: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Frames a second that it aims at.
    pub fps: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Viewers {
    pub asked: u32,
    /// Those that got a unit.
    pub joined: u32,
}

#[derive(Debug, Serialize)]
pub struct Drops {
    /// How often the worker said that it skipped units, and how many.
    pub times: u64,
    pub frames: u64,
}

/// Least, middle and most of the viewers.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// The first viewer's knowledge of the worker's clock.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Clock {
    /// Worker's monotonic clock less ours.
    pub offset_ms: f64,
    /// Half of the shortest round trip: by so much latencies may be off.
    pub error_ms: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        Some(Spread { min: *values.first()?, median: values[values.len() / 2], max: *values.last()? })
    }
}

impl Summary {
    /// # Errors
    /// Where nobody got anything: why the first of them did not.
    pub(super) fn new(options: &Options, seen: Seen, snapshot: Option<String>) -> Result<Summary> {
        let Seen { facts, figures, mut outcomes, seconds, why } = seen;
        let joined = outcomes.iter().filter(|outcome| outcome.units > 0).count() as u32;
        let recorded = outcomes.first_mut().and_then(|first| first.recorded.take()).transpose()?;
        let signal = matches!(why, Why::Signal(_));
        let failures: Vec<&Error> = outcomes.iter().filter_map(|outcome| outcome.over.error()).collect();
        if let (0, Some(&error)) = (joined, failures.first()) {
            return Err(error.clone());
        }
        let mut errors: Vec<Error> = Vec::new();
        for error in failures {
            if errors.iter().all(|known| known.to_string() != error.to_string()) {
                errors.push(error.clone());
            }
        }
        if joined == 0 && !signal {
            errors.push(Error::failed("nothing came"));
        }
        let bye = outcomes.iter().find_map(|outcome| match &outcome.over {
            Over::Bye(reason) => Some(reason.clone()),
            _ => None,
        });
        let limited = options.seconds.is_some() || options.frames.is_some();
        if let Some(reason) = bye.as_ref().filter(|_| limited && why == Why::Over) {
            errors.push(Error::failed("the worker ended before what was asked for").cause(reason));
        }
        if figures.missing > 0 {
            errors
                .push(Error::failed(format!("{} units are missing that the worker did not tell of", figures.missing)));
        }
        let failed: u64 = outcomes.iter().map(|outcome| outcome.decode_failures.0).sum();
        if failed > 0 {
            let first = outcomes.iter().find_map(|outcome| outcome.decode_failures.1.first());
            let error = Error::failed(format!("{failed} units could not be decoded"));
            errors.push(first.into_iter().fold(error, Error::cause));
        }
        let longest_us = outcomes.iter().map(|outcome| outcome.longest_gap_us).max().unwrap_or(0);
        if let Some(most) = options.max_stall.filter(|most| u128::from(longest_us) > most.as_micros()) {
            let (longest, most) = (longest_us as f64 / 1e3, most.as_secs_f64() * 1e3);
            errors.push(Error::failed(format!("nothing came for {longest:.1} ms, and --max-stall is {most} ms")));
        }
        if options.snapshot.is_some() && snapshot.is_none() && !signal {
            errors.push(Error::failed("there was no picture to save"));
        }
        if let Some(reason) = recorded.as_ref().and_then(|recorded| recorded.ended.as_ref()) {
            errors.push(Error::failed("the recording ended early").cause(reason));
        }
        let spans = outcomes.iter().filter_map(|outcome| {
            let (first, last) = outcome.span_us?;
            let seconds = (last > first).then(|| (last - first) as f64 / 1e6)?;
            Some(((outcome.units - 1) as f64 / seconds, outcome.bytes as f64 * 8.0 / seconds))
        });
        let (fps, bits): (Vec<f64>, Vec<f64>) = spans.unzip();
        let clock = outcomes.first().map(|first| &first.clock);
        let clock = clock.and_then(|clock| {
            Some(Clock { offset_ms: clock.offset_us()? as f64 / 1e3, error_ms: clock.error_us()? as f64 / 1e3 })
        });
        let stalls = facts.fps.map(|fps| figures.over(Span::Gap, (2e6 / fps) as u64));
        Ok(Summary {
            url: options.target.page(),
            via: options.via,
            worker: facts.into(),
            seconds,
            ended: ended(why, bye.as_deref()),
            viewers: Viewers { asked: options.viewers, joined },
            frames: figures.units,
            key_frames: figures.keys,
            bytes: figures.bytes,
            fps: Spread::of(fps),
            bitrate_bps: Spread::of(bits),
            stalls,
            drops: Drops { times: figures.drops, frames: figures.dropped },
            missing: figures.missing,
            decoded: figures.decoded,
            decode_failures: failed,
            decode_skipped: outcomes.iter().map(|outcome| outcome.decode_skipped).sum(),
            clock,
            spans_ms: Span::ALL.iter().filter_map(|&span| Some((span.name(), figures.of(span)?))).collect(),
            snapshot,
            record: recorded,
            errors,
        })
    }

    /// The first error's code; good where there is none.
    pub fn code(&self) -> Code {
        self.errors.first().map_or(Code::Good, |error| error.kind.code())
    }
}

/// In words.
fn ended(why: Why, bye: Option<&str>) -> String {
    match (why, bye) {
        (Why::Seconds, _) => "the time was over".into(),
        (Why::Frames, _) => "as many frames as asked for".into(),
        (Why::Picture, _) => "the picture was there".into(),
        (Why::Signal(_), _) => "it was interrupted".into(),
        (Why::Closed, _) => "nobody read on".into(),
        (Why::Over, Some(reason)) => format!("the worker ended it: {}", sanitise(reason)),
        (Why::Over, None) => "the connection was lost".into(),
    }
}

impl From<Facts> for Worker {
    fn from(facts: Facts) -> Worker {
        let clean = |text: Option<String>| text.map(|text| sanitise(&text));
        Worker {
            instance: clean(facts.instance),
            source: clean(facts.source),
            backend: clean(facts.backend),
            hardware: facts.hardware,
            fallback: clean(facts.fallback),
            codec: facts.codec,
            codec_string: clean(facts.codec_string),
            width: facts.size.map(|size| size.width),
            height: facts.size.map(|size| size.height),
            fps: facts.fps,
        }
    }
}

fn number(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

fn spread(spread: Option<Spread>, viewers: u32, show: impl Fn(f64) -> String) -> String {
    match spread {
        None => "-".into(),
        Some(of) if viewers == 1 => show(of.median),
        Some(of) => format!("{} ({} to {})", show(of.median), show(of.min), show(of.max)),
    }
}

impl Show for Summary {
    const SCHEMA: &'static str = "gsk.view";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let worker = &self.worker;
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let mut facts = Table::titled("view", format!("{} by {}", self.url, via(self.via)), ["what", "value"]);
        let size = worker.width.zip(worker.height).map_or("-".into(), |(width, height)| format!("{width}x{height}"));
        let codec = worker.codec_string.clone().or(worker.codec.map(|codec| codec.name().into()));
        let fallback = worker.fallback.as_ref().map_or(String::new(), |why| format!(", not {why}"));
        facts.row(["worker", &known(&worker.instance)]);
        facts.row(["encoder", &format!("{}{fallback}", known(&worker.backend))]);
        facts.row(["picture", &format!("{size}, {}", codec.unwrap_or_else(|| "-".into()))]);
        let seconds = self.seconds.map_or("-".into(), |seconds| format!("{} s", number(seconds, 1)));
        facts.row(["watched", &format!("{seconds}; {}", self.ended)]);
        let Viewers { asked, joined } = self.viewers;
        facts.row(["viewers", &if joined == asked { asked.to_string() } else { format!("{joined} of {asked}") }]);
        let aims = worker.fps.map_or(String::new(), |fps| format!(", {} aimed at", number(fps, 1)));
        facts.row(["fps", &(spread(self.fps, asked, |fps| number(fps, 2)) + &aims)]);
        facts.row(["Mbit/s", &spread(self.bitrate_bps, asked, |bits| number(bits / 1e6, 3))]);
        facts.row([
            "frames",
            &format!("{}, {} of them key frames, {} decoded", self.frames, self.key_frames, self.decoded),
        ]);
        let stalls = self.stalls.map_or("-".into(), |stalls| format!("{stalls}, over two frame times"));
        facts.row(["stalls", &stalls]);
        let Drops { times, frames } = self.drops;
        let dropped = if times == 0 { "0".into() } else { format!("{frames} frames, told {times} times") };
        facts.row(["dropped", &format!("{dropped}; {} missing", self.missing)]);
        if let Some(clock) = self.clock {
            let (offset, error) = (number(clock.offset_ms, 3), number(clock.error_ms, 3));
            facts.row(["clock", &format!("worker's {offset} ms ahead of ours, known to {error} ms")]);
        }
        self.snapshot.iter().for_each(|file| facts.row(["snapshot", file]));
        if let Some(record) = &self.record {
            let seconds = record.seconds.map_or(String::new(), |seconds| format!("{} s, ", number(seconds, 2)));
            let kib = record.bytes.div_ceil(1024);
            facts.row(["record", &format!("{}: {seconds}{} frames, {kib} KiB", record.file, record.frames)]);
        }
        self.errors.iter().for_each(|error| facts.row(["error", &sanitise(&error.to_string())]));
        let columns = ["span", "p50_ms", "p95_ms", "p99_ms", "max_ms", "n", "covers"];
        let mut spans = Table::titled("spans", "Times, ms", columns);
        for span in Span::ALL {
            let Some(of) = self.spans_ms.get(span.name()) else { continue };
            let [p50, p95, p99, max] = [of.p50, of.p95, of.p99, of.max].map(|ms| number(ms, 2));
            spans.row([span.name(), &p50, &p95, &p99, &max, &of.n.to_string(), span.covers()]);
        }
        facts.above(spans)
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}

impl Show for Second {
    const SCHEMA: &'static str = "gsk.view.second";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut table = Table::new(["second"]);
        table.row([line(self)]);
        table
    }
}

fn via(via: Via) -> &'static str {
    match via {
        Via::Ws => "/ws",
        Via::Mp4 => "/stream.mp4",
        Via::Mjpeg => "/stream.mjpg",
    }
}

/// One second in one line.
pub(super) fn line(second: &Second) -> String {
    let show = |value: Option<f64>, digits| value.map_or("-".into(), |value| number(value, digits));
    let viewers = if second.viewers == 1 { String::new() } else { format!("{} viewers  ", second.viewers) };
    let latency = second.total_ms.map(|of| ("picture", of)).or(second.received_ms.map(|of| ("received", of)));
    let latency =
        latency.map_or(String::new(), |(to, of)| format!("  capture to {to} {:.1} ms, p99 {:.1}", of.p50, of.p99));
    let drops = if second.dropped == 0 { String::new() } else { format!("  {} dropped", second.dropped) };
    format!(
        "{:.0} s  {viewers}{} fps  {} Mbit/s  longest gap {} ms{latency}{drops}",
        second.at_s,
        show(second.fps, 1),
        show(second.bitrate_bps.map(|bits| bits / 1e6), 2),
        show(second.longest_gap_ms, 1),
    )
}

/// The plain line where no other follows.
pub(super) fn begun(options: &Options, facts: &Facts) -> String {
    let what = match (facts.codec, facts.size) {
        (Some(codec), Some(size)) => format!("{} {size}", codec.name()),
        _ => "nothing yet".into(),
    };
    let instance = facts.instance.as_ref().map_or(String::new(), |name| format!(" of {name}"));
    format!("watching {}{instance} by {}: {what}", options.target.page(), via(options.via))
}
