//! A table of text, in columns.

use std::fmt;

/// Rows of as many cells as the heading has; nothing is printed without a row.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heading: [&'static str; N]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// A row; what stands in a lock file or a policy cannot break the table, nor a terminal.
    pub(super) fn row(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(plain));
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
