//! A training program under nsys, or our own collector; and a training run of our own.
//!
//! ```text
//! nsys is there:     gsk -> guard -> nsys profile -> the program, or gsk again as the built-in run
//! it is not:         gsk -> guard -> the program        ranges are not collected
//!                    gsk, which is the built-in run     ranges are recorded (crate::range) and written as a trace
//! ```
//!
//! A run's files have one name, which is taken before it begins and never given to another: the report or the trace, and
//! a manifest ([`manifest::Run`]), which is also the command's answer. `preflight` finds what would spoil a run before it
//! begins; [`interrupt`] sends Ctrl-C to the program and not to nsys, so that the report is still written; [`summary`] is
//! how long ranges took by name. The program's exit code is handed on, whatever became of the report.

pub mod interrupt;
pub mod manifest;
pub mod nsys;
mod preflight;
pub mod summary;
mod surroundings;
mod trace;
pub mod training;

use std::ffi::OsString;
use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;

use self::interrupt::{Interrupts, Target};
use self::manifest::{Collector, EXPORT, Files, Process, REPORT, RESULT, Reserved, Run, TRACE};
use self::nsys::Nsys;
use self::training::Training;
use crate::child::{Ended, Guarded};
use crate::error::{Error, Result};
use crate::output::{Format, Printer};
use crate::range::Recording;
use crate::{clock, exit};

/// What `gsk train-nvtx` is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub job: String,
    pub training: training::Options,
    /// The program to profile, in which `{epochs}` and the like are filled in; none: the built-in run.
    pub program: Vec<OsString>,
    pub folder: PathBuf,
    /// In place of the time in the run's name: then the name must be free.
    pub stamp: Option<String>,
    /// Takes the name even where it is not.
    pub force: bool,
    pub nsys: Choice,
    pub profile: nsys::Profile,
}

/// Which nsys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that is found, or none.
    Auto,
    Named(String),
    None,
}

/// How a run ended, for the caller to end likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(u8),
    /// By SIGINT or SIGTERM.
    Signal(Signal),
}

/// Profiles a run, and keeps what there is of it.
pub fn run(options: &Options, printer: &Printer) -> Result<(Run, End)> {
    if options.program.is_empty() {
        options.training.check()?;
    }
    let (nsys, no_nsys) = choose(&options.nsys)?;
    if nsys.is_some() && options.profile.samples() {
        preflight::sampling()?;
    }
    options.profile.arguments(Path::new(""))?;
    let tight = preflight::folder(&options.folder, nsys.is_some())?;
    let mut run = begin(options, nsys.clone(), no_nsys);
    run.warnings.extend(tight);
    if nsys.is_none() && options.profile.is_special() {
        run.warnings.push("what nsys was to be told does nothing: there is no nsys".into());
    }
    // Until here Ctrl-C ends us.
    let interrupts = Interrupts::catch()?;
    let stamp = options.stamp.clone().unwrap_or_else(|| stamp(&clock::rfc3339_now()));
    let name = format!("{}_{}ep_{stamp}", options.job, options.training.epochs);
    let mut reserved = Reserved::take(&options.folder, &name, options.stamp.is_none(), options.force)?;
    run.name = reserved.name().into();
    match &nsys {
        Some(nsys) => printer.note(&format!("nsys {} at {}", nsys.version, nsys.path)),
        None => printer.note(&without(run.no_nsys.as_deref().unwrap_or_default(), options)),
    }
    run.warnings.iter().for_each(|warning| printer.warn(warning));
    let profiled = Profiled { options, interrupts: &interrupts, printer };
    let began = Instant::now();
    let ended = match &nsys {
        None if options.program.is_empty() => profiled.here(&mut run, &mut reserved),
        nsys => profiled.apart(nsys.as_ref(), &mut run, &mut reserved),
    };
    // What never ran leaves nothing behind.
    let ended = ended.inspect_err(|_| reserved.discard())?;
    run.seconds = Some(began.elapsed().as_secs_f64());
    run.ended = Some(clock::rfc3339_now());
    profiled.finish(nsys.as_ref(), &ended, &mut run, &mut reserved);
    let end = interrupts.forced().map_or_else(|| end(&ended), End::Signal);
    Ok((run, end))
}

/// nsys, or why there is none.
fn choose(choice: &Choice) -> Result<(Option<Nsys>, Option<String>)> {
    match choice {
        Choice::None => Ok((None, Some("--no-nsys".into()))),
        Choice::Named(named) => Ok((Some(nsys::find(Some(named))?), None)),
        Choice::Auto => Ok(match nsys::find(None) {
            Ok(nsys) => (Some(nsys), None),
            Err(error) => (None, Some(error.to_string())),
        }),
    }
}

/// What becomes of the ranges where there is no nsys.
fn without(why: &str, options: &Options) -> String {
    match options.program.is_empty() {
        true => format!("gsk collects the ranges of the built-in run itself: {why}"),
        false => format!("the program runs without being profiled: {why}"),
    }
}

/// The time as a part of a file's name: `20261121-152620`, UTC.
fn stamp(rfc3339: &str) -> String {
    let seconds = rfc3339.split('.').next().unwrap_or_default();
    seconds.replace(['-', ':'], "").replace('T', "-")
}

/// All that is known before it begins, but for its name.
fn begin(options: &Options, nsys: Option<Nsys>, no_nsys: Option<String>) -> Run {
    let built_in = options.program.is_empty();
    let directory = std::env::current_dir().ok();
    Run {
        name: String::new(),
        folder: options.folder.display().to_string(),
        job: options.job.clone(),
        epochs: options.training.epochs,
        batch: options.training.batch,
        workers: options.training.workers,
        program: (!built_in).then(|| words(&filled(options))),
        command: None,
        collector: match &nsys {
            Some(_) => Some(Collector::Nsys),
            None => built_in.then_some(Collector::Gsk),
        },
        nsys,
        no_nsys,
        git: directory.as_deref().and_then(surroundings::git),
        directory: directory.map(|path| path.display().to_string()),
        environment: surroundings::variables(),
        hardware: surroundings::hardware(),
        process: Process::own(),
        started: clock::rfc3339_now(),
        ended: None,
        seconds: None,
        exit_code: None,
        signal: None,
        interrupted: None,
        files: Files::default(),
        training: None,
        ranges: None,
        warnings: Vec::new(),
        errors: Vec::new(),
    }
}

/// The values that a program is given, by name.
fn values(options: &Options) -> [(&'static str, String); 4] {
    let training::Options { epochs, batch, workers } = options.training;
    [
        ("epochs", epochs.to_string()),
        ("batch", batch.to_string()),
        ("job", options.job.clone()),
        ("workers", workers.to_string()),
    ]
}

/// The program, with `{epochs}`, `{batch}`, `{job}` and `{workers}` filled in.
fn filled(options: &Options) -> Vec<OsString> {
    let values = values(options);
    let fill = |word: &OsString| {
        let mut bytes = word.as_bytes().to_vec();
        for (name, value) in &values {
            let mark = format!("{{{name}}}");
            // Jobs are of letters that make no mark.
            while let Some(at) = memchr::memmem::find(&bytes, mark.as_bytes()) {
                bytes.splice(at..at + mark.len(), value.bytes());
            }
        }
        OsString::from_vec(bytes)
    };
    options.program.iter().map(fill).collect()
}

fn words(argv: &[OsString]) -> Vec<String> {
    argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

struct Profiled<'a> {
    options: &'a Options,
    interrupts: &'a Arc<Interrupts>,
    printer: &'a Printer,
}

impl Profiled<'_> {
    /// The built-in run in this process, its ranges recorded by ourselves.
    fn here(&self, run: &mut Run, reserved: &mut Reserved) -> Result<Ended> {
        reserved.write(run)?;
        reserved.begun();
        let recording = Recording::start();
        let stop = self.interrupts.stop();
        let trained = training::run(self.options.training, &stop, |epoch| self.printer.note(&epoch.to_string()));
        let recorded = recording.end();
        if recorded.lost > 0 {
            self.warn(run, format!("{} ranges are not in the trace: it was full", recorded.lost));
        }
        run.ranges = Some(summary::of_events(&recorded.events));
        let path = reserved.file(TRACE);
        let written = File::options().write(true).create_new(true).open(&path);
        let written = written.and_then(|file| trace::write(&recorded, &run.job, BufWriter::new(file)));
        if let Err(error) = written {
            self.warn(run, format!("cannot write '{}': {error}", path.display()));
        }
        match trained {
            Ok(training) => self.keep(run, training),
            // What was recorded until then is kept.
            Err(error) => {
                self.printer.warn(&error.to_string());
                let code = error.kind.code() as u8;
                run.errors.push(error);
                return Ok(Ended { code, signal: None, words: String::new() });
            }
        }
        let signal = self.interrupts.came().map(Signal::as_raw);
        Ok(Ended { code: 0, signal, words: String::new() })
    }

    /// The program in a process of its own, below nsys where there is one.
    fn apart(&self, nsys: Option<&Nsys>, run: &mut Run, reserved: &mut Reserved) -> Result<Ended> {
        let absolute = |end| {
            std::path::absolute(reserved.file(end))
                .map_err(|error| Error::io("cannot tell where the run's files are to be", error))
        };
        let result = absolute(RESULT)?;
        let mut argv = Vec::new();
        if let Some(nsys) = nsys {
            let report = absolute("")?;
            argv.extend([nsys.path.clone().into(), "profile".into()]);
            argv.extend(self.options.profile.arguments(&report)?);
        }
        let built_in = self.options.program.is_empty();
        match built_in {
            true => {
                let own = std::env::current_exe().map_err(|error| Error::io("cannot find gsk's own file", error))?;
                argv.push(own.into());
                argv.extend(training::arguments(self.options.training, &result)?);
            }
            false => argv.extend(filled(self.options)),
        }
        let mut environment = if nsys.is_some() { self.options.profile.environment() } else { Vec::new() };
        let names = ["GSK_EPOCHS", "GSK_BATCH", "GSK_JOB", "GSK_WORKERS"];
        environment.extend(names.into_iter().zip(values(self.options).map(|(_, value)| value.into())));
        run.command = Some(words(&argv));
        reserved.write(run)?;
        let mut program = Guarded::apart(&argv, &environment, self.stdout()?)?;
        reserved.begun();
        let target = if nsys.is_some() { Target::Nsys } else { Target::Program };
        let passing = program.pid().map(|pid| self.interrupts.pass_to(target(pid)));
        let ended = program.wait();
        drop(passing);
        if built_in {
            let read = std::fs::read(&result).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let _ = std::fs::remove_file(&result);
            read.into_iter().for_each(|training| self.keep(run, training));
        }
        Ok(ended)
    }

    /// Where a program's standard output goes: to ours, unless a document is to stand there alone.
    fn stdout(&self) -> Result<Stdio> {
        if self.printer.format() == Format::Table {
            return Ok(Stdio::inherit());
        }
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        stderr.map(Stdio::from).map_err(|error| Error::io("cannot use standard error", error))
    }

    fn keep(&self, run: &mut Run, training: Training) {
        if let Some(why) = training.no_cuda.as_deref() {
            self.printer.note(&format!("trained on the CPU: {why}"));
        }
        run.training = Some(training);
    }

    /// Completes the manifest.
    fn finish(&self, nsys: Option<&Nsys>, ended: &Ended, run: &mut Run, reserved: &mut Reserved) {
        run.interrupted = self.interrupts.came().map(Signal::as_raw);
        run.signal = ended.signal;
        run.exit_code = ended.signal.is_none().then_some(ended.code);
        if let Some(nsys) = nsys {
            self.summarise(nsys, run, reserved);
        }
        run.files =
            Files { report: reserved.there(REPORT), export: reserved.there(EXPORT), trace: reserved.there(TRACE) };
        // What the program came to is worth more than what is kept of it.
        if let Err(error) = reserved.write(run) {
            self.warn(run, error.to_string());
        }
    }

    fn warn(&self, run: &mut Run, warning: String) {
        self.printer.warn(&warning);
        run.warnings.push(warning);
    }

    /// Reads the ranges from nsys's report, or says why there are none.
    fn summarise(&self, nsys: &Nsys, run: &mut Run, reserved: &Reserved) {
        let report = reserved.file(REPORT);
        if !report.is_file() {
            let why = match &self.options.profile.capture {
                nsys::Capture::All => "see what nsys said above".into(),
                capture => format!("was the capture range '{capture}' ever entered?"),
            };
            return self.warn(run, format!("nsys wrote no report: {why}"));
        }
        if !self.options.profile.traces_nvtx() {
            return;
        }
        match nsys::ranges(nsys, &report, self.interrupts) {
            Ok((ranges, odd)) => {
                odd.into_iter().for_each(|warning| self.warn(run, warning));
                if ranges.is_empty() {
                    self.warn(
                        run,
                        "no NVTX range was seen: mark them in the program, such as by torch.cuda.nvtx or the Python package nvtx"
                            .into(),
                    );
                }
                run.ranges = Some(ranges);
            }
            Err(error) => self.warn(run, format!("there is no summary of the ranges: {error}")),
        }
    }
}

/// SIGINT and SIGTERM are raised again; a program's others are told by code, as shells do. A shell or nsys between us and the
/// program tells by code what it was ended by.
fn end(ended: &Ended) -> End {
    let by = |signal: Signal| ended.signal == Some(signal.as_raw()) || i32::from(ended.code) == 128 + signal.as_raw();
    match [Signal::INT, Signal::TERM].into_iter().find(|&signal| by(signal)) {
        Some(signal) => End::Signal(signal),
        None => End::Code(ended.code),
    }
}

impl End {
    /// Ends the process in the same way, or gives its exit code.
    pub fn hand_on(self) -> std::process::ExitCode {
        match self {
            End::Code(code) => code.into(),
            End::Signal(signal) => exit::by_signal(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(program: &[&str]) -> Options {
        Options {
            job: "demo".into(),
            training: training::Options { epochs: 3, batch: 64, workers: 2 },
            program: program.iter().map(Into::into).collect(),
            folder: ".".into(),
            stamp: None,
            force: false,
            nsys: Choice::Auto,
            profile: nsys::Profile {
                cublas: false,
                cudnn: false,
                capture: nsys::Capture::All,
                force: false,
                more: Vec::new(),
            },
        }
    }

    #[test]
    fn a_programs_arguments_are_filled_in() {
        let filled =
            filled(&options(&["train.py", "--epochs={epochs}", "{job}-{job}", "{batch}/{workers}", "{other}"]));
        assert_eq!(words(&filled), ["train.py", "--epochs=3", "demo-demo", "64/2", "{other}"]);
    }

    #[test]
    fn a_stamp_is_part_of_a_files_name() {
        assert_eq!(stamp("2026-11-21T15:26:20.123Z"), "20261121-152620");
    }

    #[test]
    fn how_a_program_ended_is_handed_on() {
        let ended = |code, signal| end(&Ended { code, signal, words: String::new() });
        assert_eq!(ended(3, None), End::Code(3));
        assert_eq!(ended(0, None), End::Code(0));
        assert_eq!(ended(130, Some(2)), End::Signal(Signal::INT));
        assert_eq!(ended(143, None), End::Signal(Signal::TERM));
        assert_eq!(ended(139, Some(11)), End::Code(139));
    }
}
