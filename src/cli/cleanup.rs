//! `gsk cleanup`.

use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value::{Span, as_text};
use crate::config::{Keys, Resolved};
use crate::doctor::sweep::{self, Options};
use crate::error::Result;
use crate::output::Printer;

/// What `gsk cleanup` is given. What it does stands on the command line, and in no file.
#[derive(clap::Args, Clone, Debug)]
pub struct CleanupArgs {
    #[command(flatten)]
    pub keys: CleanupKeys,

    /// Clear the records that dead owners left in free slots
    #[arg(long)]
    pub leases: bool,

    /// End the processes that hold slots whose owners are dead: SIGTERM, --grace, SIGKILL
    #[arg(long)]
    pub kill: bool,
}

/// The settings of `gsk cleanup`, and the keys below `cleanup:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CleanupKeys {
    /// Between SIGTERM and SIGKILL, such as 500ms [default: 2s]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub grace: Option<Span>,
}

impl Keys for CleanupKeys {
    const SECTION: Option<&'static str> = Some("cleanup");

    fn defaults() -> CleanupKeys {
        CleanupKeys { grace: Some(Span(Duration::from_secs(2))) }
    }
}

pub fn run(args: &CleanupArgs, resolved: Resolved<CleanupKeys>, printer: &Printer) -> Result<ExitCode> {
    let grace = resolved.values.grace.map_or(Duration::ZERO, |span| span.0);
    let cleanup = sweep::run(Options { leases: args.leases, kill: args.kill, grace })?;
    printer.show(&cleanup)?;
    cleanup.result().iter().chain(&cleanup.hint()).for_each(|words| printer.note(words));
    Ok(cleanup.code().into())
}
