//! What clients may hold of the memory for index files and crate files. A body of a cache stays in
//! memory until its last client has read it; a large one takes its client's share of that memory until
//! then, so that one client that reads nothing leaves the rest to the others. A body that a client
//! has asked for more than once stands in memory once, and counts once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::Limits;
use crate::gateway::Gateway;
use crate::http::response::answer::Kept;
use crate::http::response::respond::Answer;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::{FairShares, Share};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;

/// A body up to this size takes no share, unless memory is scarce: a hit must cost next to nothing.
pub const SMALL_BYTES: u64 = 64 << 10;
/// What shares count in, in bytes.
const STEP_BYTES: u64 = 1 << 10;
/// How long an answer waits until its client has read others.
const WAIT: Duration = Duration::from_secs(10);

/// The shares of the two caches.
#[derive(Debug)]
pub struct Outgoing {
    /// Of the memory for index files.
    pub index: Bodies,
    /// Of the memory for crate files.
    pub crates: Bodies,
}

/// Bodies of one cache that are being sent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    steps: FairShares,
    most_waiting: usize,
    /// What each client holds, by where it is in memory.
    held: Mutex<HashMap<Key, Weak<Held>>>,
    metrics: Metrics,
}

type Key = (IpNet, usize);

/// A client's share, until it has been sent what takes it.
#[derive(Debug)]
struct Held {
    _share: Share,
    key: Option<Key>,
    of: Bodies,
}

impl Outgoing {
    /// As large as the caches of a gateway.
    pub fn of(gateway: &Gateway) -> Self {
        let (limits, metrics) = (&gateway.config.limits, &gateway.metrics);
        Self {
            index: Bodies::of_limits(gateway.lookup.index.limit(), limits, metrics),
            crates: Bodies::of_limits(gateway.mirror.files.cache.limit(), limits, metrics),
        }
    }
}

impl Bodies {
    fn of_limits(memory: u64, limits: &Limits, metrics: &Metrics) -> Self {
        Self::new(memory, &limits.per_address, limits.requests, metrics)
    }

    fn new(memory: u64, per_address: &PerAddress, most_waiting: usize, metrics: &Metrics) -> Self {
        let steps = FairShares::of_each(steps(memory) as usize, per_address);
        let (held, metrics) = (Mutex::default(), metrics.clone());
        Self(Arc::new(Inner { steps, most_waiting, held, metrics }))
    }

    /// An answer that may be sent now; `None`: its client has its share. Who that is, is asked for large
    /// bodies alone.
    pub fn at_once(
        &self,
        answer: Answer,
        is_scarce: bool,
        client: impl FnOnce() -> ClientKey,
    ) -> Option<Answer> {
        let kept = answer.body().kept();
        if is_free(kept, is_scarce) {
            return Some(answer);
        }
        self.taken(answer, client(), kept, None)
    }

    /// The answer that `find` finds. Where it is more than its client may hold now, it is let go, and
    /// found again when there is room.
    ///
    /// # Errors
    /// Those of `find`; unavailable, when the client does not read what it has asked for.
    pub async fn admit<X, F: Future<Output = Result<(Answer, X)>>>(
        &self,
        client: ClientKey,
        is_scarce: impl Fn() -> bool,
        find: impl Fn() -> F,
    ) -> Result<(Answer, X)> {
        let (answer, found) = find().await?;
        let kept = answer.body().kept();
        if let Some(answer) = self.at_once(answer, is_scarce(), || client) {
            return Ok((answer, found));
        }
        let share = self.turn(client, kept).await.ok_or_else(|| self.full())?;
        let (answer, found) = find().await?;
        let kept = answer.body().kept();
        if is_free(kept, is_scarce()) {
            return Ok((answer, found));
        }
        let answer = self.taken(answer, client, kept, Some(share)).ok_or_else(|| self.full())?;
        Ok((answer, found))
    }

    /// The same answer, holding its share; `None`: there is none. `share`: one that was waited for.
    fn taken(
        &self,
        answer: Answer,
        client: ClientKey,
        kept: Kept,
        share: Option<Share>,
    ) -> Option<Answer> {
        let Some(network) = client.network() else { return Some(answer) };
        let key = kept.at.map(|at| (network, at));
        if let Some(held) = key.and_then(|key| self.held(key)) {
            return Some(answer.map(|body| body.counted(held)));
        }
        let units = self.units(kept);
        let share = match share.filter(|share| share.units() >= units) {
            Some(share) => share,
            None => self.0.steps.try_take(client, units)?,
        };
        let held = Arc::new(Held { _share: share, key, of: self.clone() });
        if let Some(key) = key {
            self.all().insert(key, Arc::downgrade(&held));
        }
        Some(answer.map(|body| body.counted(held)))
    }

    async fn turn(&self, client: ClientKey, kept: Kept) -> Option<Share> {
        let Inner { steps, most_waiting, .. } = &*self.0;
        steps.take(client, self.units(kept), (*most_waiting, deadline::at_most(WAIT))).await
    }

    /// What a body takes: one that is more than a client's share takes all of that.
    fn units(&self, kept: Kept) -> u32 {
        let largest = u32::try_from(self.0.steps.largest()).unwrap_or(u32::MAX);
        steps(kept.bytes).min(largest)
    }

    fn held(&self, key: Key) -> Option<Arc<Held>> {
        self.all().get(&key)?.upgrade()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Weak<Held>>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> Error {
        self.0.metrics.requests_refused.inc();
        Error::unavailable(
            "the registry is sending as much to your address as its memory is configured for; read \
             what you asked for, and try again in a few seconds",
        )
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut all = self.of.all();
        // A later one may stand there already.
        if all.get(&key).is_some_and(|held| held.strong_count() == 0) {
            all.remove(&key);
        }
    }
}

fn is_free(kept: Kept, is_scarce: bool) -> bool {
    kept.bytes == 0 || (kept.bytes <= SMALL_BYTES && !is_scarce)
}

fn steps(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use futures_util::stream::{self, StreamExt as _};
    use hyper::Response;
    use hyper::body::Body as _;

    use super::*;
    use crate::http::response::answer::Body;
    use cratehouse_core::error::Kind;

    const KIB: usize = 1 << 10;

    fn client(n: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, n].into())
    }

    fn bodies(memory: usize) -> Bodies {
        Bodies::new(memory as u64, &PerAddress::default(), 100, &Metrics::new().unwrap())
    }

    fn whole(kib: usize) -> Bytes {
        Bytes::from(vec![1; kib * KIB])
    }

    fn answer(bytes: &Bytes) -> Answer {
        Response::new(Body::from(bytes.clone()))
    }

    fn sent(bodies: &Bodies, bytes: &Bytes, from: ClientKey) -> Option<Answer> {
        bodies.at_once(answer(bytes), false, || from)
    }

    fn counted(bodies: &Bodies) -> (usize, usize) {
        (bodies.0.steps.taken(), bodies.all().len())
    }

    #[test]
    fn a_client_holds_its_share_of_large_bodies_and_others_theirs() {
        let bodies = bodies(4000 * KIB);
        let files: Vec<_> = (0..12).map(|_| whole(100)).collect();
        let held: Vec<_> = files.iter().map_while(|it| sent(&bodies, it, client(1))).collect();
        assert_eq!((held.len(), counted(&bodies)), (10, (1000, 10)));
        assert!(sent(&bodies, &whole(64), client(1)).is_some(), "a small one is free");
        let other = sent(&bodies, &files[11], client(2)).unwrap();
        let exempt = sent(&bodies, &whole(10_000), ClientKey::Exempt).unwrap();
        drop((held, other, exempt));
        assert_eq!(counted(&bodies), (0, 0));
    }

    #[test]
    fn the_same_body_counts_once_for_each_client_until_the_last_part_of_it_was_sent() {
        let (bodies, file) = (bodies(1000 * KIB), whole(100));
        let mut held: Vec<_> = (0..500).map(|_| sent(&bodies, &file, client(1)).unwrap()).collect();
        assert_eq!(counted(&bodies), (100, 1));
        let other = sent(&bodies, &file, client(2)).unwrap();
        assert_eq!(counted(&bodies), (200, 2));
        held.truncate(1);
        let mut last = held.pop().unwrap().into_body();
        let piece = std::pin::Pin::new(&mut last)
            .poll_frame(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        drop((last, other));
        assert_eq!(counted(&bodies), (100, 1), "it left the body, and was not sent");
        drop(piece);
        assert_eq!(counted(&bodies), (0, 0));
    }

    #[test]
    fn a_small_body_takes_its_share_where_memory_is_scarce() {
        let bodies = bodies(400 * KIB);
        let held: Vec<_> = (0..20).map(|_| whole(10)).collect();
        let held: Vec<_> = held
            .iter()
            .map_while(|bytes| bodies.at_once(answer(bytes), true, || client(1)))
            .collect();
        assert_eq!(held.len(), 10);
        assert!(bodies.at_once(Response::new(Body::default()), true, || client(1)).is_some());
    }

    #[test]
    fn a_stream_takes_what_it_has_in_memory_and_one_beyond_a_share_all_of_it() {
        let bodies = bodies(16 << 20);
        let stream = || {
            let pieces = stream::iter([Ok(whole(1)), Ok(whole(1))]).boxed();
            Response::new(Body::stream(100 << 20, pieces))
        };
        let at_once = || bodies.at_once(stream(), false, || client(1));
        let mut first = at_once().unwrap().into_body();
        let second = at_once().unwrap();
        assert!(at_once().is_none());
        assert_eq!(counted(&bodies), (4 * KIB, 0));
        drop(second);
        let piece = std::pin::Pin::new(&mut first)
            .poll_frame(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        drop(first);
        assert_eq!(counted(&bodies).0, 2 * KIB, "a piece of it is not sent");
        drop(piece);
        let huge = sent(&bodies, &whole(60 << 10), client(1)).unwrap();
        assert_eq!(counted(&bodies).0, 4 * KIB);
        assert!(sent(&bodies, &whole(65), client(1)).is_none());
        drop(huge);
        assert_eq!(counted(&bodies), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_its_share_holds_nothing_and_is_refused_in_the_end() {
        let bodies = bodies(400 * KIB);
        let held = sent(&bodies, &whole(100), client(1)).unwrap();
        let made = Cell::new(0);
        let find = || {
            made.set(made.get() + 1);
            async { Ok((answer(&whole(100)), "found")) }
        };
        let admit = |from| Box::pin(bodies.admit(from, || false, find));
        let mut waiting = admit(client(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!((made.get(), counted(&bodies)), (1, (100, 1)));
        let (other, found) = admit(client(2)).await.unwrap();
        assert_eq!((found, made.get()), ("found", 2));
        let refused = admit(client(1)).await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after.is_some()), (Kind::Unavailable, true));
        assert_eq!(bodies.0.metrics.requests_refused.get(), 1);
        drop((held, other, waiting));
        assert_eq!(counted(&bodies), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_when_its_client_has_read_another() {
        let bodies = bodies(400 * KIB);
        let held = sent(&bodies, &whole(100), client(1)).unwrap();
        let find = || async { Ok((answer(&whole(90)), ())) };
        let mut waiting = Box::pin(bodies.admit(client(1), || false, find));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        let (sent, ()) = waiting.await.unwrap();
        assert_eq!(counted(&bodies), (90, 1));
        drop(sent);
        assert_eq!(counted(&bodies), (0, 0));
    }
}
