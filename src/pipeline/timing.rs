//! Where the time goes: an HDR histogram per stage over the last seconds, and measured rates.

use std::collections::VecDeque;
use std::sync::Mutex;

use hdrhistogram::Histogram;

use crate::wire::status::Percentiles;

/// The stages of a frame's road. All but those that viewers report are on the worker's monotonic clock. Ranges of the same
/// names ([`crate::range`]) are where a stage is one thread's work: conversion, encoding (its wait, where a GPU does it),
/// the hand-over, and capture of what is drawn or read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Capture start to capture end.
    Capture,
    /// Colour conversion.
    Convert,
    /// The encoder, conversion excluded.
    Encode,
    /// Capture start to the whole unit: all that a picture takes on this host before it can be sent.
    Coded,
    /// Capture end to the hand-over to the viewers' queues, less conversion and encoding: what the pipeline adds.
    Publish,
    /// Hand-over to a viewer's queue to its socket having taken the unit.
    Send,
    /// From the unit's completion to its arrival at the viewer, as viewers measure it.
    Network,
    /// The viewer's decoder.
    Decode,
    /// Decoded to painted, as the viewer's browser tells it.
    Paint,
    /// Capture start to painted.
    Total,
    /// Input event at the viewer to the first picture that shows it.
    Input,
}

impl Stage {
    pub const ALL: [Stage; 11] = [
        Stage::Capture,
        Stage::Convert,
        Stage::Encode,
        Stage::Coded,
        Stage::Publish,
        Stage::Send,
        Stage::Network,
        Stage::Decode,
        Stage::Paint,
        Stage::Total,
        Stage::Input,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Capture => "capture",
            Stage::Convert => "convert",
            Stage::Encode => "encode",
            Stage::Coded => "coded",
            Stage::Publish => "publish",
            Stage::Send => "send",
            Stage::Network => "network",
            Stage::Decode => "decode",
            Stage::Paint => "paint",
            Stage::Total => "total",
            Stage::Input => "input",
        }
    }
}

/// Samples of the last [`Window::SPAN_US`] to twice that: two histograms take turns.
struct Window {
    now: Histogram<u32>,
    before: Histogram<u32>,
    since_us: u64,
}

impl Window {
    const SPAN_US: u64 = 10_000_000;

    fn new() -> Window {
        // 1 µs to 100 s, two significant digits.
        let histogram = Histogram::new_with_bounds(1, 100_000_000, 2).expect("valid bounds");
        Window { now: histogram.clone(), before: histogram, since_us: 0 }
    }

    fn turn(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.since_us);
        if passed >= Window::SPAN_US {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.reset();
            if passed >= 2 * Window::SPAN_US {
                self.before.reset();
            }
            self.since_us = now_us;
        }
    }

    fn percentiles(&self) -> Option<Percentiles> {
        let mut both = self.before.clone();
        both.add(&self.now).expect("the same bounds");
        percentiles(&both)
    }
}

/// What a histogram of µs says, in ms; `None` where it is empty.
pub fn percentiles(histogram: &Histogram<u32>) -> Option<Percentiles> {
    let at = |q| histogram.value_at_quantile(q) as f64 / 1e3;
    (!histogram.is_empty()).then(|| Percentiles {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: histogram.max() as f64 / 1e3,
        n: histogram.len(),
    })
}

/// Histograms of all stages. The time is an argument.
pub struct Timing {
    stages: Vec<Mutex<Option<Box<Window>>>>,
}

impl Timing {
    pub fn record(&self, stage: Stage, now_us: u64, value_us: u64) {
        let mut slot = self.stages[stage as usize].lock().unwrap();
        let window = slot.get_or_insert_with(|| Box::new(Window::new()));
        window.turn(now_us);
        window.now.saturating_record(value_us.max(1));
    }

    /// `None` where nothing was measured in the last seconds.
    pub fn percentiles(&self, stage: Stage, now_us: u64) -> Option<Percentiles> {
        let mut slot = self.stages[stage as usize].lock().unwrap();
        let window = slot.as_mut()?;
        window.turn(now_us);
        window.percentiles()
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing { stages: Stage::ALL.iter().map(|_| Mutex::new(None)).collect() }
    }
}

/// Events and bytes a second over the last two seconds.
#[derive(Debug, Default)]
pub struct Rate {
    events: VecDeque<(u64, usize)>,
    bytes: usize,
    /// The first event after a time without any.
    since_us: u64,
}

impl Rate {
    const SPAN_US: u64 = 2_000_000;
    /// What has gone on for less is not measured yet.
    const LEAST_US: u64 = 500_000;

    pub fn record(&mut self, now_us: u64, bytes: usize) {
        self.expire(now_us);
        if self.events.is_empty() {
            self.since_us = now_us;
        }
        self.events.push_back((now_us, bytes));
        self.bytes += bytes;
    }

    fn expire(&mut self, now_us: u64) {
        while self.events.front().is_some_and(|&(at, _)| at + Rate::SPAN_US <= now_us) {
            self.bytes -= self.events.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Events a second, and bit/s; `None` where there is nothing to measure, or not for long enough.
    pub fn per_second(&mut self, now_us: u64) -> Option<(f64, f64)> {
        self.expire(now_us);
        let span_us = now_us.saturating_sub(self.since_us).min(Rate::SPAN_US);
        if self.events.is_empty() || span_us < Rate::LEAST_US {
            return None;
        }
        let seconds = span_us as f64 / 1e6;
        Some((self.events.len() as f64 / seconds, self.bytes as f64 * 8.0 / seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_cover_the_last_seconds_only() {
        let timing = Timing::default();
        assert_eq!(timing.percentiles(Stage::Encode, 0), None);
        for ms in 1..=100 {
            timing.record(Stage::Encode, 1, ms * 1000);
        }
        let got = timing.percentiles(Stage::Encode, 2).unwrap();
        assert!((got.p50 - 50.0).abs() < 1.0 && (got.p99 - 99.0).abs() < 1.0 && got.max >= 100.0 && got.n == 100);
        assert_eq!(timing.percentiles(Stage::Encode, 11_000_000).unwrap().n, 100, "kept for one more turn");
        assert_eq!(timing.percentiles(Stage::Encode, 22_000_000), None);
        assert_eq!(timing.percentiles(Stage::Send, 2), None);
    }

    #[test]
    fn rates_are_measured_from_the_start_on() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(0), None);
        for n in 0..=90 {
            let now = 5_000_000 + n * 33_333;
            rate.record(now, 1000);
            match rate.per_second(now) {
                None => assert!(n <= 15, "frame {n}"),
                Some((fps, bps)) => {
                    assert!(
                        n >= 15 && (fps - 30.0).abs() < 2.1 && (bps - 240_000.0).abs() < 17_000.0,
                        "{n}: {fps} {bps}"
                    )
                }
            }
        }
        assert_eq!(rate.per_second(20_000_000), None);
        rate.record(20_000_000, 1000);
        assert_eq!(rate.per_second(20_100_000), None, "it has only begun again");
    }
}
