//! `gsk isaac`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::nsight::{Logs, Watch, logs, status};
use super::value::{self, Span, as_text};
use crate::config::{Keys, Origin, Resolved};
use crate::container::engine::Engine;
use crate::container::gpu::Asked;
use crate::container::isaac::{self, Options};
use crate::container::managed::{self, Stream, Which};
use crate::container::plan::Plan;
use crate::container::profile::Bytes;
use crate::container::show::{Action, Change, Report, Started};
use crate::container::{block_on, start};
use crate::error::{Error, Result};
use crate::exit::Code;
use crate::output::Printer;

const STREAM: Stream = Stream::Isaac;

/// What `gsk isaac` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct IsaacArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Start instances, one after the other, each waited for until it can be watched
    ///
    /// One that runs with the same settings is left; with others it is created anew. One that does not come up is removed, and
    /// the end of its log is shown, with what its errors are known to mean.
    Start(Box<StartArgs>),
    /// Stop and remove instances; their caches stay
    Stop(StopArgs),
    /// Stop instances and start them again, the others left alone
    ///
    /// They get the settings that are given now, by flags, environment and gsk.yaml: those of their start are not kept. Where these
    /// are others, that is said.
    #[command(mut_arg("instances", |flag| flag.hide(true)))]
    Restart(Box<StartArgs>),
    /// What runs, since when, and how it does
    ///
    /// Exit code 1 where one has ended or does not answer.
    Status(StatusArgs),
    /// What an instance has written
    Logs(LogsArgs),
    /// List instances that have ended, and with --remove remove them
    Cleanup(CleanupArgs),
}

#[derive(clap::Args, Clone, Debug)]
struct StartArgs {
    /// Which, from 0 on [default: for start the first --instances, for restart all that there are]
    #[arg(value_name = "INSTANCE", conflicts_with = "instances")]
    which: Vec<u16>,

    #[command(flatten)]
    keys: IsaacKeys,
}

#[derive(clap::Args, Clone, Debug)]
struct StopArgs {
    /// Which, from 0 on [default: the only one]
    #[arg(value_name = "INSTANCE")]
    which: Vec<u16>,

    /// All of them
    #[arg(long, conflicts_with = "which")]
    all: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct StatusArgs {
    /// Which, from 0 on [default: all]
    #[arg(value_name = "INSTANCE")]
    which: Vec<u16>,

    #[command(flatten)]
    watch: Watch,
}

#[derive(clap::Args, Clone, Debug)]
struct LogsArgs {
    /// Which, from 0 on [default: the only one]
    #[arg(value_name = "INSTANCE")]
    which: Option<u16>,

    #[command(flatten)]
    logs: Logs,
}

#[derive(clap::Args, Clone, Debug)]
struct CleanupArgs {
    /// Remove what is listed
    #[arg(long)]
    remove: bool,
}

/// The flags of `gsk isaac start` and `restart`, and the keys below `isaac:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IsaacKeys {
    /// As many instances, 1 to 64; versions 4.5 to 5.1 bear one [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u16>::new().range(1..=64))]
    pub instances: Option<u16>,

    /// You accept NVIDIA's licence of Isaac Sim; without, nothing is started
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub accept_eula: Option<bool>,

    /// You let Isaac Sim send NVIDIA data on its use [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub privacy_consent: Option<bool>,

    /// Image, with its tag or without [default: nvcr.io/nvidia/isaac-sim]
    #[arg(long = "image", value_name = "IMAGE")]
    pub isaac_image: Option<String>,

    /// Tag of the image: the version, which decides how it is started [default: 6.0.0]
    #[arg(long = "tag", value_name = "TAG")]
    pub isaac_tag: Option<String>,

    /// Folder of caches, settings and logs, by version and instance [default: gsk/isaac below $XDG_DATA_HOME]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// GPU: auto, nvidia-smi's index, a UUID or a PCI address; of several, instances take one each in turn [default: auto]
    #[arg(long, value_name = "auto|ID", value_delimiter = ',', value_parser = gpu)]
    pub gpu: Option<Vec<String>>,

    /// The most memory that an instance may have, such as 32G [default: no limit]
    #[arg(long, value_name = "SIZE")]
    #[serde(with = "as_text")]
    pub memory_limit: Option<Bytes>,

    /// Memory that an instance is taken to need: one for which it is not there is not started [default: 8G]
    #[arg(long, value_name = "SIZE")]
    #[serde(with = "as_text")]
    pub memory_each: Option<Bytes>,

    /// The same of a GPU's memory, where NVML tells what is free [default: 8G]
    #[arg(long, value_name = "SIZE")]
    #[serde(with = "as_text")]
    pub gpu_memory_each: Option<Bytes>,

    /// Address that the viewer finds the stream at [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", value_parser = value::name_or_address)]
    pub host_ip: Option<String>,

    /// Keys that take the place of the shipped profile's, such as command, environment, ports, ready or errors
    #[arg(long = "profile", value_name = "FILE")]
    pub isaac_profile: Option<PathBuf>,

    /// How long the start of an instance may take, once the image is here; the first compiles shaders [default: 20m]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub timeout: Option<Span>,
}

impl Keys for IsaacKeys {
    const SECTION: Option<&'static str> = Some("isaac");
    // What runs, what it sees, and what its user has agreed to.
    const GUARDED: &'static [&'static str] =
        &["isaac_image", "isaac_tag", "isaac_profile", "data", "accept_eula", "privacy_consent", "host_ip"];

    fn defaults() -> IsaacKeys {
        IsaacKeys {
            instances: Some(1),
            accept_eula: Some(false),
            privacy_consent: Some(false),
            gpu: Some(vec!["auto".into()]),
            memory_each: Some(Bytes(8 << 30)),
            gpu_memory_each: Some(Bytes(8 << 30)),
            host_ip: Some("127.0.0.1".into()),
            timeout: Some(Span(Duration::from_secs(1200))),
            ..IsaacKeys::default()
        }
    }
}

fn gpu(text: &str) -> Result<String> {
    text.parse::<Asked>().map(|_| text.into())
}

impl IsaacArgs {
    /// The flags that are keys too.
    pub fn keys(&self) -> IsaacKeys {
        match &self.command {
            Command::Start(args) | Command::Restart(args) => args.keys.clone(),
            _ => IsaacKeys::default(),
        }
    }
}

/// Instances by their numbers, or what is meant where none is given.
fn named(which: &[u16], none: Which) -> Which {
    if which.is_empty() { none } else { Which::Named(which.iter().map(u16::to_string).collect()) }
}

pub fn run(args: &IsaacArgs, resolved: Resolved<IsaacKeys>, printer: &Printer) -> Result<ExitCode> {
    match &args.command {
        Command::Start(args) => {
            let count = resolved.values.instances.unwrap_or(1);
            let which = if args.which.is_empty() { (0..count).collect() } else { args.which.clone() };
            block_on(begin(&options(resolved, which)?, printer))
        }
        Command::Restart(args) => block_on(restart(args, resolved, printer)),
        Command::Stop(args) => stop(args, printer),
        Command::Status(args) => status(STREAM, &named(&args.which, Which::All), &args.watch, printer),
        Command::Logs(args) => logs(STREAM, &named(args.which.as_slice(), Which::Only), &args.logs, printer),
        Command::Cleanup(args) => cleanup(args, printer),
    }
}

fn options(resolved: Resolved<IsaacKeys>, instances: Vec<u16>) -> Result<Options> {
    let asked = |key: &str| *resolved.origin(key) != Origin::Default;
    let (memory, gpu_memory, timeout) = (asked("memory_each"), asked("gpu_memory_each"), asked("timeout"));
    let keys = resolved.values;
    let gpus: Result<Vec<Asked>> = keys.gpu.unwrap_or_default().iter().map(|text| text.parse()).collect();
    Ok(Options {
        image: keys.isaac_image,
        tag: keys.isaac_tag,
        profile: keys.isaac_profile,
        instances,
        accept_eula: keys.accept_eula == Some(true),
        privacy_consent: keys.privacy_consent == Some(true),
        data: keys.data.map_or_else(data, |dir| std::path::absolute(&dir).map_err(|e| Error::io("--data", e)))?,
        gpus: gpus?,
        memory_limit: keys.memory_limit,
        memory_each: keys.memory_each.filter(|_| memory),
        gpu_memory_each: keys.gpu_memory_each.filter(|_| gpu_memory),
        host_ip: keys.host_ip,
        timeout: keys.timeout.filter(|_| timeout).map(|span| span.0),
    })
}

/// `$XDG_DATA_HOME/gsk/isaac`, or `~/.local/share/gsk/isaac`.
fn data() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    base.map(|base| base.join("gsk/isaac"))
        .ok_or_else(|| Error::usage("there is no folder for Isaac Sim's caches").hint("name one: --data DIR"))
}

/// Starts what was asked for, one after the other, so that each finds the memory that the ones before have left.
async fn begin(options: &Options, printer: &Printer) -> Result<ExitCode> {
    let plans = isaac::plans(options)?;
    let engine = Engine::find().await?;
    let running = managed::running(&engine, STREAM).await?;
    let runs = |plan: &Plan| running.contains(&plan.name);
    let mut changes = Vec::new();
    for (at, plan) in plans.iter().enumerate() {
        let left = || plans[at..].iter().filter(|other| !runs(other));
        let beside = left().filter(|other| other.gpu == plan.gpu).count();
        let admitted = if runs(plan) { Ok(()) } else { isaac::admit(plan, left().count() as u64, beside as u64) };
        let started = match admitted {
            Ok(()) => start::start(&engine, plan, printer).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(change) => changes.push(change),
            Err(error) if changes.is_empty() => return Err(error),
            // Those before it run, and are told of.
            Err(error) => {
                told(&engine, &plans[..at], changes, Some(&error), printer).await?;
                return Err(error);
            }
        }
    }
    told(&engine, &plans, changes, None, printer).await
}

/// Says where to look.
async fn told(
    engine: &Engine,
    plans: &[Plan],
    changes: Vec<Change>,
    failed: Option<&Error>,
    printer: &Printer,
) -> Result<ExitCode> {
    let names = plans.iter().map(|plan| plan.name.clone()).collect();
    let mut report = managed::report(engine, STREAM, &Which::Named(names)).await?;
    report.errors.extend(failed.cloned());
    let code = report.code();
    for change in changes.iter().filter(|change| change.action != Action::Created) {
        printer.note(&format!("{}: {}", change.container, change.why));
    }
    printer.show(&Started(Report { changes, ..report }))?;
    for plan in plans {
        plan.advice()?.iter().for_each(|words| printer.note(&format!("{} {words}", plan.container())));
    }
    printer.warn("its ports are open on every address of this machine, without password or encryption: keep others out by a firewall");
    Ok(code.into())
}

async fn restart(args: &StartArgs, resolved: Resolved<IsaacKeys>, printer: &Printer) -> Result<ExitCode> {
    if args.keys.instances.is_some() {
        return Err(Error::usage("restart takes no --instances").cause("it restarts those that there are").hint(
            "gsk isaac restart, or those that are named: gsk isaac restart 0 1; more of them: gsk isaac start --instances N",
        ));
    }
    let engine = Engine::find().await?;
    let there = managed::names(&engine, STREAM).await?;
    let which: Vec<u16> = match args.which.as_slice() {
        [] => there.iter().filter_map(|name| name.parse().ok()).collect(),
        which => which.to_vec(),
    };
    if let Some(missing) = which.iter().find(|one| !there.contains(&one.to_string())) {
        return Err(Error::usage(format!("there is no instance {missing}"))
            .hint(format!("gsk isaac start {missing} --accept-eula")));
    }
    if which.is_empty() {
        return Err(Error::usage("there is no instance to restart").hint("gsk isaac start --accept-eula"));
    }
    let plans = isaac::plans(&options(resolved, which)?)?;
    let mut changes = Vec::new();
    for plan in &plans {
        changes.push(start::restart(&engine, plan, printer).await?);
    }
    told(&engine, &plans, changes, None, printer).await
}

fn stop(args: &StopArgs, printer: &Printer) -> Result<ExitCode> {
    let which = named(&args.which, if args.all { Which::All } else { Which::Only });
    let report = block_on(async { managed::stop(&Engine::find().await?, STREAM, &which).await })?;
    if report.changes.is_empty() {
        printer.note("nothing to stop");
    }
    printer.show(&report)?;
    Ok(Code::Good.into())
}

fn cleanup(args: &CleanupArgs, printer: &Printer) -> Result<ExitCode> {
    let report = block_on(async { managed::cleanup(&Engine::find().await?, STREAM, args.remove).await })?;
    printer.show(&report)?;
    match report.changes.iter().any(|change| !change.done) {
        true => {
            printer.note("this was the plan; to do it: gsk isaac cleanup --remove");
            Ok(Code::Bad.into())
        }
        false => Ok(Code::Good.into()),
    }
}
