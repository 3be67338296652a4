//! How long ranges took, by name: of our own recording, or of what `nsys stats` prints.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Serialize;

use crate::range::Event;

/// How a range is written in NVTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Ranges of one thread, which nest.
    PushPop,
    /// Ranges that may end on another thread than they began on.
    StartEnd,
}

/// All ranges of one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// With its domain and ':' in front, where it has one.
    pub range: String,
    pub style: Style,
    pub count: u64,
    /// On the CPU's clock, ms; what was only queued for a GPU in it is not waited for.
    pub total_ms: f64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    /// Null where only sums are known.
    pub p95_ms: Option<f64>,
    /// From the first to the last of what a GPU did for each of them, summed, ms; null where none did.
    pub gpu_ms: Option<f64>,
}

const MS: f64 = 1e6;

/// The value that a part of all are not above (nearest rank); `sorted` is not empty.
fn percentile(sorted: &[u64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1] as f64
}

/// The longest in all comes first.
fn ordered(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms).then_with(|| a.range.cmp(&b.range)));
    rows
}

/// Of a recording.
pub fn of_events(events: &[Event]) -> Vec<Row> {
    let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in events {
        names.entry(event.name).or_default().push(event.end_ns - event.start_ns);
    }
    let row = |(name, mut lengths): (&str, Vec<u64>)| {
        lengths.sort_unstable();
        let total = lengths.iter().sum::<u64>() as f64;
        Row {
            range: name.to_owned(),
            style: Style::PushPop,
            count: lengths.len() as u64,
            total_ms: total / MS,
            mean_ms: total / lengths.len() as f64 / MS,
            p50_ms: percentile(&lengths, 0.5) / MS,
            p95_ms: Some(percentile(&lengths, 0.95) / MS),
            gpu_ms: None,
        }
    };
    ordered(names.into_iter().map(row).collect())
}

/// What `nsys stats` said, one report after another.
#[derive(Debug, Default)]
pub struct Reports {
    rows: Vec<Row>,
    lengths: BTreeMap<String, Vec<u64>>,
    gpu: BTreeMap<(String, Style), f64>,
}

impl Reports {
    /// `nvtx_sum`: all ranges by name. Gives whether there is a table of them in what was printed.
    pub fn sum(&mut self, printed: impl BufRead) -> io::Result<bool> {
        let columns = ["Range", "Style", "Instances", "Total Time (ns)", "Avg (ns)", "Med (ns)"];
        table(printed, columns, |[range, style, count, total, mean, median]| {
            self.rows.push(Row {
                range: plain(range),
                style: self::style(style)?,
                count: count.parse().ok()?,
                total_ms: number(total)? / MS,
                mean_ms: number(mean)? / MS,
                p50_ms: number(median)? / MS,
                p95_ms: None,
                gpu_ms: None,
            });
            Some(())
        })
    }

    /// `nvtx_pushpop_trace`: each range that nests.
    pub fn trace(&mut self, printed: impl BufRead) -> io::Result<bool> {
        table(printed, ["Name", "Duration (ns)"], |[name, length]| {
            self.lengths.entry(plain(name)).or_default().push(length.parse().ok()?);
            Some(())
        })
    }

    /// `nvtx_gpu_proj_sum`: ranges as the GPU saw them.
    pub fn projected(&mut self, printed: impl BufRead) -> io::Result<bool> {
        table(printed, ["Range", "Style", "Total Proj Time (ns)"], |[range, style, total]| {
            *self.gpu.entry((plain(range), self::style(style)?)).or_default() += number(total)?;
            Some(())
        })
    }

    /// All of it together.
    pub fn rows(mut self) -> Vec<Row> {
        for row in &mut self.rows {
            row.gpu_ms = self.gpu.get(&(row.range.clone(), row.style)).map(|ns| ns / MS);
            // Only where both reports are of the same ranges.
            let lengths = self.lengths.get_mut(&row.range).filter(|lengths| lengths.len() as u64 == row.count);
            if let (Style::PushPop, Some(lengths)) = (row.style, lengths) {
                lengths.sort_unstable();
                row.p95_ms = Some(percentile(lengths, 0.95) / MS);
            }
        }
        ordered(self.rows)
    }
}

/// nsys writes a range of the default domain, which has no name, with a ':' in front.
fn plain(range: &str) -> String {
    range.strip_prefix(':').unwrap_or(range).to_owned()
}

/// It was written `Push/Pop` in some versions.
fn style(text: &str) -> Option<Style> {
    match text.replace('/', "").as_str() {
        "PushPop" => Some(Style::PushPop),
        "StartEnd" => Some(Style::StartEnd),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Hands on these columns of each row of the CSV table (RFC 4180) that has them, whatever is printed around it; gives whether
/// there is one. Rows that `each` makes nothing of are passed over.
fn table<const N: usize>(
    mut printed: impl BufRead,
    columns: [&str; N],
    mut each: impl FnMut([&str; N]) -> Option<()>,
) -> io::Result<bool> {
    let (mut found, mut width) = (None::<[usize; N]>, 0);
    while let Some(record) = record(&mut printed)? {
        match found {
            None => {
                let places: Vec<usize> =
                    columns.iter().filter_map(|name| record.iter().position(|field| field == name)).collect();
                (found, width) = (places.try_into().ok(), record.len());
            }
            Some(_) if record.len() != width => break,
            Some(places) => drop(each(places.map(|place| record[place].as_str()))),
        }
    }
    Ok(found.is_some())
}

/// The fields of the next record, which may have line breaks in quotes; `None` at the end.
fn record(printed: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    /// A record beyond this is none: a quote was never closed.
    const LONGEST: usize = 1 << 20;
    let mut bytes = Vec::new();
    loop {
        if printed.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.iter().filter(|&&byte| byte == b'"').count() % 2 == 0 || bytes.len() > LONGEST {
            break;
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut fields = vec![String::new()];
    let (mut quoted, mut before) = (false, ' ');
    for c in text.trim_end_matches(['\r', '\n']).chars() {
        let field = fields.last_mut().expect("one at least");
        match c {
            '"' if !quoted => {
                // A quote in quotes is doubled.
                if before == '"' {
                    field.push('"');
                }
                quoted = true;
            }
            '"' => quoted = false,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
        before = c;
    }
    Ok(Some(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 0.5), percentile(&hundred, 0.95)), (50.0, 95.0));
        assert_eq!((percentile(&[7], 0.5), percentile(&[7], 0.95)), (7.0, 7.0));
        assert_eq!(percentile(&[1, 2, 3], 0.5), 2.0);
    }

    #[test]
    fn a_recording_is_summed_by_name() {
        let event = |name, start_ns, end_ns| Event { name, thread: 0, start_ns, end_ns };
        let rows =
            of_events(&[event("short", 0, 1_000_000), event("short", 0, 3_000_000), event("long", 0, 9_000_000)]);
        assert_eq!(rows.iter().map(|row| row.range.as_str()).collect::<Vec<_>>(), ["long", "short"]);
        let short = &rows[1];
        assert_eq!((short.count, short.total_ms, short.mean_ms, short.p50_ms), (2, 4.0, 2.0, 1.0));
        assert_eq!((short.p95_ms, short.gpu_ms), (Some(3.0), None));
    }

    #[test]
    fn a_table_is_found_among_other_words_and_ends_where_it_does() {
        let printed =
            "Processing [a, b.sqlite]...\n\nX,Name,Duration (ns)\r\n1,\"a, \"\"b\"\"\nc\",5\n2,:d,6\n\n3,:e,7\n";
        let mut seen = Vec::new();
        let found = table(printed.as_bytes(), ["Name", "Duration (ns)"], |row| {
            seen.push(row.map(str::to_owned));
            Some(())
        });
        assert!(found.unwrap());
        assert_eq!(seen, [["a, \"b\"\nc", "5"], [":d", "6"]]);
        assert!(!table("SKIPPED: nothing\n".as_bytes(), ["Name"], |_| Some(())).unwrap());
        assert!(!table("\"never closed\nName\n".as_bytes(), ["Name"], |_| Some(())).unwrap());
    }
}
