//! What viewers measure, all of them together. Pure: times are arguments.

use hdrhistogram::Histogram;

use super::decode::Decoded;
use super::unit::Unit;
use crate::pipeline::timing::percentiles;
use crate::wire::status::Percentiles;

/// 1 µs to an hour, three significant digits.
fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds")
}

/// What is timed, and from where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Gap,
    Encoded,
    Network,
    Received,
    Decode,
    Total,
    Mark,
    Connected,
    FirstUnit,
    FirstPicture,
}

impl Span {
    pub const ALL: [Span; 10] = [
        Span::Gap,
        Span::Encoded,
        Span::Network,
        Span::Received,
        Span::Decode,
        Span::Total,
        Span::Mark,
        Span::Connected,
        Span::FirstUnit,
        Span::FirstPicture,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Span::Gap => "gap",
            Span::Encoded => "encoded",
            Span::Network => "network",
            Span::Received => "received",
            Span::Decode => "decode",
            Span::Total => "total",
            Span::Mark => "mark",
            Span::Connected => "connected",
            Span::FirstUnit => "first_unit",
            Span::FirstPicture => "first_picture",
        }
    }

    /// What it covers, and by what clock.
    pub fn covers(self) -> &'static str {
        match self {
            Span::Gap => "between two arrivals; viewer's clock",
            Span::Encoded => "capture's start to the whole unit; worker's clock, from each unit's header",
            Span::Network => "whole unit to arrival: queue, socket, network; both clocks, offset by pings",
            Span::Received => "capture's start to arrival; both clocks, offset by pings",
            Span::Decode => "arrival to picture, its wait for the decoder included; viewer's clock",
            Span::Total => "capture's start to picture; both clocks, offset by pings; nothing is painted",
            Span::Mark => "time shown in the picture to picture, whole ms; both machines' wall clocks",
            Span::Connected => "start to TCP connection",
            Span::FirstUnit => "start to first unit",
            Span::FirstPicture => "start to first picture",
        }
    }
}

/// What came, in all or in one second.
#[derive(Clone, Debug)]
pub struct Figures {
    spans: Vec<Histogram<u32>>,
    pub units: u64,
    pub keys: u64,
    pub bytes: u64,
    pub decoded: u64,
    /// Units that the server said it had skipped for a viewer, and how often.
    pub dropped: u64,
    pub drops: u64,
    /// Units that are missing and that no drop was told for.
    pub missing: u64,
}

impl Default for Figures {
    fn default() -> Figures {
        let spans = Span::ALL.iter().map(|_| histogram()).collect();
        Figures { spans, units: 0, keys: 0, bytes: 0, decoded: 0, dropped: 0, drops: 0, missing: 0 }
    }
}

impl Figures {
    pub fn record(&mut self, span: Span, us: u64) {
        self.spans[span as usize].saturating_record(us.max(1));
    }

    pub fn unit(&mut self, unit: &Unit) {
        self.units += 1;
        self.keys += u64::from(unit.header.key);
        self.bytes += unit.data().len() as u64;
    }

    pub fn decoded(&mut self, picture: &Decoded) {
        self.decoded += 1;
        self.record(Span::Decode, picture.decoded_us.saturating_sub(picture.arrived_us));
        picture.mark_ms.inspect(|&ms| self.record(Span::Mark, u64::from(ms) * 1000));
    }

    pub fn of(&self, span: Span) -> Option<Percentiles> {
        percentiles(&self.spans[span as usize])
    }

    /// How many of a span took longer than this.
    pub fn over(&self, span: Span, us: u64) -> u64 {
        self.spans[span as usize].count_between(us.saturating_add(1), u64::from(u32::MAX))
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.spans.iter_mut().for_each(Histogram::reset);
        *self = Figures { spans: std::mem::take(&mut self.spans), ..Figures::empty() };
    }

    fn empty() -> Figures {
        Figures { spans: Vec::new(), units: 0, keys: 0, bytes: 0, decoded: 0, dropped: 0, drops: 0, missing: 0 }
    }
}

/// Follows a viewer's sequence numbers: each unit's is the last one's successor, but for what the server said it skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    last: Option<u32>,
    told: u64,
}

impl Sequence {
    /// The server said that it skipped so many.
    pub fn drop(&mut self, frames: u64) {
        self.told = self.told.saturating_add(frames);
    }

    /// How many are missing in front of this one beyond what was told. It may be another run of the worker: a number that is
    /// not a later one begins anew.
    pub fn next(&mut self, sequence: u32) -> u64 {
        let told = std::mem::take(&mut self.told);
        let Some(last) = self.last.replace(sequence) else { return 0 };
        let ahead = sequence.wrapping_sub(last);
        match ahead {
            1..=0x7fff_ffff => u64::from(ahead - 1).saturating_sub(told),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_missing_units_but_for_what_was_told() {
        let mut sequence = Sequence::default();
        assert_eq!([sequence.next(41), sequence.next(42), sequence.next(45)], [0, 0, 2]);
        sequence.drop(9);
        assert_eq!(sequence.next(55), 0, "46 to 54 were told");
        sequence.drop(1);
        assert_eq!(sequence.next(60), 3);
        assert_eq!([sequence.next(0), sequence.next(1)], [0, 0], "another run");
        let mut wraps = Sequence { last: Some(u32::MAX), told: 0 };
        assert_eq!(wraps.next(1), 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut figures = Figures::default();
        assert_eq!(figures.of(Span::Gap), None);
        (1..=1000).for_each(|ms| figures.record(Span::Gap, ms * 1000));
        let of = figures.of(Span::Gap).unwrap();
        for (got, exact) in [(of.p50, 500.0), (of.p95, 950.0), (of.p99, 990.0), (of.max, 1000.0)] {
            assert!((got / exact - 1.0).abs() < 0.002, "{of:?}");
        }
        assert_eq!(of.n, 1000);
        let over = figures.over(Span::Gap, 900_000);
        assert!((98..=102).contains(&over), "{over}");
        figures.reset();
        assert_eq!((figures.of(Span::Gap), figures.units), (None, 0));
    }
}
