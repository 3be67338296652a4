//! Files that a run is kept in. They are opened before anything is measured, so that a wrong path is told at once, and written
//! after each row, so that an interrupt keeps what there is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::environment::{Calibration, Cpu};
use super::report::{Key, Report};
use super::stats::Samples;
use super::{html, plot};
use crate::error::{Error, Result};
use crate::output::document;

/// Where a run is written to.
#[derive(Default)]
pub struct Files {
    all: Vec<Out>,
}

struct Out {
    path: PathBuf,
    file: File,
    /// A regular file is written over and over, any other once.
    regular: bool,
    render: fn(&Report) -> Result<String>,
}

impl Files {
    /// The samples and all that is made of them, as JSON: what `--baseline` reads.
    pub fn baseline(self, path: Option<&Path>) -> Result<Files> {
        self.with(path, |report| Ok(format!("{}\n", document(report)?)))
    }

    /// Pictures as SVG.
    pub fn plot(self, path: Option<&Path>) -> Result<Files> {
        self.with(path, |report| Ok(plot::page(report)))
    }

    /// One page that needs nothing else.
    pub fn html(self, path: Option<&Path>) -> Result<Files> {
        self.with(path, |report| Ok(html::page(report)))
    }

    fn with(mut self, path: Option<&Path>, render: fn(&Report) -> Result<String>) -> Result<Files> {
        if let Some(path) = path {
            let failed = |error| Error::io(format!("cannot write '{}'", path.display()), error);
            // What it held before stays until there is something to put in its place.
            let file = File::options().write(true).create(true).truncate(false).open(path).map_err(failed)?;
            let regular = file.metadata().map_err(failed)?.is_file();
            self.all.push(Out { path: path.into(), file, regular, render });
        }
        Ok(self)
    }

    /// Writes all files anew; `last`: for the last time.
    pub fn write(&mut self, report: &Report, last: bool) -> Result<()> {
        for out in &mut self.all {
            if !(out.regular || last) {
                continue;
            }
            let text = (out.render)(report)?;
            let written = out.file.seek(SeekFrom::Start(0)).map(drop).or_else(|error| match out.regular {
                true => Err(error),
                // A pipe has no place to go back to.
                false => Ok(()),
            });
            let written = written.and_then(|()| out.file.write_all(text.as_bytes()));
            let written = written.and_then(|()| if out.regular { out.file.set_len(text.len() as u64) } else { Ok(()) });
            written.map_err(|error| Error::io(format!("cannot write '{}'", out.path.display()), error))?;
        }
        Ok(())
    }
}

/// An older run, as `--save-baseline` or `--json` wrote it.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// As the user wrote it.
    pub path: String,
    document: Document,
}

#[derive(Clone, Debug, Deserialize)]
struct Document {
    schema: Schema,
    gsk: String,
    host: String,
    began: String,
    settings: Settings,
    environment: Machine,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Schema {
    name: String,
    version: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct Settings {
    source: String,
    fps: f64,
    bitrate: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct Machine {
    cpu: Cpu,
    calibration: Calibration,
    noisy: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    #[serde(flatten)]
    key: Key,
    #[serde(default)]
    rounds: Vec<usize>,
    #[serde(default)]
    yards_us: Vec<u64>,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug, Deserialize)]
struct Stage {
    stage: String,
    samples_us: Vec<u64>,
}

/// The most that a baseline may measure, bytes: far beyond any real one.
const CAP: u64 = 256 << 20;

/// Two machines, or one at two times, are told apart where their calibrations differ by more, %.
const PACE_PERCENT: f64 = 10.0;

impl Baseline {
    pub fn read(path: &Path) -> Result<Baseline> {
        let shown = path.display().to_string();
        let failed = |error| {
            Error::io(format!("cannot read the baseline '{shown}'"), error)
                .hint("write one: gsk bench --save-baseline FILE")
        };
        let mut text = Vec::new();
        File::open(path).and_then(|file| file.take(CAP).read_to_end(&mut text)).map_err(failed)?;
        Baseline::parse(shown, &text)
    }

    fn parse(path: String, text: &[u8]) -> Result<Baseline> {
        let wrong = |cause: String| {
            Error::usage(format!("'{path}' is no baseline"))
                .cause(cause)
                .hint("write one: gsk bench --save-baseline FILE")
        };
        let document: Document = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let Schema { name, version } = &document.schema;
        if (name.as_str(), *version) != ("gsk.bench", 1) {
            return Err(wrong(format!("it is {name}, version {version}, and gsk.bench, version 1, is read")));
        }
        Ok(Baseline { path, document })
    }

    pub fn began(&self) -> &str {
        &self.document.began
    }

    /// A stage's samples in the row of that key; `None` where there are none.
    pub fn samples(&self, key: &Key, stage: &str) -> Option<Samples<'_>> {
        let row = self.document.rows.iter().find(|row| row.key == *key)?;
        let stage = row.stages.iter().find(|known| known.stage == stage)?;
        (!stage.samples_us.is_empty()).then_some(Samples {
            us: &stage.samples_us,
            rounds: &row.rounds,
            yards: &row.yards_us,
        })
    }

    /// In what else, beside gsk itself, the two runs differ.
    pub fn cautions(&self, report: &Report) -> Vec<String> {
        let Document { host, gsk, settings, environment: then, .. } = &self.document;
        let (now, here) = (&report.environment, crate::output::host());
        let differs = |what: &str, old: &str, new: &str| (old != new).then(|| format!("{what} was {old} and is {new}"));
        let model = |cpu: &Cpu| cpu.model.clone().unwrap_or_else(|| "unknown".into());
        let pace = 100.0 * (now.calibration.p50_ms / then.calibration.p50_ms - 1.0);
        let slower = (pace.abs() > PACE_PERCENT).then(|| {
            let way = if pace > 0.0 { "slower" } else { "faster" };
            format!("this machine calculates {:.0} % {way} than it did, whatever gsk does", pace.abs())
        });
        let noisy = [(then.noisy, "the baseline was"), (now.noisy, "this run was")];
        let noisy =
            noisy.into_iter().filter(|(noisy, _)| *noisy).map(|(_, what)| format!("{what} made on a noisy machine"));
        [
            differs("the host", host, &here),
            differs("the CPU", &model(&then.cpu), &model(&now.cpu)),
            differs("gsk", gsk, env!("CARGO_PKG_VERSION")),
            differs("the source", &settings.source, &report.settings.source),
            differs("the frame rate", &settings.fps.to_string(), &report.settings.fps.to_string()),
            differs("the bit rate", &settings.bitrate.to_string(), &report.settings.bitrate.to_string()),
            slower,
        ]
        .into_iter()
        .flatten()
        .chain(noisy)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_baseline_is_refused() {
        for (text, says) in [
            (&b"{}"[..], "missing field"),
            (b"plain words", "expected value"),
            (br#"{"schema":{"name":"gsk.config","version":1},"gsk":"0","host":"h","began":"","settings":{"source":"scene","fps":30,"bitrate":1},"environment":{"cpu":{"model":null,"cores":1,"mhz":null,"governor":null},"calibration":{"p50_ms":1,"spread_percent":1},"noisy":false},"rows":[]}"#, "gsk.config"),
        ] {
            let error = Baseline::parse("b.json".into(), text).unwrap_err();
            assert!(error.cause.as_deref().is_some_and(|cause| cause.contains(says)), "{error:?}");
        }
        assert!(Baseline::read(Path::new("/nowhere/b.json")).unwrap_err().hint.unwrap().contains("--save-baseline"));
    }
}
