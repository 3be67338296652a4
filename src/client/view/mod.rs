//! `gsk view`: watches a worker without a browser, and measures what arrives.
//!
//! A viewer is a task with one connection; as many as are asked for run in one process and share their figures. The first of
//! them tells what the worker is, decodes (on a thread of its own), and keeps what is to be kept. Latency is measured in band,
//! as the page does it: units carry their capture times, and pings tell the clocks' offset. The plain streams carry no such
//! times; the demo scene's pictures carry their own, which are read off them.

mod clock;
mod connect;
mod decode;
mod figures;
mod report;
mod save;
pub(crate) mod unit;
mod viewer;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use self::figures::{Figures, Span};
pub use self::report::Summary;
pub use self::save::{Container, picture_form};
use self::viewer::Viewer;
pub use self::viewer::{Outcome, Over};
use super::Target;
use crate::clock::now_us;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::exit;
use crate::output::{Format, Printer};
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::Size;
use crate::signals::Signals;
use crate::wire::status::Percentiles;

/// Which of a worker's ways the pictures come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The WebSocket that the page uses: units with their times.
    #[default]
    Ws,
    /// Fragmented MP4 of H.264, /stream.mp4.
    Mp4,
    /// Multipart JPEG, /stream.mjpg.
    Mjpeg,
}

/// Whose units are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// The first viewer's.
    #[default]
    First,
    /// Every viewer's, each on a thread of its own.
    All,
    /// Nobody's: units are only received.
    None,
}

impl Decode {
    fn of(self, first: bool) -> bool {
        self == Decode::All || self == Decode::First && first
    }
}

/// A worker's address as a person has it: its page's, with or without the token in the fragment, or a stream's.
#[derive(Clone, Debug)]
pub struct Address {
    pub target: Target,
    /// Of a link's `#token=`.
    pub token: Option<Secret>,
    /// Where the address is a stream's.
    pub via: Option<Via>,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let token = fragment.split('&').find_map(|pair| pair.strip_prefix("token="));
        let streams = [("/ws", Via::Ws), ("/stream.mp4", Via::Mp4), ("/stream.mjpg", Via::Mjpeg)];
        let stream = streams.into_iter().find_map(|(name, via)| Some((address.strip_suffix(name)?, via)));
        let (base, via) = stream.map_or((address, None), |(base, via)| (base, Some(via)));
        let target: Target = format!("{}/", base.trim_end_matches('/')).parse()?;
        let token = token.filter(|token| !token.is_empty()).map(|token| Secret::from(token.to_string()));
        Ok(Address { target, token, via })
    }
}

/// What is to be watched, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: Target,
    pub token: Option<Secret>,
    pub via: Via,
    /// What `/ws` is asked for; None: the worker's own choice.
    pub codec: Option<Codec>,
    /// 1 to 1000.
    pub viewers: u32,
    pub decode: Decode,
    /// How long, from when everybody is in; None: until something else ends it.
    pub seconds: Option<f64>,
    /// How many units of the first viewer.
    pub frames: Option<u64>,
    /// Where a picture is saved: the first where nothing else says when to end, else the last.
    pub snapshot: Option<PathBuf>,
    pub record: Option<PathBuf>,
    /// How long connections and first pictures may take.
    pub timeout: Duration,
    /// The longest time between two arrivals that is good.
    pub max_stall: Option<Duration>,
}

impl Options {
    /// One viewer by `/ws` who watches on.
    pub fn new(target: Target) -> Options {
        Options {
            target,
            token: None,
            via: Via::Ws,
            codec: None,
            viewers: 1,
            decode: Decode::First,
            seconds: None,
            frames: None,
            snapshot: None,
            record: None,
            timeout: Duration::from_secs(10),
            max_stall: None,
        }
    }

    /// The first picture is all that is wanted.
    fn one_picture(&self) -> bool {
        self.snapshot.is_some() && self.seconds.is_none() && self.frames.is_none() && self.record.is_none()
    }

    fn check(&self) -> Result<()> {
        if self.via != Via::Ws && self.codec.is_some() {
            return Err(Error::usage("--codec goes with --via ws").cause("the plain streams have one codec each"));
        }
        if let Some(path) = &self.snapshot {
            picture_form(path)?;
            if self.decode == Decode::None {
                return Err(Error::usage("--snapshot needs a decoded picture").hint("leave --decode none out"));
            }
        }
        if let Some(path) = &self.record {
            let codecs = match (self.via, self.codec) {
                (Via::Mjpeg, _) => vec![Codec::Jpeg],
                (Via::Mp4, _) => vec![Codec::H264],
                (Via::Ws, Some(codec)) => vec![codec],
                // Which it will be is known with the first unit.
                (Via::Ws, None) => Codec::ALL.to_vec(),
            };
            let fits: Vec<_> = codecs.iter().map(|&codec| Container::of(path, codec)).collect();
            if fits.iter().all(Result::is_err) {
                return fits.into_iter().next().map_or(Ok(()), |first| first.map(drop));
            }
        }
        Ok(())
    }
}

/// Why watching stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Seconds,
    Frames,
    Picture,
    Signal(Signal),
    /// Nobody reads standard output any more.
    Closed,
    /// All viewers have ended by themselves.
    Over,
}

/// What the worker is, as far as it says it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub instance: Option<String>,
    pub source: Option<String>,
    pub backend: Option<String>,
    pub hardware: Option<bool>,
    pub fallback: Option<String>,
    pub codec: Option<Codec>,
    pub codec_string: Option<String>,
    pub size: Option<Size>,
    /// The rate that the worker aims at.
    pub fps: Option<f64>,
}

/// One unit's way to one viewer, µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it had arrived, on our clock.
    pub arrived_us: u64,
    /// Capture's start to the whole unit.
    pub encoded_us: u64,
    /// The whole unit to arrival.
    pub network_us: u64,
    /// Capture's start to arrival.
    pub received_us: u64,
}

/// Called with each of them, for those who want more than histograms.
pub type Tap = Box<dyn Fn(Sample) + Send + Sync>;

/// What viewers share.
pub struct Shared {
    stop: watch::Sender<Option<Why>>,
    /// Viewers that are settled: in, or over before that.
    settled: watch::Sender<usize>,
    in_now: AtomicUsize,
    all: Mutex<Figures>,
    /// Since the last second's end.
    recent: Mutex<Figures>,
    facts: Mutex<Facts>,
    one_picture: bool,
    tap: Option<Tap>,
}

impl Shared {
    fn new(one_picture: bool, tap: Option<Tap>) -> Arc<Shared> {
        Arc::new(Shared {
            stop: watch::Sender::new(None),
            settled: watch::Sender::new(0),
            in_now: AtomicUsize::new(0),
            all: Mutex::default(),
            recent: Mutex::default(),
            facts: Mutex::default(),
            one_picture,
            tap,
        })
    }

    /// The first reason counts.
    fn stop(&self, why: Why) {
        self.stop.send_if_modified(|old| {
            old.is_none() && {
                *old = Some(why);
                true
            }
        });
    }

    fn figures(&self, mut change: impl FnMut(&mut Figures)) {
        change(&mut self.all.lock().unwrap());
        change(&mut self.recent.lock().unwrap());
    }

    fn record(&self, span: Span, us: u64) {
        self.figures(|figures| figures.record(span, us));
    }

    fn tap(&self, sample: Sample) {
        self.tap.iter().for_each(|tap| tap(sample));
    }

    /// Ends it, as what was asked for is there.
    pub fn enough(&self) {
        self.stop(Why::Seconds);
    }

    /// Viewers that have a unit, and those that are over without one.
    pub fn settled(&self) -> (usize, usize) {
        let joined = self.in_now.load(Relaxed);
        (joined, self.settled.borrow().saturating_sub(joined))
    }

    /// Units that came by now, and those that the worker skipped.
    pub fn counts(&self) -> (u64, u64) {
        let all = self.all.lock().unwrap();
        (all.units, all.dropped)
    }

    pub fn facts(&self) -> Facts {
        self.facts.lock().unwrap().clone()
    }

    fn learn(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap());
    }

    fn joined(&self) {
        self.in_now.fetch_add(1, Relaxed);
        self.settled.send_modify(|n| *n += 1);
    }

    fn ended(&self, was_in: bool) {
        if was_in {
            self.in_now.fetch_sub(1, Relaxed);
        } else {
            self.settled.send_modify(|n| *n += 1);
        }
    }

    /// The first viewer's first picture is there.
    fn pictured(&self) {
        if self.one_picture {
            self.stop(Why::Picture);
        }
    }
}

/// What all viewers have seen.
pub struct Seen {
    pub facts: Facts,
    pub figures: Figures,
    pub outcomes: Vec<Outcome>,
    /// From when everybody was in to the end, or from the first if some never were; none where nobody was.
    pub seconds: Option<f64>,
    pub(crate) why: Why,
}

/// Viewers at work.
pub struct Watching {
    pub shared: Arc<Shared>,
    options: Arc<Options>,
    tasks: JoinSet<(u32, Outcome)>,
}

impl Watching {
    /// Starts all viewers, on the runtime that this is called in.
    pub fn start(options: Options, tap: Option<Tap>) -> Result<Watching> {
        options.check()?;
        room_for(options.viewers)?;
        let shared = Shared::new(options.one_picture(), tap);
        let (options, mut tasks) = (Arc::new(options), JoinSet::new());
        for number in 0..options.viewers {
            let viewer = Viewer::new(number, options.clone(), shared.clone());
            tasks.spawn(async move { (number, viewer.watch().await) });
        }
        Ok(Watching { shared, options, tasks })
    }

    /// Watches to the end. Once a second `each` is given what came in that second; a failure of it ends all.
    pub async fn run(
        mut self,
        mut signals: Option<&mut Signals>,
        mut each: impl FnMut(&Second) -> Result<()>,
    ) -> Result<Seen> {
        let (mut outcomes, mut stop) = (Vec::new(), self.shared.stop.subscribe());
        let mut settled = self.shared.settled.subscribe();
        let viewers = self.options.viewers as usize;
        let (began_us, mut everybody_us, mut deadline) = (now_us(), None, None);
        let mut second = tokio::time::interval_at(Instant::now() + SECOND, SECOND);
        let mut last_us = began_us;
        let mut failed = Ok(());
        while self.shared.stop.borrow().is_none() {
            let end = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => outcomes.push(ended.map_err(|error| Error::bug(error.to_string()))?),
                    None => self.shared.stop(Why::Over),
                },
                Ok(()) = async { settled.wait_for(|&n| n >= viewers).await.map(drop) }, if everybody_us.is_none() => {
                    everybody_us = Some(now_us());
                    deadline = self.options.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
                }
                () = sleep_until(end), if deadline.is_some() => self.shared.stop(Why::Seconds),
                _ = second.tick() => {
                    let now = now_us();
                    let done = self.second((now - began_us) as f64 / 1e6, (now - last_us) as f64 / 1e6);
                    last_us = now;
                    if let Err(error) = each(&done) {
                        self.shared.stop(Why::Closed);
                        failed = Err(error);
                    }
                }
                signal = next_signal(&mut signals) => self.shared.stop(Why::Signal(signal)),
                () = stopped(&mut stop) => {}
            }
        }
        let ended_us = now_us();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                outcomes.push(ended.map_err(|error| Error::bug(error.to_string()))?);
            }
            Ok::<(), Error>(())
        };
        // A second signal skips what is still to be decoded and written.
        tokio::select! {
            done = rest => done?,
            signal = next_signal(&mut signals) => exit::by_signal(signal),
        }
        failed?;
        outcomes.sort_by_key(|(number, _)| *number);
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        let first_us = outcomes.iter().filter_map(|outcome| Some(outcome.span_us?.0)).min();
        let began_us = first_us.map(|first| first.max(everybody_us.unwrap_or(first)));
        let why = self.shared.stop.borrow().unwrap_or(Why::Over);
        Ok(Seen {
            facts: self.shared.facts.lock().unwrap().clone(),
            figures: self.shared.all.lock().unwrap().clone(),
            outcomes,
            seconds: began_us.map(|began| ended_us.saturating_sub(began) as f64 / 1e6),
            why,
        })
    }

    /// What came since the last call.
    fn second(&self, at_s: f64, took_s: f64) -> Second {
        let mut recent = self.shared.recent.lock().unwrap();
        let viewers = self.shared.in_now.load(Relaxed);
        let rate = |count: u64| (viewers > 0 && count > 0).then(|| count as f64 / took_s / viewers as f64);
        let second = Second {
            at_s,
            viewers,
            fps: rate(recent.units),
            bitrate_bps: rate(recent.bytes * 8),
            longest_gap_ms: recent.of(Span::Gap).map(|gap| gap.max),
            received_ms: recent.of(Span::Received),
            total_ms: recent.of(Span::Total),
            dropped: recent.dropped,
            missing: recent.missing,
        };
        recent.reset();
        second
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// One second of watching. Rates are a viewer's, in the mean.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Since the start.
    pub at_s: f64,
    pub viewers: usize,
    pub fps: Option<f64>,
    pub bitrate_bps: Option<f64>,
    pub longest_gap_ms: Option<f64>,
    pub received_ms: Option<Percentiles>,
    pub total_ms: Option<Percentiles>,
    pub dropped: u64,
    pub missing: u64,
}

/// Waits for the sign to stop.
async fn stopped(stop: &mut watch::Receiver<Option<Why>>) {
    // Its sender lives as long as what viewers share.
    let _ = stop.wait_for(Option::is_some).await;
}

async fn next_signal(signals: &mut Option<&mut Signals>) -> Signal {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Each viewer takes a descriptor, which the soft limit may not allow so many of.
fn room_for(viewers: u32) -> Result<()> {
    const OTHERS: u64 = 64;
    let need = u64::from(viewers) + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(need);
    if most < need || setrlimit(Resource::Nofile, Rlimit { current: Some(need), ..limit }).is_err() {
        return Err(Error::usage(format!("{viewers} viewers need {need} open files, and {most} are allowed"))
            .hint("allow more: ulimit -n 4096"));
    }
    Ok(())
}

/// Watches as asked for, shows how it goes, and prints what was measured.
pub fn run(options: Options, printer: &Printer) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("net")
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start threads", error))?;
    let watched = runtime.block_on(watch(&options, printer));
    runtime.shutdown_background();
    let (summary, why) = watched?;
    printer.show(&summary)?;
    match why {
        Why::Signal(signal) => {
            // What is printed must be out before the signal ends the process.
            let _ = std::io::stdout().flush();
            exit::by_signal(signal)
        }
        _ => Ok(summary.code().into()),
    }
}

async fn watch(options: &Options, printer: &Printer) -> Result<(Summary, Why)> {
    let mut signals = Signals::new()?;
    let bar = progress(printer.live());
    let lines = printer.format() == Format::Jsonl;
    let watching = Watching::start(options.clone(), None)?;
    let shared = watching.shared.clone();
    // The plain streams do not say what the worker is.
    let asked = async {
        match options.via {
            Via::Ws => None,
            _ => super::status(&options.target, options.token.as_ref(), options.timeout).await.ok(),
        }
    };
    let mut told = false;
    let watched = watching.run(Some(&mut signals), |second| {
        bar.set_message(report::line(second));
        bar.tick();
        if lines {
            printer.show(second)?;
        } else if !std::mem::replace(&mut told, true) && bar.is_hidden() {
            printer.note(&report::begun(options, &shared.facts.lock().unwrap()));
        }
        Ok(())
    });
    tokio::pin!(asked, watched);
    let mut status = None;
    let seen = loop {
        tokio::select! {
            answer = &mut asked, if status.is_none() => status = Some(answer),
            seen = &mut watched => break seen,
        }
    };
    bar.finish_and_clear();
    let mut seen = seen?;
    if let Some(status) = status.flatten() {
        seen.facts.instance = seen.facts.instance.or(status.instance);
        // gsk:SOURCE:ENCODER, which names the first of its encoders.
        let h264 = options.via == Via::Mp4;
        let backend = status.backend.as_deref().and_then(|words| words.rsplit(':').next()).filter(|_| h264);
        seen.facts.backend = seen.facts.backend.or(backend.map(str::to_string));
        seen.facts.fallback = seen.facts.fallback.or(status.fallback.filter(|_| h264));
    }
    let why = seen.why;
    let saved = match (&options.snapshot, seen.outcomes.first().and_then(|first| first.last_picture.as_ref())) {
        (Some(path), Some(frame)) => Some(save(path, frame)?),
        (Some(_), None) => None,
        (None, _) => None,
    };
    Ok((Summary::new(options, seen, saved)?, why))
}

fn save(path: &Path, frame: &crate::pipeline::frame::Frame) -> Result<String> {
    save::picture(path, frame)?;
    Ok(path.display().to_string())
}

fn progress(live: bool) -> ProgressBar {
    let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_pages_links_or_streams() {
        for (text, path, via, token) in [
            ("http://127.0.0.1:5000/", "/", None, None),
            ("127.0.0.1:5000", "/", None, None),
            ("http://gpu1:5000/#token=0123456789abcdef", "/", None, Some("0123456789abcdef")),
            ("http://gpu1:5000/stream.mp4", "/", Some(Via::Mp4), None),
            ("http://gpu1/w3/stream.mjpg#token=x", "/w3/", Some(Via::Mjpeg), Some("x")),
            ("http://gpu1/w3", "/w3/", None, None),
            ("gpu1:81/ws", "/", Some(Via::Ws), None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.target.base(), address.via), (path, via), "{text}");
            assert_eq!(address.token.as_ref().map(Secret::reveal), token, "{text}");
        }
        for text in ["https://gpu1/", "http://", "http://u:p@gpu1/", "http://gpu1:99999/"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_anything_is() {
        let base = || Options::new(Target::new("127.0.0.1", 1));
        let refused = |options: Options| options.check().unwrap_err().to_string();
        assert!(refused(Options { snapshot: Some("a.gif".into()), ..base() }).contains("no name of a picture"));
        assert!(
            refused(Options { record: Some("a.mp4".into()), via: Via::Mjpeg, ..base() }).contains("cannot hold jpeg")
        );
        assert!(refused(Options { record: Some("a.avi".into()), ..base() }).contains("cannot hold h264"));
        assert!(refused(Options { codec: Some(Codec::Jpeg), via: Via::Mp4, ..base() }).contains("--via ws"));
        let nothing = Options { snapshot: Some("a.png".into()), decode: Decode::None, ..base() };
        assert!(refused(nothing).contains("decoded picture"));
        assert!(Options { record: Some("a.mjpeg".into()), ..base() }.check().is_ok());
    }
}
