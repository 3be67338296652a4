//! How far a long piece of work has come: a bar on a terminal, else a line when it is done.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Printer;

/// How often a bar is drawn anew.
const PACE: Duration = Duration::from_millis(100);

/// The progress of one piece after another, on standard error.
pub struct Progress<'a> {
    printer: &'a Printer,
    terminal: bool,
    title: String,
    bar: ProgressBar,
    drawn: Option<Instant>,
}

impl Printer {
    /// Shows how far things are; nothing with `-q`.
    pub fn progress(&self) -> Progress<'_> {
        let terminal = std::io::stderr().is_terminal() && !self.quiet;
        Progress { printer: self, terminal, title: String::new(), bar: ProgressBar::hidden(), drawn: None }
    }
}

impl Progress<'_> {
    /// A piece of `steps` begins.
    pub fn begin(&mut self, title: &str, steps: u64) {
        self.title = super::text::sanitise(title);
        self.drawn = None;
        if self.terminal {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}");
            self.bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.set_prefix(self.title.clone());
        }
    }

    /// So many steps are done; `words` says how it goes.
    pub fn step(&mut self, done: u64, words: impl FnOnce() -> String) {
        if self.terminal && self.drawn.is_none_or(|at| at.elapsed() >= PACE) {
            self.drawn = Some(Instant::now());
            self.bar.set_message(words());
            self.bar.set_position(done);
        }
    }

    /// It is done: a line says with what.
    pub fn end(&mut self, words: &str) {
        self.bar.finish_and_clear();
        self.printer.note(&format!("{}: {words}", self.title));
    }
}
