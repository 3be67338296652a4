//! Whether a gate fails what is slower, and nothing else, over samples of one build that were recorded on a shared machine.

use gsk::bench::gate::{Judged, Rule};
use gsk::bench::stats::Samples;

/// 21 runs of `gsk bench encode --encoder openh264`, one after another on a virtual machine of two cores: µs of each of 200
/// frames, in 20 rounds.
#[derive(serde::Deserialize)]
struct Recorded {
    rounds: Vec<usize>,
    yards: Vec<Vec<u64>>,
    encode: Vec<Vec<u64>>,
    cpu: Vec<Vec<u64>>,
}

impl Recorded {
    fn read() -> Recorded {
        let recorded: Recorded = serde_json::from_str(include_str!("encode-720p.json")).unwrap();
        assert_eq!((recorded.encode.len(), recorded.cpu.len(), recorded.rounds.len()), (21, 21, 20));
        recorded
    }

    /// Each run beside the one before it, its times as they are or a fifth longer: how many of 20 fail.
    fn failed(&self, rule: &str, runs: &[Vec<u64>], slower: bool) -> usize {
        let rule: Rule = rule.parse().unwrap();
        let judge = |at: usize| -> Judged {
            let new: Vec<u64> = runs[at + 1].iter().map(|us| if slower { us * 12 / 10 } else { *us }).collect();
            let of = |us, at: usize| Samples { us, rounds: &self.rounds, yards: &self.yards[at] };
            rule.judge(Some(of(&runs[at], at)), of(&new, at + 1)).unwrap()
        };
        (0..20).filter(|at| judge(*at).failed).count()
    }
}

#[test]
fn report_for_now() {
    let r = Recorded::read();
    for (name, runs) in [("encode", &r.encode), ("cpu", &r.cpu)] {
        for s in ["mean", "p50", "p90", "p95", "p99"] {
            for l in ["+5%", "+10%", "+15%"] {
                let rule = format!("encode.{s}>{l}");
                println!("{name} {s} {l} {:?}", (r.failed(&rule, runs, false), r.failed(&rule, runs, true)));
            }
        }
    }
}
