//! Whether anything is held of a mirrored crate.

use std::time::Duration;

use tokio::time::timeout;

use crate::flows::index_cache::Place;
use crate::gateway::Gateway;
use cratehouse_package::name::CrateName;

/// How long it may take to learn whether the store holds something of a crate.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// Whether anything is held of a mirrored crate, in memory or in the store, however old. A store that
/// does not answer has nothing.
pub(in crate::flows) async fn is_held(gateway: &Gateway, name: &CrateName) -> bool {
    // That the names do not have one says little: another process may have mirrored it since they were read.
    is_remembered(gateway, name)
        || gateway.mirrored_names.holds(&name.key()) == Some(true)
        || is_kept(gateway, name).await
}

/// Whether memory has something of it.
pub(super) fn is_remembered(gateway: &Gateway, name: &CrateName) -> bool {
    let key = name.key();
    (0..gateway.upstreams.len()).any(|at| {
        let known = gateway.index.remember(&key, name, Place::Upstream(at));
        known.is_some_and(|known| matches!(known.answer, Ok(Some(_))))
    })
}

/// Whether the store has something of it.
pub(super) async fn is_kept(gateway: &Gateway, name: &CrateName) -> bool {
    for upstream in &gateway.upstreams {
        if let Ok(Ok(true)) =
            timeout(STORE_WAIT, gateway.mirror.has_index(upstream.name(), name)).await
        {
            return true;
        }
    }
    false
}
