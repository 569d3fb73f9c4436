//! Memory for index files of upstreams, and what it still has where nothing more may be begun.

use std::time::Duration;

use super::Chain;
use crate::index::cache::{CachedLookup, Outcome, Place};
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// How long a file that is known waits for memory to be made anew.
const KNOWN_WAIT: Duration = Duration::from_secs(1);

/// Waits for memory for one more file; not for long where the former one can be served.
pub(super) async fn admit(chain: &Chain, former: Option<&CachedLookup>) -> Result<()> {
    let is_known = former.is_some_and(|former| matches!(former.answer, Ok(Some(_))));
    let wait = chain.memory_wait;
    chain.admit_within(if is_known { wait.min(KNOWN_WAIT) } else { wait }).await
}

impl Chain {
    /// Waits for memory for one more index file, also a hosted one.
    ///
    /// # Errors
    /// Unavailable, when there is none in time.
    pub async fn admit_within(&self, wait: Duration) -> Result<()> {
        self.index.admit(wait).await.inspect_err(|_| {
            if let Some(suppressed) = self.lines.no_memory.admit() {
                let (taken, waited) = (self.index.taken(), wait.as_secs());
                tracing::warn!(taken, waited, suppressed, "no room in memory for an index file");
            }
        })
    }
}

/// What there is for a client that may not begin one more request: a file that is known, however old.
pub(super) fn unbegun(
    chain: &Chain,
    name: &CrateName,
    place: Place,
    crowded: Error,
) -> CachedLookup {
    match remembered_file(chain, name, place) {
        Some(former) => former,
        None => {
            chain.metrics.requests_refused.inc();
            CachedLookup::failed(crowded, Duration::ZERO)
        }
    }
}

/// The last known file of a crate at one place, if memory has one, as it is served without an answer.
pub(super) fn remembered_file(
    chain: &Chain,
    name: &CrateName,
    place: Place,
) -> Option<CachedLookup> {
    let former = chain.index.remember(&name.key(), name, place)?;
    let former = Some(former).filter(|former| matches!(former.answer, Ok(Some(_))))?;
    Some(CachedLookup { outcome: Outcome::Stale, ..former })
}
