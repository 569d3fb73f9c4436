//! A limit that clients share: of the whole, one client address may take a part
//! ([`crate::per_address::PerAddress`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::client_key::ClientKey;
use crate::per_address::PerAddress;

/// A limit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FairShares(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    free: Arc<Semaphore>,
    /// What may be taken in all.
    most: usize,
    /// Of what a client has a part.
    total: usize,
    per_address: PerAddress,
    clients: Mutex<HashMap<IpNet, Arc<Client>>>,
    waiting: AtomicUsize,
}

/// What is counted for one client, or for one site.
#[derive(Debug)]
struct Client {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What was taken of a limit, until it is dropped.
#[derive(Debug)]
pub struct Share {
    whole: OwnedSemaphorePermit,
    own: Owned,
}

/// For a client, and for its site.
type Owned = [Option<Own>; 2];

/// What was taken by one client, which is forgotten with the last of these.
#[derive(Debug)]
struct Own {
    /// `None` while it waits.
    permit: Option<OwnedSemaphorePermit>,
    /// `None` never, before the drop.
    client: Option<Arc<Client>>,
    network: IpNet,
    of: Arc<Whole>,
}

impl FairShares {
    /// A limit of so many units.
    pub fn new(total: usize, per_address: &PerAddress) -> Self {
        Self::bounding((total, total), per_address)
    }

    /// A limit of what each client takes of so many units that are counted elsewhere in all.
    pub fn of_each(total: usize, per_address: &PerAddress) -> Self {
        Self::bounding((Semaphore::MAX_PERMITS, total), per_address)
    }

    fn bounding((most, total): (usize, usize), per_address: &PerAddress) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        let (clients, waiting) = (Mutex::default(), AtomicUsize::new(0));
        let (free, per_address) = (Arc::new(Semaphore::new(most)), per_address.clone());
        Self(Arc::new(Whole { free, most, total, per_address, clients, waiting }))
    }

    /// Takes so much for a client, if it is to be had at once.
    pub fn try_take(&self, client: ClientKey, units: u32) -> Option<Share> {
        let mut own = self.0.of(client);
        for own in own.iter_mut().flatten() {
            let free = Arc::clone(&own.client()?.free);
            own.permit = Some(free.try_acquire_many_owned(units).ok()?);
        }
        let whole = Arc::clone(&self.0.free).try_acquire_many_owned(units).ok()?;
        Some(Share { whole, own })
    }

    /// The same, waiting for it; `None`: not in time, or `most` others wait already, or a client's
    /// share of those.
    pub async fn take(
        &self,
        client: ClientKey,
        units: u32,
        (most, wait): (usize, Duration),
    ) -> Option<Share> {
        if let Some(share) = self.try_take(client, units) {
            return Some(share);
        }
        let waits = self.0.of(client);
        let mut places = vec![Waiting::begin(&self.0.waiting, most)?];
        for (own, (_, share)) in waits.iter().flatten().zip(self.0.bounds(client, most)) {
            places.push(Waiting::begin(&own.client()?.waiting, share)?);
        }
        timeout(wait, self.taken_in_turn(self.0.of(client), units)).await.ok()?
    }

    async fn taken_in_turn(&self, mut own: Owned, units: u32) -> Option<Share> {
        for own in own.iter_mut().flatten() {
            let free = Arc::clone(&own.client()?.free);
            own.permit = Some(free.acquire_many_owned(units).await.ok()?);
        }
        let whole = Arc::clone(&self.0.free).acquire_many_owned(units).await.ok()?;
        Some(Share { whole, own })
    }

    /// How much is taken.
    pub fn taken(&self) -> usize {
        self.0.most.saturating_sub(self.0.free.available_permits())
    }

    /// The most that one client may take.
    pub fn largest(&self) -> usize {
        self.0.per_address.share_of(self.0.total).unwrap_or(self.0.total)
    }

    /// How much there is in all.
    pub fn total(&self) -> usize {
        self.0.total
    }
}

impl Whole {
    /// For whom it is counted what a client takes, of which nothing is taken yet; none: it is bounded
    /// by the whole alone.
    fn of(self: &Arc<Self>, client: ClientKey) -> Owned {
        let mut bounds = self.bounds(client, self.total);
        [(); 2].map(|()| {
            let (network, share) = bounds.next()?;
            let new = || {
                let (free, waiting) = (Arc::new(Semaphore::new(share)), AtomicUsize::new(0));
                Arc::new(Client { free, waiting })
            };
            let client = Arc::clone(self.clients().entry(network).or_insert_with(new));
            Some(Own { permit: None, client: Some(client), network, of: Arc::clone(self) })
        })
    }

    /// What a client, and its site, may take of a whole: a site the half of it, if one client may not
    /// take more.
    fn bounds(&self, client: ClientKey, whole: usize) -> impl Iterator<Item = (IpNet, usize)> {
        let share = self.per_address.share_of(whole);
        let client_may = client.network().zip(share);
        let site_may = client.site().zip(share.map(|share| share.max(whole / 2)));
        client_may.into_iter().chain(site_may)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpNet, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a client with the last that holds something of its share, or waits for it.
    fn let_go(&self, client: &IpNet) {
        let mut clients = self.clients();
        // The map's own, and no other: clones are made under its lock.
        if clients.get(client).is_some_and(|client| Arc::strong_count(client) == 1) {
            clients.remove(client);
        }
    }
}

impl Share {
    /// How much it is.
    pub fn units(&self) -> u32 {
        u32::try_from(self.whole.num_permits()).unwrap_or(u32::MAX)
    }

    /// Makes it larger, if that is to be had at once.
    pub fn grow(&mut self, more: Share) {
        self.whole.merge(more.whole);
        for (own, mut more) in self.own.iter_mut().flatten().zip(more.own.into_iter().flatten()) {
            if let (Some(own), Some(more)) = (&mut own.permit, more.permit.take()) {
                own.merge(more);
            }
        }
    }

    /// Gives back what is more than this.
    pub fn shrink(&mut self, units: u32) {
        let spare = self.units().saturating_sub(units) as usize;
        drop(self.whole.split(spare));
        for own in self.own.iter_mut().flatten().filter_map(|own| own.permit.as_mut()) {
            drop(own.split(spare));
        }
    }
}

impl Own {
    fn client(&self) -> Option<&Client> {
        self.client.as_deref()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop((self.permit.take(), self.client.take()));
        self.of.let_go(&self.network);
    }
}

/// A place among those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(count); // given back at once if it is one too many
        (count.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn client(address: &str) -> ClientKey {
        ClientKey::of(address.parse().unwrap())
    }

    fn quarters(total: usize) -> FairShares {
        FairShares::new(total, &PerAddress::default())
    }

    #[test]
    fn one_client_takes_its_part_and_leaves_the_rest_to_others() {
        let shares = quarters(8);
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        let held: Vec<_> = (0..2).map(|_| shares.try_take(a, 1).unwrap()).collect();
        assert!(shares.try_take(a, 1).is_none());
        let others = shares.try_take(b, 2).unwrap();
        let exempt = shares.try_take(ClientKey::Exempt, 4).unwrap();
        assert!(shares.try_take(client("192.0.2.3"), 1).is_none(), "the whole is taken");
        assert_eq!((shares.taken(), shares.total()), (8, 8));
        assert_eq!(shares.0.clients().len(), 2, "who got nothing is forgotten");
        drop((held, others, exempt));
        assert_eq!((shares.taken(), shares.0.clients().len()), (0, 0));
    }

    #[test]
    fn a_site_of_many_networks_leaves_half_of_the_whole() {
        let shares = quarters(8);
        let host = |nth: u8| client(&format!("2001:db8:7:{nth:x}::1"));
        let mut held: Vec<_> = (0..4).map(|nth| shares.try_take(host(nth), 1).unwrap()).collect();
        assert!(shares.try_take(host(5), 1).is_none(), "its site has half of the whole");
        assert!(shares.try_take(client("2001:db8:8::1"), 2).is_some());
        held.pop();
        assert!(shares.try_take(host(5), 1).is_some());
        drop(held);
        assert_eq!((shares.taken(), shares.0.clients().len()), (0, 0));
    }

    #[test]
    fn what_is_counted_elsewhere_in_all_is_bounded_for_each_client_alone() {
        let shares = FairShares::of_each(8, &PerAddress::default());
        let held: Vec<_> =
            (0..50).map(|n| shares.try_take(client(&format!("192.0.2.{n}")), 2).unwrap()).collect();
        assert!(shares.try_take(client("192.0.2.1"), 1).is_none());
        assert_eq!((shares.taken(), shares.total(), shares.largest()), (100, 8, 2));
        drop(held);
        assert_eq!((shares.taken(), shares.0.clients().len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_leaves_others_a_place_to_wait() {
        let shares = quarters(4);
        let _all = shares.try_take(ClientKey::Exempt, 4).unwrap();
        let wait = |client| Box::pin(shares.take(client, 1, (8, LONG)));
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        let mut waiting = [wait(a), wait(a), wait(b)];
        assert!(waiting.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        assert!(wait(a).now_or_never().is_some_and(|got| got.is_none()), "a quarter is theirs");
        let mut other = wait(b);
        assert!(other.as_mut().now_or_never().is_none());
        drop((waiting, other));
        assert_eq!(shares.0.waiting.load(Ordering::Relaxed), 0);
        assert!(shares.0.clients().is_empty());
    }

    #[test]
    fn a_share_grows_and_shrinks() {
        let shares = quarters(16);
        let a = client("192.0.2.1");
        let mut share = shares.try_take(a, 1).unwrap();
        share.grow(shares.try_take(a, 3).unwrap());
        assert!(shares.try_take(a, 1).is_none());
        share.shrink(2);
        assert_eq!((share.units(), shares.taken()), (2, 2));
        assert!(shares.try_take(a, 2).is_some());
        drop(share);
        assert_eq!((shares.taken(), shares.0.clients().len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_wait_in_turn_and_not_too_many_of_them() {
        let shares = quarters(4);
        let a = client("192.0.2.1");
        let held = shares.try_take(a, 1).unwrap();
        let mut waits = Box::pin(shares.take(a, 1, (1, LONG)));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(shares.take(a, 1, (1, LONG)).await.is_none(), "one too many");
        drop(held);
        assert!(waits.await.is_some());
        let mut held = Some(shares.try_take(a, 1).unwrap());
        let mut waits = Box::pin(shares.take(a, 1, (1, LONG)));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(held.take());
        drop(waits); // its client has gone
        let _all = shares.try_take(ClientKey::Exempt, 4).unwrap();
        assert!(shares.take(a, 1, (1, LONG)).await.is_none(), "not in time");
        assert_eq!(shares.0.waiting.load(Ordering::Relaxed), 0);
        assert!(shares.0.clients().is_empty(), "whoever got nothing is forgotten");
    }
}
