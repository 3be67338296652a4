//! Takes an encoder slot and gives it back, again and again, and prints a JSON line with how long that takes.
//!
//!     perf-lease ROUNDS

use std::time::Instant;

use gsk::error::Error;
use gsk::lease::{Limit, Pool};
use gsk::wire::lease::Record;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: usize = std::env::args().nth(1).ok_or("use: perf-lease ROUNDS")?.parse()?;
    let home = tempfile::tempdir()?;
    let record = Record { instance_id: "perf".into(), ..Record::default() };
    let mut spans = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let began = Instant::now();
        // As a worker does: the directory is opened anew each time.
        let pool = Pool::at(&home.path().join("leases"))?;
        drop(pool.take(Limit::Sessions(8), || None, record.clone()).map_err(Error::from)?);
        spans.push(began.elapsed().as_nanos());
    }
    spans.sort_unstable();
    let pick = |q: f64| spans[((rounds - 1) as f64 * q) as usize] as f64 / 1e3;
    println!(
        "{{\"rounds\":{rounds},\"take_and_give_back_us_p50\":{:.1},\"p99\":{:.1},\"max\":{:.1}}}",
        pick(0.5),
        pick(0.99),
        pick(1.0)
    );
    Ok(())
}
