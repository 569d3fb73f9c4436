//! Places for requests to one upstream: so many at one time, of which one client has no more than half:
//! what it asks for may be slow, and the others must not have to wait for it. What waits for a place is
//! served in a fair order: revalidations of what is held first, and in both lines one request of each
//! client in turn.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::oneshot;

use cratehouse_core::client_key::ClientKey;
use cratehouse_core::per_address::PerAddress;

/// After so many revalidations in a row a request for something new gets a place, if one waits: a
/// client that has everything revalidated must not stop the others.
const HELD_IN_A_ROW: u32 = 7;
/// A client's line is cleared of those who gave up when it has grown to this, and then whenever it
/// has doubled.
const CLEAR_FROM: usize = 64;

/// On whose behalf a request to an upstream is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The client that caused it. What nobody asked for counts as exempt.
    pub client: ClientKey,
    /// Whether something is held that it revalidates.
    pub held: bool,
}

impl Turn {
    /// Our own work.
    pub const OWN: Self = Self { client: ClientKey::OWN, held: false };
}

/// The places of one upstream. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct UpstreamPermits {
    state: Arc<Mutex<State>>,
    total: usize,
}

/// A place that is taken until this is dropped; then the next in line has it.
#[derive(Debug)]
pub(super) struct Place {
    /// `None`: there is nobody to give it back to.
    of: Option<UpstreamPermits>,
    client: ClientKey,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// How many each client has, and each IPv6 site.
    taken: HashMap<IpNet, usize>,
    /// How many they may have; `None`: all.
    share: Option<usize>,
    held: Line,
    new: Line,
    held_in_a_row: u32,
}

/// Those who wait, by client. Each client that waits stands in `order` once.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<ClientKey>,
    clients: HashMap<ClientKey, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    first_come: VecDeque<oneshot::Sender<Place>>,
    clear_at: usize,
}

impl UpstreamPermits {
    pub(super) fn new(total: usize, per_address: &PerAddress) -> Self {
        let (held, new) = (Line::default(), Line::default());
        // A build asks for much at one time, and asks upstreams once.
        let share = per_address.share_of(total).map(|share| share.max(total / 2));
        let taken = HashMap::new();
        let state = State { free: total, taken, share, held, new, held_in_a_row: 0 };
        Self { state: Arc::new(Mutex::new(state)), total }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.total.saturating_sub(self.state().free)
    }

    /// How many wait for one.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        let lines = state.held.clients.values().chain(state.new.clients.values());
        lines.map(|waiting| waiting.first_come.len()).sum()
    }

    /// Who waits for something new.
    #[cfg(any(test, feature = "test-util"))]
    pub(super) fn clients(&self) -> Vec<ClientKey> {
        self.state().new.clients.keys().copied().collect()
    }

    /// Waits for a place. The caller bounds the time; a request that gives up leaves the queue.
    pub(super) async fn turn(&self, turn: Turn) -> Place {
        let waiting = {
            let mut state = self.state();
            if state.free > 0 && state.may(turn.client) {
                state.free -= 1;
                state.take(turn.client);
                return Place { of: Some(self.clone()), client: turn.client };
            }
            let (sender, waiting) = oneshot::channel();
            let line = if turn.held { &mut state.held } else { &mut state.new };
            line.push(turn.client, sender);
            waiting
        };
        // A sender is dropped only when its receiver is gone.
        waiting.await.unwrap_or(Place { of: None, client: turn.client })
    }

    /// Gives a client's place to the next in line.
    fn pass_on(&self, mut from: ClientKey) {
        loop {
            let next = self.state().next_or_free(from);
            let Some((client, next)) = next else { return };
            match next.send(Place { of: Some(self.clone()), client }) {
                Ok(()) => return,
                Err(mut back) => (back.of, from) = (None, client), // who waited has just given up
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.of.take() {
            places.pass_on(self.client);
        }
    }
}

impl State {
    /// Who has the place that a client gives back; where nobody waits who may have one more, it is free.
    fn next_or_free(&mut self, from: ClientKey) -> Option<(ClientKey, oneshot::Sender<Place>)> {
        self.give_back(from);
        let next = self.next();
        match &next {
            Some((client, _)) => self.take(*client),
            None => self.free += 1,
        }
        next
    }

    fn next(&mut self) -> Option<(ClientKey, oneshot::Sender<Place>)> {
        let (taken, share) = (&self.taken, self.share);
        let may = |client: ClientKey| may(taken, share, client);
        let new_is_due = self.held_in_a_row >= HELD_IN_A_ROW;
        let first = if new_is_due { self.new.pop(may) } else { None };
        if first.is_some() {
            self.held_in_a_row = 0;
            return first;
        }
        let held = self.held.pop(may);
        if held.is_some() {
            self.held_in_a_row += 1;
            return held;
        }
        self.held_in_a_row = 0;
        self.new.pop(may)
    }

    fn may(&self, client: ClientKey) -> bool {
        may(&self.taken, self.share, client)
    }

    fn take(&mut self, client: ClientKey) {
        for network in networks(client) {
            *self.taken.entry(network).or_default() += 1;
        }
    }

    fn give_back(&mut self, client: ClientKey) {
        for network in networks(client) {
            let Entry::Occupied(mut taken) = self.taken.entry(network) else { continue };
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// Whether a client, and its site, may have one place more.
fn may(taken: &HashMap<IpNet, usize>, share: Option<usize>, client: ClientKey) -> bool {
    let has = |network| taken.get(&network).copied().unwrap_or_default();
    share.is_none_or(|share| networks(client).all(|network| has(network) < share))
}

/// For whom a client's places are counted.
fn networks(client: ClientKey) -> impl Iterator<Item = IpNet> {
    client.network().into_iter().chain(client.site())
}

impl Line {
    fn push(&mut self, client: ClientKey, sender: oneshot::Sender<Place>) {
        let order = &mut self.order;
        let waiting = self.clients.entry(client).or_insert_with(|| {
            order.push_back(client);
            Waiting { first_come: VecDeque::new(), clear_at: CLEAR_FROM }
        });
        waiting.first_come.push_back(sender);
        if waiting.first_come.len() >= waiting.clear_at {
            waiting.first_come.retain(|sender| !sender.is_closed());
            waiting.clear_at = CLEAR_FROM.max(2 * waiting.first_come.len());
        }
    }

    /// The first of the client whose turn it is, of those that may have one; it goes to the end of the
    /// order.
    fn pop(
        &mut self,
        may: impl Fn(ClientKey) -> bool,
    ) -> Option<(ClientKey, oneshot::Sender<Place>)> {
        for _ in 0..self.order.len() {
            let Some(client) = self.order.pop_front() else { break };
            let Some(waiting) = self.clients.get_mut(&client) else { continue };
            if !may(client) {
                self.order.push_back(client);
                continue;
            }
            let next = std::iter::from_fn(|| waiting.first_come.pop_front())
                .find(|sender| !sender.is_closed());
            if waiting.first_come.is_empty() {
                self.clients.remove(&client);
            } else {
                self.order.push_back(client);
            }
            if let Some(next) = next {
                return Some((client, next));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    type Waiting<'a> = (String, Pin<Box<dyn Future<Output = Place> + 'a>>);

    /// Without shares.
    fn places(total: usize) -> UpstreamPermits {
        UpstreamPermits::new(total, &PerAddress { percent: 100, ..PerAddress::default() })
    }

    fn client(n: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, n].into())
    }

    fn new(n: u8) -> Turn {
        Turn { client: client(n), held: false }
    }

    fn held(n: u8) -> Turn {
        Turn { client: client(n), held: true }
    }

    /// Lets all of these wait for the one place, frees it, and says in which order they have it.
    fn order(turns: &[(&str, Turn)]) -> Vec<String> {
        let places = places(1);
        let mut taken = places.turn(Turn::OWN).now_or_never();
        let mut waiting: Vec<Waiting<'_>> = Vec::new();
        for (name, turn) in turns {
            let mut wait = Box::pin(places.turn(*turn));
            assert!((&mut wait).now_or_never().is_none());
            waiting.push(((*name).to_owned(), wait));
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(taken.take());
            let at = waiting.iter_mut().position(|(_, wait)| {
                taken = wait.as_mut().now_or_never();
                taken.is_some()
            });
            order.push(waiting.remove(at.expect("one has it")).0);
        }
        drop(taken);
        assert_eq!(places.taken(), 0);
        order
    }

    #[test]
    fn clients_have_places_in_turn_however_many_one_waits_for() {
        let turns = [
            ("a1", new(1)),
            ("a2", new(1)),
            ("a3", new(1)),
            ("b1", new(2)),
            ("b2", new(2)),
            ("c1", new(3)),
        ];
        assert_eq!(order(&turns), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn revalidations_go_first_and_do_not_stop_the_others() {
        let mut turns = vec![("new", new(1))];
        turns.extend([("held", held(2)); 9]);
        let order = order(&turns);
        assert_eq!(order.iter().position(|name| name == "new"), Some(HELD_IN_A_ROW as usize));
    }

    #[test]
    fn one_client_has_half_of_the_places_and_a_site_has_no_more() {
        let places = UpstreamPermits::new(8, &PerAddress::default());
        let at_once = |client| places.turn(Turn { client, held: false }).now_or_never();
        let mut all: Vec<_> = (0..4).map(|_| at_once(client(1)).unwrap()).collect();
        assert!(at_once(client(1)).is_none());
        assert!(at_once(client(1).trusted()).is_none(), "its token changes nothing");
        let mut waits = Box::pin(places.turn(held(1)));
        assert!((&mut waits).now_or_never().is_none());
        let other = at_once(client(2)).unwrap();
        drop(other);
        assert!((&mut waits).now_or_never().is_none(), "what others give back is not for it");
        all.pop();
        all.push((&mut waits).now_or_never().unwrap());
        let own: Vec<_> = (0..4).map(|_| at_once(ClientKey::OWN).unwrap()).collect();
        assert_eq!(places.taken(), 8);
        drop((all, own));
        let host = |nth: u16| ClientKey::of([0x2001, 0xdb8, 7, nth, 0, 0, 0, 1].into());
        let site: Vec<_> = (0..4).map(|nth| at_once(host(nth)).unwrap()).collect();
        assert!(at_once(host(9)).is_none() && at_once(client(2)).is_some());
        drop(site);
        assert_eq!((places.taken(), places.state().taken.len()), (0, 0));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_the_line_and_no_place_is_lost() {
        let places = places(1);
        let taken = places.turn(Turn::OWN).await;
        let mut gone: Vec<_> = (0..500).map(|_| Box::pin(places.turn(new(1)))).collect();
        gone.iter_mut().for_each(|wait| assert!(wait.now_or_never().is_none()));
        // One who has it already, and does not look any more.
        drop(taken);
        drop(gone);
        assert_eq!(places.taken(), 0);
        assert!(places.turn(new(2)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn lines_of_those_who_gave_up_do_not_grow() {
        let places = places(1);
        let _taken = places.turn(Turn::OWN).await;
        for _ in 0..10_000 {
            assert!(places.turn(new(1)).now_or_never().is_none());
        }
        let waiting = places.state().new.clients.get(&client(1)).unwrap().first_come.len();
        assert!(waiting <= CLEAR_FROM, "{waiting}");
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_where_clients_have_their_shares() {
        let places = UpstreamPermits::new(4, &PerAddress::default());
        let work = (0..400u16).map(|n| {
            let places = &places;
            async move {
                let client = match n % 3 {
                    0 => client(1),
                    1 => ClientKey::of([0x2001, 0xdb8, 7, n, 0, 0, 0, 1].into()),
                    _ => ClientKey::Exempt,
                };
                let _place = places.turn(Turn { client, held: n % 2 == 0 }).await;
                tokio::task::yield_now().await;
            }
        });
        join_all(work).await;
        assert_eq!((places.taken(), places.waiting()), (0, 0));
        assert!(places.state().taken.is_empty());
    }

    #[tokio::test]
    async fn there_are_never_more_than_so_many() {
        let places = places(3);
        let most = std::sync::atomic::AtomicUsize::new(0);
        let work = (0..100u8).map(|n| {
            let (places, most) = (&places, &most);
            async move {
                let _place = places.turn(new(n % 5)).await;
                most.fetch_max(places.taken(), std::sync::atomic::Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        join_all(work).await;
        assert_eq!((most.into_inner(), places.taken()), (3, 0));
    }
}
