//! The server's clock against ours, measured in band as the page does it. Pure: the times are arguments.

use std::collections::VecDeque;

/// Answers older than this say nothing any more, µs: clocks drift.
const KEPT_US: u64 = 20_000_000;

/// A ping's answer.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at_us: u64,
    round_trip_us: u64,
    /// Server's time less ours.
    offset_us: i64,
}

/// Of the answers of the last 20 s, the one with the shortest round trip says best how the clocks differ.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    samples: VecDeque<Sample>,
}

impl Clock {
    /// A ping that was sent at `sent_us` and answered at `at_us`, both ours; the server's clock stood at `server_us` between.
    pub fn pong(&mut self, sent_us: u64, at_us: u64, server_us: u64) {
        if sent_us > at_us || i64::try_from(server_us).is_err() {
            return;
        }
        let offset_us = server_us as i64 - (sent_us + (at_us - sent_us) / 2) as i64;
        self.samples.push_back(Sample { at_us, round_trip_us: at_us - sent_us, offset_us });
        while self.samples.front().is_some_and(|first| at_us - first.at_us > KEPT_US) {
            self.samples.pop_front();
        }
    }

    fn best(&self) -> Option<&Sample> {
        self.samples.iter().min_by_key(|sample| sample.round_trip_us)
    }

    /// A time of the server's on our clock; none before the first answer.
    pub fn ours(&self, server_us: u64) -> Option<i64> {
        i64::try_from(server_us).ok()?.checked_sub(self.best()?.offset_us)
    }

    /// How far off a time may be: half of the shortest round trip, µs.
    pub fn error_us(&self) -> Option<u64> {
        self.best().map(|sample| sample.round_trip_us.div_ceil(2))
    }

    pub fn offset_us(&self) -> Option<i64> {
        self.best().map(|sample| sample.offset_us)
    }

    pub fn answers(&self) -> usize {
        self.samples.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_says_it_best() {
        let mut clock = Clock::default();
        assert_eq!((clock.ours(5), clock.error_us()), (None, None));
        // The server is a second ahead; one answer was held up on its way back.
        clock.pong(1_000, 9_000, 1_001_500);
        assert_eq!(clock.offset_us(), Some(996_500));
        clock.pong(10_000, 10_200, 1_010_100);
        assert_eq!(
            (clock.offset_us(), clock.error_us(), clock.ours(1_020_000)),
            (Some(1_000_000), Some(100), Some(20_000))
        );
        clock.pong(20_000, 60_000, 1_021_000);
        assert_eq!(clock.offset_us(), Some(1_000_000));
    }

    #[test]
    fn old_answers_and_nonsense_do_not_count() {
        let mut clock = Clock::default();
        clock.pong(0, 10, 5);
        clock.pong(25_000_000, 25_002_000, 30_001_000);
        assert_eq!((clock.offset_us(), clock.answers()), (Some(5_000_000), 1));
        clock.pong(9, 3, 1);
        clock.pong(1, 2, u64::MAX);
        assert_eq!(clock.answers(), 1);
        assert_eq!(clock.ours(u64::MAX), None);
    }
}
