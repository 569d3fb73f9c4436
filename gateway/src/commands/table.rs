//! How lists are printed: for people under a heading, for programs as JSON.

use std::io::{self, IsTerminal as _};

use cratehouse_core::console;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::table::Table;
use serde::Serialize;

/// Prints a list: in columns at a terminal, elsewhere with tabs. What is empty has its heading too, but at a
/// terminal.
pub(super) fn print_table<const N: usize>(table: &Table<N>) -> Result<()> {
    let in_columns = io::stdout().is_terminal();
    let text = if in_columns { table.to_string() } else { table.with_tabs() };
    super::heard(console::print(&text))
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(Error::internal)?;
    super::print(&text)
}
