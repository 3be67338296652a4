//! Whether a gate fails what is slower, and nothing else: over samples of one build that were recorded on a machine that others
//! used meanwhile, and over runs of this build.

use gsk::bench::gate::Rule;

/// 21 runs of `gsk bench encode --encoder openh264` one after another: µs of each of 200 frames.
#[derive(serde::Deserialize)]
struct Recorded {
    encode: Vec<Vec<u64>>,
    cpu: Vec<Vec<u64>>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("encode-720p.json")).unwrap()
}

/// A fifth more of everything.
fn slower(samples: &[u64]) -> Vec<u64> {
    samples.iter().map(|us| us * 12 / 10).collect()
}

/// Of each run beside the one before it: how many of 20 fail as they are, and how many with a fifth more.
fn failed(rule: &str, runs: &[Vec<u64>]) -> (usize, usize) {
    assert_eq!(runs.len(), 21);
    let rule: Rule = rule.parse().unwrap();
    let fails = |old: &[u64], new: &[u64]| rule.judge(Some(old), new).unwrap().failed;
    let pairs = || runs.windows(2);
    (
        pairs().filter(|pair| fails(&pair[0], &pair[1])).count(),
        pairs().filter(|pair| fails(&pair[0], &slower(&pair[1]))).count(),
    )
}

#[test]
fn report_for_now() {
    let r = recorded();
    for (name, runs) in [("encode", &r.encode), ("cpu", &r.cpu)] {
        for s in ["mean", "p50", "p90", "p95", "p99"] {
            for l in ["+5%", "+10%", "+15%"] {
                println!("{name} {s} {l} {:?}", failed(&format!("encode.{s}>{l}"), runs));
            }
        }
    }
}
