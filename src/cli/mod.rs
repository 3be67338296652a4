//! The command line: each command is parsed, called and printed, and has no logic of its own.

mod bench;
mod cleanup;
mod generate;
mod isaac;
mod lease;
mod nsight;
mod nvenc_status;
pub(crate) mod serve;
mod train_nvtx;
pub mod value;
mod verify_gl;
mod view;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{self, Keys, Known, Layers, Report, Resolved};
use crate::error::{Error, Kind, Result};
use crate::exit::{self, Code};
use crate::output::{self, Color, Format, Printer, log};

/// Any GPU worker's pixels in any browser
#[derive(Parser, Debug)]
#[command(name = "gsk", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    globals: Globals,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Stream a source to browsers: captured and encoded once, watched by many
    Serve(Box<serve::ServeArgs>),
    /// The machine's encoder slots, for programs that are not gsk
    Lease(lease::LeaseArgs),
    /// Who holds the encoder sessions, how many there are, and what each worker does and why
    ///
    /// Exit code 1 where a worker is in error, a slot is held on after its owner's death, or there are more sessions than
    /// the limit; else 5 where the driver or the slots do not answer in time, 4 where they may not be asked, 3 without
    /// a driver or a GPU. Whatever is known is printed all the same. A worker that cannot be reached is a row, and no failure.
    NvencStatus(nvenc_status::NvencStatusArgs),
    /// What dead owners left of encoder slots: says what it is and, where asked to, cleans it up
    ///
    /// Without flags it prints a plan and touches nothing. A process is ended only if it has the lock of a slot whose
    /// recorded owner is dead, in our own pid namespace; other programs' sessions are listed and left alone. Exit code 1
    /// where something is left to do, 4 where what was asked for is not ours to do: permission, or another pid namespace.
    Cleanup(cleanup::CleanupArgs),
    /// Proves that OpenGL's pixels reach CUDA on this host, byte for byte, or says which step fails and what to do
    ///
    /// What may crash or hang runs in processes of its own. Exit code 0 where all works that this host can do, 1 where
    /// something that should work fails, 3 without an NVIDIA GPU: what Mesa can do is checked and shown all the same.
    VerifyGl(verify_gl::VerifyGlArgs),
    /// Watch a worker without a browser, and measure what arrives: rates, gaps, latency, joins
    ///
    /// Exit code 1 where nothing came, units are missing or cannot be decoded, or it ended before what was asked for; 4
    /// where the worker wants its token, 5 where it cannot be reached or its connection breaks off, 6 where it has no
    /// encoder slot or no room.
    View(view::ViewArgs),
    /// Where every millisecond goes, from capture to a viewer's hands, and a gate for CI
    ///
    /// Drives the same objects as `gsk serve`. Exit code 1 where a rule of --fail-on is broken, a target is missed under
    /// --budget, or a case fails; 2 where a rule has nothing to judge; 3 where this host can do nothing of what was asked.
    Bench(Box<bench::BenchArgs>),
    /// Profile a training program with nsys and NVTX ranges, or a built-in training run, and sum up its ranges
    ///
    /// Without nsys the program runs all the same, and of the built-in run gsk collects the ranges itself, as a trace that
    /// Perfetto and chrome://tracing open. Nothing is ever overwritten but with --force. Ctrl-C goes to the program first, so
    /// that the report is still written; a second one ends all. The program's exit code is handed on, also where its report
    /// is missing; its standard output goes to standard error where a document is printed.
    TrainNvtx(Box<train_nvtx::TrainNvtxArgs>),
    /// Nsight Streamer: the windows of Nsight Systems or Nsight Compute in a browser, over a folder of reports
    ///
    /// NVIDIA's container, through Docker's or Podman's own interface, found by DOCKER_HOST, the current Docker context, or in
    /// the usual places. Whoever may ask that engine can read the password there. Exit code 1 where the container ends or has
    /// ended, 3 without an engine, 4 where it may not be asked, 5 where an image cannot be pulled or the page is not ready in
    /// time, 6 where a port is taken or the disk is full.
    Nsight(nsight::NsightArgs),
    /// Isaac Sim: headless instances that stream, each with its ports, its GPU and its caches
    ///
    /// NVIDIA's container, as `gsk nsight` finds its engine. The version decides how it is started: ports, user, command and
    /// caches. Exit code 1 where an instance ends or has ended, 3 without an engine or a GPU that it can use, 4 where the
    /// engine may not be asked or a folder not be given away, 5 where an image cannot be pulled or an instance is not ready in
    /// time, 6 where a port is taken, or memory or the disk is full.
    Isaac(isaac::IsaacArgs),
}

/// What was asked for.
enum Task {
    Public(Command),
    Generate(generate::GenerateArgs),
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
struct Globals {
    #[command(flatten)]
    shared: Shared,

    /// Short for --format json
    #[arg(long, global = true, conflicts_with = "format")]
    json: bool,

    /// Short for --format csv
    #[arg(long, global = true, conflicts_with_all = ["format", "json"])]
    csv: bool,

    /// Say only what failed
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Settings file to read in place of ./gsk.yaml; it is trusted with programs and addresses
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print every setting and where it came from, and end
    #[arg(long, global = true)]
    print_config: bool,
}

/// Settings of every command, and the keys of a file's top level.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
struct Shared {
    /// How to print data [default: table]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    format: Option<Format>,

    /// When to colour; NO_COLOR is heeded [default: auto]
    #[arg(long, global = true, value_name = "WHEN", value_enum)]
    color: Option<Color>,
}

impl Keys for Shared {
    const SECTION: Option<&'static str> = None;

    fn defaults() -> Shared {
        Shared { format: Some(Format::default()), color: Some(Color::default()) }
    }
}

/// How settings are found, as `--help` and the man pages show it.
const SETTINGS: &str = "\
Settings, the first that is found:
  1. a flag
  2. an environment variable: --max-viewers is GSK_MAX_VIEWERS
  3. the file of --config, else ./gsk.yaml: max_viewers below 'serve:'
  4. $XDG_CONFIG_HOME/gsk/gsk.yaml, else ~/.config/gsk/gsk.yaml
  5. the default
GSK_TOKEN holds the access token, GSK_LOG a filter for the log, such as debug.";

/// The definition of the command line, which help, completions and man pages are made from.
fn command() -> clap::Command {
    let after = format!("{SETTINGS}\n\n{}", exit::TABLE);
    Cli::command()
        .after_help(exit::TABLE)
        .after_long_help(after.clone())
        .mut_subcommands(|c| c.after_long_help(after.clone()).mut_subcommands(|c| c.after_long_help(after.clone())))
}

/// Every setting that a file or variable may set.
fn known() -> Result<Known> {
    Known::default()
        .with::<Shared>()?
        .with::<serve::ServeArgs>()?
        .with::<lease::RunKeys>()?
        .with::<nvenc_status::NvencStatusKeys>()?
        .with::<cleanup::CleanupKeys>()?
        .with::<verify_gl::VerifyGlKeys>()?
        .with::<view::ViewKeys>()?
        .with::<bench::BenchKeys>()?
        .with::<train_nvtx::TrainNvtxKeys>()?
        .with::<nsight::NsightKeys>()?
        .with::<isaac::IsaacKeys>()
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    if let Some(code) = crate::doctor::verify::probe::if_asked() {
        return code;
    }
    if let Some(code) = crate::container::keeper::if_asked() {
        return code;
    }
    guarded(|| crate::profile::training::if_asked().unwrap_or_else(|| start(std::env::args_os().collect())))
}

/// Turns a panic, whose message is out by then, into the exit code of a bug.
fn guarded(run: impl FnOnce() -> ExitCode + std::panic::UnwindSafe) -> ExitCode {
    std::panic::catch_unwind(run).unwrap_or_else(|_| {
        let plain = Printer::new(Format::Table, Color::Auto, false);
        plain.error(&Error::bug("gsk ended by a fault of its own").hint("please report the lines above"));
        Code::Bug.into()
    })
}

fn start(words: Vec<OsString>) -> ExitCode {
    let color = early_color(&words);
    let definition = command().subcommand(generate::definition()).long_version(long_version()).color(match color {
        Color::Auto => clap::ColorChoice::Auto,
        Color::Always => clap::ColorChoice::Always,
        Color::Never => clap::ColorChoice::Never,
    });
    let parsed = definition.try_get_matches_from(&words).and_then(|matches| {
        if let Some((generate::NAME, own)) = matches.subcommand() {
            let task = Task::Generate(generate::GenerateArgs::from_arg_matches(own)?);
            return Ok((Globals::from_arg_matches(&matches)?, task));
        }
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli.globals, Task::Public(cli.command)))
    });
    let (globals, task) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refused(error, color),
    };
    let mut printer = Printer::new(globals.format().unwrap_or_default(), color, globals.quiet);
    run(&globals, &task, &mut printer).unwrap_or_else(|error| {
        printer.error(&error);
        error.kind.code().into()
    })
}

impl Globals {
    fn format(&self) -> Option<Format> {
        match self {
            Globals { json: true, .. } => Some(Format::Json),
            Globals { csv: true, .. } => Some(Format::Csv),
            _ => self.shared.format,
        }
    }
}

/// `printer` is replaced by the one that the settings ask for as soon as they are known.
fn run(globals: &Globals, task: &Task, printer: &mut Printer) -> Result<ExitCode> {
    let layers = Layers::load(globals.config.as_deref(), known()?)?;
    let flags = Shared { format: globals.format(), ..globals.shared.clone() };
    let shared = config::resolve(&flags, &layers)?;
    let color = shared.values.color.unwrap_or_default();
    *printer = Printer::new(shared.values.format.unwrap_or_default(), color, globals.quiet);
    layers.slips().iter().for_each(|slip| printer.warn(slip));
    log::init(globals.quiet, globals.verbose, layers.variable("GSK_LOG")?, color)?;

    match task {
        Task::Public(Command::Serve(args)) => {
            let resolved = config::resolve(&**args, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => serve::run(resolved, printer),
            }
        }
        Task::Public(Command::Lease(lease::LeaseArgs { command: lease::Command::Run(args) })) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => lease::run(&args.command, resolved, printer),
            }
        }
        Task::Public(Command::NvencStatus(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => nvenc_status::run(args, resolved, printer),
            }
        }
        Task::Public(Command::Cleanup(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => cleanup::run(args, resolved, printer),
            }
        }
        Task::Public(Command::VerifyGl(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => verify_gl::run(args, resolved, || all_settings(&shared, &layers), printer),
            }
        }
        Task::Public(Command::View(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => view::run(args, resolved, printer),
            }
        }
        Task::Public(Command::Bench(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => bench::run(args, resolved, printer),
            }
        }
        Task::Public(Command::TrainNvtx(args)) => {
            let resolved = config::resolve(&args.keys, &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => train_nvtx::run(args, resolved, printer),
            }
        }
        Task::Public(Command::Nsight(args)) => {
            let resolved = config::resolve(&args.keys(), &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => nsight::run(args, resolved, printer),
            }
        }
        Task::Public(Command::Isaac(args)) => {
            let resolved = config::resolve(&args.keys(), &layers)?;
            match globals.print_config {
                true => print_config(&shared, Some(&resolved), printer),
                false => isaac::run(args, resolved, printer),
            }
        }
        Task::Generate(_) if globals.print_config => print_config::<Shared>(&shared, None, printer),
        Task::Generate(args) => generate::run(args),
    }
}

fn print_config<T: Keys>(shared: &Resolved<Shared>, own: Option<&Resolved<T>>, printer: &Printer) -> Result<ExitCode> {
    let mut report = Report::new(own.and(T::SECTION));
    report.extend(shared.settings());
    own.iter().for_each(|own| report.extend(own.settings()));
    printer.show(&report)?;
    Ok(Code::Good.into())
}

/// What `--print-config` shows of every command without flags.
fn all_settings(shared: &Resolved<Shared>, layers: &Layers) -> Result<Value> {
    fn of<T: Keys>(shared: &Resolved<Shared>, layers: &Layers) -> Result<Value> {
        let mut report = Report::new(T::SECTION);
        report.extend(shared.settings());
        match config::resolve(&T::default(), layers) {
            Ok(own) => report.extend(own.settings()),
            // What is wrong there does not concern this command, and may be what the bundle is for.
            Err(error) => return Ok(serde_json::json!({ "command": T::SECTION, "error": error })),
        }
        output::document(&report)
    }
    Ok(Value::Array(vec![
        of::<serve::ServeArgs>(shared, layers)?,
        of::<lease::RunKeys>(shared, layers)?,
        of::<nvenc_status::NvencStatusKeys>(shared, layers)?,
        of::<cleanup::CleanupKeys>(shared, layers)?,
        of::<verify_gl::VerifyGlKeys>(shared, layers)?,
        of::<view::ViewKeys>(shared, layers)?,
        of::<bench::BenchKeys>(shared, layers)?,
        of::<train_nvtx::TrainNvtxKeys>(shared, layers)?,
        of::<nsight::NsightKeys>(shared, layers)?,
        of::<isaac::IsaacKeys>(shared, layers)?,
    ]))
}

/// Prints help, the version, or what is wrong with the words. A value's refusal is told in our own form, with its hint.
fn refused(error: clap::Error, color: Color) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if let (ErrorKind::ValueValidation, Some(ContextValue::String(flag))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let refusal = config::refusal(&error);
        let told =
            Error { hint: refusal.hint.clone(), ..Error::usage(format!("wrong value for {flag}")).cause(&refusal) };
        Printer::new(Format::Table, color, false).error(&told);
        return Kind::Usage.code().into();
    }
    // Printing fails where the stream is closed: then nobody reads it.
    let _ = error.print();
    if error.exit_code() == 0 { Code::Good.into() } else { Code::Usage.into() }
}

/// The colour for what is printed before the settings are known.
fn early_color(words: &[OsString]) -> Color {
    let ours = words.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    let ours: Vec<&str> = ours.collect();
    let flag = ours.iter().enumerate().find_map(|(i, word)| match word.strip_prefix("--color")? {
        "" => ours.get(i + 1).copied(),
        value => value.strip_prefix('='),
    });
    let variable = std::env::var("GSK_COLOR").ok();
    let choice = flag.or(variable.as_deref()).and_then(|text| clap::ValueEnum::from_str(text, false).ok());
    choice.unwrap_or_default()
}

fn long_version() -> String {
    let simd = match env!("GSK_SIMD") {
        "none" => "OpenH264 and JPEG: without SIMD, nasm was missing when gsk was built",
        _ => "OpenH264 and JPEG: with SIMD",
    };
    format!("{}\n{simd}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().subcommand(generate::definition()).debug_assert();
    }

    #[test]
    fn a_panic_is_a_bug() {
        let code = guarded(|| panic!("on purpose"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(Code::Bug)));
    }

    #[test]
    fn the_color_is_known_before_the_rest() {
        let early = |words: &[&str]| early_color(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(early(&["gsk", "--color", "never", "x"]), Color::Never);
        assert_eq!(early(&["gsk", "--color=always"]), Color::Always);
        assert_eq!(early(&["gsk", "serve", "--", "--color=always"]), Color::Auto);
        assert_eq!(early(&["gsk", "--color"]), Color::Auto);
    }
}
