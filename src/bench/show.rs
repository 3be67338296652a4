//! A run as tables.

use super::budget::Held;
use super::report::{Absent, Key, Measured, Ratio, Report, Row, Verdict};
use super::stats::Interval;
use crate::error::Error;
use crate::output::{Show, Table};

impl Show for Report {
    const SCHEMA: &'static str = "gsk.bench";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let mut all = times(self).above(costs(self));
        if !self.absent.is_empty() {
            all = all.above(absent(&self.absent));
        }
        all = all.above(budget(&self.budget));
        if self.comparison.is_some() {
            all = all.above(ratios(self));
        }
        if !self.verdicts.is_empty() {
            all = all.above(verdicts(&self.verdicts));
        }
        all.above(machine(self))
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Three digits behind the point: no clock here is finer.
pub fn ms(value: f64) -> String {
    format!("{value:.3}")
}

/// 4_012_345 as "4.01 Mbit/s".
pub fn rate(bps: f64) -> String {
    match bps {
        bps if bps >= 1e6 => format!("{:.2} Mbit/s", bps / 1e6),
        bps => format!("{:.1} kbit/s", bps / 1e3),
    }
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// What a row is of, without its size.
pub fn title(key: &Key) -> String {
    let words = [Some(key.case.name()), key.backend.as_deref(), key.codec.as_deref()];
    let mut words: Vec<&str> = words.into_iter().flatten().collect();
    words.dedup();
    words.join(" ")
}

fn times(report: &Report) -> Table {
    let settings = &report.settings;
    let heading = format!(
        "Times, ms: {} frames of {} at {} fps after {} of warm-up{}",
        settings.frames,
        settings.source,
        settings.fps,
        settings.warmup,
        if report.complete { "" } else { "; interrupted, this is what there was by then" }
    );
    let columns =
        ["case", "size", "stage", "n", "min", "p50", "p90", "p95", "p99", "max", "jitter", "stalls", "outliers"];
    let mut table = Table::titled("times", heading, columns);
    for row in &report.rows {
        for measured in &row.stages {
            table.row(line(row, measured));
        }
    }
    table
}

fn line(row: &Row, measured: &Measured) -> [String; 13] {
    let s = &measured.summary;
    [
        row.title(),
        known(row.size.map(|size| size.0)),
        measured.stage.into(),
        s.n.to_string(),
        ms(s.min),
        ms(s.p50),
        ms(s.p90),
        ms(s.p95),
        ms(s.p99),
        ms(s.max),
        ms(s.jitter),
        known(measured.stalls),
        measured.outliers.len().to_string(),
    ]
}

fn costs(report: &Report) -> Table {
    let heading = format!(
        "Costs: {} asked for, JPEG quality {}",
        rate(f64::from(report.settings.bitrate)),
        report.settings.quality
    );
    let columns = ["case", "size", "fps", "cpu_ms", "memory", "bit_rate", "ssim", "psnr_db", "drops", "how"];
    let mut table = Table::titled("costs", heading, columns);
    for row in &report.rows {
        let drops = row.drops.as_ref().map(|drops| {
            let some = drops.iter().filter(|(_, count)| **count > 0);
            let words: Vec<String> = some.map(|(cause, count)| format!("{cause} {count}")).collect();
            if words.is_empty() { "0".into() } else { words.join(", ") }
        });
        table.row([
            row.title(),
            known(row.size.map(|size| size.0)),
            known(row.fps.map(|fps| format!("{fps:.1}"))),
            known(row.cpu_ms.map(ms)),
            known(row.memory_bytes.map(mib)),
            known(row.bitrate_bps.map(rate)),
            known(row.ssim.map(|ssim| format!("{ssim:.4}"))),
            known(row.psnr_db.map(|psnr| format!("{psnr:.2}"))),
            known(drops),
            known(row.detail.as_ref()),
        ]);
    }
    table
}

fn absent(absent: &[Absent]) -> Table {
    let mut table = Table::titled("absent", "Not on this host", ["case", "what", "codec", "size", "because"]);
    for row in absent {
        table.row([
            row.case.name().into(),
            known(row.backend.as_ref()),
            known(row.codec.as_ref()),
            known(row.size.map(|size| size.0)),
            row.reason.clone(),
        ]);
    }
    table
}

/// What "total" covers, for whoever reads a target of it.
pub const TOTAL: &str =
    "total: capture start to the unit in a viewer's hands in this process; no network, decoding or painting";

fn budget(budget: &[Held]) -> Table {
    let heading = format!("Budget, ms, of the 95th percentile ({TOTAL})");
    let mut table = Table::titled("budget", heading, ["stage", "target", "case", "size", "p95", "verdict"]);
    for held in budget {
        table.row([
            held.stage.into(),
            held.target_ms.to_string(),
            known(held.row.as_ref()),
            known(held.size.map(|size| size.0)),
            known(held.p95_ms.map(ms)),
            verdict(held),
        ]);
    }
    table
}

/// How a target was met, in words.
pub fn verdict(held: &Held) -> String {
    match (held.met, held.spare_ms) {
        (Some(true), Some(spare)) => format!("met, {} to spare", ms(spare)),
        (Some(false), Some(spare)) => format!("missed by {}", ms(-spare)),
        _ => "not measured".into(),
    }
}

fn ratios(report: &Report) -> Table {
    let Some(compared) = &report.comparison else { return Table::default() };
    let mut heading = format!(
        "Beside {} of {}: new / old / the machine's own pace, with its 95 % interval",
        compared.baseline, compared.began
    );
    if !compared.cautions.is_empty() {
        heading += &format!("; mind that {}", compared.cautions.join("; "));
    }
    let columns = ["case", "size", "stage", "statistic", "old", "new", "machine", "ratio", "interval", "change"];
    let mut table = Table::titled("ratios", heading, columns);
    for ratio in &compared.ratios {
        let c = &ratio.comparison;
        table.row([
            title(&ratio.key),
            known(ratio.key.size.as_ref()),
            ratio.stage.into(),
            ratio.statistic.into(),
            ms(c.old),
            ms(c.new),
            known(c.machine.map(|machine| format!("{machine:.3}"))),
            known(c.ratio.map(|ratio| format!("{ratio:.3}"))),
            known(c.ratio_interval.map(interval)),
            change(ratio).into(),
        ]);
    }
    table
}

/// Whether the interval says that there is a difference.
pub fn change(ratio: &Ratio) -> &'static str {
    match ratio.comparison.ratio_interval {
        Some(interval) if interval.low > 1.0 => "slower",
        Some(interval) if interval.high < 1.0 => "faster",
        Some(_) => "no clear change",
        None => "-",
    }
}

pub fn interval(interval: Interval) -> String {
    format!("{:.3} to {:.3}", interval.low, interval.high)
}

fn verdicts(verdicts: &[Verdict]) -> Table {
    let mut table =
        Table::titled("verdicts", "Rules", ["rule", "case", "size", "value", "interval", "limit", "verdict"]);
    for verdict in verdicts {
        let key = verdict.key.as_ref();
        table.row([
            verdict.rule.clone(),
            known(key.map(title)),
            known(key.and_then(|key| key.size.as_ref())),
            known(verdict.judged.map(|judged| ms(judged.value))),
            known(verdict.judged.map(|judged| interval(judged.interval))),
            known(verdict.judged.map(|judged| ms(judged.limit))),
            outcome(verdict).into(),
        ]);
    }
    table
}

/// What a rule came to, in words.
pub fn outcome(verdict: &Verdict) -> &'static str {
    match verdict.judged {
        None => "nothing was measured that it could judge",
        Some(judged) if judged.failed => "FAILED",
        Some(judged) if judged.beyond => "passed: beyond the limit, but the interval does not agree",
        Some(_) => "passed",
    }
}

fn machine(report: &Report) -> Table {
    let heading = format!("Machine: {}", report.environment.verdict());
    let mut table = Table::titled("machine", heading, ["what", "value"]);
    facts(report).into_iter().for_each(|(what, value)| table.row([what, value]));
    table
}

/// What is known of the machine, in words.
pub fn facts(report: &Report) -> Vec<(String, String)> {
    let environment = &report.environment;
    let cpu = &environment.cpu;
    let mut facts = vec![
        ("host".into(), crate::output::host()),
        ("gsk".into(), env!("CARGO_PKG_VERSION").into()),
        ("began".into(), format!("{}, took {:.1} s", report.began, report.seconds)),
        ("cpu".into(), format!("{}, {} cores", known(cpu.model.as_ref()), cpu.cores)),
        (
            "clock".into(),
            match cpu.mhz {
                Some(mhz) => format!("{mhz:.0} MHz, governor {}", known(cpu.governor.as_ref())),
                None => format!("governor {}", known(cpu.governor.as_ref())),
            },
        ),
        ("kernel".into(), environment.kernel.clone()),
        ("memory".into(), known(environment.memory_bytes.map(mib))),
        (
            "load at start".into(),
            known(environment.load.map(|[minute, five]| format!("{minute} over 1 min, {five} over 5 min"))),
        ),
        (
            "calibration".into(),
            format!(
                "{} ms, spread {:.1} %",
                ms(environment.calibration.p50_ms),
                environment.calibration.spread_percent
            ),
        ),
        (
            "other programs".into(),
            known(environment.others_percent.map(|percent| format!("{percent:.1} % of all cores"))),
        ),
        ("stolen".into(), known(environment.stolen_percent.map(|percent| format!("{percent:.1} %")))),
    ];
    if let Some(driver) = &environment.driver {
        facts.push(("driver".into(), driver.clone()));
    }
    for gpu in &environment.gpus {
        let pace = gpu.pace;
        facts.push((
            "gpu".into(),
            format!(
                "{}, state P{}, clocks {}/{}/{} MHz (graphics/memory/video)",
                gpu.name,
                known(pace.performance_state),
                known(pace.graphics_mhz),
                known(pace.memory_mhz),
                known(pace.video_mhz)
            ),
        ));
    }
    facts
}
