//! One piece of work for many who ask for it at the same time.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tracing::Instrument as _;

use crate::client_key::ClientKey;
use crate::error::{Error, Result};
use crate::fair_share::FairShares;

/// How long a client waits until it may begin one more: what it has begun must end first.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How many wait for that, for each that there may be.
const WAITING_FOR_EACH: usize = 4;

/// Work under way, by what it is for. It runs in its own task and outlives those who asked, so
/// it must bound its own time.
///
/// That task belongs to the runtime that this was made on, whichever thread asks: those that
/// serve connections are not held up by it.
pub struct SingleFlight<K, V: Clone> {
    running: Arc<Mutex<HashMap<K, Running<V>>>>,
    runtime: Option<Handle>,
    /// How many there may be at one time, and how many of them for one client: one that leaves at once
    /// gives back its request's place, while the work that it began goes on. `None`: as many as are
    /// asked for.
    bound: Option<FairShares>,
}

type Running<V> = Shared<BoxFuture<'static, Option<V>>>;

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The result of the work for `key`: of the one under way, else of `start`, which is run now.
    /// `None` only when that work panicked.
    pub async fn join<F, W>(&self, key: K, start: F) -> Option<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = V> + Send + 'static,
    {
        self.running_or(key, start).await
    }

    /// The same on behalf of a client, within the bound: work that is begun counts until it ends, also
    /// when its client has left; who joins what is under way needs no share.
    ///
    /// # Errors
    /// Unavailable, when too much that was begun, in all or for this client, is still under way.
    pub async fn join_for<F, W>(&self, client: ClientKey, key: K, start: F) -> Result<Option<V>>
    where
        F: FnOnce() -> W,
        W: Future<Output = V> + Send + 'static,
    {
        let Some(bound) = &self.bound else { return Ok(self.join(key, start).await) };
        if let Some(flight) = self.running(&key) {
            return Ok(flight.await);
        }
        let waiting = (bound.total().saturating_mul(WAITING_FOR_EACH), TURN_WAIT);
        let share = bound.take(client, 1, waiting).await.ok_or_else(crowded)?;
        let flight = self.running_or(key, move || {
            let work = start();
            async move {
                let _share = share;
                work.await
            }
        });
        Ok(flight.await)
    }

    fn running(&self, key: &K) -> Option<Running<V>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn running_or<F, W>(&self, key: K, start: F) -> Running<V>
    where
        F: FnOnce() -> W,
        W: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(&key) {
            return flight.clone();
        }
        let landing = Landing { key: key.clone(), running: Arc::clone(&self.running) };
        let work = start();
        // Its log lines carry the id of the request that began it.
        let work = async move {
            let _landing = landing;
            work.await
        }
        .in_current_span();
        let task = match &self.runtime {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        };
        let flight = task.map(Result::ok).boxed().shared();
        running.insert(key, flight.clone());
        flight
    }
}

/// Takes the flight off the list when its task ends, in whatever way.
struct Landing<K: Eq + Hash, V: Clone> {
    key: K,
    running: Arc<Mutex<HashMap<K, Running<V>>>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.key);
    }
}

impl<K, V: Clone> SingleFlight<K, V> {
    /// So many for [`SingleFlight::join_for`] at one time.
    pub fn bounded(bound: FairShares) -> Self {
        Self { bound: Some(bound), ..Self::default() }
    }
}

fn crowded() -> Error {
    Error::unavailable(
        "too much that was asked for, in all or from your address, is still on its way to the \
         registry; try again in a few seconds",
    )
}

impl<K, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { running: Arc::default(), runtime: Handle::try_current().ok(), bound: None }
    }
}

impl<K, V: Clone> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Kind;
    use crate::per_address::PerAddress;

    #[tokio::test]
    async fn askers_at_the_same_time_share_one_flight_and_later_ones_start_another() {
        let flights = SingleFlight::<&str, usize>::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let runs = Arc::clone(&runs);
            move || async move {
                tokio::task::yield_now().await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let (a, b) = tokio::join!(flights.join("x", work()), flights.join("x", work()));
        assert_eq!((a, b), (Some(1), Some(1)));
        assert_eq!(flights.join("x", work()).await, Some(2));
    }

    #[tokio::test]
    async fn a_flight_outlives_those_who_asked_for_it() {
        let flights = SingleFlight::<u8, ()>::default();
        let (done, landed) = tokio::sync::oneshot::channel();
        let asker = flights.join(1, || async move {
            tokio::task::yield_now().await;
            let _ = done.send(());
        });
        assert!(asker.now_or_never().is_none());
        assert_eq!(landed.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_began_and_left_counts_until_it_ends() {
        let shares = FairShares::new(8, &PerAddress::default());
        let flights = SingleFlight::<u32, u32>::bounded(shares.clone());
        let client = |n| ClientKey::of([192, 0, 2, n].into());
        let (end, ended) = tokio::sync::watch::channel(false);
        let slow = |key: u32| {
            let mut ended = ended.clone();
            move || async move {
                let _ = ended.wait_for(|ended| *ended).await;
                key
            }
        };
        for key in 0..2 {
            let asked = flights.join_for(client(1), key, slow(key));
            assert!(asked.now_or_never().is_none(), "and its client has left");
        }
        let refused = flights.join_for(client(1), 2, slow(2)).await.unwrap_err();
        assert_eq!((refused.kind, shares.taken()), (Kind::Unavailable, 2));
        let joined = flights.join_for(client(1), 0, pending);
        let other = flights.join_for(client(2), 3, || async { 3 });
        assert_eq!(other.await.unwrap(), Some(3), "others begin theirs");
        end.send(true).unwrap();
        assert_eq!(joined.await.unwrap(), Some(0), "what is under way is joined without a share");
        assert_eq!(flights.join_for(client(1), 2, slow(2)).await.unwrap(), Some(2));
        assert_eq!(shares.taken(), 0);
    }
}
