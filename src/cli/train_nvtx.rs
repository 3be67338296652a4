//! `gsk train-nvtx`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{self, as_text};
use crate::config::{Keys, Resolved};
use crate::error::{Error, Result};
use crate::exit::Code;
use crate::output::{Printer, Show};
use crate::profile::nsys::{Capture, Profile};
use crate::profile::{self, Choice, Options, manifest::Runs, training};

/// What `gsk train-nvtx` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct TrainNvtxArgs {
    #[command(flatten)]
    pub keys: TrainNvtxKeys,

    /// Epochs, 1 to 1000000: {epochs} in the program's arguments, GSK_EPOCHS in its environment
    #[arg(default_value_t = 5, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    pub epochs: u32,

    /// Samples to a batch, 1 to 1000000, of the built-in run up to 4096: {batch}, GSK_BATCH
    #[arg(default_value_t = 256, value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    pub batch: u32,

    /// The run's name, 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-': {job}, GSK_JOB
    #[arg(default_value = "training_profile", value_parser = value::instance_id)]
    pub job: String,

    /// Threads or processes that load data, 0 to 1024, of the built-in run up to 64: {workers}, GSK_WORKERS
    #[arg(default_value_t = 2, value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024))]
    pub workers: u32,

    /// Training program to profile; without one, the built-in run
    #[arg(last = true, value_name = "CMD", num_args = 1.., conflicts_with = "list")]
    pub command: Vec<OsString>,

    /// Show the runs so far, newest first
    #[arg(long, conflicts_with_all = ["epochs", "batch", "job", "workers"])]
    pub list: bool,

    /// In the run's file names, in place of the time: as for JOB. A name that is taken is refused
    #[arg(long, value_name = "WORD", value_parser = value::instance_id, conflicts_with = "list")]
    pub stamp: Option<String>,

    /// Overwrite the run of the same --stamp
    #[arg(long, requires = "stamp")]
    pub force: bool,
}

/// The flags of `gsk train-nvtx`, and the keys below `train-nvtx:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainNvtxKeys {
    /// Folder of reports, traces and manifests, made where it is not [default: profiling_output]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,

    /// The nsys to use: a file, a folder, or a name on the PATH [default: NSYS_PATH, the PATH, where it is installed]
    #[arg(long, value_name = "FILE", help_heading = NSYS)]
    pub nsys: Option<String>,

    /// Run without nsys; of the built-in run gsk then collects the ranges itself
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = NSYS)]
    pub no_nsys: Option<bool>,

    /// Trace cuBLAS too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = NSYS)]
    pub cublas: Option<bool>,

    /// Trace cuDNN too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = NSYS)]
    pub cudnn: Option<bool>,

    /// Collect only between cudaProfilerStart and -Stop (cuda), or in the first range of a name (nvtx:RANGE[@DOMAIN]); the
    /// program runs on behind it [default: none]
    #[arg(long, value_name = "cuda|nvtx:RANGE", help_heading = NSYS)]
    #[serde(with = "as_text")]
    pub capture_range: Option<Capture>,

    /// Hand on to 'nsys profile', such as --nsys-arg=--sample=process-tree; may be repeated. Replaces gsk's own option of
    /// that name
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, help_heading = NSYS)]
    pub nsys_arg: Option<Vec<String>>,
}

const NSYS: &str = "Collecting";

impl Keys for TrainNvtxKeys {
    const SECTION: Option<&'static str> = Some("train-nvtx");
    // nsys runs programs that its options name.
    const GUARDED: &'static [&'static str] = &["nsys", "nsys_arg"];
    const ALTERNATIVES: &'static [&'static str] = &["nsys", "no_nsys"];

    fn defaults() -> TrainNvtxKeys {
        TrainNvtxKeys {
            output_dir: Some("profiling_output".into()),
            capture_range: Some(Capture::All),
            ..TrainNvtxKeys::default()
        }
    }
}

pub fn run(args: &TrainNvtxArgs, resolved: Resolved<TrainNvtxKeys>, printer: &Printer) -> Result<ExitCode> {
    let keys = resolved.values;
    let folder = keys.output_dir.clone().ok_or_else(|| Error::bug("a setting has no default"))?;
    if args.list {
        let runs = Runs::read(&folder)?;
        printer.show(&runs)?;
        runs.errors().iter().for_each(|error| printer.warn(&error.to_string()));
        return Ok(if runs.errors().is_empty() { Code::Good } else { Code::Bad }.into());
    }
    let options = Options {
        job: args.job.clone(),
        training: training::Options { epochs: args.epochs, batch: args.batch, workers: args.workers },
        program: args.command.clone(),
        folder,
        stamp: args.stamp.clone(),
        force: args.force,
        nsys: match keys.nsys {
            _ if keys.no_nsys == Some(true) => Choice::None,
            Some(named) => Choice::Named(named),
            None => Choice::Auto,
        },
        profile: Profile {
            cublas: keys.cublas == Some(true),
            cudnn: keys.cudnn == Some(true),
            capture: keys.capture_range.unwrap_or(Capture::All),
            force: args.force,
            more: keys.nsys_arg.unwrap_or_default(),
        },
    };
    let (run, end) = profile::run(&options, printer)?;
    // The program's exit code is handed on even where nobody reads the answer.
    if let Err(error) = printer.show(&run) {
        printer.error(&error);
    }
    Ok(end.hand_on())
}
