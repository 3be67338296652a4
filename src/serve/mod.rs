//! One worker over the network: a pipeline behind HTTP.

mod connection;
mod gate;
mod http;
mod lane;
mod metrics;
mod page;
mod streams;
mod worker;
mod ws;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use self::gate::Gate;
use self::worker::{Plan, Worker};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::exit;
use crate::gpu;
use crate::output::{Format, Printer, Show, Table};
use crate::pipeline::encode::{self, Choice, Main, NvencOptions, Slots, WhenFull};
use crate::pipeline::frame::{PixelFormat, Size};
use crate::pipeline::rate::Quality;
use crate::pipeline::source::{self, End, Restart, Spec};
use crate::pipeline::{self, Health, Pipeline};
use crate::signals::Signals;

/// Whose input events reach the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Every viewer's.
    All,
    /// Nobody's: viewers only watch.
    None,
}

/// Where the access token comes from.
#[derive(Clone, Debug)]
pub enum Token {
    /// None was given: on loopback none is needed, elsewhere one is made at random.
    Unset,
    /// From `GSK_TOKEN`.
    Given(Secret),
    /// The file that holds it, not read yet.
    File(PathBuf),
}

/// What one worker is to do: every value settled and within its range.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub source: Spec,
    pub encoder: Choice,
    /// None where it was not given: the scene then takes 1280x720, and raw input lacks it.
    pub size: Option<Size>,
    /// Frames per second, 1 to 240.
    pub fps: f64,
    /// Bits per second, 100 000 to 200 000 000.
    pub bitrate: u32,
    /// The layout of raw frames; None where it was not given.
    pub pixel_format: Option<PixelFormat>,
    /// Whether a file starts again at its end.
    pub looped: bool,
    pub restart: Restart,
    /// 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'.
    pub instance_id: String,
    pub token: Token,
    /// Host names that are accepted beside our own, in lower case.
    pub allow_host: Vec<String>,
    /// Origins that are accepted beside our own, in lower case, such as `https://example.org`.
    pub allow_origin: Vec<String>,
    pub input: Input,
    /// 1 to 10 000.
    pub max_viewers: u32,
    pub jpeg_quality: Quality,
    /// Encoder sessions that this machine bears; None: as the support table says.
    pub slots: Option<u32>,
    pub when_full: WhenFull,
    /// The video that viewers get who ask for none.
    pub codec: Main,
    pub nvenc: NvencOptions,
    /// The GPU that draws the scene and encodes; None: the first that can.
    pub gpu: Option<gpu::Choice>,
}

/// How long viewers are given to read what waits for them and to hear why it ends, and a program to end.
const LAST_WORDS: Duration = Duration::from_millis(800);

/// How long NVML, and then CUDA, may take to come up where a GPU was chosen: 15 s is what a host of many GPUs takes whose
/// driver no program uses.
const DRIVER: Duration = Duration::from_secs(15);

/// Serves until the source ends or a signal comes.
pub fn run(settings: Settings, printer: &Printer) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("net")
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start threads", error))?;
    let ended = runtime.block_on(serve(settings, printer));
    // Whatever a handler still does is not waited for.
    runtime.shutdown_background();
    match ended? {
        Ended::Source(end) if end.code == 0 => Ok(ExitCode::SUCCESS),
        Ended::Source(end) => {
            printer.error(&Error { hint: end.hint.clone(), ..Error::failed(end.news()) });
            Ok(ExitCode::from(end.code))
        }
        Ended::Signal(signal) => exit::by_signal(signal),
    }
}

enum Ended {
    Source(End),
    Signal(Signal),
}

async fn serve(settings: Settings, printer: &Printer) -> Result<Ended> {
    let mut signals = Signals::new()?;
    let gpu = match &settings.gpu {
        None => None,
        Some(choice) => {
            let choice = choice.clone();
            let chosen = tokio::task::spawn_blocking(move || gpu::choose(&choice, DRIVER));
            tokio::select! {
                chosen = chosen => Some(chosen.map_err(|error| Error::bug(error.to_string()))??),
                signal = signals.next() => return Ok(Ended::Signal(signal)),
            }
        }
    };
    let listener = bind(settings.listen).await?;
    let address = listener.local_addr().map_err(|error| Error::io("cannot listen", error))?;
    let gate = gate(&settings, address)?;
    let plan = Plan::new(settings.encoder, settings.codec, gpu.as_ref())?;
    // Before anything is started: where nobody reads the link, nothing is.
    announce(&settings, plan.main(), gate.link(address), printer)?;
    if settings.nvenc != NvencOptions::default() && settings.encoder.may_nvenc() && !plan.has_nvenc() {
        printer.warn("NVENC's preset, refresh and input do nothing here: this host has no NVENC");
    }
    let (name, source) = (settings.instance_id.clone(), settings.source.name());
    let mut slots = Slots::new(settings.slots, settings.when_full, name, source);
    slots.gpu.clone_from(&gpu);
    let slots = Arc::new(slots);
    let pipeline = Pipeline::start(pipeline::Config {
        slots: slots.clone(),
        source: source::Options {
            spec: settings.source.clone(),
            size: settings.size,
            format: settings.pixel_format.unwrap_or(PixelFormat::Rgb24),
            fps: settings.fps,
            repeat: settings.looped,
            restart: settings.restart,
            gpu,
        },
        encoder: settings.encoder,
        bitrate: settings.bitrate,
        quality: settings.jpeg_quality,
        nvenc: settings.nvenc,
    })?;
    let worker = Arc::new(Worker::new(settings, plan, slots, pipeline));
    tokio::spawn(worker.clone().follow());
    tokio::spawn(worker.clone().tell_figures());
    tokio::spawn(lane::follow(worker.clone()));
    let server = tokio::spawn(http::serve(listener, worker.clone(), gate));
    let mut health = worker.pipeline.health();
    let over = async {
        tell_source(&worker, printer).await;
        match health.wait_for(|health| matches!(health, Health::Ended(_))).await.as_deref() {
            Ok(Health::Ended(end)) => Ok(end.clone()),
            _ => Err(Error::bug("the source's thread is gone")),
        }
    };
    let ended = tokio::select! {
        signal = signals.next() => Ended::Signal(signal),
        end = over => Ended::Source(end?),
    };
    let last_word = match &ended {
        Ended::Source(end) => end.reason.clone(),
        Ended::Signal(_) => "the worker was stopped".into(),
    };
    let farewell = tokio::time::timeout(LAST_WORDS, farewell(&worker, &last_word, server));
    tokio::select! {
        _ = farewell => {}
        // A second signal skips the rest.
        _ = signals.next() => {}
    }
    Ok(ended)
}

/// Tells everybody why it ends, and waits until they have heard it, the source, its program included, is gone, and so are the
/// encoders.
async fn farewell(worker: &Arc<Worker>, reason: &str, server: tokio::task::JoinHandle<()>) {
    worker.pipeline.stop();
    worker.stop(reason);
    let mut health = worker.pipeline.health();
    let with = worker.clone();
    let encoders = tokio::task::spawn_blocking(move || with.pipeline.wait_for_encoders());
    // None can fail in a way that leaves anything to wait for.
    let _ = tokio::join!(health.wait_for(|health| matches!(health, Health::Ended(_))), server, encoders);
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Error::usage(format!("port {} is taken", address.port())).cause(error).hint(format!(
            "see who has it: ss -ltnp 'sport = :{}'\nor take another: gsk serve --listen 0",
            address.port()
        )),
        _ => Error { kind: Kind::Usage, ..Error::io(format!("cannot listen on {address}"), error) },
    })
}

/// Beyond loopback a token is needed, and made where none is given.
fn gate(settings: &Settings, address: SocketAddr) -> Result<Gate> {
    let beyond_loopback = !address.ip().is_loopback();
    let token = match &settings.token {
        Token::Given(secret) => Some(gate::Token::new(secret.reveal())?),
        Token::File(path) => {
            let failed = |error| Error::io(format!("cannot read the token file '{}'", path.display()), error);
            Some(gate::Token::new(&std::fs::read_to_string(path).map_err(failed)?)?)
        }
        Token::Unset if beyond_loopback => Some(gate::Token::random()?),
        Token::Unset => None,
    };
    let mut gate = Gate::new(address.port(), beyond_loopback, token);
    gate.allow_host.clone_from(&settings.allow_host);
    gate.allow_origin.clone_from(&settings.allow_origin);
    Ok(gate)
}

/// What was started: the document of `--format json`, and the link to open.
#[derive(Serialize)]
struct Started {
    url: String,
    instance_id: String,
    source: String,
    encoder: encode::Info,
}

impl Show for Started {
    const SCHEMA: &'static str = "gsk.serve";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut table = Table::new(["url", "instance_id", "source", "encoder"]);
        table.row([self.url.clone(), self.instance_id.clone(), self.source.clone(), self.encoder.backend.into()]);
        table
    }
}

/// Prints the link to open first, then what was chosen and why.
fn announce(settings: &Settings, encoder: &encode::Info, url: String, printer: &Printer) -> Result<()> {
    if printer.format() != Format::Table {
        let (instance_id, source) = (settings.instance_id.clone(), settings.source.name());
        return printer.show(&Started { url, instance_id, source, encoder: encoder.clone() });
    }
    printer.line(&url)?;
    let why = match &encoder.fallback {
        Some(fallback) => format!(", not {}: {}", fallback.from, fallback.detail),
        None => String::new(),
    };
    printer.note(&format!("encoder {}{why}", encoder.backend));
    if env!("GSK_SIMD") == "none" && !encoder.hardware {
        printer.warn("built without nasm: encoding takes twice the time (apt-get install nasm, then build again)");
    }
    Ok(())
}

/// Says what the source is as soon as that is known; one that ends before has nothing to say.
async fn tell_source(worker: &Worker, printer: &Printer) {
    let mut changes = worker.pipeline.changes();
    let info = loop {
        let over = matches!(*worker.pipeline.health().borrow(), Health::Ended(_));
        match worker.pipeline.info() {
            Some(info) => break info,
            None if over || changes.changed().await.is_err() => return,
            None => {}
        }
    };
    let (name, fps) = (worker.settings.source.name(), (info.fps * 100.0).round() / 100.0);
    printer.note(&format!("source {name}, {}, {} at {fps} fps", info.detail, info.size));
}
