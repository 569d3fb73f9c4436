//! Is the process responsive? Each worker beats once a second; the watchdog looks each second whether they
//! all did. Looks are counted and no clock is read, so that a process that was
//! suspended, or starved of CPU as a whole, is not taken for one that is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often workers beat, and how often that is looked at.
const BEAT: Duration = Duration::from_secs(1);
/// Looks in a row that find a worker where it was: then it is stuck.
const PATIENCE_LOOKS: u64 = 30;

/// The heartbeats of all workers.
#[derive(Debug)]
pub struct Watchdog {
    heartbeats: Vec<Heartbeat>,
    /// Workers that have come to their end do not move, and need not.
    ended: CancellationToken,
}

#[derive(Debug)]
struct Heartbeat {
    name: String,
    beats: Arc<AtomicU64>,
    seen: AtomicU64,
    missed: AtomicU64,
}

impl Watchdog {
    /// That of these workers, until they end: their names, and what they count.
    pub(crate) fn of(
        workers: impl Iterator<Item = (String, Arc<AtomicU64>)>,
        ended: CancellationToken,
    ) -> Self {
        let heartbeat = |(name, beats)| {
            let (seen, missed) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
            Heartbeat { name, beats, seen, missed }
        };
        Self { heartbeats: workers.map(heartbeat).collect(), ended }
    }

    /// Looks until told to stop, on another runtime than the workers'.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = seconds();
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            self.look();
        }
    }

    fn look(&self) {
        for heartbeat in &self.heartbeats {
            let beats = heartbeat.beats.load(Ordering::Relaxed);
            match heartbeat.seen.swap(beats, Ordering::Relaxed) == beats {
                true => _ = heartbeat.missed.fetch_add(1, Ordering::Relaxed),
                false => heartbeat.missed.store(0, Ordering::Relaxed),
            }
        }
    }

    /// Says which worker does not move any more, if one does not.
    pub fn stuck(&self) -> Option<String> {
        let is_stuck =
            |heartbeat: &&Heartbeat| heartbeat.missed.load(Ordering::Relaxed) >= PATIENCE_LOOKS;
        let heartbeat =
            self.heartbeats.iter().find(is_stuck).filter(|_| !self.ended.is_cancelled())?;
        let missed = heartbeat.missed.load(Ordering::Relaxed);
        Some(format!("{} has not moved for {missed} s", heartbeat.name))
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
    fn a_worker_that_does_not_move_for_long_is_stuck_until_it_does() {
        let workers =
            ["worker-0", "worker-1"].map(|name| (name.to_owned(), Arc::<AtomicU64>::default()));
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
        assert_eq!(watchdog.stuck().unwrap(), "worker-1 has not moved for 30 s");
        look(true);
        assert_eq!(watchdog.stuck(), None);
        (0..PATIENCE_LOOKS).for_each(|_| look(false));
        ended.cancel();
        assert_eq!(watchdog.stuck(), None, "they have stopped, as they should");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_whole_process_is_one_look() {
        let beats = Arc::<AtomicU64>::default();
        let workers = [("worker-0".to_owned(), Arc::clone(&beats))].into_iter();
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
