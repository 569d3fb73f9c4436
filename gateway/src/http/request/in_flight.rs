//! Requests that memory does not answer at once: how many there may be at one time. What such a
//! request takes (some 20 kB while it is worked on, then its response of at most 16 KiB that no other
//! budget counts) it holds until the response was sent, whether or not its client reads it.

use std::time::Duration;

use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::Share;

/// How many wait for a place, for each place. One that waits takes some 2 kB.
const WAITING_FOR_EACH: usize = 4;
/// How long they wait: less than cargo's patience, so that it hears when to come back.
const WAIT: Duration = Duration::from_secs(10);

/// A place for a client's request, when it is to be had in time.
///
/// # Errors
/// Unavailable, when it is not, or too many wait already.
pub(crate) async fn enter(gateway: &Gateway, client: ClientKey) -> Result<Share> {
    let places = &gateway.in_flight;
    let most = places.total().saturating_mul(WAITING_FOR_EACH);
    places.take(client, 1, (most, WAIT)).await.ok_or_else(|| {
        gateway.metrics.requests_refused.inc();
        Error::unavailable(
            "too many requests are under way, in all or from your address; try again in a few seconds",
        )
    })
}
