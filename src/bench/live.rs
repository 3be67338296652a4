//! A run, watched at a terminal.

use super::run::Live;
use crate::output::progress::Progress;

impl Live for Progress<'_> {
    fn begin(&mut self, title: &str, frames: usize) {
        Progress::begin(self, title, frames as u64);
    }

    fn step(&mut self, done: usize, p50: f64, p99: f64) {
        Progress::step(self, done as u64, || format!("p50 {p50:.3} ms  p99 {p99:.3} ms"));
    }

    fn end(&mut self, result: &str) {
        Progress::end(self, result);
    }
}
