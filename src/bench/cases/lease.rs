//! Taking an encoder slot and giving it back, with others held: files, locks and the broker, in a directory of its own, so that
//! nobody's slots are touched.

use crate::bench::Case;
use crate::bench::report::Row;
use crate::bench::run::Runner;
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::lease::{Limit, Pool};
use crate::wire::lease::Record;

/// Slots that are held meanwhile: as many as the largest GeForce limit leaves beside one.
const HELD: usize = 7;

pub fn run(runner: &mut Runner) -> Result<()> {
    let place = std::env::temp_dir().join(format!("gsk-bench-{}", std::process::id()));
    let home = Home(place);
    let pool = Pool::at(&home.0)?;
    let record = || Record { instance_id: "bench".into(), ..Record::default() };
    let limit = Limit::Sessions(HELD as u32 + 1);
    let held: Vec<_> =
        (0..HELD).map(|_| pool.take(limit, || None, record()).map_err(Error::from)).collect::<Result<_>>()?;
    let row = Row { detail: Some(format!("{HELD} slots held meanwhile")), ..Row::new(Case::Lease, None) };
    runner.begin(row, runner.options.fps, runner.frames());
    for _ in 0..runner.frames() {
        if runner.stopping() {
            break;
        }
        let began = now_us();
        let slot = pool.take(limit, || None, record()).map_err(Error::from)?;
        let taken = now_us();
        drop(slot);
        let given = now_us();
        runner.frame(&[("take", taken - began), ("give", given - taken)]);
    }
    runner.weigh();
    drop(held);
    runner.end()
}

/// A directory that goes when this does.
struct Home(std::path::PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        // What is left of it there is only in the way of cleaners.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
