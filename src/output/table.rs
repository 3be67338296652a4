//! Rows and columns, written as an aligned table or as CSV.

use comfy_table::{Attribute, Cell, ContentArrangement, presets};

use super::text;

/// Named columns and rows of as many cells. Columns are named in lower case, as CSV shows them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = &'static str>) -> Table {
        Table { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let row: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Aligned columns below a line of headings; `wide` allows any width, else cells wrap at the terminal's.
    pub(super) fn aligned(&self, color: bool, wide: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if wide {
            table.force_no_tty();
        } else {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if color {
            table.enforce_styling();
        }
        let heading = |name: &&str| {
            let cell = Cell::new(name.to_uppercase());
            if color { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(self.columns.iter().map(heading));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| text::sanitise(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt() + "\n"
    }

    /// RFC 4180, with lines ended as on this system.
    pub(super) fn csv(&self) -> String {
        let mut csv = String::new();
        let heading = self.columns.iter().map(|c| c.to_string()).collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let fields: Vec<String> = row.iter().map(|cell| field(cell)).collect();
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
}
