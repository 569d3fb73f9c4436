//! The index file of a crate: hosted, reserved, or from the chain of upstreams, in this order.
//! A name that is hosted or reserved, in whatever spelling, is never asked of an upstream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::flows::index_cache::{Flight, Known, Outcome, Place};
use crate::flows::mirroring;
use crate::gateway::Gateway;
use crate::model::index::{IndexFile, Listed};
use crate::model::name::{CrateName, NameKey};
use crate::stores::catalog::{CrateRow, VersionRow};

pub use crate::flows::index_cache::IndexCache;

/// The index file of a crate, hosted or mirrored; `None` when there is definitely no such crate.
/// `name` is lower case here: it comes from an index path.
///
/// # Errors
/// When the catalog fails, or an upstream did not answer and nothing is known from before;
/// unavailable, when it takes longer than `limits.fill_wait` (the work goes on).
pub async fn lookup(gateway: &Arc<Gateway>, name: &CrateName) -> Result<Option<Arc<IndexFile>>> {
    let key = name.key();
    let known = match gateway.index.answer(&key, name, gateway.upstreams.len()).await {
        Some(known) => Ok(known),
        None => find_in_time(gateway, &key, name).await,
    };
    let outcome = known.as_ref().map_or(Outcome::Error, |known| known.outcome);
    gateway.metrics.index_lookups.with_label_values(&[outcome.label()]).inc();
    known?.answer
}

async fn find_in_time(gateway: &Arc<Gateway>, key: &NameKey, name: &CrateName) -> Result<Known> {
    let finding = timeout(gateway.config.limits.fill_wait, find(gateway, key, name));
    finding.await.unwrap_or_else(|_| {
        Err(Error::unavailable(format_args!(
            "the index file of `{name}` is still on its way to the registry; try again in a few \
             seconds"
        )))
    })
}

async fn find(gateway: &Arc<Gateway>, key: &NameKey, name: &CrateName) -> Result<Known> {
    if let Some(row) = gateway.catalog.krate(key)? {
        return Ok(hosted(gateway, name, row).await);
    }
    if is_reserved(&gateway.config, key) {
        return Ok(Known::absent(None));
    }
    let known = mirroring::chain(gateway, name).await;
    // The name may have been published while the upstreams were asked: from then on it is ours.
    match gateway.catalog.krate(key)? {
        Some(row) => Ok(hosted(gateway, name, row).await),
        None => Ok(known),
    }
}

/// Whether the configuration keeps a name for us.
pub(super) fn is_reserved(config: &Config, key: &NameKey) -> bool {
    config.reserved.iter().any(|pattern| pattern.covers(key))
}

async fn hosted(gateway: &Arc<Gateway>, name: &CrateName, row: CrateRow) -> Known {
    let flight = Flight {
        name: name.clone(),
        place: Place::Hosted,
        generation: Some(row.changed),
        force: false,
    };
    let (owned, name) = (Arc::clone(gateway), name.clone());
    let work = || async move {
        let made = make_hosted(&owned, &name, &row).await;
        made.unwrap_or_else(|e| Known::trouble(e, Duration::ZERO))
    };
    landed(gateway.index.flights.join(flight, work).await)
}

/// Renders a hosted crate's file and puts it into memory, unless the crate has changed meanwhile.
async fn make_hosted(gateway: &Gateway, name: &CrateName, row: &CrateRow) -> Result<Known> {
    let key = name.key();
    let mut known = Known::absent(None);
    if row.name.lower() == name.as_str() {
        let (catalog, wanted) = (gateway.catalog.clone(), key.clone());
        let file = spawn_blocking(move || hosted_file(&catalog.versions(&wanted)?)).await;
        if let Some(file) = file.map_err(Error::internal)?? {
            known = Known { answer: Ok(Some(Arc::new(file))), outcome: Outcome::Miss, ..known };
        }
    }
    let (generation, what) = (Some(row.changed), (name, Place::Hosted));
    let now = || generation_now(gateway, &key);
    gateway.index.put(&key, generation, what, known.clone(), now).await;
    Ok(known)
}

/// The journal entry that last touched a hosted crate; `None`: there is no such crate.
pub(super) fn generation_now(gateway: &Gateway, key: &NameKey) -> Result<Option<u64>> {
    Ok(gateway.catalog.krate(key)?.map(|row| row.changed))
}

/// The index file of a hosted crate: a line for each version that was not removed, in the order
/// of their publication; `None` without any.
fn hosted_file(versions: &[VersionRow]) -> Result<Option<IndexFile>> {
    let (mut lines, mut listed) = (Vec::new(), Vec::new());
    for row in versions.iter().filter(|row| !row.removed) {
        let line = &row.line;
        serde_json::to_writer(&mut lines, line).map_err(Error::internal)?;
        lines.push(b'\n');
        listed.push(Listed {
            name: line.name.clone(),
            version: line.vers.clone(),
            cksum: line.cksum,
            yanked: line.yanked,
            pubtime: line.pubtime.as_deref().and_then(|time| time.parse().ok()),
        });
    }
    let any = !listed.is_empty();
    Ok(any.then(|| IndexFile::new(Bytes::from(lines), listed)))
}

/// The result of a flight; one that crashed is our own fault.
pub(super) fn landed(result: Option<Known>) -> Known {
    let crashed = || {
        let message = "something went wrong inside the registry while it made an index file";
        Known::trouble(Error::new(Kind::Internal, message), Duration::ZERO)
    };
    result.unwrap_or_else(crashed)
}

#[cfg(test)]
mod tests;
