//! How far a long piece of work has come: a bar on a terminal, else a line when it is done.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Printer;

/// How often a bar is drawn anew.
const PACE: Duration = Duration::from_millis(100);

/// Between two lines on the same work, where there is no terminal.
const LINES: Duration = Duration::from_secs(10);
/// The most bars at once; an image has at most 127 layers.
const BARS: usize = 127;

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

/// The progress of several pieces at once, each with its own bar; without a terminal a line now and then for them all.
pub struct Layers<'a> {
    printer: &'a Printer,
    title: String,
    bars: Option<MultiProgress>,
    pieces: HashMap<String, Piece>,
    said: Instant,
}

struct Piece {
    bar: ProgressBar,
    /// Bytes, of the step that it is in.
    done: u64,
    total: u64,
}

impl Printer {
    /// Shows how far pieces are that are worked on at once; nothing with `-q`.
    pub fn layers(&self, title: &str) -> Layers<'_> {
        let terminal = std::io::stderr().is_terminal() && !self.quiet;
        let title = super::text::sanitise(title);
        if !terminal {
            self.note(&title);
        }
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        if let Some(bars) = &bars {
            // Where the terminal cannot be written to, nobody misses it.
            let _ = bars.println(&title);
        }
        Layers { printer: self, title, bars, pieces: HashMap::new(), said: Instant::now() }
    }
}

impl Layers<'_> {
    /// A piece is at `words`, and has `figure`: bytes done and bytes in all.
    pub fn at(&mut self, piece: &str, words: &str, figure: Option<(u64, u64)>) {
        if !self.pieces.contains_key(piece) && self.pieces.len() < BARS {
            let bar = ProgressBar::hidden();
            let bar = self.bars.as_ref().map_or(bar.clone(), |bars| bars.add(bar));
            let style = ProgressStyle::with_template("{prefix:12} {wide_bar} {bytes:>11}/{total_bytes:11} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(super::text::sanitise(piece));
            self.pieces.insert(piece.into(), Piece { bar, done: 0, total: 0 });
        }
        let Some(piece) = self.pieces.get_mut(piece) else { return };
        piece.bar.set_message(super::text::sanitise(words));
        if let Some((done, total)) = figure {
            (piece.done, piece.total) = (done, total);
            piece.bar.set_length(total);
            piece.bar.set_position(done);
        }
        if self.bars.is_none() && self.said.elapsed() >= LINES {
            self.said = Instant::now();
            let of = |amount: fn(&Piece) -> u64| self.pieces.values().map(amount).sum::<u64>();
            let (done, total) = (HumanBytes(of(|piece| piece.done)), HumanBytes(of(|piece| piece.total)));
            self.printer.note(&format!("{}: {done} of {total} so far", self.title));
        }
    }

    /// All are done: a line says with what.
    pub fn end(self, words: &str) {
        if let Some(bars) = &self.bars {
            // As above.
            let _ = bars.clear();
        }
        self.printer.note(&format!("{}: {words}", self.title));
    }
}
