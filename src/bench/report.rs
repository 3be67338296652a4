//! What a run found: a document for programs and people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::budget::Held;
use super::environment::Environment;
use super::stats::{self, Comparison, Samples, Statistic, Summary};
use super::{Case, gate};
use crate::error::Error;
use crate::exit::Code;
use crate::pipeline::frame;

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// RFC 3339, UTC.
    pub began: String,
    pub seconds: f64,
    /// Whether all that was asked for was done.
    pub complete: bool,
    pub settings: Settings,
    pub environment: Environment,
    pub rows: Vec<Row>,
    /// What this host, or this run, does not have.
    pub absent: Vec<Absent>,
    pub budget: Vec<Held>,
    /// Whether a missed target is a bad answer.
    pub budget_holds: bool,
    pub comparison: Option<Compared>,
    pub verdicts: Vec<Verdict>,
    #[serde(skip)]
    pub errors: Vec<Error>,
}

/// What the run was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub source: String,
    pub fps: f64,
    pub frames: usize,
    pub warmup: usize,
    pub passes: usize,
    pub bitrate: u32,
    pub quality: String,
}

/// Width and height, as text in documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub frame::Size);

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// One case with one back end at one size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub case: Case,
    /// What did it: an encoder's or a decoder's name.
    pub backend: Option<String>,
    pub codec: Option<String>,
    pub size: Option<Size>,
    /// In words: the renderer, what an encoder stands in for.
    pub detail: Option<String>,
    /// Frames a second that came, of what runs at a frame rate; of all else, how many it could do one after another.
    pub fps: Option<f64>,
    /// CPU time of this process a frame, all its threads, ms.
    pub cpu_ms: Option<f64>,
    /// What the case added to this process's resident memory at its peak.
    pub memory_bytes: Option<u64>,
    /// Of all counted units.
    pub bytes: Option<u64>,
    /// Those bytes at the frame rate asked for.
    pub bitrate_bps: Option<f64>,
    /// Against the source as the encoder was given it, through the decoder, of luma; means over `judged` pictures.
    pub ssim: Option<f64>,
    pub psnr_db: Option<f64>,
    pub judged: Option<usize>,
    /// Glass: the median that the page itself shows of capture to painted, over its last 5 s, ms.
    pub page_ms: Option<f64>,
    /// Of cases with a worker of their own: how many viewers or streams, and what the workers took.
    pub load: Option<Load>,
    /// Frames that were not encoded or not delivered, by cause.
    pub drops: Option<BTreeMap<&'static str, u64>>,
    /// Where each round begins, everything opened anew: indices into the samples of the stages.
    pub rounds: Vec<usize>,
    /// How long the yardstick, always the same work, took before each round.
    pub yards_us: Vec<u64>,
    pub stages: Vec<Measured>,
}

/// What workers took to serve so many.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    pub viewers: Option<u32>,
    /// Workers with a viewer each: the most that held the frame rate.
    pub streams: Option<u32>,
    /// Of one core, all workers together, capture and encoding included.
    pub cpu_percent: Option<f64>,
    /// What each viewer beyond the first added.
    pub cpu_percent_a_viewer: Option<f64>,
    /// Resident, all workers together.
    pub memory_bytes: Option<u64>,
    pub memory_bytes_a_viewer: Option<u64>,
    /// Density: of the whole machine, what programs that are not of this run took meanwhile.
    pub others_percent: Option<f64>,
    /// Density: what the machine had no more of, at how many streams.
    pub gave_out: Option<GaveOut>,
}

/// Where more was too much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GaveOut {
    pub streams: u32,
    pub what: String,
}

impl Row {
    pub fn new(case: Case, size: Option<frame::Size>) -> Row {
        Row {
            case,
            backend: None,
            codec: None,
            size: size.map(Size),
            detail: None,
            fps: None,
            cpu_ms: None,
            memory_bytes: None,
            bytes: None,
            bitrate_bps: None,
            ssim: None,
            psnr_db: None,
            judged: None,
            page_ms: None,
            load: None,
            drops: None,
            rounds: Vec::new(),
            yards_us: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// What it is known by, from one run to another.
    pub fn key(&self) -> Key {
        Key {
            case: self.case,
            backend: self.backend.clone(),
            codec: self.codec.clone(),
            size: self.size.map(|size| size.0.to_string()),
        }
    }

    /// This one of a later pass, of so many counted frames, with the earlier ones before it: figures are means, sums or peaks of all. The stages are left to
    /// be made anew, and what is made of them.
    pub fn after(self, earlier: &Row, counted: usize) -> Row {
        let before = earlier.main().map_or(0, |main| main.summary.n);
        let share = counted as f64 / (before + counted).max(1) as f64;
        let mean = |a: Option<f64>, b: Option<f64>| Some(a? * (1.0 - share) + b? * share);
        let mut drops = earlier.drops.clone();
        if let (Some(all), Some(new)) = (&mut drops, &self.drops) {
            new.iter().for_each(|(cause, count)| *all.entry(cause).or_default() += count);
        }
        let rounds = earlier.rounds.iter().copied().chain(self.rounds.iter().map(|round| before + round));
        let at_a_rate = matches!(self.case, Case::Capture | Case::Pipeline);
        Row {
            fps: mean(earlier.fps, self.fps).filter(|_| at_a_rate),
            cpu_ms: mean(earlier.cpu_ms, self.cpu_ms).filter(|_| at_a_rate),
            memory_bytes: earlier.memory_bytes.max(self.memory_bytes),
            bytes: earlier.bytes.zip(self.bytes).map(|(a, b)| a + b),
            bitrate_bps: mean(earlier.bitrate_bps, self.bitrate_bps),
            ssim: mean(earlier.ssim, self.ssim),
            psnr_db: mean(earlier.psnr_db, self.psnr_db),
            judged: earlier.judged.zip(self.judged).map(|(a, b)| a + b),
            drops,
            rounds: rounds.collect(),
            yards_us: [&earlier.yards_us[..], &self.yards_us].concat(),
            ..self
        }
    }

    /// `encode openh264 h264`.
    pub fn title(&self) -> String {
        let words = [Some(self.case.name()), self.backend.as_deref(), self.codec.as_deref()];
        let mut words: Vec<&str> = words.into_iter().flatten().collect();
        words.dedup();
        words.join(" ")
    }

    pub fn stage(&self, name: &str) -> Option<&Measured> {
        self.stages.iter().find(|measured| measured.stage == name)
    }

    /// A stage's samples.
    pub fn samples<'a>(&'a self, measured: &'a Measured) -> Samples<'a> {
        Samples { us: &measured.samples_us, rounds: &self.rounds, yards: &self.yards_us }
    }

    /// The stage that the case is about.
    pub fn main(&self) -> Option<&Measured> {
        self.stage(self.case.stages()[0])
    }
}

/// What makes rows of two runs the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub case: Case,
    pub backend: Option<String>,
    pub codec: Option<String>,
    pub size: Option<String>,
}

/// One stage's samples, and what they say. Times in ms unless their name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub stage: &'static str,
    /// `wall`: this process's monotonic clock; `cpu`: CPU time of all its threads.
    pub clock: &'static str,
    #[serde(flatten)]
    pub summary: Summary,
    /// Samples of more than two frame times; null of CPU time.
    pub stalls: Option<usize>,
    /// Which samples are outliers, counted from 0. They are in all figures.
    pub outliers: Vec<usize>,
    /// Of the frames before those that count.
    pub warmup: Option<Summary>,
    /// µs, in the order in which they were taken.
    pub samples_us: Vec<u64>,
}

impl Measured {
    /// `None` where nothing was measured.
    pub fn new(stage: &'static str, warmup: &[u64], samples: &[u64], fps: f64) -> Option<Measured> {
        let summary = Summary::of(samples)?;
        let cpu = stage == "cpu";
        Some(Measured {
            stage,
            clock: if cpu { "cpu" } else { "wall" },
            summary,
            stalls: (!cpu).then(|| stats::stalls(samples, fps)),
            outliers: stats::outliers(samples),
            warmup: Summary::of(warmup),
            samples_us: samples.to_vec(),
        })
    }
}

/// What was not measured, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Absent {
    pub case: Case,
    pub backend: Option<String>,
    pub codec: Option<String>,
    /// `None`: at no size.
    pub size: Option<Size>,
    pub reason: String,
}

/// This run beside the one of `--baseline`.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    pub baseline: String,
    /// When that run began.
    pub began: String,
    /// How the two runs differ in what they were, not in what they measured.
    pub cautions: Vec<String>,
    pub ratios: Vec<Ratio>,
}

/// One statistic of one stage in both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    #[serde(flatten)]
    pub key: Key,
    pub stage: &'static str,
    pub statistic: &'static str,
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// How one row stands to one rule of `--fail-on`.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub rule: String,
    /// `None` where nothing was measured that it could judge.
    #[serde(flatten)]
    pub key: Option<Key>,
    #[serde(flatten)]
    pub judged: Option<gate::Judged>,
}

/// The statistics that two runs are compared in.
pub const COMPARED: [Statistic; 3] = [Statistic::P50, Statistic::P95, Statistic::P99];

impl Report {
    /// 1 where a rule is broken, a target is missed that is to hold, or a case failed; 2 where a rule could not be judged; 3
    /// where this host could do nothing of what was asked.
    pub fn code(&self) -> Code {
        let broken = self.verdicts.iter().any(|verdict| verdict.judged.is_some_and(|judged| judged.failed));
        let missed = self.budget_holds && self.budget.iter().any(|held| held.met == Some(false));
        if broken || missed || !self.errors.is_empty() {
            Code::Bad
        } else if self.verdicts.iter().any(|verdict| verdict.judged.is_none()) {
            Code::Usage
        } else if self.rows.is_empty() && !self.absent.is_empty() {
            Code::Missing
        } else {
            Code::Good
        }
    }
}
