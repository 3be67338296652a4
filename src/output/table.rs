//! Rows and columns, written as an aligned table or as CSV.

use comfy_table::{Attribute, Cell, ContentArrangement, presets};

use super::text;

/// Named columns and rows of as many cells, or several such, each under a heading. Columns are named in lower case, as CSV
/// shows them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// What CSV calls it; empty where it stands alone.
    name: &'static str,
    /// The line above it; empty where it stands alone.
    heading: String,
    columns: Vec<&'static str>,
    /// Whether its cells stay whole on a terminal that is too narrow for them.
    unbroken: bool,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = &'static str>) -> Table {
        Table::titled("", "", columns)
    }

    /// One of several: `name` is for programs, `heading` is a line for people, which stands even above no rows.
    pub fn titled(
        name: &'static str,
        heading: impl Into<String>,
        columns: impl IntoIterator<Item = &'static str>,
    ) -> Table {
        let columns = columns.into_iter().collect();
        let part = Part { name, heading: heading.into(), columns, unbroken: false, rows: Vec::new() };
        Table { parts: vec![part] }
    }

    /// Lets the terminal wrap its lines, which leaves what is copied from them whole.
    pub fn unbroken(mut self) -> Table {
        self.parts.iter_mut().for_each(|part| part.unbroken = true);
        self
    }

    /// With the tables of `other` below it.
    pub fn above(mut self, other: Table) -> Table {
        self.parts.extend(other.parts);
        self
    }

    /// Adds a row to the last of the tables.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let row: Vec<String> = cells.into_iter().map(Into::into).collect();
        let Some(part) = self.parts.last_mut() else { return };
        debug_assert_eq!(row.len(), part.columns.len());
        part.rows.push(row);
    }

    /// The heading, the columns' names and the rows of each table.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[&'static str], &[Vec<String>])> {
        self.parts.iter().map(|part| (part.heading.as_str(), part.columns.as_slice(), part.rows.as_slice()))
    }

    /// With each heading and cell changed.
    pub(super) fn changed(mut self, mut change: impl FnMut(&str) -> String) -> Table {
        for part in &mut self.parts {
            part.heading = change(&part.heading);
            part.rows.iter_mut().flatten().for_each(|cell| *cell = change(cell));
        }
        self
    }

    /// Aligned columns below a line of column names; `wide` allows any width, else cells wrap at the terminal's. A blank
    /// line parts tables; one without rows shows its heading only.
    pub(super) fn aligned(&self, color: bool, wide: bool) -> String {
        let parts: Vec<String> = self.parts.iter().map(|part| part.aligned(color, wide)).collect();
        parts.join("\n")
    }

    /// RFC 4180, with lines ended as on this system. Of several tables each has a line of column names, the first of which
    /// is `table` and says below it which one a row belongs to; a blank line parts them.
    pub(super) fn csv(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(Part::csv).collect();
        parts.join("\n")
    }
}

impl Part {
    fn aligned(&self, color: bool, wide: bool) -> String {
        let heading = text::sanitise(&self.heading);
        let heading = match color {
            _ if heading.is_empty() => heading,
            true => format!("\x1b[1m{heading}\x1b[0m\n"),
            false => heading + "\n",
        };
        if self.rows.is_empty() && !heading.is_empty() {
            return heading;
        }
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        // A terminal that does not know its width, as one behind a pipe, says 0.
        if wide || self.unbroken || table.width() == Some(0) {
            table.force_no_tty();
        } else {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if color {
            table.enforce_styling();
        }
        let name = |name: &&str| {
            let cell = Cell::new(name.to_uppercase());
            if color { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(self.columns.iter().map(name));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| text::sanitise(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        heading + &table.trim_fmt() + "\n"
    }

    fn csv(&self) -> String {
        let mut csv = String::new();
        let names: Vec<String> = self.columns.iter().map(|column| column.to_string()).collect();
        for (row, first) in std::iter::once((&names, "table")).chain(self.rows.iter().map(|row| (row, self.name))) {
            let first = if self.name.is_empty() { None } else { Some(first.to_string()) };
            let fields: Vec<String> = first.into_iter().chain(row.iter().map(|cell| field(cell))).collect();
            csv += &fields.join(",");
            csv.push('\n');
        }
        csv
    }
}

fn field(cell: &str) -> String {
    let clean = text::sanitise_lines(cell);
    if clean.contains([',', '"', '\n']) { format!("\"{}\"", clean.replace('"', "\"\"")) } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["key", "value"]);
        table.row(["short", "a"]);
        table.row(["much longer", "say \"hi\", you\u{1b}[31m"]);
        table
    }

    #[test]
    fn columns_are_aligned_without_borders() {
        assert_eq!(sample().aligned(false, true), "KEY          VALUE\nshort        a\nmuch longer  say \"hi\", you\n");
        assert!(sample().aligned(true, true).contains("\u{1b}[1mKEY"));
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(sample().csv(), "key,value\nshort,a\nmuch longer,\"say \"\"hi\"\", you\"\n");
    }

    #[test]
    fn several_tables_stand_one_above_the_other() {
        let mut first = Table::titled("pots", "Pots: 2 of 3", ["pot", "size"]);
        first.row(["a, b", "1"]);
        let empty = Table::titled("lids", "Lids: none", ["lid"]);
        let mut last = Table::titled("stoves", "Stoves", ["stove"]);
        last.row(["x"]);
        let all = first.above(empty).above(last);
        assert_eq!(all.aligned(false, true), "Pots: 2 of 3\nPOT   SIZE\na, b  1\n\nLids: none\n\nStoves\nSTOVE\nx\n");
        assert!(all.aligned(true, true).starts_with("\u{1b}[1mPots: 2 of 3\u{1b}[0m\n"));
        assert_eq!(all.csv(), "table,pot,size\npots,\"a, b\",1\n\ntable,lid\n\ntable,stove\nstoves,x\n");
    }
}
