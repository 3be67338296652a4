//! `gsk bench`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::value::{self, Bitrate, as_text};
use crate::bench::{self, Case, Files, Options, Source, Target, gate::Rule, save::Baseline};
use crate::config::{Keys, Resolved};
use crate::error::{Error, Result};
use crate::output::Printer;
use crate::pipeline::encode::{Choice, Codec};
use crate::pipeline::rate::Quality;
use crate::{exit, gpu, signals};

/// What `gsk bench` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    pub keys: BenchKeys,

    /// What to measure [default: all but density]
    #[arg(value_name = "CASE", value_parser = PossibleValuesParser::new(words()))]
    pub cases: Vec<String>,

    /// Compare with an older run, by ratios with their 95 % intervals
    #[arg(long, value_name = "FILE", help_heading = GATES)]
    pub baseline: Option<PathBuf>,

    /// Keep this run, samples and all, as JSON for --baseline; may be the same file
    #[arg(long, value_name = "FILE", help_heading = GATES)]
    pub save_baseline: Option<PathBuf>,

    /// Exit 1 where a rule is broken, such as encode.p99>+10%, encode.p99>+0.5ms or pipeline.p95>20ms; may be repeated
    ///
    /// CASE[.STAGE].STATISTIC>LIMIT. A limit with '+' is beside the baseline's figure. The statistic is one of min, mean,
    /// p50, p90, p95, p99, max and jitter. A rule is broken only where both the figure is beyond the limit and a bootstrap
    /// interval agrees that this is not by chance.
    #[arg(long, value_name = "RULE", help_heading = GATES)]
    pub fail_on: Vec<Rule>,

    /// Exit 1 where a stage misses its target of the budget
    #[arg(id = "hold_budget", long = "budget", help_heading = GATES)]
    pub hold_budget: bool,

    /// Write pictures: latency over time, its distribution, and stages stacked by percentile
    #[arg(long, value_name = "FILE.svg", help_heading = OUTPUT)]
    pub plot: Option<PathBuf>,

    /// Write all as one page that needs nothing else
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub html: Option<PathBuf>,
}

const GATES: &str = "Gates";
const OUTPUT: &str = "Output files, written after each row";

/// The flags of `gsk bench`, and the keys below `bench:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BenchKeys {
    /// Pictures: "scene", "noise" (the hardest), "still" (the easiest), or a .y4m file [default: scene]
    #[arg(long, value_name = "SPEC")]
    #[serde(with = "as_text")]
    pub source: Option<Source>,

    /// 720p, 1080p, 1440p, 4K, or WxH; may be repeated [default: 720p; a file has its own]
    #[arg(long, value_name = "SIZE", value_parser = size, value_delimiter = ',')]
    pub size: Option<Vec<String>>,

    /// Frames per second, 1 to 240, such as 29.97 [default: 30]
    #[arg(long, value_name = "N", value_parser = value::fps)]
    pub fps: Option<f64>,

    /// Frames that count, of each case; of encoders and decoders in up to 20 rounds, 1 to 100000 [default: 200]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100_000))]
    pub frames: Option<u32>,

    /// Frames before them that do not, anew whenever an encoder or decoder is opened, 0 to 10000 [default: 10]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=10_000))]
    pub warmup: Option<u32>,

    /// Run all cases as often, 1 to 1000, and put their samples together: what a machine does from one minute to the next
    /// then shows in the intervals [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    pub passes: Option<u32>,

    /// Encoder; auto measures each, and streams by the best [default: auto]
    #[arg(long, value_name = "NAME", value_enum)]
    pub encoder: Option<Choice>,

    /// Only this codec [default: all; a pipeline has its encoder's]
    #[arg(long, value_name = "CODEC", value_enum)]
    pub codec: Option<Codec>,

    /// Bits per second, 100k to 200M [default: 4M]
    #[arg(long, value_name = "N[k|M]")]
    pub bitrate: Option<Bitrate>,

    /// Quality of JPEG pictures, 1 to 100, or auto: as the bit rate allows [default: auto]
    #[arg(long, value_name = "N|auto")]
    #[serde(with = "as_text")]
    pub jpeg_quality: Option<Quality>,

    /// The GPU that draws the scene and encodes, by nvidia-smi's index, by UUID or by PCI address [default: the first that can]
    #[arg(long, value_name = "INDEX|UUID|PCI")]
    #[serde(with = "as_text")]
    pub gpu: Option<gpu::Choice>,

    /// Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]
    #[arg(long = "slots", value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024))]
    pub nvenc_max_sessions: Option<u32>,

    /// Viewers of "network", 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    pub viewers: Option<u32>,

    /// The most streams that "density" tries, 1 to 256 [default: 64]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=256))]
    pub streams: Option<u32>,

    /// The Chromium that "glass" watches with [default: chromium, google-chrome or chrome on the PATH]
    #[arg(long, value_name = "FILE")]
    pub browser: Option<String>,

    /// What a stage may take, of its 95th percentile, such as encode=5; may be repeated [default: capture=2, encode=3, network=10, decode=5, total=20]
    #[arg(long = "target", value_name = "STAGE=MS", value_parser = target, value_delimiter = ',', help_heading = GATES)]
    pub budget: Option<Vec<String>>,
}

impl Keys for BenchKeys {
    const SECTION: Option<&'static str> = Some("bench");
    const GUARDED: &'static [&'static str] = &["browser"];

    fn defaults() -> BenchKeys {
        BenchKeys {
            source: Some(Source::Scene),
            fps: Some(30.0),
            frames: Some(200),
            warmup: Some(10),
            passes: Some(1),
            encoder: Some(Choice::Auto),
            bitrate: Some(Bitrate(4_000_000)),
            jpeg_quality: Some(Quality::Auto),
            viewers: Some(1),
            streams: Some(64),
            ..BenchKeys::default()
        }
    }
}

/// The cases, and `all` of them.
fn words() -> Vec<&'static str> {
    Case::ALL.iter().map(|(name, _)| *name).chain(["all"]).collect()
}

/// Kept as text, for a list of them has no other form in a file.
fn size(text: &str) -> Result<String> {
    bench::size(text).map(|size| size.to_string())
}

fn target(text: &str) -> Result<String> {
    text.parse::<Target>().map(|target| target.to_string())
}

/// How long NVML, and then CUDA, may take to come up where a GPU was chosen.
const DRIVER: Duration = Duration::from_secs(15);

pub fn run(args: &BenchArgs, resolved: Resolved<BenchKeys>, printer: &Printer) -> Result<ExitCode> {
    let options = options(args, resolved.values)?;
    let mut files = Files::default()
        .baseline(args.save_baseline.as_deref())?
        .plot(args.plot.as_deref())?
        .html(args.html.as_deref())?;
    let signals = Interrupts::catch()?;
    let report = bench::run(&options, &mut files, &mut printer.progress(), &signals.stop)?;
    printer.show(&report)?;
    if let Some(signal) = signals.came() {
        exit::by_signal(signal);
    }
    Ok(report.code().into())
}

fn options(args: &BenchArgs, keys: BenchKeys) -> Result<Options> {
    fn given<T>(value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::bug("a setting has no default"))
    }
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    if let (Some(rule), None) = (args.fail_on.iter().find(|rule| rule.compares()), &baseline) {
        return Err(Error::usage(format!("the rule {rule} needs a baseline"))
            .hint("name one: --baseline FILE, written by an older run with --save-baseline FILE"));
    }
    let named = |name: &str| args.cases.iter().any(|word| word == name || word == "all");
    // Density loads the whole machine for as long as that takes: only where it is asked for.
    let asked = |name: &str| if args.cases.is_empty() { name != Case::Density.name() } else { named(name) };
    let sizes = keys.size.unwrap_or_default();
    Ok(Options {
        cases: Case::ALL.into_iter().filter(|(name, _)| asked(name)).map(|(_, case)| case).collect(),
        source: given(keys.source)?,
        sizes: sizes.iter().map(|size| size.parse()).collect::<Result<_>>()?,
        fps: given(keys.fps)?,
        frames: given(keys.frames)? as usize,
        warmup: given(keys.warmup)? as usize,
        passes: given(keys.passes)? as usize,
        encoder: given(keys.encoder)?,
        codec: keys.codec,
        bitrate: given(keys.bitrate)?.0,
        quality: given(keys.jpeg_quality)?,
        gpu: keys.gpu.map(|choice| gpu::choose(&choice, DRIVER)).transpose()?,
        slots: keys.nvenc_max_sessions,
        viewers: given(keys.viewers)?,
        streams: given(keys.streams)?,
        browser: keys.browser.map(Into::into),
        budget: keys.budget.unwrap_or_default().iter().map(|target| target.parse()).collect::<Result<_>>()?,
        hold_budget: args.hold_budget,
        rules: args.fail_on.clone(),
        baseline,
    })
}

/// Ctrl-C and its like: the first ends the run, which then prints what there is; the second ends us.
struct Interrupts {
    stop: AtomicBool,
    came: AtomicI32,
}

impl Interrupts {
    fn catch() -> Result<Arc<Interrupts>> {
        let interrupts = Arc::new(Interrupts { stop: AtomicBool::new(false), came: AtomicI32::new(0) });
        let caught = interrupts.clone();
        signals::each(move |signal| {
            if caught.stop.swap(true, SeqCst) {
                exit::by_signal(signal);
            }
            caught.came.store(signal.as_raw(), SeqCst);
        })?;
        Ok(interrupts)
    }

    fn came(&self) -> Option<Signal> {
        Signal::from_named_raw(self.came.load(SeqCst))
    }
}
