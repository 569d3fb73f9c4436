//! The connections of a listener: how many there may be in all and of one client, and which one goes
//! when there are no more places: the one that has been idle for longest.
//!
//! Idle is a connection without a request at work on which nothing was asked or sent for a second at
//! the least, or for half a minute where its client has not read all of its answers; one that shakes
//! hands is idle since it came. What each of them does is looked at once a
//! second, so that the connections themselves note nothing for it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::traffic::Traffic;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::metrics::Metrics;

/// How often it is looked at what connections do.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that did something within so long does not go.
const IDLE_AT_LEAST: Duration = Duration::from_secs(1);
/// The same, where an answer is on its way: a slow line or a busy client is no reason to cut it short.
const STALLED_AT_LEAST: Duration = Duration::from_secs(30);
/// How long a connection that was told to go may take, before another one is told too.
const GOING: Duration = Duration::from_millis(50);

/// How many connections one client may have, and who a client is.
pub struct ConnectionShares {
    most: usize,
    /// Of one IPv6 site.
    most_of_site: usize,
    key: Box<dyn Fn(SocketAddr) -> ClientKey + Send + Sync>,
}

impl ConnectionShares {
    /// So many for each key, and so many for each IPv6 site.
    pub fn new(
        (most, most_of_site): (usize, usize),
        key: impl Fn(SocketAddr) -> ClientKey + Send + Sync + 'static,
    ) -> Self {
        Self { most, most_of_site, key: Box::new(key) }
    }

    /// Whose connection it is, and how many they may have: a client, and its site.
    fn bounds(&self, client: ClientKey) -> [Option<(ClientKey, usize)>; 2] {
        [Some((client, self.most)), client.of_site().map(|site| (site, self.most_of_site))]
    }
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Crowd {
    slots: Arc<Semaphore>,
    shares: Option<ConnectionShares>,
    metrics: Option<Metrics>,
    seats: Mutex<Seats>,
}

#[derive(Debug)]
struct Seats {
    next: u64,
    open: HashMap<u64, Seen>,
    /// How many each client has, and each site, without those that were told to go.
    clients: HashMap<ClientKey, usize>,
    looked: Instant,
    /// Of clients that wanted more than their share since the last look: their connections that were
    /// idle, the idlest first.
    idle: HashMap<ClientKey, VecDeque<u64>>,
}

/// A connection, as the crowd knows it.
#[derive(Debug)]
struct Seen {
    traffic: Arc<Traffic>,
    /// For whom it is counted: a client, and its site.
    counts_for: [Option<ClientKey>; 2],
    /// What had happened when it was looked at.
    done: u64,
    /// Since when nothing more has.
    since: Instant,
    /// `None`: it was told to go.
    go: Option<Arc<Notify>>,
}

/// A connection's place, until it is dropped.
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
    pub(super) traffic: Arc<Traffic>,
    go: Arc<Notify>,
    _slot: OwnedSemaphorePermit,
}

impl Crowd {
    pub(super) fn new(
        most: usize,
        shares: Option<ConnectionShares>,
        metrics: Option<Metrics>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let (open, clients) = (HashMap::new(), HashMap::new());
        let (looked, idle) = (Instant::now(), HashMap::new());
        let seats = Seats { next: 0, open, clients, looked, idle };
        Self { slots, shares, metrics, seats: Mutex::new(seats) }
    }

    /// A place. Where there is none, the connection that is idle for longest goes; where none is
    /// idle, the next that ends or becomes idle is waited for.
    pub(super) async fn seat(self: &Arc<Self>) -> Seat {
        loop {
            let slot = Arc::clone(&self.slots);
            match slot.try_acquire_owned() {
                Ok(slot) => return self.seated(slot),
                Err(_) => self.make_room(),
            }
            let slot = Arc::clone(&self.slots).acquire_owned();
            if let Ok(Ok(slot)) = timeout(GOING, slot).await {
                return self.seated(slot);
            }
        }
    }

    /// Whether a connection may stay that belongs to this peer. Where its client has all that it may
    /// have, its own idlest connection goes; where none of them is idle, this one.
    pub(super) fn admit(&self, seat: &Seat, peer: SocketAddr) -> bool {
        let Some(shares) = &self.shares else { return true };
        let client = (shares.key)(peer);
        if client == ClientKey::Exempt {
            return true;
        }
        let mut seats = self.lock();
        seats.look(Instant::now());
        let bounds = shares.bounds(client);
        // The client's own idlest goes first: where that makes room at its site too, nobody else's does.
        let full = |seats: &Seats, (key, most): (ClientKey, usize)| {
            seats.clients.get(&key).copied().unwrap_or_default() >= most
        };
        let all_full: Vec<_> = bounds.into_iter().flatten().filter(|b| full(&seats, *b)).collect();
        if !all_full.iter().all(|(key, _)| seats.has_idle(*key)) {
            self.count("refused");
            return false;
        }
        for bound in all_full {
            if full(&seats, bound) && seats.send_one_of(bound.0) {
                self.count("share");
            }
        }
        let counts_for = bounds.map(|bound| bound.map(|(key, _)| key));
        for key in counts_for.into_iter().flatten() {
            *seats.clients.entry(key).or_default() += 1;
        }
        if let Some(seen) = seats.open.get_mut(&seat.id) {
            seen.counts_for = counts_for;
        }
        true
    }

    /// Looks at what the connections do, if it is time to.
    pub(super) fn look(&self) {
        self.lock().look(Instant::now());
    }

    /// Tells the connection that is idle for longest to go.
    pub(super) fn make_room(&self) {
        let mut seats = self.lock();
        seats.look(Instant::now());
        if seats.send_idlest() {
            self.count("full");
        }
    }

    fn seated(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Seat {
        let (traffic, go) = (Arc::new(Traffic::default()), Arc::new(Notify::new()));
        let mut seats = self.lock();
        seats.next += 1;
        let id = seats.next;
        let seen = Seen {
            traffic: Arc::clone(&traffic),
            counts_for: [None; 2],
            done: 0,
            since: Instant::now(),
            go: Some(Arc::clone(&go)),
        };
        seats.open.insert(id, seen);
        Seat { crowd: Arc::clone(self), id, traffic, go, _slot: slot }
    }

    fn count(&self, reason: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.connections_closed.with_label_values(&[reason]).inc();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn look(&mut self, now: Instant) {
        if now.duration_since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        self.idle.clear();
        for seen in self.open.values_mut() {
            seen.look(now);
        }
    }

    /// Whether a connection of a client, or of a site, is idle and could be told to go. All connections are gone
    /// through once between two looks, however many more a client wants.
    fn has_idle(&mut self, client: ClientKey) -> bool {
        let now = Instant::now();
        let open = &self.open;
        let may_go = |seen: &Seen| {
            seen.counts_for.contains(&Some(client)) && seen.go.is_some() && seen.is_idle(now)
        };
        let idle = self.idle.entry(client).or_insert_with(|| {
            let idle = open.iter().filter(|(_, seen)| may_go(seen));
            let mut idle: Vec<_> = idle.map(|(id, seen)| (seen.since, *id)).collect();
            idle.sort_unstable();
            idle.into_iter().map(|(_, id)| id).collect()
        });
        while let Some(id) = idle.front() {
            if open.get(id).is_some_and(may_go) {
                return true;
            }
            idle.pop_front();
        }
        false
    }

    /// Tells the connection of a client, or of a site, to go that is idle for longest.
    fn send_one_of(&mut self, client: ClientKey) -> bool {
        let idlest = self.has_idle(client).then(|| self.idle.get_mut(&client)?.pop_front());
        idlest.flatten().is_some_and(|id| self.send(id))
    }

    /// Tells the connection that is idle for longest to go.
    fn send_idlest(&mut self) -> bool {
        let now = Instant::now();
        let idle = self.open.iter().filter(|(_, seen)| seen.go.is_some() && seen.is_idle(now));
        let Some(id) = idle.min_by_key(|(id, seen)| (seen.since, **id)).map(|(id, _)| *id) else {
            return false;
        };
        self.send(id)
    }

    fn send(&mut self, id: u64) -> bool {
        let Some(seen) = self.open.get_mut(&id) else { return false };
        seen.traffic.given_up.store(seen.traffic.is_sending(), Ordering::Relaxed);
        let (go, counted_for) = (seen.go.take(), std::mem::take(&mut seen.counts_for));
        if let Some(go) = go {
            go.notify_one();
        }
        self.uncount(counted_for);
        true
    }

    fn uncount(&mut self, counted_for: [Option<ClientKey>; 2]) {
        for key in counted_for.into_iter().flatten() {
            let Entry::Occupied(mut has) = self.clients.entry(key) else { continue };
            *has.get_mut() -= 1;
            if *has.get() == 0 {
                has.remove();
            }
        }
    }
}

impl Seen {
    fn look(&mut self, now: Instant) {
        let done = self.traffic.done();
        if done != self.done || self.traffic.is_at_work() {
            (self.done, self.since) = (done, now);
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let least = if self.traffic.is_sending() { STALLED_AT_LEAST } else { IDLE_AT_LEAST };
        let is_quiet = now.duration_since(self.since) >= least;
        is_quiet && !self.traffic.is_at_work() && self.traffic.done() == self.done
    }
}

impl Seat {
    /// Comes to an end when the connection has to make room for another one.
    pub(super) async fn told_to_go(&self) {
        self.go.notified().await;
    }

    /// Whether no bound of one client holds for this peer.
    pub(super) fn is_exempt(&self, peer: SocketAddr) -> bool {
        let shares = self.crowd.shares.as_ref();
        shares.is_none_or(|shares| (shares.key)(peer) == ClientKey::Exempt)
    }

    /// Whether the connection may stay that belongs to this peer.
    pub(super) fn admit(&self, peer: SocketAddr) -> bool {
        self.crowd.admit(self, peer)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.crowd.lock();
        if let Some(seen) = seats.open.remove(&self.id) {
            seats.uncount(seen.counts_for);
        }
    }
}

impl fmt::Debug for ConnectionShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::http::transport::listen::traffic::AtWork;

    fn peer(nth: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, nth], 1))
    }

    fn crowd(most: usize, share: usize) -> Arc<Crowd> {
        let office: IpAddr = peer(250).ip();
        let shares =
            ConnectionShares::new((share, 2 * share), move |peer| match peer.ip() == office {
                true => ClientKey::Exempt,
                false => ClientKey::of(peer.ip()),
            });
        Arc::new(Crowd::new(most, Some(shares), Some(Metrics::new().unwrap())))
    }

    async fn come(crowd: &Arc<Crowd>, from: u8) -> Seat {
        let seat = crowd.seat().await;
        assert!(seat.admit(peer(from)));
        seat
    }

    fn closed(crowd: &Crowd, reason: &str) -> u64 {
        crowd.metrics.as_ref().unwrap().connections_closed.with_label_values(&[reason]).get()
    }

    async fn is_told(seat: &Seat) -> bool {
        timeout(Duration::from_millis(1), seat.told_to_go()).await.is_ok()
    }

    /// Once each second, as the listener does.
    async fn pass(crowd: &Crowd, seconds: usize) {
        for _ in 0..seconds {
            advance(LOOK_EVERY).await;
            crowd.look();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_taken_the_one_that_is_idle_for_longest_goes() {
        let crowd = crowd(4, 4);
        let (busy, first) = (come(&crowd, 1).await, come(&crowd, 2).await);
        let _request = AtWork::begin(&busy.traffic);
        pass(&crowd, 5).await;
        let (second, third) = (come(&crowd, 3).await, come(&crowd, 4).await);
        first.traffic.written.fetch_add(1, Ordering::Relaxed); // it reads its answer
        pass(&crowd, 2).await;
        second.traffic.asked.fetch_add(1, Ordering::Relaxed);
        pass(&crowd, 2).await;
        let coming = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { come(&crowd, 5).await }
        });
        third.told_to_go().await;
        assert!(!coming.is_finished());
        drop(third);
        let fifth = coming.await.unwrap();
        for stays in [&busy, &first, &second, &fifth] {
            assert!(!is_told(stays).await);
        }
        assert_eq!(closed(&crowd, "full"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_busy_the_next_that_ends_is_waited_for() {
        let crowd = crowd(1, 1);
        let busy = come(&crowd, 1).await;
        let request = AtWork::begin(&busy.traffic);
        let coming = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { come(&crowd, 2).await }
        });
        sleep(Duration::from_secs(10)).await;
        assert!(!coming.is_finished() && !is_told(&busy).await);
        drop(request);
        busy.told_to_go().await;
        drop(busy);
        coming.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_its_share_takes_from_itself_alone() {
        let crowd = crowd(100, 2);
        let other = come(&crowd, 9).await;
        pass(&crowd, 3).await;
        let (first, second) = (come(&crowd, 1).await, come(&crowd, 1).await);
        let at_once = crowd.seat().await;
        assert!(!at_once.admit(peer(1)), "neither is idle yet");
        drop(at_once);
        assert_eq!(closed(&crowd, "refused"), 1);
        pass(&crowd, 2).await;
        let third = come(&crowd, 1).await;
        assert!(is_told(&first).await && !is_told(&second).await && !is_told(&other).await);
        assert_eq!(closed(&crowd, "share"), 1);
        drop((first, second, third));
        let _again = (come(&crowd, 1).await, come(&crowd, 1).await);
        assert_eq!(crowd.lock().clients.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_reads_its_answer_does_not_go_before_it_stalls() {
        let crowd = crowd(100, 1);
        let slow = come(&crowd, 1).await;
        let mut answer = AtWork::begin(&slow.traffic);
        answer.answered();
        pass(&crowd, 25).await;
        assert!(!crowd.seat().await.admit(peer(1)), "its line is slow");
        slow.traffic.written.fetch_add(1, Ordering::Relaxed);
        pass(&crowd, 25).await;
        assert!(!crowd.seat().await.admit(peer(1)) && !is_told(&slow).await);
        pass(&crowd, 10).await;
        let _next = come(&crowd, 1).await;
        assert!(is_told(&slow).await && slow.traffic.given_up.load(Ordering::Relaxed));
        drop(answer);
        assert!(!slow.traffic.is_sending());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_client_are_gone_through_once_a_second_at_the_most() {
        let crowd = crowd(100, 3);
        let seats = [come(&crowd, 1).await, come(&crowd, 1).await, come(&crowd, 1).await];
        pass(&crowd, 2).await;
        let _request = AtWork::begin(&seats[1].traffic);
        let _more = (come(&crowd, 1).await, come(&crowd, 1).await);
        assert!(is_told(&seats[0]).await && is_told(&seats[2]).await && !is_told(&seats[1]).await);
        for _ in 0..100 {
            assert!(!crowd.seat().await.admit(peer(1)));
            assert_eq!(crowd.lock().idle.get(&ClientKey::of(peer(1).ip())).unwrap().len(), 0);
        }
        crowd.look();
        pass(&crowd, 1).await;
        assert!(crowd.lock().idle.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_of_many_networks_has_a_bound_of_its_own() {
        let crowd = crowd(100, 2);
        let host = |nth: u16| SocketAddr::from(([0x2001, 0xdb8, 7, nth, 0, 0, 0, 1], 1));
        let other = come(&crowd, 9).await;
        pass(&crowd, 3).await;
        let mut seats = Vec::new();
        for nth in 0..4 {
            let seat = crowd.seat().await;
            assert!(seat.admit(host(nth)));
            seats.push(seat);
        }
        assert!(!crowd.seat().await.admit(host(5)), "its site has twice a client's share");
        pass(&crowd, 2).await;
        let fifth = crowd.seat().await;
        assert!(fifth.admit(host(5)) && is_told(&seats[0]).await && !is_told(&other).await);
        assert_eq!((closed(&crowd, "refused"), closed(&crowd, "share")), (1, 1));
        drop((seats, fifth, other));
        assert!(crowd.lock().clients.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_exempt_address_takes_what_it_needs() {
        let crowd = crowd(100, 2);
        let mut seats = Vec::new();
        for _ in 0..100 {
            seats.push(come(&crowd, 250).await);
        }
        assert!(crowd.lock().clients.is_empty());
        drop(seats);
        assert!(crowd.lock().open.is_empty());
    }
}
