//! Places for requests to one upstream: so many at one time. What waits for one is served in a fair
//! order: revalidations of what is held first, and in both lines one request of each client in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::model::client_key::ClientKey;

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
pub(super) struct Places {
    state: Arc<Mutex<State>>,
    total: usize,
}

/// A place that is taken until this is dropped; then the next in line has it.
#[derive(Debug)]
pub(super) struct Place(Option<Places>);

#[derive(Debug)]
struct State {
    free: usize,
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

impl Places {
    pub(super) fn new(total: usize) -> Self {
        let (held, new) = (Line::default(), Line::default());
        let state = State { free: total, held, new, held_in_a_row: 0 };
        Self { state: Arc::new(Mutex::new(state)), total }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.total.saturating_sub(self.state().free)
    }

    /// How many wait for one.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state();
        let lines = state.held.clients.values().chain(state.new.clients.values());
        lines.map(|waiting| waiting.first_come.len()).sum()
    }

    /// Who waits for something new.
    #[cfg(test)]
    pub(super) fn clients(&self) -> Vec<ClientKey> {
        self.state().new.clients.keys().copied().collect()
    }

    /// Waits for a place. The caller bounds the time; whoever gives up leaves the line.
    pub(super) async fn turn(&self, turn: Turn) -> Place {
        let waiting = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Place(Some(self.clone()));
            }
            let (sender, waiting) = oneshot::channel();
            let line = if turn.held { &mut state.held } else { &mut state.new };
            line.push(turn.client, sender);
            waiting
        };
        // A sender is dropped only when its receiver is gone.
        waiting.await.unwrap_or(Place(None))
    }

    /// Gives a place to the next in line.
    fn pass_on(&self) {
        let mut place = Place(Some(self.clone()));
        loop {
            let next = self.state().next_or_free();
            let Some(next) = next else {
                place.0 = None;
                return;
            };
            match next.send(place) {
                Ok(()) => return,
                Err(back) => place = back, // who waited has just given up
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            places.pass_on();
        }
    }
}

impl State {
    /// Who has the next place; where nobody waits, it is free.
    fn next_or_free(&mut self) -> Option<oneshot::Sender<Place>> {
        let new_is_due = self.held_in_a_row >= HELD_IN_A_ROW;
        let first = if new_is_due { self.new.pop() } else { None };
        if let Some(sender) = first {
            self.held_in_a_row = 0;
            return Some(sender);
        }
        if let Some(sender) = self.held.pop() {
            self.held_in_a_row += 1;
            return Some(sender);
        }
        self.held_in_a_row = 0;
        let next = self.new.pop();
        if next.is_none() {
            self.free += 1;
        }
        next
    }
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

    /// The first of the client whose turn it is, which goes to the end of the order.
    fn pop(&mut self) -> Option<oneshot::Sender<Place>> {
        while let Some(client) = self.order.pop_front() {
            let Some(waiting) = self.clients.get_mut(&client) else { continue };
            let next = std::iter::from_fn(|| waiting.first_come.pop_front())
                .find(|sender| !sender.is_closed());
            if waiting.first_come.is_empty() {
                self.clients.remove(&client);
            } else {
                self.order.push_back(client);
            }
            if next.is_some() {
                return next;
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
        let places = Places::new(1);
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

    #[tokio::test]
    async fn whoever_gives_up_leaves_the_line_and_no_place_is_lost() {
        let places = Places::new(1);
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
        let places = Places::new(1);
        let _taken = places.turn(Turn::OWN).await;
        for _ in 0..10_000 {
            assert!(places.turn(new(1)).now_or_never().is_none());
        }
        let waiting = places.state().new.clients.get(&client(1)).unwrap().first_come.len();
        assert!(waiting <= CLEAR_FROM, "{waiting}");
    }

    #[tokio::test]
    async fn there_are_never_more_than_so_many() {
        let places = Places::new(3);
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
