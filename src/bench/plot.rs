//! A run as pictures: stages stacked by percentile, and of each row its latency over time beside its distribution.

use super::report::{Report, Row};
use super::show::{facts, ms};
use super::svg::{Anchor, Scale, Svg};

/// Width of all pictures, pixels.
pub const WIDTH: f64 = 960.0;

const LEFT: f64 = 64.0;
const RIGHT: f64 = 40.0;

/// All pictures in one, one below the other, to stand alone in a file.
pub fn page(report: &Report) -> String {
    let mut svg = Svg::default();
    let mut y = 34.0;
    svg.text(24.0, y, Anchor::Start, "head", "gsk bench");
    for line in subtitle(report) {
        y += 20.0;
        svg.text(24.0, y, Anchor::Start, "faint", &line);
    }
    y += 24.0;
    y = stacked(&mut svg, report, y);
    for row in &report.rows {
        y = panel(&mut svg, row, y);
    }
    if report.rows.is_empty() {
        svg.text(24.0, y, Anchor::Start, "", "nothing has been measured yet");
        y += 20.0;
    }
    svg.done(WIDTH, y + 8.0, "gsk bench: stages by percentile, latency over time and its distribution")
}

/// The picture of stages alone; `None` where no row has several.
pub fn stages(report: &Report) -> Option<String> {
    let mut svg = Svg::default();
    let height = stacked(&mut svg, report, 8.0);
    (height > 8.0).then(|| svg.done(WIDTH, height, "Stages stacked by percentile"))
}

/// The picture of one row alone.
pub fn row(row: &Row) -> String {
    let mut svg = Svg::default();
    let height = panel(&mut svg, row, 8.0);
    svg.done(WIDTH, height, &format!("{}: latency over time and its distribution", name(row)))
}

/// What was measured on what, in lines.
pub fn subtitle(report: &Report) -> Vec<String> {
    let settings = &report.settings;
    let of =
        |what: &str| facts(report).into_iter().find(|(known, _)| known == what).map_or_else(String::new, |(_, v)| v);
    vec![
        format!(
            "{} at {} fps, {} frames after {} of warm-up; {} on {}",
            settings.source,
            settings.fps,
            settings.frames,
            settings.warmup,
            of("began"),
            of("host")
        ),
        format!("{}; machine {}", of("cpu"), report.environment.verdict()),
    ]
}

/// `encode openh264 h264 1280x720`.
pub fn name(row: &Row) -> String {
    row.size.map_or_else(|| row.title(), |size| format!("{} {}", row.title(), size.0))
}

/// The parts that a row's total is made of, in the order of the road; none where it has but one.
fn parts(row: &Row) -> Vec<&'static str> {
    let parts = ["capture", "wait", "convert", "encode", "publish"];
    let parts: Vec<_> = parts.into_iter().filter(|stage| row.stage(stage).is_some()).collect();
    if parts.len() > 1 && row.stage("total").is_some() { parts } else { Vec::new() }
}

/// Bars of the median, the 95th and the 99th percentile of each stage, end to end; gives where it ends.
fn stacked(svg: &mut Svg, report: &Report, top: f64) -> f64 {
    const BAR: f64 = 16.0;
    let rows: Vec<&Row> = report.rows.iter().filter(|row| !parts(row).is_empty()).collect();
    if rows.is_empty() {
        return top;
    }
    let levels = [("p50", 0), ("p95", 1), ("p99", 2)];
    let at = |row: &Row, stage: &str, level: usize| {
        row.stage(stage).map_or(0.0, |m| [m.summary.p50, m.summary.p95, m.summary.p99][level])
    };
    let sum = |row: &Row, level| parts(row).iter().map(|stage| at(row, stage, level)).sum::<f64>();
    let most = rows.iter().flat_map(|row| [sum(row, 2), at(row, "total", 2)]).fold(0.0, f64::max);
    let scale = Scale::new(LEFT, WIDTH - RIGHT, most, 10.0);
    svg.text(24.0, top + 16.0, Anchor::Start, "title", "Where the time goes: each stage's percentile, end to end");
    let mut x = 24.0;
    for stage in ["capture", "wait", "convert", "encode", "publish"] {
        svg.rect(x, top + 28.0, 12.0, 12.0, stage, stage);
        svg.text(x + 18.0, top + 38.0, Anchor::Start, "", stage);
        x += 40.0 + 7.0 * stage.len() as f64;
    }
    svg.line((x, top + 28.0), (x, top + 40.0), "own");
    svg.text(x + 8.0, top + 38.0, Anchor::Start, "", "the percentile of the whole, which is not the sum of its parts'");
    let first = top + 58.0;
    let bottom = first + rows.len() as f64 * (3.0 * (BAR + 4.0) + 26.0);
    for (value, text) in scale.ticks() {
        svg.line((scale.at(value), first - 6.0), (scale.at(value), bottom), "grid");
        svg.text(scale.at(value), bottom + 16.0, Anchor::Middle, "faint", &text);
    }
    svg.text((LEFT + WIDTH - RIGHT) / 2.0, bottom + 34.0, Anchor::Middle, "faint", "ms");
    let mut y = first;
    for row in rows {
        svg.text(LEFT, y + 10.0, Anchor::Start, "", &name(row));
        y += 16.0;
        for (level, n) in levels {
            svg.text(LEFT - 8.0, y + 12.0, Anchor::End, "faint", level);
            let mut sum = 0.0;
            for stage in parts(row) {
                let value = at(row, stage, n);
                let (from, to) = (scale.at(sum), scale.at(sum + value));
                svg.rect(from, y, to - from, BAR, stage, &format!("{stage} {level}: {} ms", ms(value)));
                sum += value;
            }
            let own = scale.at(at(row, "total", n));
            svg.line((own, y - 2.0), (own, y + BAR + 2.0), "own");
            y += BAR + 4.0;
        }
        y += 10.0;
    }
    bottom + 52.0
}

/// A row's main stage: each frame's time, and how many took how long, on one axis; gives where it ends.
fn panel(svg: &mut Svg, row: &Row, top: f64) -> f64 {
    const HEIGHT: f64 = 170.0;
    /// Of the picture of time, the rest is the distribution's.
    const TIME: f64 = 0.68;
    let Some(measured) = row.main() else { return top };
    let (summary, samples) = (&measured.summary, &measured.samples_us);
    // A few far ones would press all others to the ground.
    let most = if summary.max > 4.0 * summary.p99 { 2.0 * summary.p99 } else { summary.max };
    let (first, bottom) = (top + 46.0, top + 46.0 + HEIGHT);
    let y = Scale::new(bottom, first, most, 5.0);
    let split = LEFT + (WIDTH - LEFT - RIGHT) * TIME;
    let stage = if measured.stage == row.case.name() { String::new() } else { format!(": {}", measured.stage) };
    svg.text(24.0, top + 16.0, Anchor::Start, "title", &format!("{}{stage}", name(row)));
    let words = format!(
        "n {}, p50 {} ms, p95 {} ms, p99 {} ms, max {} ms, jitter {} ms; {} outliers",
        summary.n,
        ms(summary.p50),
        ms(summary.p95),
        ms(summary.p99),
        ms(summary.max),
        ms(summary.jitter),
        measured.outliers.len()
    );
    svg.text(24.0, top + 34.0, Anchor::Start, "faint", &words);
    for (value, text) in y.ticks() {
        svg.line((LEFT, y.at(value)), (WIDTH - RIGHT, y.at(value)), "grid");
        svg.text(LEFT - 8.0, y.at(value) + 4.0, Anchor::End, "faint", &text);
    }
    svg.text_up(18.0, (first + bottom) / 2.0, "ms");
    let x = Scale::new(LEFT, split - 24.0, samples.len().max(2) as f64 - 1.0, 8.0);
    for (value, text) in x.ticks() {
        svg.line((x.at(value), bottom), (x.at(value), bottom + 4.0), "axis");
        svg.text(x.at(value), bottom + 18.0, Anchor::Middle, "faint", &text);
    }
    svg.text((LEFT + split - 24.0) / 2.0, bottom + 34.0, Anchor::Middle, "faint", "frame (outliers in red)");
    let point = |(n, sample): (usize, &u64)| (x.at(n as f64), y.at(*sample as f64 / 1e3));
    svg.path(samples.iter().enumerate().map(point), "trace");
    for (n, sample) in samples.iter().enumerate() {
        let (px, py) = point((n, sample));
        let class = if measured.outliers.binary_search(&n).is_ok() { "far" } else { "dot" };
        svg.dot(px, py, class, &format!("frame {n}: {} ms", ms(*sample as f64 / 1e3)));
    }
    distribution(svg, samples, y, split, (first, bottom));
    let mut below = f64::INFINITY;
    for (at, text) in [(summary.p50, "p50"), (summary.p95, "p95"), (summary.p99, "p99")] {
        svg.line((LEFT, y.at(at)), (WIDTH - RIGHT, y.at(at)), "mark");
        // Names of lines that lie close stand apart.
        below = (y.at(at) + 4.0).min(below - 12.0);
        svg.text(WIDTH - RIGHT + 4.0, below, Anchor::Start, "faint", text);
    }
    let above = samples.iter().filter(|sample| **sample as f64 / 1e3 > y.top).count();
    if above > 0 {
        let words = format!("{above} beyond this picture, up to {} ms", ms(summary.max));
        svg.text(split - 32.0, first - 4.0, Anchor::End, "far", &words);
    }
    svg.line((LEFT, bottom), (WIDTH - RIGHT, bottom), "axis");
    bottom + 56.0
}

/// How many frames took how long, lying on their side beside the time.
fn distribution(svg: &mut Svg, samples: &[u64], y: Scale, left: f64, (first, bottom): (f64, f64)) {
    const BINS: usize = 40;
    let mut bins = [0usize; BINS];
    for sample in samples {
        let at = *sample as f64 / 1e3 / y.top * BINS as f64;
        bins[(at as usize).min(BINS - 1)] += 1;
    }
    let most = bins.iter().max().copied().unwrap_or_default();
    let x = Scale::new(left, WIDTH - RIGHT, most as f64, 4.0);
    let height = (bottom - first) / BINS as f64;
    for (n, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let of = |n: usize| ms(n as f64 * y.top / BINS as f64);
        let tip = format!("{count} frames of {} to {} ms", of(n), of(n + 1));
        svg.rect(left, bottom - (n + 1) as f64 * height, x.at(*count as f64) - left, height - 0.5, "bar", &tip);
    }
    for (value, text) in x.ticks().filter(|(value, _)| value.fract() == 0.0) {
        svg.line((x.at(value), bottom), (x.at(value), bottom + 4.0), "axis");
        svg.text(x.at(value), bottom + 18.0, Anchor::Middle, "faint", &text);
    }
    svg.text((left + WIDTH - RIGHT) / 2.0, bottom + 34.0, Anchor::Middle, "faint", "frames that took so long");
}
