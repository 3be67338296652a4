//! `gsk nsight`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command as Program, ExitCode, Stdio};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{self, Span, as_text};
use crate::config::{Keys, Origin, Resolved};
use crate::container::engine::Engine;
use crate::container::gpu::Asked;
use crate::container::managed::{self, Stream, Which};
use crate::container::nsight::{self, Options, Tool};
use crate::container::plan::Plan;
use crate::container::show::{Action, Log, Report, Started, State};
use crate::container::{block_on, start};
use crate::error::{Error, Result};
use crate::exit::Code;
use crate::output::{Format, Printer};

const STREAM: Stream = Stream::Nsight;

/// What `gsk nsight` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct NsightArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Start it, and say where to look: page, password, tunnel, reports
    ///
    /// Created afresh each time, for the vendor's image cannot be started twice; where it runs, that is said. Where it does not
    /// come to a page that answers, nothing of it is left, and the end of its log is shown.
    Start(Box<StartArgs>),
    /// Stop and remove it; other programs' containers are left alone
    Stop(WhichArgs),
    /// What runs, since when, and how it does: state, ports, page, reports, image, GPU
    ///
    /// Exit code 1 where one has ended or does not answer.
    Status(StatusArgs),
    /// What it has written
    Logs(LogsArgs),
    /// Open the page in this machine's browser, or one report in it
    Open(Box<OpenArgs>),
}

#[derive(clap::Args, Clone, Debug)]
struct StartArgs {
    #[command(flatten)]
    keys: NsightKeys,

    #[command(flatten)]
    name: Name,

    /// Open this report
    #[arg(long, value_name = "REPORT")]
    open: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug)]
struct OpenArgs {
    #[command(flatten)]
    keys: NsightKeys,

    #[command(flatten)]
    name: Name,

    /// The report to show; a viewer that shows another is started anew
    #[arg(value_name = "REPORT")]
    report: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug, Default)]
struct Name {
    /// Which one, where several are to run [default: nsys or ncu]
    #[arg(long, value_name = "NAME", value_parser = value::instance_id)]
    name: Option<String>,
}

#[derive(clap::Args, Clone, Debug)]
struct WhichArgs {
    #[command(flatten)]
    name: Name,

    /// All of them
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

#[derive(clap::Args, Clone, Debug)]
struct StatusArgs {
    #[command(flatten)]
    name: Name,

    #[command(flatten)]
    watch: Watch,
}

/// How often a state is shown.
#[derive(clap::Args, Clone, Debug)]
pub struct Watch {
    /// Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = value::interval)]
    watch: Option<f64>,
}

#[derive(clap::Args, Clone, Debug)]
struct LogsArgs {
    #[command(flatten)]
    name: Name,

    #[command(flatten)]
    logs: Logs,
}

/// How much of a log is shown.
#[derive(clap::Args, Clone, Debug)]
pub struct Logs {
    /// The last so many lines, 0 to 1000000 [default: 200]
    #[arg(long, value_name = "N", default_value_t = 200, hide_default_value = true, value_parser = RangedU64ValueParser::<u32>::new().range(0..=1_000_000))]
    tail: u32,

    /// Go on with what it writes, until it ends or Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// The flags of `gsk nsight start` and `open`, and the keys below `nsight:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NsightKeys {
    /// Whose windows [default: nsys]
    #[arg(long, value_name = "TOOL", value_enum)]
    pub tool: Option<Tool>,

    /// Image, with its tag or without [default: nvcr.io/nvidia/devtools/nsight-streamer-nsys or -ncu]
    #[arg(long = "image", value_name = "IMAGE")]
    pub nsight_image: Option<String>,

    /// Tag of the image; as new as the tool that wrote the reports, or newer [default: 2026.4.1 for nsys, 2026.2.1 for ncu]
    #[arg(long = "tag", value_name = "TAG")]
    pub nsight_tag: Option<String>,

    /// Folder of the reports; the container can only read it [default: ./profiling_output]
    #[arg(long, value_name = "DIR")]
    pub reports: Option<PathBuf>,

    /// Port of the page [default: 8080]
    #[arg(long, value_name = "PORT", value_parser = RangedU64ValueParser::<u16>::new().range(1..))]
    pub port: Option<u16>,

    /// Port that the pictures come by (TURN over TCP); the same inside the container and out [default: 3478]
    #[arg(long, value_name = "PORT", value_parser = RangedU64ValueParser::<u16>::new().range(1..))]
    pub turn_port: Option<u16>,

    /// Address that both ports listen on; beyond loopback the password is what keeps others out [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<IpAddr>,

    /// Address that the browser finds the TURN port by [default: that of --bind; for 0.0.0.0 this machine's own]
    #[arg(long, value_name = "HOST", value_parser = value::name_or_address)]
    pub host_ip: Option<String>,

    /// Largest picture [default: 1920x1080]
    #[arg(long, value_name = "WxH", value_parser = resolution)]
    pub max_resolution: Option<String>,

    /// Keep the picture's size, whatever the browser window's
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_resize: Option<bool>,

    /// GPU of the container: auto, none, nvidia-smi's index, a UUID or a PCI address; without one the CPU draws [default: auto]
    #[arg(long, value_name = "auto|none|ID")]
    #[serde(with = "as_text")]
    pub gpu: Option<Asked>,

    /// User to log in as; '' for no login, on loopback only [default: gsk]
    #[arg(long, value_name = "NAME", value_parser = username)]
    pub username: Option<String>,

    /// File with the password, 8 to 128 of A-Z, a-z, 0-9 and -._~ [default: one made at random, printed once, and kept below
    /// $XDG_STATE_HOME/gsk]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Take image, ports, environment and volumes from the service 'nsight-streamer' of this file, where no flag says otherwise
    #[arg(long, value_name = "FILE")]
    pub docker_compose: Option<PathBuf>,

    /// Keys that take the place of the shipped profile's, such as environment, mounts, shm, ready or errors
    #[arg(long = "profile", value_name = "FILE")]
    pub nsight_profile: Option<PathBuf>,

    /// How long a start may take, once the image is here, such as 5m [default: 2m]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub timeout: Option<Span>,
}

impl Keys for NsightKeys {
    const SECTION: Option<&'static str> = Some("nsight");
    // What runs, what it sees, and who sees it.
    const GUARDED: &'static [&'static str] = &[
        "nsight_image",
        "nsight_tag",
        "nsight_profile",
        "docker_compose",
        "reports",
        "bind",
        "host_ip",
        "username",
        "password_file",
    ];

    fn defaults() -> NsightKeys {
        NsightKeys {
            tool: Some(Tool::default()),
            reports: Some(nsight::REPORTS.into()),
            port: Some(8080),
            turn_port: Some(3478),
            bind: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            max_resolution: Some("1920x1080".into()),
            no_resize: Some(false),
            gpu: Some(Asked::Auto),
            username: Some(nsight::USER.into()),
            timeout: Some(Span(Duration::from_secs(120))),
            ..NsightKeys::default()
        }
    }
}

/// A picture's size, each side 64 to 16384.
fn resolution(text: &str) -> Result<String> {
    let sides =
        text.split_once('x').map(|(width, height)| [width, height].map(|side| side.parse::<u32>().unwrap_or(0)));
    match sides.is_some_and(|sides| sides.iter().all(|side| (64..=16_384).contains(side))) {
        true => Ok(text.into()),
        false => Err(Error::usage(format!("'{text}' is not WxH")).hint("such as 1920x1080, each side 64 to 16384")),
    }
}

/// A name to log in as, or nothing.
fn username(text: &str) -> Result<String> {
    match text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        true => Ok(text.into()),
        false => Err(Error::usage(format!("'{text}' is not a user's name"))
            .hint("use up to 32 of A-Z, a-z, 0-9, '.', '_' and '-'; '' for no login")),
    }
}

impl NsightArgs {
    /// The flags that are keys too.
    pub fn keys(&self) -> NsightKeys {
        match &self.command {
            Command::Start(args) => args.keys.clone(),
            Command::Open(args) => args.keys.clone(),
            _ => NsightKeys::default(),
        }
    }
}

impl Name {
    fn which(&self) -> Which {
        self.name.clone().map_or(Which::Only, |name| Which::Named(vec![name]))
    }
}

pub fn run(args: &NsightArgs, resolved: Resolved<NsightKeys>, printer: &Printer) -> Result<ExitCode> {
    match &args.command {
        Command::Start(args) => {
            let options = options(resolved, &args.name, args.open.clone());
            Ok(block_on(begin(&options, printer))?.code().into())
        }
        Command::Open(args) => {
            let tool = (*resolved.origin("tool") != Origin::Default).then(|| resolved.values.tool.unwrap_or_default());
            let name = args.name.name.clone().or(tool.map(|tool| tool.word().into()));
            let which = name.map_or(Which::Only, |name| Which::Named(vec![name]));
            open(&which, options(resolved, &args.name, args.report.clone()), printer)
        }
        Command::Stop(args) => stop(args, printer),
        Command::Status(args) => {
            let which = args.name.name.clone().map_or(Which::All, |name| Which::Named(vec![name]));
            status(STREAM, &which, &args.watch, printer)
        }
        Command::Logs(args) => logs(STREAM, &args.name.which(), &args.logs, printer),
    }
}

/// What was asked for; what nobody asked for is left to the Compose file and the profile.
fn options(resolved: Resolved<NsightKeys>, name: &Name, open: Option<PathBuf>) -> Options {
    fn asked<T>(resolved: &Resolved<NsightKeys>, key: &str, value: Option<T>) -> Option<T> {
        value.filter(|_| *resolved.origin(key) != Origin::Default)
    }
    let keys = resolved.values.clone();
    Options {
        tool: keys.tool.unwrap_or_default(),
        name: name.name.clone(),
        image: keys.nsight_image,
        tag: keys.nsight_tag,
        profile: keys.nsight_profile,
        compose: keys.docker_compose,
        reports: asked(&resolved, "reports", keys.reports),
        open,
        port: asked(&resolved, "port", keys.port),
        turn_port: asked(&resolved, "turn_port", keys.turn_port),
        bind: asked(&resolved, "bind", keys.bind),
        host_ip: keys.host_ip,
        max_resolution: asked(&resolved, "max_resolution", keys.max_resolution),
        resize: asked(&resolved, "no_resize", keys.no_resize.map(|fixed| !fixed)),
        gpu: keys.gpu.unwrap_or_default(),
        username: asked(&resolved, "username", keys.username),
        password_file: keys.password_file,
        timeout: asked(&resolved, "timeout", keys.timeout.map(|span| span.0)),
    }
}

/// Starts it and says where to look.
async fn begin(options: &Options, printer: &Printer) -> Result<Report> {
    let (plan, words) = nsight::plan(options)?;
    words.iter().for_each(|words| printer.warn(words));
    let engine = Engine::find().await?;
    if !engine.local() {
        printer.warn(&format!("the engine at {} is another machine: --reports is a folder there", engine.seen.address));
    }
    let change = start::start(&engine, &plan, printer).await?;
    let mut report = managed::report(&engine, STREAM, &Which::Named(vec![plan.name.clone()])).await?;
    if change.action == Action::Kept {
        printer.note(&format!("{}: {}", change.container, change.why));
        if let Some(words) = other_password(options, &plan, &report) {
            printer.warn(&words);
        }
    } else if let Some(login) = report.streams.first_mut().and_then(|seen| seen.login.as_mut()) {
        login.password = nsight::password(&plan);
    }
    report.changes.push(change);
    let started = Started(report);
    printer.show(&started)?;
    nsight::advice(&engine, plan.bind).iter().for_each(|words| printer.note(words));
    Ok(started.0)
}

/// That what runs already asks for another password than that of the file which was named.
fn other_password(options: &Options, plan: &Plan, report: &Report) -> Option<String> {
    options.password_file.as_ref()?;
    let wanted = &plan.login.as_ref()?.file;
    let has = report.streams.first()?.login.as_ref()?.file.as_ref()?;
    (has != wanted).then(|| {
        let (name, has, wanted) = (plan.container(), has.display(), wanted.display());
        format!("{name} asks for the password in {has}, not for that in {wanted}\nto have this: gsk nsight stop, then gsk nsight start")
    })
}

/// What opens a page on a desktop, by freedesktop.org.
const OPENER: &str = "xdg-open";

fn open(which: &Which, options: Options, printer: &Printer) -> Result<ExitCode> {
    let report = match &options.open {
        Some(_) => block_on(begin(&options, printer))?,
        None => {
            let report = block_on(async { managed::report(&Engine::find().await?, STREAM, which).await })?;
            printer.show(&Started(report.clone()))?;
            report
        }
    };
    let ready = report.streams.iter().find(|seen| seen.state == State::Ready);
    let Some(page) = ready.and_then(|seen| seen.page.as_deref()) else {
        return Err(Error::failed("there is no page to open").cause("no viewer is ready").hint("gsk nsight start"));
    };
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        printer.note(&format!("no display here: open {page} yourself"));
        return Ok(Code::Good.into());
    }
    let quiet =
        |program: &mut Program| program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match quiet(Program::new(OPENER).arg(page)) {
        Ok(status) if status.success() => {}
        _ => printer.note(&format!("{OPENER} did not open it: open {page} yourself")),
    }
    Ok(Code::Good.into())
}

fn stop(args: &WhichArgs, printer: &Printer) -> Result<ExitCode> {
    let which = if args.all { Which::All } else { args.name.which() };
    let report = block_on(async { managed::stop(&Engine::find().await?, STREAM, &which).await })?;
    if report.changes.is_empty() {
        printer.note("nothing to stop");
    }
    printer.show(&report)?;
    Ok(Code::Good.into())
}

/// Shows how streams do, once or again and again.
pub fn status(stream: Stream, which: &Which, args: &Watch, printer: &Printer) -> Result<ExitCode> {
    block_on(async {
        let engine = Engine::find().await?;
        let Some(seconds) = args.watch else {
            let report = managed::report(&engine, stream, which).await?;
            printer.show(&report)?;
            return Ok(report.code().into());
        };
        let mut looks = tokio::time::interval(Duration::from_secs_f64(seconds));
        loop {
            looks.tick().await;
            printer.show_again(&managed::report(&engine, stream, which).await?)?;
        }
    })
}

/// Prints what a stream has written.
pub fn logs(stream: Stream, which: &Which, args: &Logs, printer: &Printer) -> Result<ExitCode> {
    let document = printer.format() != Format::Table;
    let mut lines = Vec::new();
    let line = |line: managed::Line| match (document, args.follow) {
        (false, _) => printer.line(&line.text),
        (true, true) => printer.show_again(&Log { stream, lines: vec![line] }),
        (true, false) => {
            lines.push(line);
            Ok(())
        }
    };
    block_on(async { managed::logs(&Engine::find().await?, stream, which, args.tail, args.follow, line).await })?;
    if document && !args.follow {
        printer.show(&Log { stream, lines })?;
    }
    Ok(Code::Good.into())
}
