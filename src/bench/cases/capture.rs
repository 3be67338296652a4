//! The source alone, at its frame rate, as a worker's source thread drives it.

use super::cpu_us;
use crate::bench::Case;
use crate::bench::material::Paced;
use crate::bench::report::Row;
use crate::bench::run::Runner;
use crate::error::{Error, Result};

pub fn run(runner: &mut Runner, mut source: Paced) -> Result<()> {
    let info = source.info().cloned().ok_or_else(|| Error::bug("a source that says nothing of itself"))?;
    let row = Row { detail: Some(info.detail), ..Row::new(Case::Capture, Some(info.size)) };
    runner.begin(row, info.fps, runner.frames());
    let (mut device, mut captured) = (false, Vec::new());
    for _ in 0..runner.frames() {
        if runner.stopping() {
            break;
        }
        let before = cpu_us();
        let frame = source.next()?;
        let cpu = cpu_us() - before;
        device = frame.picture().is_some();
        let (began, ended) = frame.captured_us;
        if runner.counts() {
            captured.push(began);
        }
        runner.frame(&[("capture", ended - began), ("cpu", cpu)]);
    }
    runner.weigh();
    if let [first, .., last] = captured[..] {
        runner.row().fps = Some((captured.len() - 1) as f64 * 1e6 / (last - first) as f64);
    }
    if device {
        let detail = &mut runner.row().detail;
        *detail = detail.take().map(|detail| detail + ", on the device");
    }
    runner.end()
}
