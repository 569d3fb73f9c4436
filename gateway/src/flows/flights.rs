//! One piece of work for many who ask for it at the same time.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tracing::Instrument as _;

/// Work under way, by what it is for. It runs in its own task and outlives those who asked, so
/// it must bound its own time.
///
/// That task belongs to the runtime that this was made on, whichever thread asks: those that
/// serve connections are not held up by it.
pub struct Flights<K, V: Clone> {
    running: Arc<Mutex<HashMap<K, Running<V>>>>,
    runtime: Option<Handle>,
}

type Running<V> = Shared<BoxFuture<'static, Option<V>>>;

impl<K, V> Flights<K, V>
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

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { running: Arc::default(), runtime: Handle::try_current().ok() }
    }
}

impl<K, V: Clone> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn askers_at_the_same_time_share_one_flight_and_later_ones_start_another() {
        let flights = Flights::<&str, usize>::default();
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
        let flights = Flights::<u8, ()>::default();
        let (done, landed) = tokio::sync::oneshot::channel();
        let asker = flights.join(1, || async move {
            tokio::task::yield_now().await;
            let _ = done.send(());
        });
        assert!(asker.now_or_never().is_none());
        assert_eq!(landed.await, Ok(()));
    }
}
