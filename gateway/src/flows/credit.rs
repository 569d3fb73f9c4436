//! What clients ask upstreams for in vain. Only names that no upstream has are charged, so that a
//! build of whatever size costs nothing here; a client that has used up its credit waits for it in a
//! queue of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Limits;
use crate::error::{Error, Kind, Result};
use crate::metrics::Metrics;
use crate::model::client_key::ClientKey;

/// Clients whose credit is remembered, at the most; some 300 bytes each.
const MAX_CLIENTS: u64 = 20_000;
/// How long a request waits in its client's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// The credits of all clients.
pub struct Credits {
    accounts: Cache<ClientKey, Arc<Account>>,
    burst: f64,
    per_second: f64,
    metrics: Metrics,
}

#[derive(Debug)]
struct Account {
    balance: Mutex<Balance>,
    /// First come, first served.
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Balance {
    credit: f64,
    at: Instant,
}

/// One name's worth of a client's credit. It is spent unless the name was found.
#[derive(Debug)]
pub(super) struct Credit {
    account: Option<Arc<Account>>,
    returned: AtomicBool,
}

impl Credits {
    /// As `limits` say: every client begins with all that it can have.
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        let (burst, per_second) =
            (f64::from(limits.absent_burst), f64::from(limits.absent_per_second));
        // After this time a credit is whole again, and need not be remembered.
        let whole_again = Duration::from_secs_f64(burst / per_second) + QUEUE_WAIT;
        let accounts = Cache::builder().max_capacity(MAX_CLIENTS).time_to_idle(whole_again).build();
        Self { accounts, burst, per_second, metrics }
    }

    /// Credit for one name, if the client has any left.
    pub(super) fn at_once(&self, client: ClientKey) -> Option<Credit> {
        if client.network().is_none() {
            return Some(Credit { account: None, returned: AtomicBool::new(true) });
        }
        let account = self.account(client);
        account.take(self.burst, self.per_second).ok().map(|()| Credit::of(account))
    }

    /// Waits for it in the client's queue.
    ///
    /// # Errors
    /// [`Kind::Throttled`], when it takes too long.
    pub(super) async fn wait(&self, client: ClientKey) -> Result<Credit> {
        if let Some(credit) = self.at_once(client) {
            return Ok(credit);
        }
        let account = self.account(client);
        let place = Queued::in_line(&account.waiting);
        // Nobody who stands farther back could be served in time.
        let longest = self.per_second * QUEUE_WAIT.as_secs_f64();
        let waiting = account.waiting.load(Ordering::Relaxed);
        let served = async {
            let _turn = account.queue.lock().await;
            while let Err(wait) = account.take(self.burst, self.per_second) {
                sleep(wait).await;
            }
        };
        if waiting as f64 > longest || timeout(QUEUE_WAIT, served).await.is_err() {
            self.metrics.absent_throttled.inc();
            return Err(throttled());
        }
        self.metrics.absent_queued.inc();
        drop(place);
        Ok(Credit::of(account))
    }

    /// What a client had left when it was last looked at.
    #[cfg(test)]
    pub(super) fn left(&self, client: ClientKey) -> f64 {
        let account = self.account(client);
        account.balance.lock().unwrap_or_else(PoisonError::into_inner).credit
    }

    fn account(&self, client: ClientKey) -> Arc<Account> {
        let (credit, at) = (self.burst, Instant::now());
        let client = client.network().map_or(ClientKey::Exempt, ClientKey::Network);
        self.accounts.get_with(client, || {
            Arc::new(Account {
                balance: Mutex::new(Balance { credit, at }),
                queue: tokio::sync::Mutex::default(),
                waiting: AtomicUsize::new(0),
            })
        })
    }
}

impl Account {
    /// Takes credit for one name, or says how long that would have to wait.
    fn take(&self, burst: f64, per_second: f64) -> Result<(), Duration> {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(balance.at).as_secs_f64() * per_second;
        (balance.credit, balance.at) = ((balance.credit + earned).min(burst), now);
        if balance.credit >= 1.0 {
            balance.credit -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - balance.credit) / per_second;
        Err(Duration::from_secs_f64(missing).max(Duration::from_millis(1)))
    }
}

impl Credit {
    fn of(account: Arc<Account>) -> Self {
        Self { account: Some(account), returned: AtomicBool::new(false) }
    }

    /// The name was found, or nobody could tell: it costs nothing.
    pub(super) fn give_back(&self) {
        let Some(account) = &self.account else { return };
        if !self.returned.swap(true, Ordering::Relaxed) {
            let mut balance = account.balance.lock().unwrap_or_else(PoisonError::into_inner);
            balance.credit += 1.0; // never beyond the burst: see `Account::take`
        }
    }
}

/// Counts who waits.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn in_line(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn throttled() -> Error {
    let message = "too many names that no upstream has were asked for from this address: try again \
                   in a few seconds. Names that exist are not counted; an operator can raise \
                   `limits.absent_burst` and `limits.absent_per_second`, or list the network in \
                   `limits.exempt_networks`";
    Error::new(Kind::Throttled, message).retry_after(QUEUE_WAIT)
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    fn credits(absent_burst: u32, absent_per_second: u32) -> Credits {
        let limits = Limits { absent_burst, absent_per_second, ..Limits::default() };
        Credits::new(&limits, Metrics::new().unwrap())
    }

    fn client(n: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, n].into())
    }

    #[tokio::test(start_paused = true)]
    async fn found_names_cost_nothing_and_absent_ones_are_charged_to_their_client() {
        let credits = credits(10, 5);
        for _ in 0..1000 {
            credits.at_once(client(1)).unwrap().give_back();
        }
        let spent = (0..1000).filter_map(|_| credits.at_once(client(1))).count();
        assert_eq!(spent, 10);
        assert!(credits.at_once(client(2)).is_some());
        assert!((0..1000).all(|_| credits.at_once(ClientKey::Exempt).is_some()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter_map(|_| credits.at_once(client(1))).count(), 5);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!((0..1000).filter_map(|_| credits.at_once(client(1))).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_it_a_client_waits_in_a_queue_of_its_own_and_not_for_ever() {
        let credits = credits(10, 5);
        let began = Instant::now();
        let waits = (0..100).map(|_| credits.wait(client(1)));
        let (all, other) = tokio::join!(join_all(waits), async {
            assert!(credits.wait(client(2)).await.is_ok());
            began.elapsed()
        });
        assert_eq!(other, Duration::ZERO);
        let served = all.iter().filter(|one| one.is_ok()).count();
        assert!((55..=60).contains(&served), "10 at once and 5 a second for 10 s: {served}");
        let refused = all.into_iter().find_map(Result::err).unwrap();
        assert_eq!((refused.kind, refused.retry_after), (Kind::Throttled, Some(QUEUE_WAIT)));
        let counted = (credits.metrics.absent_queued.get(), credits.metrics.absent_throttled.get());
        assert_eq!(counted, (served as u64 - 10, 100 - served as u64));
    }
}
