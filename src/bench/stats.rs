//! What samples say: percentiles, jitter, stalls, outliers, and how sure a difference is. Pure.
//!
//! Samples are µs, in the order in which they were taken. Neighbours are alike: a slow moment slows several frames, and one
//! opening of an encoder is seen to be a tenth faster or slower than the next. So a case is run in
//! rounds, each with everything opened anew, and the bootstrap draws whole rounds; where there are too few of them, blocks of
//! neighbours.

use serde::Serialize;

/// A figure that is made of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    Min,
    Mean,
    P50,
    P90,
    P95,
    P99,
    Max,
    Jitter,
}

impl Statistic {
    pub const ALL: [(&'static str, Statistic); 8] = [
        ("min", Statistic::Min),
        ("mean", Statistic::Mean),
        ("p50", Statistic::P50),
        ("p90", Statistic::P90),
        ("p95", Statistic::P95),
        ("p99", Statistic::P99),
        ("max", Statistic::Max),
        ("jitter", Statistic::Jitter),
    ];

    pub fn name(self) -> &'static str {
        Statistic::ALL.iter().find(|(_, statistic)| *statistic == self).map_or("", |(name, _)| name)
    }

    pub fn parse(name: &str) -> Option<Statistic> {
        Statistic::ALL.iter().find(|(known, _)| *known == name).map(|(_, statistic)| *statistic)
    }

    /// Of samples in the order in which they were taken, µs; 0 of none. `scratch` is overwritten.
    fn of(self, samples: &[u64], scratch: &mut Vec<u64>) -> f64 {
        let q = match self {
            Statistic::Mean => return mean(samples),
            Statistic::Jitter => return jitter(samples),
            Statistic::Min => 0.0,
            Statistic::P50 => 0.5,
            Statistic::P90 => 0.9,
            Statistic::P95 => 0.95,
            Statistic::P99 => 0.99,
            Statistic::Max => 1.0,
        };
        scratch.clear();
        scratch.extend_from_slice(samples);
        let Some(rank) = rank(samples.len(), q) else { return 0.0 };
        *scratch.select_nth_unstable(rank).1 as f64
    }
}

/// Where the quantile `q` stands among `n` sorted samples, by nearest rank: the least sample that `q` of all do not exceed.
fn rank(n: usize, q: f64) -> Option<usize> {
    (n > 0).then(|| ((q * n as f64).ceil() as usize).clamp(1, n) - 1)
}

fn mean(samples: &[u64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<u64>() as f64 / samples.len() as f64 }
}

/// The mean absolute difference of one sample and the next, µs: RFC 3550's interarrival jitter (section 6.4.1) without its
/// smoothing.
fn jitter(samples: &[u64]) -> f64 {
    let differences = samples.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
    if samples.len() < 2 { 0.0 } else { differences.sum::<u64>() as f64 / (samples.len() - 1) as f64 }
}

/// What samples come to, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub n: usize,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    pub jitter: f64,
}

impl Summary {
    /// `None` of no samples.
    pub fn of(samples: &[u64]) -> Option<Summary> {
        if samples.is_empty() {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let at = |q| rank(sorted.len(), q).map_or(0.0, |rank| sorted[rank] as f64 / 1e3);
        Some(Summary {
            n: samples.len(),
            min: at(0.0),
            mean: mean(samples) / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
            jitter: jitter(samples) / 1e3,
        })
    }

    pub fn get(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::Min => self.min,
            Statistic::Mean => self.mean,
            Statistic::P50 => self.p50,
            Statistic::P90 => self.p90,
            Statistic::P95 => self.p95,
            Statistic::P99 => self.p99,
            Statistic::Max => self.max,
            Statistic::Jitter => self.jitter,
        }
    }
}

/// Samples of more than two frame times: a viewer sees the picture stand.
pub fn stalls(samples: &[u64], fps: f64) -> usize {
    samples.iter().filter(|&&sample| sample as f64 > 2e6 / fps).count()
}

/// Which samples are outliers: those whose modified z-score, 0.6745·|x − median| / MAD, is above 3.5 (Iglewicz and Hoaglin, "How
/// to Detect and Handle Outliers", 1993). Where half of all samples are the same, MAD is 0 and nothing is called an outlier.
pub fn outliers(samples: &[u64]) -> Vec<usize> {
    let median = |values: &[u64]| Statistic::P50.of(values, &mut Vec::new());
    let centre = median(samples);
    let away: Vec<u64> = samples.iter().map(|&sample| sample.abs_diff(centre as u64)).collect();
    let mad = median(&away);
    if mad == 0.0 {
        return Vec::new();
    }
    let far = |away: u64| 0.6745 * away as f64 / mad > 3.5;
    away.iter().enumerate().filter(|(_, away)| far(**away)).map(|(at, _)| at).collect()
}

/// An interval that holds the true value in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Resamplings of a bootstrap.
const ROUNDS: usize = 1000;

/// How `new` stands to `old` in a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// ms.
    pub old: f64,
    pub new: f64,
    /// How much slower the machine itself was, by the yardstick; null where that is not known of both.
    pub machine: Option<f64>,
    /// `new / old`, less what the machine's pace makes of it, and where that lies; null where `old` is 0.
    pub ratio: Option<f64>,
    pub ratio_interval: Option<Interval>,
    /// `new - old`, `old` at the machine's pace of `new`, and where that lies, ms.
    pub difference: f64,
    pub difference_interval: Interval,
}

/// Samples of a stage, and where each round of them begins.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    pub us: &'a [u64],
    /// Indices into `us`, growing; empty: all are of one round.
    pub rounds: &'a [usize],
    /// How long the yardstick, always the same work, took before each round, µs.
    pub yards: &'a [u64],
}

impl<'a> From<&'a [u64]> for Samples<'a> {
    fn from(us: &'a [u64]) -> Samples<'a> {
        Samples { us, rounds: &[], yards: &[] }
    }
}

impl Samples<'_> {
    /// Whether there are rounds to draw from, each with its yardstick.
    fn paced(&self) -> bool {
        self.rounds.len() >= FEW && self.yards.len() == self.rounds.len() && !self.yards.contains(&0)
    }
}

/// Compares two sets of samples, neither empty. The intervals are those of a bootstrap that draws rounds (a cluster bootstrap: Cameron,
/// Gelbach and Miller, 2008), each with its yardstick, or of less than [`FEW`] rounds, of a circular block bootstrap (Politis and
/// Romano, 1992) with blocks of n^(1/3) samples, rounded up. The same samples always give the same.
pub fn compare<'a>(statistic: Statistic, old: impl Into<Samples<'a>>, new: impl Into<Samples<'a>>) -> Comparison {
    let (old, new): (Samples, Samples) = (old.into(), new.into());
    let paced = old.paced() && new.paced();
    let scratch = &mut Vec::new();
    let (was, is) = (statistic.of(old.us, scratch), statistic.of(new.us, scratch));
    let machine = if paced { mean(new.yards) / mean(old.yards) } else { 1.0 };
    let mut random = Random::default();
    let (mut ratios, mut differences) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    let (mut us, mut yards) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut draw = |from: Samples| {
            resample(from, &mut random, &mut us, &mut yards);
            (statistic.of(&us, scratch), if paced { mean(&yards) } else { 1.0 })
        };
        let ((old, was_yard), (new, is_yard)) = (draw(old), draw(new));
        let old = old * is_yard / was_yard;
        if old > 0.0 {
            ratios.push(new / old);
        }
        differences.push((new - old) / 1e3);
    }
    let ratio_interval = (ratios.len() == ROUNDS).then(|| interval(ratios));
    Comparison {
        old: was / 1e3,
        new: is / 1e3,
        machine: paced.then_some(machine),
        ratio: (was > 0.0).then(|| is / (was * machine)),
        ratio_interval: ratio_interval.filter(|_| was > 0.0),
        difference: (is - was * machine) / 1e3,
        difference_interval: interval(differences),
    }
}

/// Where a statistic of samples, not empty, truly lies, ms; as [`compare`] does it.
pub fn spread<'a>(statistic: Statistic, samples: impl Into<Samples<'a>>) -> Interval {
    let samples = samples.into();
    let (scratch, mut us, mut yards, mut random) = (&mut Vec::new(), Vec::new(), Vec::new(), Random::default());
    let rounds = (0..ROUNDS).map(|_| {
        resample(samples, &mut random, &mut us, &mut yards);
        statistic.of(&us, scratch) / 1e3
    });
    interval(rounds.collect())
}

fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let at = |q| rank(values.len(), q).map_or(0.0, |rank| values[rank]);
    Interval { low: at(0.025), high: at(0.975) }
}

/// Rounds that are too few to draw from.
pub const FEW: usize = 5;

/// As many rounds again, with their yardsticks, or as many samples in blocks that begin anywhere; the last is followed by the first.
fn resample(from: Samples, random: &mut Random, us: &mut Vec<u64>, yards: &mut Vec<u64>) {
    us.clear();
    yards.clear();
    let (n, rounds) = (from.us.len(), from.rounds.len());
    if rounds >= FEW {
        for _ in 0..rounds {
            let at = random.below(rounds);
            let end = from.rounds.get(at + 1).copied().unwrap_or(n).min(n);
            us.extend_from_slice(from.us.get(from.rounds[at]..end).unwrap_or_default());
            yards.extend(from.yards.get(at));
        }
    }
    let block = (n as f64).cbrt().ceil() as usize;
    // Also where rounds that do not fit the samples gave none.
    while us.is_empty() || rounds < FEW && us.len() < n {
        let start = random.below(n);
        let length = block.min(n - us.len());
        us.extend((start..start + length).map(|at| from.us[at % n]));
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014) from a seed; 0 by default.
#[derive(Default)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; the bias of a remainder of 64 bits is beyond measure here.
    fn below(&mut self, n: usize) -> usize {
        (self.number() % n as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 ms to n ms, shuffled by a stride that n does not divide.
    fn ramp(n: u64) -> Vec<u64> {
        (0..n).map(|i| (i * 37 % n + 1) * 1000).collect()
    }

    /// About normal: the sum of twelve uniform numbers has variance 1.
    fn normal(seed: u64, n: usize, mean_us: f64, deviation_us: f64) -> Vec<u64> {
        let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
        let mut uniform = || (random.number() >> 11) as f64 / (1u64 << 53) as f64;
        (0..n)
            .map(|_| mean_us + deviation_us * ((0..12).map(|_| uniform()).sum::<f64>() - 6.0))
            .map(|x| x as u64)
            .collect()
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let got = Summary::of(&ramp(100)).unwrap();
        let expected =
            [(got.min, 1.0), (got.p50, 50.0), (got.p90, 90.0), (got.p95, 95.0), (got.p99, 99.0), (got.max, 100.0)];
        assert!(expected.iter().all(|(got, expected)| got == expected), "{got:?}");
        assert_eq!((got.n, got.mean), (100, 50.5));
        let few = Summary::of(&[3000, 1000, 2000]).unwrap();
        assert_eq!((few.p50, few.p90, few.p99, few.max), (2.0, 3.0, 3.0, 3.0));
        assert_eq!(Summary::of(&[]), None);
        for (name, statistic) in Statistic::ALL {
            let single = statistic.of(&ramp(100), &mut Vec::new()) / 1e3;
            assert!((single - got.get(statistic)).abs() < 1e-9, "{name}");
            assert_eq!((Statistic::parse(name), statistic.name()), (Some(statistic), name));
        }
    }

    #[test]
    fn jitter_is_of_neighbours_and_stalls_of_frame_times() {
        let got = Summary::of(&[1000, 3000, 1000, 3000]).unwrap();
        assert_eq!(got.jitter, 2.0);
        assert_eq!(
            Summary::of(&[1000, 1000, 3000, 3000]).unwrap().jitter,
            2.0 / 3.0,
            "the same values in another order"
        );
        assert_eq!(stalls(&[66_000, 66_700, 10, 200_000], 30.0), 2);
    }

    #[test]
    fn outliers_are_found_by_their_distance_in_deviations() {
        let mut samples = normal(1, 500, 10_000.0, 500.0);
        assert!(outliers(&samples).len() <= 2, "{:?}", outliers(&samples));
        samples[100] = 20_000;
        samples[200] = 1_000;
        let found = outliers(&samples);
        assert!(found.contains(&100) && found.contains(&200) && found.len() <= 4, "{found:?}");
        assert!(outliers(&[5, 5, 5, 5, 900]).is_empty(), "no spread to judge by");
        assert!(outliers(&[]).is_empty());
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        // The true median is 10 ms; 95 % of 100 intervals hold it, give or take what chance does.
        let held = (0..100).filter(|&seed| {
            let got = spread(Statistic::P50, &normal(seed, 200, 10_000.0, 1000.0)[..]);
            got.low <= 10.0 && 10.0 <= got.high
        });
        let held = held.count();
        assert!((85..=100).contains(&held), "{held}");
    }

    #[test]
    fn a_difference_is_seen_and_none_is_not() {
        let old = normal(7, 200, 10_000.0, 1000.0);
        let slower = normal(8, 200, 12_000.0, 1200.0);
        let got = compare(Statistic::P50, &old[..], &slower[..]);
        let (ratio, interval) = (got.ratio.unwrap(), got.ratio_interval.unwrap());
        assert!((1.15..1.25).contains(&ratio) && interval.low > 1.1 && interval.high < 1.3, "{got:?}");
        assert!(got.difference_interval.low > 1.0, "{got:?}");
        let same = compare(Statistic::P50, &old[..], &normal(9, 200, 10_000.0, 1000.0)[..]).ratio_interval.unwrap();
        assert!(same.low < 1.0 && same.high > 1.0, "{same:?}");
        assert_eq!(got, compare(Statistic::P50, &old[..], &slower[..]), "the same samples, the same answer");
        assert_eq!(compare(Statistic::P50, &[0, 0][..], &[5, 5][..]).ratio, None);
    }

    #[test]
    fn what_is_alike_in_neighbours_makes_an_interval_wider() {
        // Runs of 20 that are slow or not: as blocks they say less than as many single samples would.
        let mut random = Random(3);
        let runs: Vec<u64> = (0..20).flat_map(|_| [10_000 + random.number() % 4000; 20]).collect();
        let mut mixed = runs.clone();
        for at in (1..mixed.len()).rev() {
            mixed.swap(at, random.below(at + 1));
        }
        let width = |samples: &[u64]| {
            let got = spread(Statistic::Mean, samples);
            got.high - got.low
        };
        assert!(width(&runs) > 1.5 * width(&mixed), "{} and {}", width(&runs), width(&mixed));
    }

    #[test]
    fn rounds_are_drawn_whole() {
        // Ten rounds, each of which was quick or slow as a whole: their mean is uncertain by far more than 200 samples would have it.
        let mut random = Random(5);
        let us: Vec<u64> = (0..10).flat_map(|_| [10_000 + random.number() % 4000; 20]).collect();
        let rounds: Vec<usize> = (0..10).map(|round| round * 20).collect();
        let width = |rounds: &[usize]| {
            let got = spread(Statistic::Mean, Samples { us: &us, rounds, yards: &[] });
            got.high - got.low
        };
        assert!(width(&rounds) > 1.5 * width(&[]), "{} and {}", width(&rounds), width(&[]));
        assert_eq!(width(&rounds[..FEW - 1]), width(&[]), "too few to draw from");
        // Of a file that was tampered with.
        assert!(width(&[900, 901, 902, 903, 904]).is_finite() && width(&[50, 40, 30, 20, 10]).is_finite());
    }

    #[test]
    fn what_the_machine_does_is_taken_off() {
        // Twenty rounds on a machine that is half as fast again, and on one that slows down by and by.
        let rounds: Vec<usize> = (0..20).map(|round| round * 10).collect();
        let pace = |round: usize| 1.0 + round as f64 / 20.0;
        let us = |by: &dyn Fn(usize) -> f64| -> Vec<u64> {
            (0..200).map(|n| (by(n / 10) * (10_000.0 + (n * 37 % 11) as f64 * 50.0)) as u64).collect()
        };
        let yards =
            |by: &dyn Fn(usize) -> f64| -> Vec<u64> { (0..20).map(|round| (by(round) * 2000.0) as u64).collect() };
        let (even, drifts): (&dyn Fn(usize) -> f64, &dyn Fn(usize) -> f64) = (&|_| 1.0, &pace);
        let (old, new) = (us(even), us(drifts));
        let (old_yards, new_yards) = (yards(even), yards(drifts));
        let of = |yards: bool| {
            let pick = |these| if yards { these } else { &[][..] };
            compare(
                Statistic::Mean,
                Samples { us: &old, rounds: &rounds, yards: pick(&old_yards) },
                Samples { us: &new, rounds: &rounds, yards: pick(&new_yards) },
            )
        };
        let (raw, corrected) = (of(false), of(true));
        assert!(raw.ratio.unwrap() > 1.4 && raw.machine.is_none(), "{raw:?}");
        assert!(
            (corrected.machine.unwrap() - 1.475).abs() < 0.001 && corrected.difference.abs() < 0.1,
            "{corrected:?}"
        );
        let (ratio, interval) = (corrected.ratio.unwrap(), corrected.ratio_interval.unwrap());
        assert!((ratio - 1.0).abs() < 0.01 && interval.high - interval.low < 0.02, "{corrected:?}");
    }
}
