//! Licences of mirrored versions. What a crate file states is read when its bytes are at hand, noted
//! where its index file is judged, and kept in the store for the other replicas.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::flows::index_cache::CachedLookup;
use crate::flows::judged::Judging;
use crate::gateway::Gateway;
use cratehouse_core::error::Result;
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::log_limit::LineLimit;
use cratehouse_package::index::{IndexFile, Listed};

/// How long a judgement waits for the licences in the store, which it can do without.
const STORE_WAIT: Duration = Duration::from_secs(2);
/// How long an errand may take, with the ones of the same crate before it.
const ERRAND: Duration = Duration::from_secs(30);
/// Asks the store, once, for licences that other replicas have read. Trouble with it means that
/// they are not known yet.
pub(super) async fn begin(gateway: &Gateway, judging: &Judging, file: &IndexFile) {
    let Some(upstream) = judging.upstream().filter(|_| judging.learned.begins()) else { return };
    let lines = &gateway.mirror_lines.licenses;
    let fetching = judging.learned.fetch((&gateway.mirror, lines), upstream, file);
    told(lines, upstream, timeout(STORE_WAIT, fetching).await, "could not be read from the store");
}

/// Asks the store again where it is time to, beside what goes on: who finds news there has the
/// index file judged anew by its next asker.
pub(super) fn look_again(gateway: &Gateway, judging: &Arc<Judging>, file: &Arc<IndexFile>) {
    if judging.upstream().is_none() || !judging.learned.is_due() {
        return;
    }
    let (store, lines) = (gateway.mirror.clone(), Arc::clone(&gateway.mirror_lines.licenses));
    let (judging, file) = (Arc::clone(judging), Arc::clone(file));
    run_errand(gateway, async move {
        let upstream = judging.upstream().unwrap_or_default();
        let fetching = judging.learned.fetch((&store, &lines), upstream, &file);
        let fetched = timeout(ERRAND, fetching).await;
        told(&lines, upstream, fetched, "could not be read from the store");
    });
}

/// Reads the licence of a version whose verified bytes are at hand, and notes it; the store learns
/// of it beside that. All who ask at the same time share the reading.
///
/// # Errors
/// When reading crashed, which is our own fault.
pub(super) async fn read(
    gateway: &Arc<Gateway>,
    known: &CachedLookup,
    version: &Listed,
    bytes: &Bytes,
) -> Result<()> {
    note(gateway, known, version, bytes).await?;
    let (owned, known) = (Arc::clone(gateway), known.clone());
    run_errand(gateway, async move { keep(&owned, &known).await });
    Ok(())
}

/// The same; the store learns of it when [`keep`] is called.
///
/// # Errors
/// As [`read`].
pub(super) async fn note(
    gateway: &Arc<Gateway>,
    known: &CachedLookup,
    version: &Listed,
    bytes: &Bytes,
) -> Result<()> {
    let fact = gateway.licenses.of(version, bytes, &gateway.metrics).await?;
    tracing::debug!(krate = %version.name, version = %version.version,
        fact = excerpt(&format!("{fact:?}")), "a licence was read");
    let learned = &known.judging.learned;
    learned.add([(version.cksum, fact)]);
    learned.unsaved.store(true, Ordering::Release); // not earlier: who saves reads it first
    Ok(())
}

/// Brings to the store what was noted and is not there yet; waits also for others who do so.
pub(super) async fn keep(gateway: &Gateway, known: &CachedLookup) {
    let Ok(Some(file)) = known.answer.clone() else { return };
    let Some(upstream) = known.judging.upstream() else { return };
    let lines = &gateway.mirror_lines.licenses;
    let saving = known.judging.learned.save((&gateway.mirror, lines), upstream, &file);
    let saved = timeout(ERRAND, saving).await;
    told(lines, upstream, saved, "could not be kept in the store, and are read again");
}

/// The same after the download was answered, if there is room.
pub(super) fn read_aside(
    gateway: &Arc<Gateway>,
    known: &CachedLookup,
    version: &Listed,
    bytes: &Bytes,
) {
    let Ok(room) = Arc::clone(&gateway.licenses.aside).try_acquire_owned() else { return };
    let (gateway, known) = (Arc::clone(gateway), known.clone());
    let (version, bytes) = (version.clone(), bytes.clone());
    let work = async move {
        let _room: OwnedSemaphorePermit = room;
        if let Err(error) = read(&gateway, &known, &version, &bytes).await {
            tracing::error!(error = %error.chain(), "a licence could not be read");
        }
    };
    tokio::spawn(work.in_current_span());
}

/// Runs beside everything else, unless too much does already: then the next occasion is taken.
fn run_errand(gateway: &Gateway, errand: impl Future<Output = ()> + Send + 'static) {
    let Ok(room) = Arc::clone(&gateway.licenses.errands).try_acquire_owned() else { return };
    let work = async move {
        errand.await;
        drop(room);
    };
    tokio::spawn(work.in_current_span());
}

fn told(lines: &LineLimit, upstream: &str, done: Result<Result<()>, Elapsed>, what: &str) {
    let why = match done {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.chain(),
        Err(_) => "the store did not answer in time".to_owned(),
    };
    if let Some(suppressed) = lines.admit() {
        tracing::warn!(upstream, %why, suppressed, "licences {what}");
    }
}

#[cfg(test)]
mod tests;
