//! Waiting for a read of the journal. Whoever only needs to know whether it has moved takes no place in
//! the writer's queue, which is for changes: a waiter says that a read is wanted, and learns the number
//! of the last one that has ended. So any number of them costs the writer one read, and reads are
//! limited in rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{Notify, watch};

use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::{FairShares, Share};
use cratehouse_core::metrics::Metrics;

/// How long a read of the journal is waited for. Short: what is done with the answer takes its
/// own time, and cargo waits 30 s for it all.
pub const CATCH_UP: Duration = Duration::from_secs(4);
/// When those may come again for whom there is no place.
const COME_AGAIN: Duration = Duration::from_secs(2);

/// For whom a read is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A client whose token counts, or the server itself: bounded by the requests that there may be.
    Authenticated,
    /// A client without a token that counts: bounded by `limits.journal_waits`, and its share of it.
    Unauthenticated(ClientKey),
}

impl Waiter {
    fn label(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Unauthenticated(_) => "unauthenticated",
        }
    }
}

/// What waiters and the writer share.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the last read that has begun; the first is 1.
    begun: AtomicU64,
    /// The highest number that somebody waits for.
    wanted: AtomicU64,
    wake: Notify,
}

/// The last read that has ended.
#[derive(Debug, Clone)]
struct Ended {
    nth: u64,
    outcome: Result<()>,
}

/// The waiters' side.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    shared: Arc<Shared>,
    ended: watch::Receiver<Ended>,
    /// Places of those without a token that counts.
    places: FairShares,
    metrics: Metrics,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Reads {
    shared: Arc<Shared>,
    ended: watch::Sender<Ended>,
}

/// Both sides; `places` for those without a token that counts.
pub(super) fn reads(places: FairShares, metrics: &Metrics) -> (Reads, Waits) {
    let shared = Arc::<Shared>::default();
    let (sender, ended) = watch::channel(Ended { nth: 0, outcome: Ok(()) });
    let waits = Waits { shared: Arc::clone(&shared), ended, places, metrics: metrics.clone() };
    (Reads { shared, ended: sender }, waits)
}

impl Waits {
    /// Waits for a read to the journal's end that begins after this call.
    pub(super) async fn wait(&self, waiter: Waiter) -> Result<()> {
        let _place = self.enter(waiter)?;
        let nth = self.shared.begun.load(Ordering::SeqCst) + 1;
        self.shared.wanted.fetch_max(nth, Ordering::SeqCst);
        self.shared.wake.notify_one();
        let mut ended = self.ended.clone();
        let read =
            async { ended.wait_for(|last| last.nth >= nth).await.map(|it| it.outcome.clone()) };
        match tokio::time::timeout(deadline::at_most(CATCH_UP), read).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(cannot()),
        }
    }

    fn enter(&self, waiter: Waiter) -> Result<Place> {
        let share = match waiter {
            Waiter::Authenticated => None,
            Waiter::Unauthenticated(client) => {
                Some(self.places.try_take(client, 1).ok_or_else(|| self.refuse())?)
            }
        };
        let gauge = self.metrics.journal_waits.with_label_values(&[waiter.label()]);
        gauge.inc();
        Ok(Place { _share: share, gauge })
    }

    fn refuse(&self) -> Error {
        self.metrics.journal_waits_refused.inc();
        Error::unavailable(
            "too many requests without a token that counts, in all or from your address, wait for the registry's journal; try again shortly",
        )
        .retry_after(COME_AGAIN)
    }
}

/// A waiter's place; given back when it is dropped.
struct Place {
    _share: Option<Share>,
    gauge: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Reads {
    /// Whether somebody waits for a read that has not begun.
    pub(super) fn is_wanted(&self) -> bool {
        self.shared.wanted.load(Ordering::SeqCst) > self.shared.begun.load(Ordering::SeqCst)
    }

    /// Returns when one may be wanted.
    pub(super) async fn wanted(&self) {
        self.shared.wake.notified().await;
    }

    /// A read begins: its number. All that counted before it is read by it.
    pub(super) fn begin(&self) -> u64 {
        self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// It has ended.
    pub(super) fn end(&self, nth: u64, outcome: Result<()>) {
        self.ended.send_replace(Ended { nth, outcome });
    }
}

fn cannot() -> Error {
    Error::unavailable("the registry cannot read its journal now; try again shortly")
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;

    use super::*;
    use cratehouse_core::per_address::PerAddress;

    const STRANGER: Waiter = Waiter::Unauthenticated(ClientKey::Exempt);

    fn places(total: usize) -> FairShares {
        FairShares::new(total, &PerAddress::default())
    }

    #[tokio::test]
    async fn one_address_leaves_places_to_others_and_to_whoever_shows_a_token() {
        let (reads, waits) = reads(places(8), &Metrics::new().unwrap());
        let from = |nth: u8| {
            let key = ClientKey::of([192, 0, 2, nth].into());
            Box::pin(waits.wait(Waiter::Unauthenticated(key)))
        };
        let mut first: Vec<_> = (0..8).map(|_| from(1)).collect();
        let mut refused = 0;
        for wait in &mut first {
            refused += usize::from(poll!(wait).is_ready());
        }
        assert_eq!(refused, 6, "a quarter is theirs");
        let (mut other, mut known) = (from(2), Box::pin(waits.wait(Waiter::Authenticated)));
        assert!(poll!(&mut other).is_pending() && poll!(&mut known).is_pending());
        reads.end(reads.begin(), Ok(()));
        assert!(matches!(poll!(&mut other), Poll::Ready(Ok(()))));
        assert!(matches!(poll!(&mut known), Poll::Ready(Ok(()))));
    }

    #[tokio::test]
    async fn only_a_read_that_begins_after_the_question_answers_it() {
        let (reads, waits) = reads(places(1), &Metrics::new().unwrap());
        let under_way = reads.begin();
        let wait = waits.wait(Waiter::Authenticated);
        tokio::pin!(wait);
        assert!(poll!(&mut wait).is_pending() && reads.is_wanted());
        reads.end(under_way, Ok(()));
        assert!(poll!(&mut wait).is_pending(), "it may have missed what was appended meanwhile");
        let next = reads.begin();
        assert!(!reads.is_wanted(), "one read for all");
        reads.end(next, Ok(()));
        assert!(matches!(poll!(&mut wait), Poll::Ready(Ok(()))));
    }

    #[tokio::test]
    async fn those_without_a_token_have_places_of_their_own_and_give_them_back() {
        let metrics = Metrics::new().unwrap();
        let (reads, waits) = reads(places(1), &metrics);
        let gauge = |who| metrics.journal_waits.with_label_values(&[who]).get();
        {
            let first = waits.wait(STRANGER);
            tokio::pin!(first);
            assert!(poll!(&mut first).is_pending());
            let refusal = waits.wait(STRANGER).await.unwrap_err();
            assert!(refusal.retry_after.is_some(), "{refusal}");
            let known: Vec<_> = (0..3).map(|_| waits.wait(Waiter::Authenticated)).collect();
            let mut known = futures_util::future::join_all(known);
            assert!(poll!(&mut known).is_pending());
            assert_eq!([gauge("authenticated"), gauge("unauthenticated")], [3, 1]);
            assert_eq!(metrics.journal_waits_refused.get(), 1);
            reads.end(reads.begin(), Ok(()));
            assert!(poll!(&mut first).is_ready() && poll!(&mut known).is_ready());
        }
        assert_eq!([gauge("authenticated"), gauge("unauthenticated")], [0, 0]);
        let again = waits.wait(STRANGER);
        tokio::pin!(again);
        assert!(poll!(&mut again).is_pending(), "there is a place again");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_scribe_nobody_waits_for_ever() {
        let (reads, waits) = reads(places(1), &Metrics::new().unwrap());
        assert!(waits.wait(Waiter::Authenticated).await.is_err(), "in time");
        drop(reads);
        assert!(waits.wait(Waiter::Authenticated).await.is_err(), "at once");
    }
}
