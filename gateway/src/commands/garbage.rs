//! `gc`: hosted crate files that no version names.

use crate::cli::Gc;
use crate::flows::store::sweeping::{Garbage, Outcome, Sweep};
use cratehouse_core::console::LogFormat;
use cratehouse_core::error::Result;
use cratehouse_core::progress::Progress;
use cratehouse_core::table::Table;

use super::print;
use super::registry::Registry;
use super::table::{print_json, print_table};

/// Sweeps, or says what a sweep would delete.
pub(super) async fn collect(registry: Registry<'_>, what: &Gc, voice: LogFormat) -> Result<()> {
    let Gc { dry_run, force, finish, .. } = *what;
    let sweep = Sweep { grace: what.grace.clone(), dry_run, force, finish };
    let sweeping = Progress::begin("deleting crate files", voice);
    let tick = |done, total| sweeping.tick(done, Some(total));
    let swept = registry.sweep(&sweep, tick).await?;
    drop(sweeping);
    if what.json {
        return print_json(&swept);
    }
    if dry_run {
        print_table(&listed(&swept.garbage))?;
    }
    let Outcome { crate_files, too_young, garbage, deleted } = swept;
    let garbage = garbage.len();
    print(&format!(
        "{crate_files} crate files, {garbage} garbage, {too_young} too young, {deleted} deleted"
    ))
}

fn listed(garbage: &[Garbage]) -> Table<3> {
    let mut table = Table::new(["checksum", "bytes", "stored"]);
    for Garbage { checksum, bytes, stored } in garbage {
        table.row([&checksum.to_string(), &bytes.to_string(), &stored.to_string()]);
    }
    table
}
