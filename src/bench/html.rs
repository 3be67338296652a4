//! A run as one page that needs nothing else: its tables and its pictures.

use super::plot;
use super::report::Report;
use super::svg::escape;
use crate::output::Show;

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1f2328;--faint:#656d76;--rule:#d8dee4;--good:#1a7f37;--bad:#cf222e}
@media (prefers-color-scheme:dark){:root{--ground:#0d1117;--ink:#e6edf3;--faint:#9198a1;--rule:#30363d;--good:#3fb950;--bad:#ff7b72}}
body{margin:2rem auto;max-width:1240px;padding:0 1rem;background:var(--ground);color:var(--ink);font:14px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:2.2rem 0 .5rem}p{color:var(--faint);margin:.2rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}
th{color:var(--faint);font-weight:600}.n{text-align:right}td.long{white-space:normal;min-width:16rem}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}svg{max-width:100%;height:auto;margin:.6rem 0;display:block}
";

pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>gsk bench</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>gsk bench</h1>\n"
    );
    for line in plot::subtitle(report) {
        page += &format!("<p>{}</p>\n", escape(&line));
    }
    if !report.complete {
        page += "<p class=\"bad\">This run is not complete: it goes on, or was interrupted.</p>\n";
    }
    if let Some(stages) = plot::stages(report) {
        page += &stages;
    }
    for part in report.table().parts() {
        page += &table(&part);
    }
    page += "<h2>Latency over time, and its distribution</h2>\n";
    for row in &report.rows {
        page += &plot::row(row);
    }
    page + "</body>\n</html>\n"
}

fn table((heading, columns, rows): &(&str, &[&'static str], &[Vec<String>])) -> String {
    let mut html = format!("<h2>{}</h2>\n<div class=\"wide\"><table>\n<tr>", escape(heading));
    for (n, column) in columns.iter().enumerate() {
        let class = rows.iter().find(|row| row[n] != "-").map_or("", |row| class(&row[n]));
        let class = if class.contains("\"n\"") { class } else { "" };
        html += &format!("<th{class}>{}</th>", escape(&column.replace('_', " ")));
    }
    html += "</tr>\n";
    for row in *rows {
        html += "<tr>";
        for cell in row {
            html += &format!("<td{}>{}</td>", class(cell), escape(cell));
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

/// How a cell is set: numbers to the right, verdicts in colour, long words over several lines.
fn class(cell: &str) -> &'static str {
    match cell {
        _ if cell.parse::<f64>().is_ok() => " class=\"n\"",
        _ if cell.starts_with("missed") || cell == "FAILED" || cell == "slower" => " class=\"bad\"",
        _ if cell.starts_with("met") || cell == "passed" || cell == "faster" => " class=\"good\"",
        _ if cell.chars().count() > 60 => " class=\"long\"",
        _ => "",
    }
}
