//! A table of text, in columns.

use std::fmt;

/// Rows of as many cells as the heading has. As `Display`, in columns, and nothing without a row.
#[derive(Debug)]
pub struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// One without rows.
    pub fn new(heading: [&'static str; N]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// A row; what stands in a lock file or a policy cannot break the table, nor a terminal.
    pub fn row(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(plain));
    }

    /// Its heading and its rows, with a tab between two cells: for programs.
    pub fn with_tabs(&self) -> String {
        let rows = self.rows.iter().map(|row| row.join("\t") + "\n");
        std::iter::once(self.heading.join("\t") + "\n").chain(rows).collect()
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = self.heading.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (widths, heading) = (self.widths(), self.heading.map(str::to_owned));
        for row in std::iter::once(&heading).chain(&self.rows) {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn plain(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_or_tabs() {
        let mut table = Table::new(["id", "user"]);
        assert_eq!((table.to_string().as_str(), table.with_tabs().as_str()), ("", "id\tuser\n"));
        table.row(["1", "alice"]);
        table.row(["1000", "b\tö"]);
        assert_eq!(table.to_string(), "id    user\n1     alice\n1000  b ö\n");
        assert_eq!(table.with_tabs(), "id\tuser\n1\talice\n1000\tb ö\n");
    }
}
