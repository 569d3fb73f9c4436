//! `gc`: hosted crate files that no version names.

use crate::cli::Gc;
use crate::gateway::Gateway;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::progress::Progress;
use cratehouse_core::table::Table;
use cratehouse_core::times::to_the_second;
use cratehouse_journal::garbage;
use cratehouse_storage::blobs::{Stored, blobs_in};
use cratehouse_storage::objects::Objects;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::print;
use super::table::{print_json, print_table};

/// Sweeps, or says what a sweep would delete.
pub(super) async fn collect(gateway: &Gateway, what: &Gc) -> Result<()> {
    let Gc { dry_run, force, finish, .. } = *what;
    let stored_before = what.grace.before(Timestamp::now()).map_err(Error::invalid)?;
    let config = &gateway.config;
    let objects = Objects::open(&config.store, config.outgoing_ca.as_deref())?;
    // By the client that does not retry: see `garbage::sweep`.
    let blobs = blobs_in(&Objects::same(objects.commit));
    let plan = garbage::Plan { stored_before, dry_run, force, finish };
    let sweeping = Progress::begin("deleting crate files", config.log.format);
    let tick = |done, total| sweeping.tick(done, Some(total));
    let swept = garbage::sweep(&gateway.journal, &blobs, &plan, tick).await?;
    drop(sweeping);
    if what.json {
        return print_json(&in_json(&swept));
    }
    if dry_run {
        print_table(&listed(&swept.garbage))?;
    }
    let garbage::Swept { stored, young, garbage, deleted } = swept;
    let garbage = garbage.len();
    print(&format!("{stored} crate files, {garbage} garbage, {young} too young, {deleted} deleted"))
}

fn listed(garbage: &[Stored]) -> Table<3> {
    let mut table = Table::new(["checksum", "bytes", "stored"]);
    for Stored { cksum, size, modified } in garbage {
        let stored = to_the_second(*modified).to_string();
        table.row([&cksum.to_string(), &size.to_string(), &stored]);
    }
    table
}

fn in_json(swept: &garbage::Swept) -> Value {
    let garbage::Swept { stored, young, garbage, deleted } = swept;
    let shown = |s: &Stored| json!({ "checksum": s.cksum, "bytes": s.size, "stored": to_the_second(s.modified) });
    let garbage: Vec<_> = garbage.iter().map(shown).collect();
    json!({ "crate_files": stored, "garbage": garbage, "too_young": young, "deleted": deleted })
}
