//! The documents of managed streams, and their tables.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::engine;
use super::managed::{Line, Stream};
use super::plan::Planned;
use crate::config::Secret;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Show, Table};

/// How a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs, does not answer yet, and is younger than its start may last.
    Starting,
    /// It can be watched.
    Ready,
    /// It runs, and does not answer.
    Unhealthy,
    /// It runs no more.
    Exited,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Unhealthy => "unhealthy",
            State::Exited => "exited",
        }
    }
}

/// A stream, as the engine and the stream itself show it.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    pub name: String,
    pub container: String,
    pub id: String,
    pub title: String,
    pub state: State,
    /// Why it is not ready.
    pub reason: Option<String>,
    /// When it started, or ended; RFC 3339.
    pub since: Option<String>,
    pub image: String,
    /// What a registry calls the image's content.
    pub digest: Option<String>,
    /// Where its ports listen.
    pub address: String,
    pub ports: Vec<Planned>,
    pub page: Option<String>,
    /// The line that brings the page to another machine.
    pub tunnel: Option<String>,
    pub login: Option<Login>,
    /// `all`, `none`, an index or a UUID.
    pub gpu: String,
    pub reports: Option<Reports>,
}

/// Who may look.
#[derive(Clone, Debug, Serialize)]
pub struct Login {
    pub user: String,
    /// Told once, by the start that made it.
    #[serde(serialize_with = "revealed")]
    pub password: Option<Secret>,
    /// Where it is kept.
    pub file: Option<PathBuf>,
}

fn revealed<S: Serializer>(password: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
    password.as_ref().map(Secret::reveal).serialize(to)
}

/// A folder of reports.
#[derive(Clone, Debug, Serialize)]
pub struct Reports {
    pub dir: PathBuf,
    /// The newest first; null where the folder cannot be read.
    pub files: Option<Vec<File>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct File {
    pub name: String,
    pub bytes: u64,
    /// RFC 3339.
    pub modified: String,
}

/// What a command did to a container, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub container: String,
    pub action: Action,
    pub why: String,
    /// False where it was only planned.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Created,
    /// It ran already.
    Kept,
    Recreated,
    Removed,
}

impl Change {
    pub(super) fn new(container: &str, action: Action, why: impl Into<String>) -> Change {
        Change { container: container.into(), action, why: why.into(), done: true }
    }

    pub(super) fn removed(container: &str, why: String) -> Change {
        Change::new(container, Action::Removed, why)
    }

    pub(super) fn planned(container: &str, why: String) -> Change {
        Change { done: false, ..Change::removed(container, why) }
    }
}

/// What there is of one kind, and what was done to it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: Stream,
    pub engine: engine::Seen,
    pub streams: Vec<Seen>,
    pub changes: Vec<Change>,
    #[serde(skip)]
    pub errors: Vec<Error>,
}

impl Report {
    /// Bad where one has ended or does not answer.
    pub fn code(&self) -> Code {
        let bad = |seen: &Seen| matches!(seen.state, State::Unhealthy | State::Exited);
        if self.streams.iter().any(bad) { Code::Bad } else { Code::Good }
    }
}

impl Show for Report {
    const SCHEMA: &'static str = "gsk.streams";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let streams = streams(self);
        if self.changes.is_empty() { streams } else { changes(&self.changes).above(streams) }
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}

fn streams(report: &Report) -> Table {
    let columns = ["name", "state", "since", "image", "gpu", "ports", "page", "reports", "reason"];
    let n = report.streams.len();
    let version = report.engine.version.as_deref().unwrap_or("of unknown version");
    let heading =
        format!("{} containers: {n}, by the engine {version} at {}", report.stream.word(), report.engine.address);
    let mut table = Table::titled("streams", heading, columns);
    for seen in &report.streams {
        let reports = match &seen.reports {
            None => "-".into(),
            Some(Reports { files: Some(files), .. }) => files.len().to_string(),
            Some(Reports { files: None, .. }) => "unreadable".into(),
        };
        table.row([
            seen.name.clone(),
            seen.state.word().into(),
            seen.since.clone().unwrap_or_else(|| "-".into()),
            image_words(seen),
            seen.gpu.clone(),
            port_words(seen),
            seen.page.clone().unwrap_or_else(|| "-".into()),
            reports,
            seen.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn image_words(seen: &Seen) -> String {
    match seen.digest.as_deref().and_then(|digest| digest.get(..19)) {
        Some(start) => format!("{} ({start}…)", seen.image),
        None => seen.image.clone(),
    }
}

fn port_words(seen: &Seen) -> String {
    let word = |port: &Planned| format!("{} {}/{}", port.name, port.number, port.protocol);
    seen.ports.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn changes(changes: &[Change]) -> Table {
    let undone = changes.iter().filter(|change| !change.done).count();
    let heading = match undone {
        0 => format!("Changes: {}", changes.len()),
        n => format!("Plan: {n} to remove"),
    };
    let mut table = Table::titled("changes", heading, ["container", "action", "why"]);
    for change in changes {
        let action = match (change.action, change.done) {
            (Action::Created, _) => "created",
            (Action::Kept, _) => "kept",
            (Action::Recreated, _) => "created anew",
            (Action::Removed, true) => "removed",
            (Action::Removed, false) => "remove",
        };
        table.row([change.container.clone(), action.into(), change.why.clone()]);
    }
    table
}

/// [`Report`] after a start: the same document, and for people all that they need to look.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Started(pub Report);

impl Show for Started {
    const SCHEMA: &'static str = Report::SCHEMA;
    const VERSION: u32 = Report::VERSION;

    fn table(&self) -> Table {
        let tables = self.0.streams.iter().map(one);
        tables.reduce(Table::above).unwrap_or_default()
    }

    fn errors(&self) -> &[Error] {
        self.0.errors()
    }
}

fn one(seen: &Seen) -> Table {
    let mut table = Table::titled("stream", format!("{}: {}", seen.container, seen.state.word()), ["what", "value"]);
    let mut row = |what: &str, value: String| table.row([what.to_string(), value]);
    if let Some(page) = &seen.page {
        row("page", page.clone());
    }
    if let Some(login) = &seen.login {
        row("user", login.user.clone());
        let file = login.file.as_ref().map(|file| format!("in {}", file.display()));
        let password = match (&login.password, file) {
            (Some(password), Some(file)) => format!("{}, kept {file}", password.reveal()),
            (_, Some(file)) => file,
            _ => "-".into(),
        };
        row("password", password);
    }
    if let Some(tunnel) = &seen.tunnel {
        row("tunnel", tunnel.clone());
    }
    row("ports", format!("{} on {}", port_words(seen), seen.address));
    row("image", image_words(seen));
    row("gpu", seen.gpu.clone());
    if let Some(reports) = &seen.reports {
        let names = reports.files.as_ref().map(|files| {
            let names: Vec<&str> = files.iter().take(5).map(|file| file.name.as_str()).collect();
            let more = if files.len() > names.len() { ", …" } else { "" };
            format!("{} in {}: {}{more}", files.len(), reports.dir.display(), names.join(", "))
        });
        row("reports", names.unwrap_or_else(|| format!("{} cannot be read", reports.dir.display())));
    }
    if let Some(reason) = &seen.reason {
        row("reason", reason.clone());
    }
    table.unbroken()
}

/// A container's log.
#[derive(Clone, Debug, Serialize)]
pub struct Log {
    pub stream: Stream,
    pub lines: Vec<Line>,
}

impl Show for Log {
    const SCHEMA: &'static str = "gsk.stream-log";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut table = Table::new(["from", "text"]);
        self.lines.iter().for_each(|line| table.row([line.from, line.text.as_str()]));
        table
    }
}
