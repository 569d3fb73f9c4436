//! Noting when each token was last used: a day and a network, without a write per request. A use is noted in memory,
//! once a day for each token; what is new is written to the store every minute, so a crash may lose the last one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::stores::token_uses::TokenUseStore;
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::principal::Principal;
use cratehouse_journal::token_use::{TokenUse, TokenUses, merge};
use cratehouse_journal::tokens::Selection;

/// How often what is new is written.
const EVERY: Duration = Duration::from_secs(60);
/// How long a stop may spend on the last write.
const LAST: Duration = Duration::from_secs(2);
/// What another replica has not written for so long is taken over from it: it is gone.
const GONE: SignedDuration = SignedDuration::from_hours(48);
/// Tokens that are remembered as noted today; two of one place here are noted in turns.
const SLOTS: usize = 4096;
/// Tokens whose uses are kept, at most; some 100 bytes each.
const MAX_TOKENS: usize = 100_000;
const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

/// The last uses that this replica has seen.
#[derive(Debug)]
pub struct LastUses {
    store: TokenUseStore,
    replica: String,
    /// A token's number and the day on which it was noted last, by the lower bits of the number.
    noted: Box<[AtomicU64]>,
    uses: Mutex<TokenUses>,
    is_new: AtomicBool,
    /// Whether what this replica wrote before is taken up: until then nothing is written over it.
    has_begun: AtomicBool,
}

impl LastUses {
    /// Nothing seen yet.
    pub fn new(store: TokenUseStore, replica: &str) -> Self {
        Self {
            store,
            replica: replica.to_owned(),
            noted: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            uses: Mutex::default(),
            is_new: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
        }
    }

    /// Notes that somebody's token is used now; from where, is asked only if it is the first time today.
    pub fn note(&self, who: &Principal, now: Timestamp, from: impl FnOnce() -> IpAddr) {
        let number = who.token.0;
        let Some(slot) = self.noted.get(number as usize % SLOTS) else { return };
        let day = now.as_second().div_euclid(SECONDS_OF_A_DAY) as u32;
        let both = u64::from(number) << 32 | u64::from(day);
        if slot.load(Ordering::Relaxed) == both {
            return;
        }
        let used = TokenUse::new(now, from());
        let mut uses = self.lock();
        if uses.len() >= MAX_TOKENS && !uses.contains_key(&who.token) {
            forget_oldest(&mut uses);
        }
        merge(&mut uses, [(who.token, used)]);
        self.is_new.store(true, Ordering::Relaxed);
        drop(uses);
        slot.store(both, Ordering::Relaxed);
    }

    /// The last uses of all tokens, as far as all replicas have written them down and this one has seen them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn all(&self) -> Result<TokenUses> {
        let mut uses = self.store.all().await.map_err(Error::store)?;
        merge(&mut uses, self.lock().clone());
        Ok(uses)
    }

    /// The same for a list that is of use without it: where the store does not answer, what this replica has seen.
    pub async fn for_list(&self) -> TokenUses {
        let seen = |error: Error| {
            debug!(error = %error.chain(), "the last uses of tokens could not be read");
            self.lock().clone()
        };
        self.all().await.unwrap_or_else(seen)
    }

    /// The same for some tokens: which of them were never used can be said only if all replicas are heard.
    ///
    /// # Errors
    /// When that is asked, and the store does not answer.
    pub async fn for_selection(&self, selection: &Selection) -> Result<TokenUses> {
        match selection.never_used {
            true => self.all().await,
            false => Ok(self.for_list().await),
        }
    }

    /// Writes what is new, now and then, until told to stop, and once more.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if !self.has_begun.load(Ordering::Relaxed) {
                match stop.run_until_cancelled(self.begin()).await {
                    Some(Ok(())) => self.has_begun.store(true, Ordering::Relaxed),
                    Some(Err(error)) => debug!(%error, "the last uses of tokens could not be read"),
                    None => (),
                }
            }
            self.write().await;
            stop.run_until_cancelled(sleep(EVERY)).await;
        }
        let _ = timeout(LAST, self.write()).await; // what is lost is the last minute
    }

    /// Takes up what this replica wrote before, and what others did that are gone.
    async fn begin(&self) -> object_store::Result<()> {
        let (before, now) = (self.store.of(&self.replica).await?, Timestamp::now());
        merge(&mut self.lock(), before);
        for other in self.store.replicas().await? {
            if other.replica == self.replica || now.duration_since(other.written) < GONE {
                continue;
            }
            let theirs = self.store.of(&other.replica).await?;
            merge(&mut self.lock(), theirs);
            let uses = self.lock().clone();
            self.store.put(&self.replica, &uses).await?;
            self.store.remove(&other.replica).await?;
        }
        Ok(())
    }

    async fn write(&self) {
        if !self.has_begun.load(Ordering::Relaxed) || !self.is_new.swap(false, Ordering::Relaxed) {
            return;
        }
        let uses = self.lock().clone();
        if let Err(error) = self.store.put(&self.replica, &uses).await {
            self.is_new.store(true, Ordering::Relaxed);
            debug!(%error, "the last uses of tokens could not be written");
        }
    }

    fn lock(&self) -> MutexGuard<'_, TokenUses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the oldest day.
fn forget_oldest(uses: &mut TokenUses) {
    let oldest = uses.values().map(|used| used.day).min();
    uses.retain(|_, used| Some(used.day) != oldest);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStore;

    use super::*;
    use crate::flows::fixture::memory;
    use cratehouse_journal::principal::TokenId;
    use cratehouse_storage::test_util::{Fault, FaultyStore};

    fn holder(token: u32) -> Principal {
        Principal { token: TokenId(token), ..Principal::sample() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_noted_once_a_day_whoever_shares_its_place() {
        let uses = LastUses::new(TokenUseStore::new(memory()), "one");
        let mut asked = 0;
        let (one, other) = (holder(1), holder(1 + SLOTS as u32));
        for (who, time) in [
            (&one, "2026-01-01T10:00:00Z"),
            (&one, "2026-01-01T11:00:00Z"),
            (&other, "2026-01-01T12:00:00Z"),
            (&one, "2026-01-02T00:00:00Z"),
        ] {
            uses.note(who, at(time), || {
                asked += 1;
                [192, 0, 2, asked].into()
            });
        }
        assert_eq!(asked, 3);
        let days: Vec<_> = uses.lock().values().map(|used| used.day.to_string()).collect();
        assert_eq!(days, ["2026-01-02", "2026-01-01"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_new_is_written_once_a_minute_and_outlives_a_store_that_is_away() {
        let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::Before)));
        let shared: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
        let files = TokenUseStore::new(shared);
        store.plan(Box::new(|_, _| Fault::None));
        let before = TokenUses::from([(
            TokenId(3),
            TokenUse::new(at("2025-01-01T00:00:00Z"), [192, 0, 2, 1].into()),
        )]);
        files.put("one", &before).await.unwrap();
        store.plan(Box::new(|_, _| Fault::Before));
        let uses = Arc::new(LastUses::new(files.clone(), "one"));
        let stop = CancellationToken::new();
        let (running, stopped) = (Arc::clone(&uses), stop.clone());
        let running = tokio::spawn(async move { running.run(stopped).await });
        uses.note(&holder(7), at("2026-01-01T10:00:00Z"), || [192, 0, 2, 1].into());
        tokio::time::sleep(EVERY * 2).await;
        store.plan(Box::new(|_, _| Fault::None));
        assert_eq!(files.all().await.unwrap(), before);
        tokio::time::sleep(EVERY * 2).await;
        assert_eq!(files.all().await.unwrap().len(), 2, "what it wrote before is not written over");
        uses.note(&holder(8), at("2026-01-01T10:00:00Z"), || [192, 0, 2, 1].into());
        assert_eq!(uses.all().await.unwrap().len(), 3, "what was not written yet is told too");
        stop.cancel();
        running.await.unwrap();
        assert_eq!(files.all().await.unwrap().len(), 3);

        // Another one of the name goes on with it.
        let next = LastUses::new(files.clone(), "one");
        next.begin().await.unwrap();
        assert_eq!(next.lock().len(), 3);
    }
}
