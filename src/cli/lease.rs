//! `gsk lease run`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{self, Span, as_text};
use crate::config::{Keys, Resolved};
use crate::error::{Error, Result};
use crate::gpu;
use crate::lease::{self, Limit, Pool};
use crate::output::Printer;
use crate::wire::lease::Record;

/// `gsk lease`: encoder slots by hand.
#[derive(clap::Args, Clone, Debug)]
pub struct LeaseArgs {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Run an encoder program, such as ffmpeg with h264_nvenc, with one of the machine's encoder slots
    ///
    /// The slot is free again when the program has ended, and what it started with it; the program's exit code is handed
    /// on. Where no slot is free, it is not started: exit code 6. It never outlives gsk.
    Run(RunArgs),
}

/// What `gsk lease run` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub keys: RunKeys,

    /// Program to run
    #[arg(last = true, value_name = "CMD", num_args = 1.., required = true)]
    pub command: Vec<OsString>,
}

/// The flags of `gsk lease run`, and the keys below `lease:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunKeys {
    /// Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]
    #[arg(long = "slots", value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024))]
    pub nvenc_max_sessions: Option<u32>,

    /// How long to wait for a slot where none is free, such as 30s or 5m [default: 0s]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub wait: Option<Span>,

    /// Name to be shown to those who ask who holds the slot, 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-' [default: the
    /// program's]
    #[arg(long, value_name = "NAME", value_parser = value::instance_id)]
    pub instance_id: Option<String>,
}

impl Keys for RunKeys {
    const SECTION: Option<&'static str> = Some("lease");

    fn defaults() -> RunKeys {
        RunKeys { wait: Some(Span(Duration::ZERO)), ..RunKeys::default() }
    }
}

/// How long the driver may take to say what boards there are: without persistence mode it takes a second and more for each.
const OPENING: Duration = Duration::from_secs(10);
/// How long it may take to list its sessions.
const DRIVER: Duration = Duration::from_secs(1);

pub fn run(argv: &[OsString], resolved: Resolved<RunKeys>, printer: &Printer) -> Result<ExitCode> {
    let keys = resolved.values;
    let capacity = gpu::limit(None, keys.nvenc_max_sessions, OPENING)?;
    if keys.nvenc_max_sessions.is_none() && capacity.limit == Limit::Sessions(0) {
        return Err(Error::missing("there is no encoder on this machine")
            .cause(capacity.from)
            .hint("see what this host can encode with: gsk nvenc-status\nor allow some nevertheless: --slots N"));
    }
    let wait = keys.wait.map_or(Duration::ZERO, |span| span.0);
    let program = argv.first().and_then(|program| Path::new(program).file_name());
    let record = Record {
        instance_id: keys.instance_id.unwrap_or_default(),
        label: program.map(|name| name.to_string_lossy().into_owned()),
        ..Record::default()
    };
    let waits = |refusal: &lease::Refusal| printer.note(&format!("waiting for an encoder slot: {refusal}"));
    let pool = Pool::open()?;
    let slot = lease::run::take(&pool, capacity.limit, || capacity.pids(DRIVER), &record, wait, waits)?;
    Ok(ExitCode::from(lease::run::run(&pool, slot, argv)?.code))
}
