//! Whether a gate fails what is slower, and nothing else, over samples of one build that were recorded on a shared machine.

use gsk::bench::gate::Rule;
use gsk::bench::stats::{Random, Samples};

/// A run of `gsk bench encode --encoder openh264` at 720p, on a virtual machine of two cores whose neighbours make it a tenth
/// faster or slower from one run to the next: of every fourth round the yardstick and the first ten frames, µs.
#[derive(serde::Deserialize)]
struct Run {
    yards: Vec<u64>,
    encode: Vec<u64>,
    cpu: Vec<u64>,
}

/// Several runs as one.
#[derive(Default)]
struct Pool {
    us: Vec<u64>,
    rounds: Vec<usize>,
    yards: Vec<u64>,
}

impl Pool {
    fn of(runs: &[&Run], stage: fn(&Run) -> &[u64]) -> Pool {
        let mut pool = Pool::default();
        for run in runs {
            for (round, yard) in stage(run).chunks(10).zip(&run.yards) {
                pool.rounds.push(pool.us.len());
                pool.us.extend_from_slice(round);
                pool.yards.push(*yard);
            }
        }
        pool
    }

    fn slower(&self, percent: u64) -> Pool {
        let us = self.us.iter().map(|us| us * (100 + percent) / 100).collect();
        Pool { us, rounds: self.rounds.clone(), yards: self.yards.clone() }
    }

    fn samples(&self) -> Samples<'_> {
        Samples { us: &self.us, rounds: &self.rounds, yards: &self.yards }
    }
}

fn recorded() -> Vec<Run> {
    let runs: Vec<Run> = serde_json::from_str(include_str!("encode-720p.json")).unwrap();
    assert!(
        runs.len() == 42
            && runs.iter().all(|run| run.yards.len() == 5 && run.encode.len() == 50 && run.cpu.len() == 50)
    );
    runs
}

/// Twenty times: the runs are dealt out at random, and one half is judged beside the other, as it is and with a fifth more
/// of everything.
fn failed(rule: &str, stage: fn(&Run) -> &[u64]) -> (usize, usize) {
    let (runs, rule) = (recorded(), rule.parse::<Rule>().unwrap());
    let mut random = Random::default();
    let (mut same, mut slower) = (0, 0);
    for _ in 0..20 {
        let mut dealt: Vec<&Run> = runs.iter().collect();
        for at in (1..dealt.len()).rev() {
            dealt.swap(at, (random.number() % (at as u64 + 1)) as usize);
        }
        let (old, new) = dealt.split_at(21);
        let (old, new) = (Pool::of(old, stage), Pool::of(new, stage));
        let fails = |new: &Pool| usize::from(rule.judge(Some(old.samples()), new.samples()).unwrap().failed);
        same += fails(&new);
        slower += fails(&new.slower(20));
    }
    (same, slower)
}

#[test]
fn a_fifth_more_is_caught_twenty_times_of_twenty_and_the_same_never() {
    for rule in ["encode.mean>+10%", "encode.p50>+10%"] {
        assert_eq!(failed(rule, |run| &run.encode), (0, 20), "{rule}");
    }
    assert_eq!(failed("encode.cpu.mean>+10%", |run| &run.cpu), (0, 20));
}
