//! What slows down whoever fails too often: credentials that do not count, by address and by account, with a delay
//! that grows; and publishes, by principal, where that is configured. A token that counts is never delayed by what
//! others of its address or account did: nobody is locked out by a stranger.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use moka::sync::Cache;
use tokio::time::Instant;

use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_journal::principal::UserId;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);
/// Failures are forgotten when there was none for so long.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Addresses and accounts that are remembered, at most; some 200 bytes each.
const MAX_REMEMBERED: u64 = 50_000;

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Account {
    Address(IpNet),
    User(UserId),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// `None`: the next one is not delayed.
    until: Option<Instant>,
}

/// Counts credentials that do not count.
#[derive(Debug)]
pub struct FailedCredentials {
    /// Failures that are not delayed: jobs of one pipeline whose token has ended.
    free: u32,
    failures: Cache<Account, Failures>,
    metrics: Metrics,
}

impl FailedCredentials {
    /// Nobody has failed yet; `free` failures of each address and account are not delayed.
    pub fn new(free: u32, metrics: Metrics) -> Self {
        let failures =
            Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(FORGOTTEN).build();
        Self { free, failures, metrics }
    }

    /// Whether somebody who shows nothing that counts may be answered in full; asked before anything is looked up that
    /// costs more than memory.
    ///
    /// # Errors
    /// [`Kind::Throttled`], with the time to wait.
    pub fn admit(&self, client: ClientKey, user: Option<UserId>) -> Result<()> {
        let now = Instant::now();
        for account in accounts(client, user) {
            let Some(failures) = self.failures.get(&account) else { continue };
            let wait = failures.until.and_then(|until| until.checked_duration_since(now));
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                self.metrics.throttled.with_label_values(&["credential"]).inc();
                let what = match account {
                    Account::Address(_) => "your address",
                    Account::User(_) => "this account",
                };
                return Err(Error::new(
                    Kind::Throttled,
                    format!(
                        "too many requests of {what} show tokens that do not count: take the token away that is wrong, \
                         and try again in {} s. Tokens that count are not delayed",
                        wait.as_secs() + 1
                    ),
                )
                .retry_after(wait));
            }
        }
        Ok(())
    }

    /// Takes note of one that failed.
    pub fn note(&self, client: ClientKey, user: Option<UserId>) {
        self.metrics.credentials_refused.inc();
        let now = Instant::now();
        for account in accounts(client, user) {
            let before = self.failures.get(&account).map_or(0, |failures| failures.count);
            let count = before.saturating_add(1);
            let delay = Some(delay(self.free, count)).filter(|delay| !delay.is_zero());
            self.failures
                .insert(account, Failures { count, until: delay.map(|delay| now + delay) });
        }
    }
}

fn accounts(client: ClientKey, user: Option<UserId>) -> impl Iterator<Item = Account> {
    let address = client.network().map(Account::Address);
    address.into_iter().chain(user.map(Account::User))
}

/// After so many failures in a row.
fn delay(free: u32, failures: u32) -> Duration {
    match failures.checked_sub(free) {
        None => Duration::ZERO,
        Some(beyond) => LONGEST.min(Duration::from_secs(1 << beyond.min(6))),
    }
}

/// Counts publishes of each principal.
pub struct Publishes {
    /// `None`: they are not limited.
    limit: Option<DefaultKeyedRateLimiter<UserId>>,
    metrics: Metrics,
}

impl std::fmt::Debug for Publishes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishes").field("limited", &self.limit.is_some()).finish_non_exhaustive()
    }
}

impl Publishes {
    /// `per_hour` of each principal, `burst` of them at once; 0: as many as they like.
    pub fn new(per_hour: u32, burst: u32, metrics: Metrics) -> Self {
        let quota = NonZeroU32::new(per_hour).map(|per_hour| {
            Quota::per_hour(per_hour).allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN))
        });
        Self { limit: quota.map(RateLimiter::keyed), metrics }
    }

    /// Whether somebody may publish now.
    ///
    /// # Errors
    /// [`Kind::Throttled`], with the time to wait.
    pub fn admit(&self, user: UserId) -> Result<()> {
        let Some(limit) = &self.limit else { return Ok(()) };
        let Err(early) = limit.check_key(&user) else { return Ok(()) };
        self.metrics.throttled.with_label_values(&["publish"]).inc();
        let wait = early.wait_time_from(DefaultClock::default().now());
        Err(Error::new(
            Kind::Throttled,
            format!(
                "you publish more than `limits.publishes_per_hour` of this registry allows; nothing was changed: try \
                 again in {} s",
                wait.as_secs() + 1
            ),
        )
        .retry_after(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, last].into())
    }

    #[test]
    fn delays_grow_to_a_minute() {
        let delays = [1, 19, 20, 21, 22, 25, 26, 27, u32::MAX].map(|n| delay(20, n).as_secs());
        assert_eq!(delays, [0, 0, 1, 2, 4, 32, 60, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_too_often_waits_and_nobody_else_does() {
        let failed = FailedCredentials::new(20, Metrics::new().unwrap());
        for _ in 0..20 {
            failed.admit(client(1), None).unwrap();
            failed.note(client(1), Some(UserId(7)));
        }
        let refused = failed.admit(client(1), None).unwrap_err();
        assert_eq!(
            (refused.kind, refused.retry_after),
            (Kind::Throttled, Some(Duration::from_secs(1)))
        );
        assert!(refused.message.contains("your address"), "{refused}");
        let refused = failed.admit(client(2), Some(UserId(7))).unwrap_err();
        assert!(refused.message.contains("this account"), "{refused}");
        failed.admit(client(2), None).unwrap();
        failed.admit(ClientKey::Exempt, None).unwrap();
        tokio::time::advance(Duration::from_millis(1001)).await;
        failed.admit(client(1), Some(UserId(7))).unwrap();
        failed.note(client(1), None);
        assert_eq!(
            failed.admit(client(1), None).unwrap_err().retry_after,
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn publishes_are_limited_for_each_principal_where_that_is_configured() {
        let free = Publishes::new(0, 1, Metrics::new().unwrap());
        assert!((0..1000).all(|_| free.admit(UserId(1)).is_ok()));
        let limited = Publishes::new(60, 3, Metrics::new().unwrap());
        assert!((0..3).all(|_| limited.admit(UserId(1)).is_ok()));
        let refused = limited.admit(UserId(1)).unwrap_err();
        assert_eq!(refused.kind, Kind::Throttled);
        assert!(refused.retry_after.unwrap() > Duration::from_secs(50), "{refused:?}");
        limited.admit(UserId(2)).unwrap();
    }
}
