//! Whether the process turns. Each lane says each second that it moves; somebody else looks each
//! second whether they all did. Looks are counted and no clock is read, so that a process that was
//! suspended, or starved of CPU as a whole, is not taken for one that is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often lanes say that they move, and how often it is looked.
const BEAT: Duration = Duration::from_secs(1);
/// Looks in a row that find a lane where it was: then it is stuck.
const PATIENCE_LOOKS: u64 = 30;

/// The heartbeats of all workers.
#[derive(Debug)]
pub struct Watchdog {
    hearts: Vec<Heart>,
    /// Lanes that have come to their end do not move, and need not.
    ended: CancellationToken,
}

#[derive(Debug)]
struct Heart {
    name: String,
    beats: Arc<AtomicU64>,
    seen: AtomicU64,
    missed: AtomicU64,
}

impl Watchdog {
    /// That of these lanes, until they end: their names, and what they count.
    pub(crate) fn of(
        workers: impl Iterator<Item = (String, Arc<AtomicU64>)>,
        ended: CancellationToken,
    ) -> Self {
        let heart = |(name, beats)| {
            let (seen, missed) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
            Heart { name, beats, seen, missed }
        };
        Self { hearts: workers.map(heart).collect(), ended }
    }

    /// Looks until told to stop, on another runtime than the lanes'.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = seconds();
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.look();
        }
    }

    fn look(&self) {
        for heart in &self.hearts {
            let beats = heart.beats.load(Ordering::Relaxed);
            match heart.seen.swap(beats, Ordering::Relaxed) == beats {
                true => _ = heart.missed.fetch_add(1, Ordering::Relaxed),
                false => heart.missed.store(0, Ordering::Relaxed),
            }
        }
    }

    /// Says which lane does not move any more, if one does not.
    pub fn stuck(&self) -> Option<String> {
        let is_stuck = |heart: &&Heart| heart.missed.load(Ordering::Relaxed) >= PATIENCE_LOOKS;
        let heart = self.hearts.iter().find(is_stuck).filter(|_| !self.ended.is_cancelled())?;
        let missed = heart.missed.load(Ordering::Relaxed);
        Some(format!("{} has not moved for {missed} s", heart.name))
    }
}

/// Counts each second, for as long as whatever runs it moves.
pub(crate) async fn beat(beats: Arc<AtomicU64>) {
    let mut seconds = seconds();
    loop {
        seconds.tick().await;
        beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// After a pause of the whole process there is one beat, and one look.
fn seconds() -> Interval {
    let mut seconds = interval(BEAT);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_does_not_move_for_long_is_stuck_until_it_does() {
        let workers =
            ["lane-0", "lane-1"].map(|name| (name.to_owned(), Arc::<AtomicU64>::default()));
        let ended = CancellationToken::new();
        let watchdog = Watchdog::of(workers.clone().into_iter(), ended.clone());
        let look = |moves: bool| {
            workers[0].1.fetch_add(1, Ordering::Relaxed);
            workers[1].1.fetch_add(moves.into(), Ordering::Relaxed);
            watchdog.look();
        };
        for _ in 0..3 {
            look(true);
            (1..PATIENCE_LOOKS).for_each(|_| look(false));
            assert_eq!(watchdog.stuck(), None);
        }
        look(false);
        assert_eq!(watchdog.stuck().unwrap(), "lane-1 has not moved for 30 s");
        look(true);
        assert_eq!(watchdog.stuck(), None);
        (0..PATIENCE_LOOKS).for_each(|_| look(false));
        ended.cancel();
        assert_eq!(watchdog.stuck(), None, "they have stopped, as they should");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_whole_process_is_one_look() {
        let beats = Arc::<AtomicU64>::default();
        let workers = [("lane-0".to_owned(), Arc::clone(&beats))].into_iter();
        let watchdog = Arc::new(Watchdog::of(workers, CancellationToken::new()));
        let watching = tokio::spawn(Arc::clone(&watchdog).watch(CancellationToken::new()));
        let beating = tokio::spawn(beat(Arc::clone(&beats)));
        tokio::time::sleep(BEAT * 3).await;
        // What a suspended process finds: much later, and all timers are due.
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::task::yield_now().await;
        assert_eq!(watchdog.stuck(), None);
        beating.abort();
        tokio::time::sleep(BEAT * 40).await;
        assert!(watchdog.stuck().is_some());
        watching.abort();
    }
}
