//! Whether anything is held of a mirrored crate.

use std::time::Duration;

use tokio::time::timeout;

use super::Chain;
use crate::index::cache::Place;
use cratehouse_package::name::CrateName;

/// How long it may take to learn whether the store holds something of a crate.
const STORE_WAIT: Duration = Duration::from_secs(5);

impl Chain {
    /// Whether anything is held of a mirrored crate, in memory or in the store, however old. A store
    /// that does not answer has nothing.
    pub async fn is_held(&self, name: &CrateName) -> bool {
        // That the names do not have one says little: another process may have mirrored it since they
        // were read.
        self.is_remembered(name)
            || self.names.holds(&name.key()) == Some(true)
            || self.is_kept(name).await
    }

    /// Whether memory has something of it.
    pub(super) fn is_remembered(&self, name: &CrateName) -> bool {
        let key = name.key();
        (0..self.len()).any(|at| {
            let known = self.index.remember(&key, name, Place::Upstream(at));
            known.is_some_and(|known| matches!(known.answer, Ok(Some(_))))
        })
    }

    /// Whether the store has something of it.
    pub(super) async fn is_kept(&self, name: &CrateName) -> bool {
        for upstream in self.upstreams.iter() {
            let looking = self.store.has_index(upstream.name(), name);
            if let Ok(Ok(true)) = timeout(STORE_WAIT, looking).await {
                return true;
            }
        }
        false
    }
}
