//! The printer: data on standard output in the format that was asked for, messages on standard error.

pub mod log;
pub mod progress;
mod table;
pub mod text;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

pub use table::Table;

use crate::error::{Error, Kind, Result};

/// How data is written on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people: aligned columns.
    #[default]
    Table,
    /// One indented document.
    Json,
    /// One document a line.
    Jsonl,
    /// RFC 4180, with a heading line; several tables are told apart by the first column.
    Csv,
}

impl Format {
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// When to colour what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is "dumb".
    #[default]
    Auto,
    /// Wherever it goes.
    Always,
    /// Not at all.
    Never,
}

impl Color {
    /// Whether to colour a stream that is a terminal or not.
    pub fn on(self, terminal: bool) -> bool {
        let refused = || {
            std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
                || std::env::var_os("TERM").is_some_and(|v| v == "dumb")
        };
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !refused(),
        }
    }
}

/// A document that a command answers with: JSON by serde, and a table that shows the same to people.
pub trait Show: Serialize {
    /// The schema's name, such as `gsk.config`.
    const SCHEMA: &'static str;
    /// Goes up only where a reader of the older version would be misled; additions leave it.
    const VERSION: u32;

    fn table(&self) -> Table;

    /// What went wrong without keeping the document from being made.
    fn errors(&self) -> &[Error] {
        &[]
    }
}

#[derive(Serialize)]
struct Schema {
    name: &'static str,
    version: u32,
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: Schema,
    gsk: &'static str,
    host: String,
    #[serde(flatten)]
    body: &'a T,
    errors: &'a [Error],
}

impl<T: Show> Document<'_, T> {
    fn of(body: &T) -> Document<'_, T> {
        Document {
            schema: Schema { name: T::SCHEMA, version: T::VERSION },
            gsk: env!("CARGO_PKG_VERSION"),
            host: host(),
            body,
            errors: body.errors(),
        }
    }
}

/// The document that JSON formats print.
pub fn document<T: Show>(body: &T) -> Result<serde_json::Value> {
    serde_json::to_value(Document::of(body))
        .map_err(|e| Error::bug(format!("{} cannot be written as JSON", T::SCHEMA)).cause(e))
}

/// The tables that are printed where there is no terminal, with each text changed.
pub fn plain<T: Show>(body: &T, change: impl FnMut(&str) -> String) -> String {
    body.table().changed(change).aligned(false, true)
}

/// A command's way to standard output and standard error.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    quiet: bool,
    color_out: bool,
    color_err: bool,
    terminal: bool,
    /// Whether data went out already, so that a failure adds no second document to one that stands alone.
    wrote: AtomicBool,
}

impl Printer {
    pub fn new(format: Format, color: Color, quiet: bool) -> Printer {
        let terminal = io::stdout().is_terminal();
        Printer {
            format,
            quiet,
            color_out: color.on(terminal),
            color_err: color.on(io::stderr().is_terminal()),
            terminal,
            wrote: AtomicBool::new(false),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether somebody follows messages on a terminal: then a line that is drawn anew may show progress.
    pub fn live(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Prints a document on standard output. A closed one is [`Kind::Closed`].
    pub fn show<T: Show>(&self, document: &T) -> Result<()> {
        self.data(&self.render(document)?)
    }

    /// Prints a document of many, one after another: JSON one a line, a table in the place of the last one on a terminal.
    pub fn show_again<T: Show>(&self, document: &T) -> Result<()> {
        let text = match self.format {
            Format::Json => {
                Printer { format: Format::Jsonl, wrote: AtomicBool::new(false), ..*self }.render(document)?
            }
            _ => self.render(document)?,
        };
        match self.format {
            // Line by line over the old, so that nothing flickers: to the top, each line's rest cleared, then what is below.
            Format::Table if self.terminal => self.data(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))),
            Format::Table | Format::Csv if self.wrote.load(Ordering::Relaxed) => self.data(&format!("\n{text}")),
            _ => self.data(&text),
        }
    }

    /// Prints one line of text on standard output, for what is no [`Show`], such as the address to open.
    pub fn line(&self, line: &str) -> Result<()> {
        self.data(&format!("{}\n", text::sanitise(line)))
    }

    /// Says something that helps, on standard error; not with `-q`.
    pub fn note(&self, message: &str) {
        if !self.quiet {
            self.message("note", "\x1b[36m", message);
        }
    }

    /// Says what is likely not meant, on standard error; not with `-q`.
    pub fn warn(&self, message: &str) {
        if !self.quiet {
            self.message("warning", "\x1b[33m", message);
        }
    }

    /// Says what failed, on standard error, and as a document where JSON is read and none went out yet.
    pub fn error(&self, error: &Error) {
        if error.kind == Kind::Closed {
            return;
        }
        self.message("error", "\x1b[31m", &describe(error));
        if self.format == Format::Jsonl || self.format == Format::Json && !self.wrote.load(Ordering::Relaxed) {
            // Standard error has it already: a closed standard output adds nothing to it.
            let _ = self.show(&Failure { error: std::slice::from_ref(error) });
        }
    }

    fn render<T: Show>(&self, body: &T) -> Result<String> {
        let document = || Document::of(body);
        let json = match self.format {
            Format::Table => return Ok(body.table().aligned(self.color_out, !self.terminal)),
            Format::Csv => return Ok(body.table().csv()),
            Format::Json => serde_json::to_string_pretty(&document()),
            Format::Jsonl => serde_json::to_string(&document()),
        };
        json.map(|json| json + "\n")
            .map_err(|e| Error::bug(format!("{} cannot be written as JSON", T::SCHEMA)).cause(e))
    }

    fn data(&self, data: &str) -> Result<()> {
        self.wrote.store(true, Ordering::Relaxed);
        write(&mut io::stdout().lock(), data)
    }

    fn message(&self, label: &str, color: &str, message: &str) {
        let message = text::sanitise_lines(message);
        let line = match self.color_err {
            true => format!("{color}\x1b[1m{label}:\x1b[0m {message}\n"),
            false => format!("{label}: {message}\n"),
        };
        // A closed standard error leaves no place to say so.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

/// What failed, the cause indented below it, and the hint after a blank line.
fn describe(error: &Error) -> String {
    let mut text = error.what.clone();
    if let Some(cause) = &error.cause {
        text += &format!("\n  cause: {}", cause.trim_end().replace('\n', "\n         "));
    }
    if let Some(hint) = &error.hint {
        text += &format!("\n\nhint: {}", hint.replace('\n', "\n      "));
    }
    text
}

fn write(out: &mut impl Write, data: &str) -> Result<()> {
    out.write_all(data.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Error::new(Kind::Closed, "standard output is closed"),
        _ => Error::io("standard output cannot be written", e),
    })
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A document with nothing but its errors.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(skip)]
    error: &'a [Error],
}

impl Show for Failure<'_> {
    const SCHEMA: &'static str = "gsk.error";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        Table::default()
    }

    fn errors(&self) -> &[Error] {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Answer {
        frames: u32,
    }

    impl Show for Answer {
        const SCHEMA: &'static str = "gsk.answer";
        const VERSION: u32 = 3;

        fn table(&self) -> Table {
            let mut table = Table::new(["frames"]);
            table.row([self.frames.to_string()]);
            table
        }
    }

    fn rendered(format: Format) -> String {
        Printer::new(format, Color::Never, false).render(&Answer { frames: 7 }).unwrap()
    }

    #[test]
    fn one_document_in_every_format() {
        assert_eq!(rendered(Format::Table), "FRAMES\n7\n");
        assert_eq!(rendered(Format::Csv), "frames\n7\n");
        let json: serde_json::Value = serde_json::from_str(&rendered(Format::Json)).unwrap();
        assert_eq!(json["schema"], serde_json::json!({"name": "gsk.answer", "version": 3}));
        assert_eq!((&json["frames"], &json["gsk"]), (&7.into(), &env!("CARGO_PKG_VERSION").into()));
        assert_eq!((&json["host"], &json["errors"]), (&host().into(), &serde_json::json!([])));
        let line = rendered(Format::Jsonl);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), json);
    }

    #[test]
    fn errors_read_what_cause_hint() {
        let error = Error::usage("port 5000 is taken").cause("two\nlines\n").hint("gsk serve --listen 5001");
        assert_eq!(
            describe(&error),
            "port 5000 is taken\n  cause: two\n         lines\n\nhint: gsk serve --listen 5001"
        );
        assert_eq!(describe(&Error::failed("only this")), "only this");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        struct Fails(ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write(&mut Fails(ErrorKind::BrokenPipe), "x").unwrap_err().kind, Kind::Closed);
        assert_eq!(write(&mut Fails(ErrorKind::StorageFull), "x").unwrap_err().kind, Kind::Failed);
    }

    #[test]
    fn color_always_and_never_ask_nobody() {
        assert!(Color::Always.on(false));
        assert!(!Color::Never.on(true));
        assert!(!Color::Auto.on(false));
    }
}
