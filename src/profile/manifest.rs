//! What is kept of a run: a JSON document beside its files, which also takes its name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::nsys::Nsys;
use super::summary::Row;
use super::surroundings::{Git, Hardware};
use super::training::Training;
use crate::error::{Error, Result};
use crate::output::{self, Show, Table};
use crate::proc;

/// What follows a run's name.
const MANIFEST: &str = ".run.json";
pub const REPORT: &str = ".nsys-rep";
pub const TRACE: &str = ".trace.json";
/// What the built-in run, in a process of its own, tells us; gone once it is read.
pub const RESULT: &str = ".training.json";
/// What `nsys stats` makes of a report on its way.
pub const EXPORT: &str = ".sqlite";
/// All of them.
const ENDS: [&str; 5] = [MANIFEST, REPORT, TRACE, EXPORT, RESULT];
/// What follows the names of a run's files while another is about to take its name.
const ASIDE: &str = ".old";

/// Who collected the ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collector {
    Nsys,
    Gsk,
}

/// One process, not a later one of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub start: u64,
}

impl Process {
    pub fn own() -> Process {
        Process { pid: std::process::id(), start: proc::own_start() }
    }

    fn runs(self) -> bool {
        proc::stat(self.pid).is_some_and(|stat| stat.start == self.start && !stat.ended)
    }
}

/// Names of files in the run's folder; null for what there is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// What Nsight Systems opens.
    pub report: Option<String>,
    /// The report as a database.
    pub export: Option<String>,
    /// What Perfetto and chrome://tracing open.
    pub trace: Option<String>,
}

/// A run, as its manifest and the command's answer have it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Of its files, less what follows.
    pub name: String,
    /// Where they are, as it was given.
    pub folder: String,
    pub job: String,
    pub epochs: u32,
    pub batch: u32,
    pub workers: u32,
    /// The program that was profiled, with its arguments; null: the built-in run.
    pub program: Option<Vec<String>>,
    /// What was started; null where the built-in run was this very process.
    pub command: Option<Vec<String>>,
    /// Null where nobody collected ranges.
    pub collector: Option<Collector>,
    pub nsys: Option<Nsys>,
    /// Why it was not nsys.
    pub no_nsys: Option<String>,
    pub directory: Option<String>,
    /// Variables that matter.
    pub environment: BTreeMap<String, String>,
    pub hardware: Hardware,
    /// The commit in `directory`; null where there is none.
    pub git: Option<Git>,
    /// This process of gsk.
    pub process: Process,
    /// RFC 3339.
    pub started: String,
    pub ended: Option<String>,
    pub seconds: Option<f64>,
    /// The program's; null where a signal ended it, or it has not ended.
    pub exit_code: Option<u8>,
    pub signal: Option<i32>,
    /// The signal that gsk was sent meanwhile.
    pub interrupted: Option<i32>,
    pub files: Files,
    /// Of the built-in run.
    pub training: Option<Training>,
    /// By name, the longest first; null where nobody collected them, or their report cannot be read.
    pub ranges: Option<Vec<Row>>,
    pub warnings: Vec<String>,
    /// Why the built-in run broke off.
    #[serde(skip)]
    pub errors: Vec<Error>,
}

impl Run {
    fn heading(&self) -> String {
        let end = match (self.signal, self.exit_code) {
            (Some(signal), _) => format!("ended by signal {signal}"),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "not ended".into(),
        };
        let time = self.seconds.map_or_else(String::new, |seconds| format!(" after {seconds:.1} s"));
        format!("Run {}: {end}{time}", self.name)
    }
}

impl Show for Run {
    const SCHEMA: &'static str = "gsk.profile";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut files = Table::titled("files", self.heading(), ["file", "path"]).unbroken();
        let Files { report, export, trace } = &self.files;
        let manifest = Some(format!("{}{MANIFEST}", self.name));
        for (kind, name) in [("report", report), ("export", export), ("trace", trace), ("manifest", &manifest)] {
            if let Some(name) = name {
                files.row([kind.to_owned(), Path::new(&self.folder).join(name).display().to_string()]);
            }
        }
        let mut all = files;
        if let Some(training) = &self.training {
            let heading = format!("Training on {}", training.device);
            let mut epochs = Table::titled("epochs", heading, ["epoch", "loss", "accuracy", "seconds"]);
            for epoch in &training.epochs {
                epochs.row([
                    epoch.epoch.to_string(),
                    format!("{:.4}", epoch.loss),
                    format!("{:.1} %", epoch.accuracy * 100.0),
                    format!("{:.2}", epoch.seconds),
                ]);
            }
            all = all.above(epochs);
        }
        if let Some(rows) = &self.ranges {
            all = all.above(ranges(rows));
        }
        all
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}

fn ranges(rows: &[Row]) -> Table {
    let heading = if rows.is_empty() { "Ranges: none" } else { "Ranges, ms" };
    let columns = ["range", "count", "total", "mean", "p50", "p95", "on gpu"];
    let mut table = Table::titled("ranges", heading, columns);
    let ms = |ms: f64| format!("{ms:.3}");
    let known = |value: Option<f64>| value.map_or_else(|| "-".into(), ms);
    for row in rows {
        table.row([
            row.range.clone(),
            row.count.to_string(),
            ms(row.total_ms),
            ms(row.mean_ms),
            ms(row.p50_ms),
            known(row.p95_ms),
            known(row.gpu_ms),
        ]);
    }
    table
}

/// A run's name, which no other has while this lives; unless it is kept, all of the name's files go with it.
#[derive(Debug)]
pub struct Reserved {
    folder: PathBuf,
    name: String,
    kept: bool,
    /// Ends of the files that had this name, and lie aside.
    aside: Vec<&'static str>,
}

impl Reserved {
    /// Takes `name`; where it is taken, `again` says whether to number it instead. `force`: takes it nevertheless, unless the
    /// run that has it goes on; what was there lies aside until [`Reserved::begun`], and is there again if that never comes.
    pub fn take(folder: &Path, name: &str, again: bool, force: bool) -> Result<Reserved> {
        for number in 1..=1000 {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let mut reserved = Reserved { folder: folder.into(), name, kept: true, aside: Vec::new() };
            if force {
                reserved.set_aside()?;
            }
            let taken = |end: &&str| reserved.file(end).symlink_metadata().is_ok();
            if ![REPORT, TRACE, EXPORT].iter().any(taken) {
                let manifest = reserved.file(MANIFEST);
                match File::create_new(&manifest) {
                    Ok(file) => {
                        // Until all is known: whose the name is.
                        let _ = serde_json::to_writer(file, &json!({"process": Process::own()}));
                        reserved.kept = false;
                        return Ok(reserved);
                    }
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        reserved.put_back();
                        return Err(Error::io(format!("cannot write '{}'", manifest.display()), error)
                            .hint("choose another folder: --output-dir DIR"));
                    }
                }
            }
            reserved.put_back();
            if !again {
                break;
            }
        }
        Err(Error::usage(format!("there is a run '{name}' in '{}'", folder.display()))
            .hint("choose another --stamp, or overwrite it: --force"))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One of the name's files.
    pub fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}{end}", self.name))
    }

    /// The name of one of its files, where there is one.
    pub fn there(&self, end: &str) -> Option<String> {
        self.file(end).is_file().then(|| format!("{}{end}", self.name))
    }

    /// Writes the manifest anew, whole or not at all, and keeps the name.
    pub fn write(&mut self, run: &Run) -> Result<()> {
        let path = self.file(MANIFEST);
        let text = serde_json::to_string_pretty(&output::document(run)?);
        let text = text.map_err(|error| Error::bug("a manifest cannot be written").cause(error))? + "\n";
        let fresh = self.file(&format!("{MANIFEST}.new"));
        let written = File::create(&fresh).and_then(|mut file| file.write_all(text.as_bytes()));
        written.and_then(|()| fs::rename(&fresh, &path)).map_err(|error| {
            let _ = fs::remove_file(&fresh);
            Error::io(format!("cannot write '{}'", path.display()), error)
        })?;
        self.kept = true;
        Ok(())
    }

    /// Gives the name back: nothing came of the run.
    pub fn discard(&mut self) {
        self.kept = false;
    }

    /// The run goes on: what had its name is gone.
    pub fn begun(&mut self) {
        for end in std::mem::take(&mut self.aside) {
            let _ = fs::remove_file(self.file(&format!("{end}{ASIDE}")));
        }
    }

    /// Sets aside the files that have this name, unless theirs is a run that goes on.
    fn set_aside(&mut self) -> Result<()> {
        let old = fs::read(self.file(MANIFEST)).ok().and_then(|text| serde_json::from_slice::<Owner>(&text).ok());
        if old.is_some_and(|old| old.ended.is_none() && old.process.runs()) {
            return Err(Error::usage(format!("the run '{}' in '{}' goes on", self.name, self.folder.display()))
                .hint("choose another --stamp, or wait until it has ended"));
        }
        for end in ENDS {
            match fs::rename(self.file(end), self.file(&format!("{end}{ASIDE}"))) {
                Ok(()) => self.aside.push(end),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    self.put_back();
                    return Err(Error::io(format!("cannot set '{}' aside", self.file(end).display()), error));
                }
            }
        }
        Ok(())
    }

    /// Gives what lies aside its names again, but for those that another run took meanwhile.
    fn put_back(&mut self) {
        for end in std::mem::take(&mut self.aside) {
            let file = self.file(end);
            if file.symlink_metadata().is_err() {
                let _ = fs::rename(self.file(&format!("{end}{ASIDE}")), file);
            }
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            for end in ENDS {
                let _ = fs::remove_file(self.file(end));
            }
            self.put_back();
        }
    }
}

/// Whether a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Ended,
    /// Its gsk was killed.
    Broken,
    /// It has not ended as far as is known here: it was begun on another machine.
    Elsewhere,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    pub name: String,
    pub started: String,
    pub state: State,
    pub seconds: Option<f64>,
    pub exit_code: Option<u8>,
    pub signal: Option<i32>,
    pub collector: Option<Collector>,
    pub files: Files,
    /// The program, or null for the built-in run.
    pub program: Option<Vec<String>>,
    /// Of the built-in run's last epoch, 0 to 1.
    pub accuracy: Option<f64>,
}

/// The runs in a folder.
#[derive(Debug, Serialize)]
pub struct Runs {
    pub folder: String,
    /// The newest first.
    pub runs: Vec<Listed>,
    #[serde(skip)]
    errors: Vec<Error>,
}

/// As far as a list needs it.
#[derive(Deserialize)]
struct Manifest {
    schema: Schema,
    host: String,
    started: String,
    process: Process,
    ended: Option<String>,
    seconds: Option<f64>,
    exit_code: Option<u8>,
    signal: Option<i32>,
    collector: Option<Collector>,
    #[serde(default)]
    files: Files,
    program: Option<Vec<String>>,
    training: Option<Training>,
}

/// Whose a manifest is.
#[derive(Deserialize)]
struct Owner {
    process: Process,
    ended: Option<String>,
}

#[derive(Deserialize)]
struct Schema {
    name: String,
    version: u32,
}

impl Runs {
    /// A folder that is not there has none. A manifest that cannot be read is an error in the answer.
    pub fn read(folder: &Path) -> Result<Runs> {
        let failed = |error| Error::io(format!("cannot read the folder '{}'", folder.display()), error);
        let mut runs = Runs { folder: folder.display().to_string(), runs: Vec::new(), errors: Vec::new() };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(runs),
            Err(error) => return Err(failed(error)),
        };
        let mut names: Vec<String> = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(MANIFEST)).map(Into::into));
        }
        for name in names {
            match listed(&folder.join(format!("{name}{MANIFEST}")), name) {
                Ok(listed) => runs.runs.push(listed),
                Err(error) => runs.errors.push(error),
            }
        }
        runs.runs.sort_by(|a, b| (&b.started, &b.name).cmp(&(&a.started, &a.name)));
        Ok(runs)
    }
}

fn listed(path: &Path, name: String) -> Result<Listed> {
    let text = fs::read(path).map_err(|error| Error::io(format!("cannot read '{}'", path.display()), error))?;
    let wrong = |cause: String| Error::failed(format!("'{}' is no manifest of a run", path.display())).cause(cause);
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let Schema { name: schema, version } = manifest.schema;
    if schema != Run::SCHEMA || version > Run::VERSION {
        return Err(wrong(format!("its schema is {schema} {version}")));
    }
    let state = match manifest.ended.is_some() {
        true => State::Ended,
        false if manifest.host != output::host() => State::Elsewhere,
        false if manifest.process.runs() => State::Running,
        false => State::Broken,
    };
    let last = manifest.training.and_then(|training| training.epochs.last().copied());
    Ok(Listed {
        name,
        started: manifest.started,
        state,
        seconds: manifest.seconds,
        exit_code: manifest.exit_code,
        signal: manifest.signal,
        collector: manifest.collector,
        files: manifest.files,
        program: manifest.program,
        accuracy: last.map(|epoch| epoch.accuracy),
    })
}

impl Show for Runs {
    const SCHEMA: &'static str = "gsk.profiles";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let heading = match self.runs.len() {
            0 => format!("No runs in {}", self.folder),
            _ => format!("Runs in {}, times in UTC", self.folder),
        };
        let columns = ["name", "started", "seconds", "end", "collector", "file", "program"];
        let mut table = Table::titled("runs", heading, columns);
        let none = || "-".to_owned();
        for run in &self.runs {
            let end = match (run.state, run.signal, run.exit_code) {
                (State::Running, ..) => "running".into(),
                (State::Broken, ..) => "broken off".into(),
                (State::Elsewhere, ..) => "not known here".into(),
                (State::Ended, Some(signal), _) => format!("signal {signal}"),
                (State::Ended, None, code) => code.map_or_else(none, |code| code.to_string()),
            };
            table.row([
                run.name.clone(),
                run.started.split('.').next().unwrap_or_default().replace('T', " "),
                run.seconds.map_or_else(none, |seconds| format!("{seconds:.1}")),
                end,
                run.collector.map_or("-", |collector| if collector == Collector::Nsys { "nsys" } else { "gsk" }).into(),
                run.files.report.as_ref().or(run.files.trace.as_ref()).cloned().unwrap_or_else(none),
                run.program.as_ref().map_or_else(|| "built-in".into(), |program| program.join(" ")),
            ]);
        }
        table
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}
