//! One run: case after case, each result noted and kept as soon as it is there.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::budget;
use super::environment::Environment;
use super::gate::Rule;
use super::material::{Material, Opening, Paced};
use super::report::{Absent, COMPARED, Compared, Measured, Ratio, Report, Row, Settings, Size, Verdict};
use super::save::{Baseline, Files};
use super::yardstick::Yardstick;
use super::{Case, Options, Source, cases, stats};
use crate::clock::rfc3339_now;
use crate::error::{Error, Kind, Result};
use crate::pipeline::frame;
use crate::proc;

/// Whoever watches a run.
pub trait Live {
    /// A row begins, of so many frames.
    fn begin(&mut self, title: &str, frames: usize);
    /// So many are done; the median and the 99th percentile of those that count, ms.
    fn step(&mut self, done: usize, p50: f64, p99: f64);
    /// It is over, in words.
    fn end(&mut self, result: &str);
}

/// Runs everything that `options` ask for. Where `stop` is set it ends soon, with what there is by then.
///
/// # Errors
/// A source that cannot be opened, and files that cannot be written. What fails in a case is in the report.
pub fn run(options: &Options, files: &mut Files, live: &mut dyn Live, stop: &AtomicBool) -> Result<Report> {
    let mut runner = Runner::new(options, files, live, stop)?;
    let sizes: Vec<Option<frame::Size>> = match options.source {
        // A file has a size of its own; asked for another, its opening says so.
        Source::File(_) if options.sizes.is_empty() => vec![None],
        _ if options.sizes.is_empty() => vec![Some(super::SIZES[0].1)],
        _ => options.sizes.iter().copied().map(Some).collect(),
    };
    for _ in 0..options.passes {
        for &size in &sizes {
            let cases: Vec<Case> = options.cases.iter().copied().filter(|case| *case != Case::Lease).collect();
            if !cases.is_empty() && !runner.stopping() {
                at_size(&mut runner, size, &cases)?;
            }
        }
        if options.cases.contains(&Case::Lease) && !runner.stopping() {
            runner.attempt(Case::Lease, None, cases::lease::run)?;
        }
    }
    runner.finish()
}

fn at_size(runner: &mut Runner, size: Option<frame::Size>, cases: &[Case]) -> Result<()> {
    let opening = Opening::new(runner.options, size)?;
    if let Source::File(_) = runner.options.source {
        // One that cannot be read, or is of another size, is wrong use, and no case's fault.
        drop(Paced::open(&opening)?);
    }
    if cases.contains(&Case::Capture) {
        runner.attempt(Case::Capture, size, |runner| cases::capture::run(runner, Paced::open(&opening)?))?;
    }
    let still = |case| cases.contains(&case);
    if [Case::Convert, Case::Encode, Case::Decode].into_iter().any(still) && !runner.stopping() {
        let material = Material::new(&opening, runner.options.frames, || runner.stopping())?;
        let size = Some(material.info.size);
        type Run = fn(&mut Runner, &Material) -> Result<()>;
        let of_material: [(Case, Run); 3] = [
            (Case::Convert, cases::convert::run),
            (Case::Encode, cases::encode::run),
            (Case::Decode, cases::decode::run),
        ];
        for (case, run) in of_material {
            if still(case) && !runner.stopping() {
                runner.attempt(case, size, |runner| run(runner, &material))?;
            }
        }
    }
    if still(Case::Pipeline) && !runner.stopping() {
        runner.attempt(Case::Pipeline, size, |runner| cases::pipeline::run(runner, &opening))?;
    }
    type Outside = fn(&mut Runner, Option<frame::Size>) -> Result<()>;
    let outside: [(Case, Outside); 3] =
        [(Case::Network, cases::network::run), (Case::Glass, cases::glass::run), (Case::Density, cases::density::run)];
    for (case, run) in outside {
        if still(case) && !runner.stopping() {
            runner.attempt(case, size, |runner| run(runner, size))?;
        }
    }
    Ok(())
}

/// What all cases work with.
pub struct Runner<'a> {
    pub options: &'a Options,
    report: Report,
    /// Of each row of the report, the samples of all passes.
    taken: Vec<Vec<Samples>>,
    yardstick: Yardstick,
    files: &'a mut Files,
    live: &'a mut dyn Live,
    stop: &'a AtomicBool,
    began: Instant,
    /// The row that is under way.
    going: Option<Going>,
}

struct Going {
    row: Row,
    /// Counted samples for the running percentiles.
    running: Histogram<u32>,
    stages: Vec<Samples>,
    /// Frames, those of the warm-up included, and those that count.
    done: usize,
    counted: usize,
    /// Frames of this round that do not count any more.
    warming: usize,
    fps: f64,
    resident: Option<u64>,
}

struct Samples {
    stage: &'static str,
    warmup: Vec<u64>,
    counted: Vec<u64>,
}

/// The most rounds of a case, and the frames that each has at least.
const ROUNDS: usize = 20;
const ROUND: usize = 10;

impl<'a> Runner<'a> {
    fn new(
        options: &'a Options,
        files: &'a mut Files,
        live: &'a mut dyn Live,
        stop: &'a AtomicBool,
    ) -> Result<Runner<'a>> {
        let Options { fps, frames, warmup, passes, bitrate, quality, .. } = *options;
        let quality = quality.to_string();
        let yardstick = Yardstick::new();
        let report = Report {
            began: rfc3339_now(),
            seconds: 0.0,
            complete: false,
            settings: Settings { source: options.source.to_string(), fps, frames, warmup, passes, bitrate, quality },
            environment: Environment::take(&yardstick),
            rows: Vec::new(),
            absent: Vec::new(),
            budget: Vec::new(),
            budget_holds: options.hold_budget,
            comparison: None,
            verdicts: Vec::new(),
            errors: Vec::new(),
        };
        Ok(Runner {
            options,
            report,
            taken: Vec::new(),
            yardstick,
            files,
            live,
            stop,
            began: Instant::now(),
            going: None,
        })
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Frames of a case that has but one round.
    pub fn frames(&self) -> usize {
        self.options.warmup + self.options.frames
    }

    /// How many frames each round has, its warm-up included.
    pub fn rounds(&self) -> Vec<usize> {
        let frames = self.options.frames;
        let rounds = (frames / ROUND).clamp(1, ROUNDS);
        (0..rounds).map(|n| self.options.warmup + frames * (n + 1) / rounds - frames * n / rounds).collect()
    }

    /// Runs a case; what fails in it is noted, and what this host lacks for it.
    fn attempt(
        &mut self,
        case: Case,
        size: Option<frame::Size>,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        match run(self) {
            Ok(()) => Ok(()),
            Err(error) => self.failed(case, None, size, error),
        }
    }

    /// Notes what could not be measured: as absent where the host lacks it or has no room, else as a failure.
    pub fn failed(&mut self, case: Case, row: Option<Row>, size: Option<frame::Size>, error: Error) -> Result<()> {
        self.going = None;
        let row = row.unwrap_or_else(|| Row::new(case, size));
        if matches!(error.kind, Kind::Missing | Kind::Capacity | Kind::Permission | Kind::Unreachable | Kind::Usage) {
            let reason = match &error.cause {
                Some(cause) => format!("{}: {cause}", error.what),
                None => error.what.clone(),
            };
            self.absent(&row, reason)
        } else {
            let what = format!("{} failed", row.title());
            self.live.end(&format!("{what}: {error}"));
            self.report.errors.push(Error { what, ..error.clone() }.cause(&error));
            self.save()
        }
    }

    /// Notes what is not on this host, or not in this run.
    pub fn absent(&mut self, row: &Row, reason: String) -> Result<()> {
        let Row { case, backend, codec, size, .. } = row.clone();
        let absent = Absent { case, backend, codec, size, reason };
        // Each pass finds it so.
        if !self.report.absent.contains(&absent) {
            self.report.absent.push(absent);
        }
        self.save()
    }

    /// Begins a row of so many frames in all, and its first round. `fps` is what stalls are judged by.
    pub fn begin(&mut self, row: Row, fps: f64, frames: usize) {
        let size = row.size.map_or_else(String::new, |size| format!(" {}", size.0));
        self.live.begin(&format!("{}{size}", row.title()), frames);
        // Without it the peak is the process's, not this case's.
        let resident = proc::forget_peak().then(|| proc::resident().map(|(now, _)| now)).flatten();
        self.going = Some(Going {
            stages: row
                .case
                .stages()
                .iter()
                .map(|stage| Samples { stage, warmup: Vec::new(), counted: Vec::new() })
                .collect(),
            running: Histogram::new_with_bounds(1, 100_000_000, 3).expect("valid bounds"),
            done: 0,
            counted: 0,
            // Where frames come as they come, its end is told by `warm`.
            warming: if row.case.streams() { usize::MAX } else { self.options.warmup },
            fps,
            resident,
            row,
        });
    }

    /// From the next frame on they count.
    pub fn warm(&mut self) {
        if let Some(going) = &mut self.going {
            going.warming = 0;
        }
    }

    /// A round begins, everything opened anew.
    pub fn round(&mut self) {
        if let Some(going) = &mut self.going {
            going.row.rounds.push(going.counted);
            going.row.yards_us.push(self.yardstick.round());
            going.warming = self.options.warmup;
        }
    }

    /// The row that is under way.
    pub fn row(&mut self) -> &mut Row {
        &mut self.going.as_mut().expect("a row has begun").row
    }

    /// Whether the next frame counts.
    pub fn counts(&self) -> bool {
        self.going.as_ref().is_some_and(|going| going.warming == 0)
    }

    /// Notes a frame: of each stage that was measured, its µs.
    pub fn frame(&mut self, samples: &[(&'static str, u64)]) {
        let Some(going) = &mut self.going else { return };
        let counts = going.warming == 0;
        going.warming = going.warming.saturating_sub(1);
        going.done += 1;
        going.counted += usize::from(counts);
        for (stage, sample) in samples {
            let of = going.stages.iter_mut().find(|known| known.stage == *stage).expect("a stage of its case");
            if counts { &mut of.counted } else { &mut of.warmup }.push(*sample);
        }
        if let (Some(&(_, sample)), true) = (samples.first(), counts) {
            going.running.saturating_record(sample.max(1));
        }
        let at = |q| going.running.value_at_quantile(q) as f64 / 1e3;
        self.live.step(going.done, at(0.5), at(0.99));
    }

    /// What the row's memory came to; to be called before anything else is done.
    pub fn weigh(&mut self) {
        if let Some(going) = &mut self.going {
            let peak = going.resident.and_then(|before| Some(proc::resident()?.1.saturating_sub(before)));
            going.row.memory_bytes = peak;
        }
    }

    /// Ends the row and keeps it; one without a counted frame is dropped.
    pub fn end(&mut self) -> Result<()> {
        let Some(going) = self.going.take() else { return Ok(()) };
        let Going { mut row, mut stages, fps, counted, .. } = going;
        let earlier = self.report.rows.iter().position(|known| known.key() == row.key());
        if let Some(at) = earlier {
            for (all, new) in self.taken[at].iter_mut().zip(&mut stages) {
                all.warmup.append(&mut new.warmup);
                all.counted.append(&mut new.counted);
            }
            stages = std::mem::take(&mut self.taken[at]);
            row = row.after(&self.report.rows[at], counted);
        }
        let measured = |of: &Samples| Measured::new(of.stage, &of.warmup, &of.counted, fps);
        row.stages = stages.iter().filter_map(measured).collect();
        // A capture's is what came.
        let whole = row.stage("gap").or(row.stage("total")).or(row.main()).filter(|_| row.case != Case::Glass);
        let could = whole.map(|whole| 1e3 / whole.summary.mean).filter(|fps| fps.is_finite());
        row.fps = row.fps.or(could);
        row.cpu_ms = row.cpu_ms.or(row.stage("cpu").map(|cpu| cpu.summary.mean));
        let Some(main) = row.main() else {
            self.live.end("stopped before the first frame that counts");
            return Ok(());
        };
        let stats::Summary { n, p50, p99, .. } = main.summary;
        self.live.end(&format!("{n} frames, p50 {p50:.3} ms, p99 {p99:.3} ms"));
        match earlier {
            Some(at) => (self.report.rows[at], self.taken[at]) = (row, stages),
            None => {
                self.report.rows.push(row);
                self.taken.push(stages);
            }
        }
        self.save()
    }

    /// Brings the report up to date, and the files with it.
    fn save(&mut self) -> Result<()> {
        let report = &mut self.report;
        report.seconds = self.began.elapsed().as_secs_f64();
        report.environment.update();
        report.budget = budget::judge(&budget::Target::all(&self.options.budget), &report.rows);
        self.files.write(report, false)
    }

    fn finish(mut self) -> Result<Report> {
        let Options { baseline, rules, .. } = self.options;
        self.report.complete = !self.stopping();
        self.report.comparison = baseline.as_ref().map(|baseline| compare(baseline, &self.report));
        self.report.verdicts = judge(rules, baseline.as_ref(), &self.report);
        self.save()?;
        self.files.write(&self.report, true)?;
        Ok(self.report)
    }
}

/// This run beside an older one: rows that both have.
fn compare(baseline: &Baseline, report: &Report) -> Compared {
    let mut ratios = Vec::new();
    for row in &report.rows {
        let key = row.key();
        for measured in &row.stages {
            let Some(old) = baseline.samples(&key, measured.stage) else { continue };
            for statistic in COMPARED {
                let comparison = stats::compare(statistic, old, row.samples(measured));
                let (key, stage, statistic) = (key.clone(), measured.stage, statistic.name());
                ratios.push(Ratio { key, stage, statistic, comparison });
            }
        }
    }
    Compared {
        baseline: baseline.path.clone(),
        began: baseline.began().into(),
        cautions: baseline.cautions(report),
        ratios,
    }
}

/// What each rule says of each row that it is about.
fn judge(rules: &[Rule], baseline: Option<&Baseline>, report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for rule in rules {
        let before = verdicts.len();
        for row in report.rows.iter().filter(|row| row.case.name() == rule.case) {
            let (Some(measured), key) = (row.stage(&rule.stage), row.key()) else { continue };
            let old = baseline.and_then(|baseline| baseline.samples(&key, measured.stage));
            if let Some(judged) = rule.judge(old, row.samples(measured)) {
                verdicts.push(Verdict { rule: rule.to_string(), key: Some(key), judged: Some(judged) });
            }
        }
        if verdicts.len() == before {
            verdicts.push(Verdict { rule: rule.to_string(), key: None, judged: None });
        }
    }
    verdicts
}

/// What a row is of.
pub fn row_of(case: Case, backend: &str, codec: &str, size: frame::Size) -> Row {
    Row {
        backend: Some(backend.into()),
        codec: Some(codec.into()),
        size: Some(Size(size)),
        ..Row::new(case, Some(size))
    }
}
