//! Clients that had no place at an upstream in time.

use std::fmt;
use std::time::Duration;

use moka::sync::Cache;

use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::permits::Turn;
use cratehouse_core::client_key::ClientKey;

/// For how long such a client is served what is held, without a wait.
const REST: Duration = Duration::from_secs(2);
/// Clients that are remembered for it; one that is forgotten waits once more.
const MAX_CLIENTS: u64 = 10_000;

/// Who had no place within the last moment. One client that takes all that it may have says nothing of
/// the others.
pub(super) struct Crowded(Cache<ClientKey, ()>);

impl Crowded {
    /// What came of a turn.
    pub(super) fn note<T>(&self, turn: Turn, answer: &Result<T, UpstreamError>) {
        let is_crowded =
            |failure: &UpstreamError| matches!(failure.kind, UpstreamErrorKind::Crowded);
        if turn.held && answer.as_ref().is_err_and(is_crowded) {
            self.0.insert(turn.client, ());
        }
    }

    pub(super) fn holds(&self, client: ClientKey) -> bool {
        self.0.contains_key(&client)
    }
}

impl Default for Crowded {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_CLIENTS).time_to_live(REST).build())
    }
}

impl fmt::Debug for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crowded")
    }
}
