//! The source alone, at its frame rate, as a worker's source thread drives it.

use super::cpu_us;
use crate::bench::material::Paced;
use crate::bench::report::Row;
use crate::bench::run::Runner;
use crate::bench::{Case, Source};
use crate::error::{Error, Result};

pub fn run(runner: &mut Runner, mut source: Paced) -> Result<()> {
    let info = source.info().cloned().ok_or_else(|| Error::bug("a source that says nothing of itself"))?;
    runner.begin(Row::new(Case::Capture, Some(info.size)), info.fps, runner.frames());
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
    // Why pictures are read back is known once one was.
    let detail = source.info().map_or(info.detail, |info| info.detail.clone());
    runner.row().detail = Some(if device { format!("{detail}, on the device") } else { detail.clone() });
    runner.end()?;
    if device || runner.options.source != Source::Scene {
        return Ok(());
    }
    let row = Row { backend: Some("cuda".into()), ..Row::new(Case::Capture, Some(info.size)) };
    runner.absent(&row, format!("pictures pass through host memory: {detail}"))
}
