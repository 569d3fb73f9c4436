//! Write-behind: mirrored files are put into the store after the response is given. Writes of one key keep
//! their order; a shutdown waits for pending writes.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Writes that are pending at the most. Who comes with one more waits until one has ended; and
/// so do, now and then, two that share a place by chance.
const PLACES: usize = 1024;

/// Pending writes.
pub struct WriteBehind {
    places: Box<[Arc<Mutex<()>>]>,
    hasher: RandomState,
    under_way: TaskTracker,
}

/// The right to change what the store has of one thing.
pub struct Turn {
    _place: OwnedMutexGuard<()>,
}

impl WriteBehind {
    /// Waits until no earlier write of the same key is pending.
    pub async fn turn(&self, of: impl Hash) -> Option<Turn> {
        let at = self.hasher.hash_one(of) % PLACES as u64;
        let place = self.places.get(usize::try_from(at).ok()?)?;
        Some(Turn { _place: Arc::clone(place).lock_owned().await })
    }

    /// Does the work, which must bound its own time, in its own task.
    pub fn follow(&self, turn: Option<Turn>, work: impl Future<Output = ()> + Send + 'static) {
        let work = async move {
            work.await;
            drop(turn);
        };
        self.under_way.spawn(work.in_current_span());
    }

    /// Waits for those that are under way. The caller bounds the time.
    pub async fn settled(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

impl Default for WriteBehind {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| Arc::default()).collect();
        Self { places, hasher: RandomState::new(), under_way: TaskTracker::new() }
    }
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copies")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Shared;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn copies_of_one_thing_follow_each_other_and_others_do_not_wait() {
        let (copies, done) = (WriteBehind::default(), Arc::new(Shared::new(Vec::new())));
        let (go, gate) = oneshot::channel::<()>();
        let noting = |what| {
            let done = Arc::clone(&done);
            move || done.lock().unwrap().push(what)
        };
        let (first, other, last) = (noting("first"), noting("other"), noting("last"));
        copies.follow(copies.turn("a").await, async move {
            let _ = gate.await;
            first();
        });
        let elsewhere = ["b", "c", "d", "e"].into_iter().find(|it| free(&copies, it));
        copies.follow(copies.turn(elsewhere.unwrap()).await, async move { other() });
        let next = async {
            let turn = copies.turn("a").await;
            copies.follow(turn, async move { last() });
        };
        let opening = async {
            while done.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            go.send(()).unwrap();
        };
        tokio::join!(next, opening);
        copies.settled().await;
        assert_eq!(*done.lock().unwrap(), ["other", "first", "last"]);
    }

    fn free(copies: &WriteBehind, of: &str) -> bool {
        let at = copies.hasher.hash_one(of) as usize % PLACES;
        copies.places[at].try_lock().is_ok()
    }

    #[tokio::test]
    async fn a_copy_that_crashes_gives_up_its_turn() {
        let copies = WriteBehind::default();
        copies.follow(copies.turn("a").await, async { panic!("on purpose") });
        assert!(copies.turn("a").await.is_some());
        copies.settled().await;
    }
}
