//! Memory for index files of upstreams, and what it still has where nothing more may be begun.

use std::time::Duration;

use crate::flows::index_cache::{CachedLookup, Outcome, Place};
use crate::gateway::Gateway;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// How long a file that is known waits for memory to be made anew.
const KNOWN_WAIT: Duration = Duration::from_secs(1);

/// Waits for memory for one more file; not for long where the former one can be served.
pub(super) async fn admit(gateway: &Gateway, former: Option<&CachedLookup>) -> Result<()> {
    let is_known = former.is_some_and(|former| matches!(former.answer, Ok(Some(_))));
    let wait = gateway.config.limits.fill_wait;
    admit_within(gateway, if is_known { wait.min(KNOWN_WAIT) } else { wait }).await
}

/// Waits for memory for one more file.
pub(in crate::flows) async fn admit_within(gateway: &Gateway, wait: Duration) -> Result<()> {
    gateway.index.admit(wait).await.inspect_err(|_| {
        if let Some(suppressed) = gateway.mirror_lines.no_memory.admit() {
            let (taken, waited) = (gateway.index.taken(), wait.as_secs());
            tracing::warn!(taken, waited, suppressed, "no room in memory for an index file");
        }
    })
}

/// What there is for a client that may not begin one more flight: a file that is known, however old.
pub(super) fn unbegun(
    gateway: &Gateway,
    name: &CrateName,
    place: Place,
    crowded: Error,
) -> CachedLookup {
    match remembered_file(gateway, name, place) {
        Some(former) => former,
        None => {
            gateway.metrics.requests_refused.inc();
            CachedLookup::trouble(crowded, Duration::ZERO)
        }
    }
}

/// The last known file of a crate at one place, if memory has one, as it is served without an answer.
pub(super) fn remembered_file(
    gateway: &Gateway,
    name: &CrateName,
    place: Place,
) -> Option<CachedLookup> {
    let former = gateway.index.remember(&name.key(), name, place)?;
    let former = Some(former).filter(|former| matches!(former.answer, Ok(Some(_))))?;
    Some(CachedLookup { outcome: Outcome::Stale, ..former })
}
