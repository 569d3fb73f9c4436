//! What clients ask upstreams for in vain. Only names that no upstream has are charged, and only when
//! that is known, so that a build of whatever size costs nothing here; a client that has used up its
//! credit waits for it in a queue of its own. What it has under way then is a debt.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::{Instant, sleep, timeout};

use crate::settings::AbsentLimits;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;

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

/// What an IPv6 site can have more than one of its clients.
const SITE_TIMES: f64 = 2.0;

#[derive(Debug)]
struct Account {
    /// All credit that it can have, and what it earns in a second.
    burst: f64,
    per_second: f64,
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

/// One name that a client may ask for on credit. It costs nothing unless it is settled to have been
/// asked for in vain, when the last who has this lets it go: who leaves or gives up loses nothing.
#[derive(Debug)]
pub struct Credit {
    /// None: of a client that pays for nothing.
    accounts: Accounts,
    /// Whether it was taken in advance, in the queue.
    paid: bool,
    in_vain: AtomicBool,
}

/// Of a client, and of its site.
type Accounts = [Option<Arc<Account>>; 2];

impl Credits {
    /// As `limits` say: every client begins with all that it can have.
    pub fn new(limits: &AbsentLimits, metrics: Metrics) -> Self {
        let (burst, per_second) = (f64::from(limits.burst), f64::from(limits.per_second));
        // After this time a credit is whole again, also after the largest debt, and need not be remembered.
        let requests = limits.requests;
        let under_way = limits.per_address.share_of(requests).unwrap_or(requests) as f64;
        let whole_again = Duration::from_secs_f64((burst + under_way) / per_second) + QUEUE_WAIT;
        let accounts = Cache::builder().max_capacity(MAX_CLIENTS).time_to_idle(whole_again).build();
        Self { accounts, burst, per_second, metrics }
    }

    /// Credit for one name, if the client has any left. What is under way is not counted: a large build
    /// whose names all exist would wait for nothing.
    pub fn at_once(&self, client: ClientKey) -> Option<Credit> {
        if client.network().is_none() {
            return Some(Credit::of([None, None], false));
        }
        let accounts = self.accounts(client);
        let mut lefts = accounts.iter().flatten().map(|account| account.balance().credit);
        lefts.all(|left| left >= 1.0).then(|| Credit::of(accounts, false))
    }

    /// Waits for it in the client's queue.
    ///
    /// # Errors
    /// [`Kind::Throttled`], when it takes too long.
    pub(crate) async fn wait(&self, client: ClientKey) -> Result<Credit> {
        if let Some(credit) = self.at_once(client) {
            return Ok(credit);
        }
        let accounts = self.accounts(client);
        let queues = || accounts.iter().flatten();
        let places: Vec<_> = queues().map(|account| Queued::in_line(&account.waiting)).collect();
        let mut paid = Vec::new();
        let served = async {
            for account in queues() {
                // What is paid to the one is given back, if the other takes too long.
                paid.push(account.paid().await);
            }
        };
        if queues().any(|account| account.is_hopeless())
            || timeout(QUEUE_WAIT, served).await.is_err()
        {
            self.metrics.absent_throttled.inc();
            return Err(throttled());
        }
        self.metrics.absent_queued.inc();
        drop(places);
        paid.into_iter().for_each(Paid::keep);
        Ok(Credit::of(accounts.clone(), true))
    }

    /// What a client had left when it was last looked at; of one that pays for nothing, no number.
    #[cfg(any(test, feature = "test-util"))]
    pub fn left(&self, client: ClientKey) -> f64 {
        let [account, _] = self.accounts(client);
        let balance = |account: &Arc<Account>| {
            account.balance.lock().unwrap_or_else(PoisonError::into_inner).credit
        };
        account.as_ref().map_or(f64::NAN, balance)
    }

    fn accounts(&self, client: ClientKey) -> Accounts {
        let own = client.network().map(|network| self.account(ClientKey::Network(network), 1.0));
        [own, client.of_site().map(|site| self.account(site, SITE_TIMES))]
    }

    /// The account of a client, with so many times what one has.
    fn account(&self, client: ClientKey, times: f64) -> Arc<Account> {
        let (burst, per_second) = (self.burst * times, self.per_second * times);
        let (credit, at) = (burst, Instant::now());
        self.accounts.get_with(client, || {
            Arc::new(Account {
                burst,
                per_second,
                balance: Mutex::new(Balance { credit, at }),
                queue: tokio::sync::Mutex::default(),
                waiting: AtomicUsize::new(0),
            })
        })
    }
}

impl Account {
    /// With what was earned until now.
    fn balance(&self) -> MutexGuard<'_, Balance> {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(balance.at).as_secs_f64() * self.per_second;
        (balance.credit, balance.at) = ((balance.credit + earned).min(self.burst), now);
        balance
    }

    /// Adds to the balance, never beyond the burst: see [`Account::balance`].
    fn add(&self, credit: f64) {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner).credit += credit;
    }

    /// Takes credit for one name, or says how long that would have to wait.
    fn take(&self) -> Result<(), Duration> {
        let mut balance = self.balance();
        if balance.credit >= 1.0 {
            balance.credit -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - balance.credit) / self.per_second;
        Err(Duration::from_secs_f64(missing).max(Duration::from_millis(1)))
    }

    /// Whether nobody who stands farther back could be served in time.
    fn is_hopeless(&self) -> bool {
        let longest = self.per_second * QUEUE_WAIT.as_secs_f64();
        self.waiting.load(Ordering::Relaxed) as f64 > longest
    }

    /// Takes credit for one name, in turn.
    async fn paid(&self) -> Paid<'_> {
        let _turn = self.queue.lock().await;
        while let Err(wait) = self.take() {
            sleep(wait).await;
        }
        Paid(Some(self))
    }
}

/// Credit that was taken, and goes back unless it is kept.
struct Paid<'a>(Option<&'a Account>);

impl Paid<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Paid<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.0 {
            account.add(1.0);
        }
    }
}

impl Credit {
    fn of(accounts: Accounts, paid: bool) -> Self {
        Self { accounts, paid, in_vain: AtomicBool::new(false) }
    }

    /// Says whether the name was asked for in vain; the last word counts. Otherwise it was found, or
    /// nobody could tell.
    pub fn settle(&self, in_vain: bool) {
        self.in_vain.store(in_vain, Ordering::Relaxed);
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        let more = match (self.paid, *self.in_vain.get_mut()) {
            (true, false) => 1.0,
            (false, true) => -1.0,
            (true, true) | (false, false) => return,
        };
        for account in self.accounts.iter().flatten() {
            account.add(more);
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
    use cratehouse_core::per_address::PerAddress;
    use futures_util::future::join_all;

    fn credits(burst: u32, per_second: u32) -> Credits {
        let per_address = PerAddress::default();
        let limits = AbsentLimits { burst, per_second, requests: 4096, per_address };
        Credits::new(&limits, Metrics::new().unwrap())
    }

    fn client(n: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, n].into())
    }

    /// Asks for one name in vain, if there is credit for it.
    fn spend(credits: &Credits, client: ClientKey) -> bool {
        let credit = credits.at_once(client);
        credit.inspect(|credit| credit.settle(true)).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn found_names_cost_nothing_and_absent_ones_are_charged_to_their_client() {
        let credits = credits(10, 5);
        for _ in 0..1000 {
            credits.at_once(client(1)).unwrap().settle(false);
        }
        let spent = (0..1000).filter(|_| spend(&credits, client(1))).count();
        assert_eq!(spent, 10);
        assert!(credits.at_once(client(2)).is_some());
        assert!((0..1000).all(|_| spend(&credits, ClientKey::Exempt)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter(|_| spend(&credits, client(1))).count(), 5);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!((0..1000).filter(|_| spend(&credits, client(1))).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_of_many_networks_has_the_credit_of_two_clients() {
        let credits = credits(10, 5);
        let host = |nth: u16| ClientKey::of([0x2001, 0xdb8, 7, nth, 0, 0, 0, 1].into());
        let spent = (0..1000).filter(|nth| spend(&credits, host(*nth))).count();
        assert_eq!(spent, 20);
        assert!(spend(&credits, ClientKey::of([0x2001, 0xdb8, 8, 0, 0, 0, 0, 1].into())));
        let waits = (0..90).map(|nth| credits.wait(host(nth)));
        let served = join_all(waits).await.into_iter().filter(Result::is_ok).count();
        assert!((85..=90).contains(&served), "10 a second for 10 s: {served}");
    }

    #[tokio::test(start_paused = true)]
    async fn names_under_way_take_no_credit_before_they_turn_out_to_be_nowhere() {
        let credits = credits(10, 5);
        let under_way: Vec<_> = (0..1000).map(|_| credits.at_once(client(1)).unwrap()).collect();
        under_way.iter().take(30).for_each(|credit| credit.settle(true));
        assert!(credits.at_once(client(1)).is_some());
        drop(under_way);
        assert_eq!(credits.left(client(1)).round(), -20.0, "the rest is a debt");
        assert!(credits.at_once(client(1)).is_none());
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(credits.at_once(client(1)).is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(credits.at_once(client(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_the_answer_loses_nothing() {
        let credits = credits(1, 1);
        assert!(spend(&credits, client(1)));
        let waited = credits.wait(client(1)).await.unwrap();
        assert!(credits.at_once(client(1)).is_none());
        drop(waited);
        assert!(credits.at_once(client(1)).is_some());
        // What its work goes on with settles it, and the last word counts.
        let shared = Arc::new(credits.at_once(client(1)).unwrap());
        let work = Arc::clone(&shared);
        drop(shared);
        work.settle(true);
        work.settle(false);
        drop(work);
        assert!(credits.at_once(client(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_it_a_client_waits_in_a_queue_of_its_own_and_not_for_ever() {
        let credits = credits(10, 5);
        assert_eq!((0..100).filter(|_| spend(&credits, client(1))).count(), 10);
        let began = Instant::now();
        let waits = (0..90).map(|_| credits.wait(client(1)));
        let (all, other) = tokio::join!(join_all(waits), async {
            assert!(credits.wait(client(2)).await.is_ok());
            began.elapsed()
        });
        assert_eq!(other, Duration::ZERO);
        let served = all.iter().filter(|one| one.is_ok()).count();
        assert!((45..=50).contains(&served), "5 a second for 10 s: {served}");
        let refused = all.into_iter().find_map(Result::err).unwrap();
        assert_eq!((refused.kind, refused.retry_after), (Kind::Throttled, Some(QUEUE_WAIT)));
        let counted = (credits.metrics.absent_queued.get(), credits.metrics.absent_throttled.get());
        assert_eq!(counted, (served as u64, 90 - served as u64));
    }
}
