//! Bytes from outside, and what reads them: nothing that comes may end the program, keep it, or be read as two things.
//!
//! Each target of [`targets`] has a folder of `corpus/` with what real programs wrote. It is given those bytes as they are, and
//! then changed ones for a second: bits, bytes, lengths and digits set to others, pieces cut out, doubled and put together.
//! What is tried is the same each time, in the same order; `GSK_FUZZ_SECONDS=600 cargo nextest run --lib fuzz` goes on for
//! so long with each target, from another beginning. Coverage guides none of it.
//!
//! What a target failed on is kept in the folder for temporary files, and named. Put into the corpus, it is tried first.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::stats::Random;

/// How long a target is tried.
const SPAN: Duration = Duration::from_secs(1);
/// How long one input may take: what takes this on a busy machine is no matter of the machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that a changed input has, bytes.
const MOST: usize = 64 << 10;

/// Tries a target with its corpus and what is made of it. What it panics on fails the test.
fn try_all(name: &str, target: impl Fn(&[u8])) {
    let corpus = corpus(name);
    let asked = std::env::var("GSK_FUZZ_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let (span, mut seed) = match asked {
        Some(seconds) => (Duration::from_secs(seconds), u64::from(getrandom::u32().unwrap()) << 32),
        None => (SPAN, 0),
    };
    for bytes in &corpus {
        attempt(name, &target, bytes);
    }
    let began = Instant::now();
    while began.elapsed() < span {
        attempt(name, &target, &changed(&corpus, seed));
        seed += 1;
    }
    println!("{name}: {} kept, and {} changed", corpus.len(), seed & 0xffff_ffff);
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn attempt(name: &str, target: &impl Fn(&[u8]), bytes: &[u8]) {
    let began = Instant::now();
    let fine = catch_unwind(AssertUnwindSafe(|| target(bytes))).is_ok();
    let took = began.elapsed();
    if !fine || took > PATIENCE {
        let file = std::env::temp_dir().join(format!("gsk-fuzz-{name}-{:08x}", crc32fast::hash(bytes)));
        std::fs::write(&file, bytes).unwrap();
        panic!("{name} fails on {}, {} bytes, after {took:?}", file.display(), bytes.len());
    }
}

/// Numbers at which readers go wrong.
const LENGTHS: [u64; 14] =
    [0, 1, 7, 8, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// One of the corpus, changed in up to eight places.
fn changed(corpus: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut dice = Dice(Random::new(seed));
    let mut bytes = dice.of(corpus).clone();
    for _ in 0..=dice.below(8) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.length()).min(bytes.len());
        match dice.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            3 => {
                let other = dice.of(corpus);
                let from = dice.below(other.len() + 1);
                let piece = other[from..(from + dice.length()).min(other.len())].to_vec();
                drop(bytes.splice(at..end, piece));
            }
            4 => {
                let piece: Vec<u8> = (0..dice.below(16)).map(|_| dice.below(256) as u8).collect();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let (number, width) = (*dice.of(&LENGTHS), *dice.of(&[1, 2, 4, 8]));
                let number = number.to_be_bytes();
                let room = bytes.len().saturating_sub(at).min(width);
                bytes[at..at + room].copy_from_slice(&number[8 - width..][..room]);
            }
            6 => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    let at = *dice.of(&digits);
                    let number = dice.of(&LENGTHS).to_string();
                    drop(bytes.splice(at..at + 1, number.into_bytes()));
                }
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => {}
        }
        bytes.truncate(MOST);
    }
    bytes
}

struct Dice(Random);

impl Dice {
    /// 0 to `end` - 1, or 0.
    fn below(&mut self, end: usize) -> usize {
        (self.0.number() % (end.max(1) as u64)) as usize
    }

    /// Mostly short.
    fn length(&mut self) -> usize {
        let most = 1 << self.below(12);
        self.below(most) + 1
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

#[test]
fn what_is_changed_is_the_same_each_time_and_never_the_same() {
    let corpus = [b"Content-Length: 12\r\n".to_vec(), vec![0; 40]];
    let all: std::collections::BTreeSet<Vec<u8>> = (0..1000).map(|seed| changed(&corpus, seed)).collect();
    assert!(all.len() > 800, "{}", all.len());
    assert!((0..1000).all(|seed| all.contains(&changed(&corpus, seed))));
}

#[test]
fn what_fails_is_kept_and_named() {
    let failed = catch_unwind(|| attempt("nothing", &|bytes: &[u8]| assert!(bytes.is_empty()), b"x")).unwrap_err();
    let said = failed.downcast_ref::<String>().unwrap();
    let file = said.split(' ').nth(3).unwrap().trim_end_matches(',');
    assert_eq!(std::fs::read(file).unwrap(), b"x", "{said}");
    std::fs::remove_file(file).unwrap();
}
