//! H.264 or JPEG, for viewers that ask for neither. Pure: what was measured is an argument, and so is the time.
//!
//! H.264 it is, unless its encoder is on the CPU and misses the frame rate for some seconds in a row, and a trial picture shows
//! that JPEG takes less time and fits the bit rate at a quality that can be looked at. Back it goes when a GPU's engine
//! makes H.264 again, when there are fewer pixels a second than were too many, or when JPEG does not fit the bit rate
//! after all. Each way is open again after a while only, which doubles where the last one was short.

use std::fmt;

/// Seconds in a row in which the frame rate is missed, or the bit rate is.
const SECONDS: u32 = 3;

/// How long a decision stands at the least, µs, and at the most where it was changed again and again.
const STAND_US: u64 = 10_000_000;
const STAND_MOST_US: u64 = 320_000_000;

/// A decision that stood for so long after it could have been changed was a good one, µs.
const GOOD_US: u64 = 60_000_000;

/// JPEG must take less than this much of H.264's time to be worth its bits.
const QUICKER: f64 = 0.9;

/// H.264 must take less than this much of the time between pictures to be taken up again.
const ROOM: f64 = 0.75;

/// By how much JPEG may exceed the bit rate.
const EXCESS: f64 = 1.25;

/// What was seen of H.264 in about a second of watching.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Whether a GPU's engine makes it.
    pub hardware: bool,
    /// What a picture took, conversion and encoding, µs: the median of the last ones.
    pub cost_us: u64,
    /// Pictures that were encoded, and such as a newer one replaced before they were.
    pub encoded: u64,
    pub replaced: u64,
    /// The time that both were counted over, µs.
    pub span_us: u64,
}

/// A trial picture's size at the coarsest quality, and what it took, µs.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub bytes: usize,
    pub cost_us: u64,
}

/// What is seen while JPEG is given instead.
#[derive(Clone, Copy, Debug)]
pub struct Meanwhile {
    /// Whether a GPU's engine could make H.264 now.
    pub hardware: bool,
    /// Pixels of a picture, and pictures a second that are aimed at.
    pub pixels: usize,
    pub fps: f64,
    /// bit/s that JPEG takes, as measured, and that are aimed at.
    pub bitrate: Option<f64>,
    pub target: u32,
}

/// How the frame rate is missed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    pub cost_us: u64,
    /// Pictures a second that came, and that were encoded.
    pub offered: f64,
    pub made: f64,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Miss { cost_us, offered, made } = self;
        let ms = |us: f64| us / 1e3;
        let (cost, every) = (ms(*cost_us as f64), ms(1e6 / offered));
        write!(
            f,
            "a picture takes {cost:.1} ms and one comes every {every:.1} ms: {made:.0} of {offered:.0} a second are made"
        )
    }
}

/// Why H.264 is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    Hardware,
    Fewer,
    Bitrate,
}

impl fmt::Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Back::Hardware => "the GPU makes H.264 again",
            Back::Fewer => "there are fewer pixels a second to encode",
            Back::Bitrate => "JPEG does not fit the bit rate",
        })
    }
}

/// The decision, and how it has fared.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// What H.264 had cost, where JPEG is given instead: µs, and the pixels of that picture.
    instead: Option<(u64, usize)>,
    /// Bad seconds in a row.
    bad: u32,
    /// Since when the decision stands, µs.
    since_us: u64,
    /// How long at the least, µs; 0: at the first chance.
    stand_us: u64,
    /// Not before then is JPEG tried again, µs.
    try_us: u64,
    /// How long after a trial in vain the next one is, µs.
    retry_us: u64,
}

impl Lane {
    pub fn is_jpeg(&self) -> bool {
        self.instead.is_some()
    }

    /// Another second of H.264; how it misses the frame rate, where that is worth a trial of JPEG.
    pub fn second(&mut self, now_us: u64, seen: &Second) -> Option<Miss> {
        let offered = seen.encoded + seen.replaced;
        let late = offered > 1 && seen.cost_us * offered > seen.span_us;
        let lost = seen.replaced * 10 > offered;
        self.bad = if !seen.hardware && seen.encoded > 0 && (late || lost) { self.bad + 1 } else { 0 };
        let per_second = |count: u64| count as f64 * 1e6 / seen.span_us.max(1) as f64;
        let miss = Miss { cost_us: seen.cost_us, offered: per_second(offered), made: per_second(seen.encoded) };
        (self.bad >= SECONDS && now_us >= self.try_us).then_some(miss)
    }

    /// What the trial came to (nothing, where there is no JPEG encoder), for pictures of so many pixels and units of so many
    /// bytes; whether JPEG is given from here on.
    pub fn tried(&mut self, now_us: u64, miss: &Miss, trial: Option<Trial>, pixels: usize, budget: f64) -> bool {
        let quick = |trial: &Trial| (trial.cost_us as f64) < QUICKER * miss.cost_us as f64;
        if !trial.is_some_and(|trial| trial.bytes as f64 <= budget && quick(&trial)) {
            self.retry_us = (2 * self.retry_us).clamp(STAND_US, STAND_MOST_US);
            self.try_us = now_us + self.retry_us;
            return false;
        }
        self.turn(now_us);
        self.instead = Some((miss.cost_us, pixels));
        true
    }

    /// Another second of JPEG; why H.264 is given from here on, if so.
    pub fn meanwhile(&mut self, now_us: u64, seen: &Meanwhile) -> Option<Back> {
        let (cost_us, pixels) = self.instead?;
        let over = seen.bitrate.is_some_and(|bitrate| bitrate > EXCESS * f64::from(seen.target));
        self.bad = if over { self.bad + 1 } else { 0 };
        let predicted_us = cost_us as f64 * seen.pixels as f64 / pixels as f64;
        let stood = now_us >= self.since_us + self.stand_us;
        let back = match () {
            () if self.bad >= SECONDS => Back::Bitrate,
            () if !stood => return None,
            () if seen.hardware => Back::Hardware,
            () if predicted_us * seen.fps < ROOM * 1e6 => Back::Fewer,
            () => return None,
        };
        self.turn(now_us);
        self.instead = None;
        self.try_us = now_us + self.stand_us;
        Some(back)
    }

    /// Nobody watches: whoever comes next is given H.264, and it is measured anew.
    pub fn forget(&mut self) {
        *self = Lane::default();
    }

    fn turn(&mut self, now_us: u64) {
        let short = self.since_us > 0 && now_us < self.since_us + self.stand_us + GOOD_US;
        self.stand_us = if short { (2 * self.stand_us).clamp(STAND_US, STAND_MOST_US) } else { STAND_US };
        (self.since_us, self.bad, self.retry_us) = (now_us, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;
    const PIXELS: usize = 2560 * 1440;
    const CHEAP: Option<Trial> = Some(Trial { bytes: 50_000, cost_us: 5_000 });
    const BUDGET: f64 = 100_000.0;

    fn second(cost_ms: u64, encoded: u64, replaced: u64) -> Second {
        Second { hardware: false, cost_us: cost_ms * 1000, encoded, replaced, span_us: S }
    }

    fn meanwhile() -> Meanwhile {
        Meanwhile { hardware: false, pixels: PIXELS, fps: 120.0, bitrate: Some(5e6), target: 10_000_000 }
    }

    /// When a trial is asked for within 20 s of such seconds.
    fn asked(seconds: impl Fn(u64) -> Second) -> Option<u64> {
        let mut lane = Lane::default();
        (1..=20).find(|&n| lane.second(n * S, &seconds(n)).is_some())
    }

    #[test]
    fn only_a_frame_rate_that_is_missed_for_seconds_is_worth_a_trial() {
        type Row = (&'static str, fn(u64) -> Second, Option<u64>);
        let table: [Row; 9] = [
            ("it holds", |_| second(8, 60, 0), None),
            ("nothing moves", |_| second(30, 1, 0), None),
            ("no picture at all", |_| second(0, 0, 0), None),
            ("too slow", |_| second(25, 40, 80), Some(3)),
            ("a tenth is lost", |_| second(10, 54, 6), None),
            ("more than a tenth is lost", |_| second(10, 53, 7), Some(3)),
            ("late, though nothing is lost yet", |_| second(20, 55, 0), Some(3)),
            ("a hiccup", |n| if n % 3 == 0 { second(8, 60, 0) } else { second(30, 33, 27) }, None),
            ("a GPU's engine", |_| Second { hardware: true, ..second(25, 40, 80) }, None),
        ];
        for (name, seconds, expected) in table {
            assert_eq!(asked(seconds), expected, "{name}");
        }
        let words = Lane { bad: 2, ..Lane::default() }.second(S, &second(25, 40, 80)).unwrap().to_string();
        assert_eq!(words, "a picture takes 25.0 ms and one comes every 8.3 ms: 40 of 120 a second are made");
    }

    #[test]
    fn jpeg_must_fit_and_be_quicker() {
        let miss = Miss { cost_us: 25_000, offered: 120.0, made: 40.0 };
        for (name, trial, expected) in [
            ("it fits", CHEAP, true),
            ("just", Some(Trial { bytes: 100_000, cost_us: 22_000 }), true),
            ("too large", Some(Trial { bytes: 100_001, cost_us: 5_000 }), false),
            ("no quicker", Some(Trial { bytes: 50_000, cost_us: 23_000 }), false),
            ("no encoder", None, false),
        ] {
            let mut lane = Lane::default();
            assert_eq!(lane.tried(S, &miss, trial, PIXELS, BUDGET), expected, "{name}");
            assert_eq!(lane.is_jpeg(), expected, "{name}");
        }
    }

    #[test]
    fn trials_in_vain_become_rare() {
        let (mut lane, mut at) = (Lane::default(), Vec::new());
        for n in 1..=200 {
            if let Some(miss) = lane.second(n * S, &second(25, 40, 80)) {
                at.push(n);
                lane.tried(n * S, &miss, None, PIXELS, BUDGET);
            }
        }
        assert_eq!(at, [3, 13, 33, 73, 153]);
    }

    /// Plays seconds; gives when it turned, and to what.
    fn play(lane: &mut Lane, from: u64, to: u64, h264: &Second, jpeg: &Meanwhile) -> Vec<(u64, Option<Back>)> {
        let mut turns = Vec::new();
        for n in from..=to {
            if lane.is_jpeg() {
                turns.extend(lane.meanwhile(n * S, jpeg).map(|back| (n, Some(back))));
            } else if let Some(miss) = lane.second(n * S, h264)
                && lane.tried(n * S, &miss, CHEAP, PIXELS, BUDGET)
            {
                turns.push((n, None));
            }
        }
        turns
    }

    #[test]
    fn it_comes_back_when_that_is_of_use() {
        let slow = second(25, 40, 80);
        let smaller = Meanwhile { pixels: PIXELS / 16, ..meanwhile() };
        let slower = Meanwhile { fps: 29.0, ..meanwhile() };
        let hardware = Meanwhile { hardware: true, ..meanwhile() };
        let excess = Meanwhile { bitrate: Some(12.6e6), ..meanwhile() };
        for (name, seen, back) in [
            ("all stays", meanwhile(), None),
            ("hardware", hardware, Some((13, Back::Hardware))),
            ("a smaller picture, but not by enough", Meanwhile { pixels: PIXELS / 3, ..meanwhile() }, None),
            ("a smaller picture", smaller, Some((13, Back::Fewer))),
            ("fewer pictures", slower, Some((13, Back::Fewer))),
            ("too many bits, which waits for nothing", excess, Some((6, Back::Bitrate))),
            ("nothing is known of the bits", Meanwhile { bitrate: None, ..meanwhile() }, None),
        ] {
            let mut lane = Lane::default();
            let turns = play(&mut lane, 1, 15, &slow, &seen);
            let expected = [Some((3, None)), back.map(|(n, back)| (n, Some(back)))];
            assert_eq!(turns, expected.into_iter().flatten().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn it_does_not_flap() {
        // An engine that is free whenever it is not used, and pictures whose trial fits and whose stream does not.
        for seen in [Meanwhile { hardware: true, ..meanwhile() }, Meanwhile { bitrate: Some(2e7), ..meanwhile() }] {
            let turns = play(&mut Lane::default(), 1, 600, &second(25, 40, 80), &seen);
            assert!(turns.len() <= 10, "{} turns in ten minutes: {turns:?}", turns.len());
        }
        let mut lane = Lane::default();
        assert_eq!(play(&mut lane, 1, 600, &second(25, 40, 80), &meanwhile()), [(3, None)]);
        lane.forget();
        assert!(!lane.is_jpeg());
    }
}
