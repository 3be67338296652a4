//! `gsk verify-gl`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::value::{Span, as_text};
use crate::config::{Keys, Resolved};
use crate::doctor::bundle;
use crate::doctor::verify::{self, Id, Options};
use crate::error::{Error, Result};
use crate::exit::Code;
use crate::gpu;
use crate::output::Printer;

/// What `gsk verify-gl` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyGlArgs {
    #[command(flatten)]
    pub keys: VerifyGlKeys,

    /// Make only these checks, and those that they need
    #[arg(long, value_name = "ID", value_enum, value_delimiter = ',', hide_possible_values = true)]
    pub only: Vec<Id>,

    /// Leave these checks out, and with them those that need them
    #[arg(long, value_name = "ID", value_enum, value_delimiter = ',')]
    pub skip: Vec<Id>,

    /// Print, for a shell, the variables by which other programs choose the same GPU, and nothing else
    #[arg(long, conflicts_with_all = ["only", "skip"])]
    pub exports: bool,

    /// Write what a bug report needs to a new file, a .tar.gz: this answer, nvenc-status, settings, versions, environment and device files
    ///
    /// User and host names, home folders, network addresses and tokens are taken out, and UUIDs are numbered. The file is
    /// for its owner alone, and replaces none. Nothing is sent anywhere.
    #[arg(long, value_name = "FILE", conflicts_with = "exports")]
    pub bundle: Option<PathBuf>,
}

/// The flags of `gsk verify-gl`, and the keys below `verify-gl:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerifyGlKeys {
    /// The GPU, by nvidia-smi's index, by UUID or by PCI address [default: CUDA's first]
    #[arg(long, value_name = "INDEX|UUID|PCI")]
    #[serde(with = "as_text")]
    pub gpu: Option<gpu::Choice>,

    /// How long the driver may take to initialise, each other step a fifth of it, such as 30s, 1s at least [default: 15s]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub timeout: Option<Span>,

    /// Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]
    #[arg(long = "slots", value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024))]
    pub nvenc_max_sessions: Option<u32>,
}

impl Keys for VerifyGlKeys {
    const SECTION: Option<&'static str> = Some("verify-gl");

    fn defaults() -> VerifyGlKeys {
        VerifyGlKeys { gpu: None, timeout: Some(Span(Duration::from_secs(15))), nvenc_max_sessions: None }
    }
}

/// The shortest `--timeout`: a fifth of it is enough for a process to start, and for each call of a driver that is up.
const SHORTEST: Duration = Duration::from_secs(1);

/// `settings`: those of every command, for a bundle.
pub fn run(
    args: &VerifyGlArgs,
    resolved: Resolved<VerifyGlKeys>,
    settings: impl FnOnce() -> Result<Value>,
    printer: &Printer,
) -> Result<ExitCode> {
    let timeout = resolved.values.timeout.map_or(Duration::ZERO, |span| span.0);
    if timeout < SHORTEST {
        let [least, given] = [SHORTEST, timeout].map(humantime::format_duration);
        return Err(Error::usage(format!("{}: {given} is too short", resolved.origin("timeout")))
            .cause(format!("a driver that works would seem to hang; the least is {least}")));
    }
    let keys = resolved.values;
    args.bundle.as_deref().map(bundle::check).transpose()?;
    let report = verify::run(&Options {
        gpu: keys.gpu,
        timeout,
        slots: keys.nvenc_max_sessions,
        only: if args.exports { vec![Id::EglCuda] } else { args.only.clone() },
        skip: args.skip.clone(),
    })?;
    if !args.exports || printer.format().is_json() {
        printer.show(&report)?;
        if let Some(path) = &args.bundle {
            let written = bundle::write(path, &report, settings()?, keys.nvenc_max_sessions)?;
            let (path, files, kib) = (path.display(), written.files.join(", "), written.bytes.div_ceil(1024));
            printer.note(&format!(
                "wrote {path}, {kib} KiB: {files}\nwithout names, addresses and tokens; look before you send it: tar -xzOf {path} | less"
            ));
        }
        return Ok(report.code().into());
    }
    let Some(exports) = &report.exports else {
        return Err(Error::missing("there is no GPU to choose").hint("gsk verify-gl"));
    };
    exports.lines().iter().try_for_each(|line| printer.line(line))?;
    if !exports.0.contains_key("MUJOCO_EGL_DEVICE_ID") {
        printer.warn("EGL does not have this GPU: see why by gsk verify-gl");
        return Ok(Code::Bad.into());
    }
    Ok(Code::Good.into())
}
