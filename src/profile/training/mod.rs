//! The built-in training run: a small net that learns to read digits, with loaders, a device where there is one, and a named
//! range around all that it does.

mod data;
mod engine;
mod loader;
mod net;

use std::ffi::OsString;
use std::io::{Write, stderr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::data::{Batch, HELD_BACK, PICTURES, PIXELS, Set};
use self::engine::{Engine, Place};
use self::loader::Loader;
use self::net::{HIDDEN, Net};
use crate::error::{Error, Result};
use crate::range;

/// Pictures that are judged at a time.
const JUDGED: usize = 256;

/// What a run is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    pub epochs: u32,
    pub batch: u32,
    /// Threads that draw pictures; with 0 the training thread does.
    pub workers: u32,
}

impl Options {
    /// The most loaders.
    const WORKERS: u32 = 64;

    pub fn check(&self) -> Result<()> {
        if self.batch as usize > PICTURES {
            return Err(Error::usage(format!("a batch of {} is more than an epoch", self.batch))
                .cause(format!("the built-in run has {PICTURES} pictures an epoch"))
                .hint("gsk train-nvtx 5 256"));
        }
        if self.workers > Options::WORKERS {
            return Err(Error::usage(format!("{} loaders are too many", self.workers))
                .cause(format!("the built-in run has up to {}", Options::WORKERS)));
        }
        Ok(())
    }
}

/// How an epoch went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The first is 1.
    pub epoch: u32,
    /// Mean cross-entropy of its pictures as they came, nats.
    pub loss: f64,
    /// Of the held-back pictures after it, the part that is read rightly, 0 to 1.
    pub accuracy: f64,
    pub seconds: f64,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// What multiplied the matrices.
    pub device: String,
    /// Why that is no CUDA device.
    pub no_cuda: Option<String>,
    pub epochs: Vec<Epoch>,
    /// It was asked to end before its time.
    pub stopped: bool,
}

/// Trains. `stop` ends it after the batch that it is at.
pub fn run(options: Options, stop: &AtomicBool, mut after: impl FnMut(&Epoch)) -> Result<Training> {
    options.check()?;
    range::name_thread("training");
    // Weights, or the pictures of the largest batch.
    let room = (PIXELS * HIDDEN).max(PIXELS * JUDGED.max(options.batch as usize));
    let (mut engine, device, error) = engine::best(room);
    let engine = &mut *engine;
    let mut net = Net::new(engine)?;
    let held_back = Batch::draw(Set::HeldBack, 0, HELD_BACK);
    let mut loader = Loader::new(options.epochs, options.batch as usize, options.workers)?;
    let no_cuda = error.map(|error| error.to_string());
    let mut training = Training { device, no_cuda, epochs: Vec::new(), stopped: false };
    for epoch in 1..=options.epochs {
        let began = Instant::now();
        let _range = range::open("epoch");
        let Some(loss) = learn(&mut net, engine, &mut loader, stop)? else {
            training.stopped = true;
            break;
        };
        let accuracy = judge(&mut net, engine, &held_back)?;
        training.epochs.push(Epoch { epoch, loss, accuracy, seconds: began.elapsed().as_secs_f64() });
        after(training.epochs.last().expect("just put there"));
    }
    Ok(training)
}

/// An epoch; gives the mean loss of its pictures, or `None` where it was ended.
fn learn(net: &mut Net, engine: &mut dyn Engine, loader: &mut Loader, stop: &AtomicBool) -> Result<Option<f64>> {
    let mut sum = 0.0;
    loop {
        if stop.load(SeqCst) {
            return Ok(None);
        }
        let _range = range::open("batch");
        let (batch, last) = range::within("data wait", || loader.next())?;
        let rows = batch.digits.len();
        range::within("transfer", || transfer(engine, &batch.pixels, rows))?;
        range::within("forward", || net.forward(engine, rows))?;
        sum += range::within("loss", || net.loss(&batch.digits)) * rows as f64;
        range::within("backward", || net.backward(engine))?;
        range::within("optimiser", || net.optimise(engine))?;
        if last {
            return Ok(Some(sum / PICTURES as f64));
        }
    }
}

/// The part of the pictures that the net reads rightly.
fn judge(net: &mut Net, engine: &mut dyn Engine, batch: &Batch) -> Result<f64> {
    let _range = range::open("validation");
    let mut right = 0;
    for (pixels, digits) in batch.pixels.chunks(JUDGED * PIXELS).zip(batch.digits.chunks(JUDGED)) {
        range::within("transfer", || transfer(engine, pixels, digits.len()))?;
        range::within("forward", || net.forward(engine, digits.len()))?;
        right += net.right(digits);
    }
    Ok(right as f64 / batch.digits.len() as f64)
}

/// Brings pictures to where they are computed with, as numbers from 0 to 1.
fn transfer(engine: &mut dyn Engine, pixels: &[u8], rows: usize) -> Result<()> {
    let values: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    engine.put(Place::Input, rows, PIXELS, &values)
}

/// The first argument of a process that is to train and nothing else, below nsys; the second are its [`Options`], and the
/// third is where to write the [`Training`] to.
const NAME: &str = "gsk-training";

/// The arguments of a process that trains.
pub(super) fn arguments(options: Options, result: &Path) -> Result<[OsString; 3]> {
    let options = serde_json::to_string(&options);
    let options = options.map_err(|error| Error::bug("options cannot be written").cause(error))?;
    Ok([NAME.into(), options.into(), result.into()])
}

/// Trains if this process was started to do so; `None` otherwise.
pub fn if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != NAME {
        return None;
    }
    let options = arguments.next().and_then(|options| serde_json::from_str(options.to_str()?).ok());
    let (Some(options), Some(result)) = (options, arguments.next()) else {
        return Some(crate::exit::Code::Usage.into());
    };
    Some(train(options, result.as_ref()).unwrap_or_else(|error| {
        tell(format_args!("error: {error}"));
        error.kind.code().into()
    }))
}

/// Says something on standard error, also where nobody listens.
fn tell(words: impl std::fmt::Display) {
    let _ = writeln!(stderr(), "{words}");
}

fn train(options: Options, result: &Path) -> Result<ExitCode> {
    let signals = super::interrupt::Interrupts::catch()?;
    let training = run(options, &signals.stop(), |epoch| tell(epoch))?;
    let json = serde_json::to_vec(&training).map_err(|error| Error::bug("a result cannot be written").cause(error))?;
    let failed = |error| Error::io(format!("cannot write '{}'", result.display()), error);
    std::fs::write(result, json).map_err(failed)?;
    if let Some(signal) = signals.came() {
        crate::exit::by_signal(signal);
    }
    Ok(ExitCode::SUCCESS)
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Epoch { epoch, loss, accuracy, seconds } = self;
        write!(f, "epoch {epoch}: loss {loss:.4}, {:.1} % of the held-back pictures, {seconds:.2} s", accuracy * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let options = Options { epochs: 1, batch: 4096, workers: 64 };
        options.check().unwrap();
        assert!(Options { batch: 4097, ..options }.check().unwrap_err().cause.unwrap().contains("4096 pictures"));
        assert!(Options { workers: 65, ..options }.check().is_err());
    }

    #[test]
    fn a_run_learns_and_is_the_same_again() {
        let options = Options { epochs: 2, batch: 64, workers: 2 };
        let mut told = Vec::new();
        let first = run(options, &AtomicBool::new(false), |epoch| told.push(*epoch)).unwrap();
        let [one, two] = first.epochs[..] else { panic!("{first:?}") };
        assert!(two.loss < one.loss && two.accuracy >= 0.9 && two.accuracy > one.accuracy, "{first:?}");
        assert_eq!((told, first.stopped), (first.epochs.clone(), false));
        let again = run(Options { workers: 0, ..options }, &AtomicBool::new(false), |_| {}).unwrap();
        let figures = |training: &Training| training.epochs.iter().map(|e| (e.loss, e.accuracy)).collect::<Vec<_>>();
        assert_eq!(figures(&first), figures(&again));
    }

    #[test]
    fn a_run_ends_when_it_is_asked_to() {
        let options = Options { epochs: 1000, batch: 256, workers: 1 };
        let stop = AtomicBool::new(false);
        let training = run(options, &stop, |_| stop.store(true, SeqCst)).unwrap();
        assert_eq!((training.epochs.len(), training.stopped), (1, true));
    }
}
