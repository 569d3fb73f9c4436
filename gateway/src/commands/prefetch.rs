//! `prefetch`: the mirror is filled ahead of need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::Prefetch;
use crate::flows::registry::prefetch::{Elsewhere, Failed, Told, Wanted};
use cratehouse_core::console::{LogFormat, tell};
use cratehouse_core::error::{Error, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::progress::{Progress, grouped};
use cratehouse_package::lock_file::MAX_LOCK_BYTES;

use super::print;
use super::registry::Registry;
use super::table::print_json;

/// Fills it, and says what was done: what went wrong on standard error, a line on standard output.
pub(super) async fn fill_ahead(
    registry: Registry<'_>,
    what: &Prefetch,
    voice: LogFormat,
) -> Result<ExitCode> {
    let mut locks = what.locks.clone();
    if locks.is_empty() && what.crates.is_empty() {
        locks.push(PathBuf::from("Cargo.lock"));
    }
    let locks = locks.iter().map(|file| read(file)).collect::<Result<_>>()?;
    let wanted = Wanted { locks, crates: what.crates.clone() };
    let filling = Progress::begin("filling the mirror", voice);
    let tick = |done: usize, total: usize| filling.tick(done as u64, Some(total as u64));
    let done = registry.prefetch(&wanted, tick).await?;
    drop(filling);
    tell_details(&done);
    match what.json {
        true => print_json(&done)?,
        false => print(&summary(&done))?,
    }
    Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> Result<(String, String)> {
    let shown = file.display();
    let refuse = |why: &dyn std::fmt::Display| {
        Err(Error::invalid(format!(
            "{shown} cannot be read: {why}; name a lock file with `--lock`, or crates such as `serde@1`"
        )))
    };
    match fs::metadata(file) {
        Ok(found) if found.len() > MAX_LOCK_BYTES as u64 => {
            return refuse(&format_args!("it is larger than {MAX_LOCK_BYTES} bytes"));
        }
        _ => (),
    }
    match fs::read_to_string(file) {
        Ok(text) => Ok((shown.to_string(), text)),
        Err(e) => refuse(&e),
    }
}

fn tell_details(done: &Told) {
    for package in &done.chosen {
        tell(&format!("{package}: the newest version that is meant"));
    }
    for Elsewhere { package, registry } in &done.elsewhere {
        tell(&format!(
            "{package}: left out, it is from another registry ({}); where that is another name of this \
             one, add it to `server.aliases`",
            excerpt(registry)
        ));
    }
    for Failed { package, error, chain } in &done.failed {
        tell(&format!("{package}: {}", chain.as_ref().unwrap_or(error)));
    }
}

fn summary(done: &Told) -> String {
    let mut parts = vec![
        format!("{} packages fetched ({} bytes)", done.fetched, grouped(done.fetched_bytes)),
        format!("{} there already", done.present),
        format!("{} failed", done.failed.len()),
    ];
    let beside =
        [(done.elsewhere.len(), "of other registries"), (done.unpublished, "of no registry")];
    let beside = beside.iter().filter(|(count, _)| *count > 0);
    parts.extend(beside.map(|(count, what)| format!("{count} {what} left out")));
    parts.join(", ")
}
