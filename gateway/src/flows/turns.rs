//! What clients take turns for, so that one that asks for much keeps no other waiting.

use std::time::Duration;

use cratehouse_core::fair_queue::{FairQueue, TURN_WAIT};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::parsers::Parsers;
use cratehouse_core::per_address::PerAddress;

/// Searches at one time: each looks at every name, on a thread of its own.
const SEARCHES_AT_ONCE: usize = 2;
/// Lock files whose packages are looked up and judged at one time: each has up to ten thousand of them
/// and their rows in memory.
const CHECKS_AT_ONCE: usize = 32;
/// Packages of lock files that are judged at one time, each on a thread of its own.
const JUDGED_AT_ONCE: usize = 4;
/// Answers of many rows that are made at one time.
const LONG_ANSWERS_AT_ONCE: usize = 4;
/// Pages of the journal and of pulls that are read from the store at one time.
const PAGES_AT_ONCE: usize = 4;
/// How long a package of a lock file does: as long as a check may take.
const JUDGED_WAIT: Duration = Duration::from_secs(120);
/// What requests take turns for.
#[derive(Debug)]
pub struct Turns {
    /// Searches.
    pub searches: FairQueue,
    /// Checks of lock files: it is held while upstreams and the store are asked.
    pub checks: FairQueue,
    /// Packages of lock files that are judged: nothing is waited for with it.
    pub judged: FairQueue,
    /// Answers of many rows: nothing is waited for with it.
    pub long_answers: FairQueue,
    /// Pages that are read from the store: it is held while that is asked.
    pub pages: FairQueue,
}

impl Turns {
    /// All of them are free; one client may take a part of each.
    pub fn new(per_address: &PerAddress) -> Self {
        let queue = |most, wait, refusal| FairQueue::new(most, per_address, wait, refusal);
        let judged = "too many lock files are being judged: try again shortly";
        Self {
            searches: queue(
                SEARCHES_AT_ONCE,
                TURN_WAIT,
                "too many searches are under way: try again shortly",
            ),
            checks: queue(CHECKS_AT_ONCE, TURN_WAIT, judged),
            judged: queue(JUDGED_AT_ONCE, JUDGED_WAIT, judged),
            long_answers: queue(
                LONG_ANSWERS_AT_ONCE,
                TURN_WAIT,
                "too many long answers are being made: try again shortly",
            ),
            pages: queue(
                PAGES_AT_ONCE,
                TURN_WAIT,
                "too many pages of the journal and of pulls are being read: try again shortly",
            ),
        }
    }
}

/// Permits for what clients send, a kind apart from the other: a large publish does not hold up the
/// checks of lock files.
#[derive(Debug)]
pub struct ClientParsers {
    /// Publishes: the archive and its manifest.
    pub publishes: Parsers,
    /// Lock files.
    pub locks: Parsers,
}

impl ClientParsers {
    /// As many permits as there are cores for each.
    pub fn new(per_address: &PerAddress, metrics: &Metrics) -> Self {
        let parsers = |what| Parsers::new(per_address, metrics, what);
        Self { publishes: parsers("publish"), locks: parsers("lock") }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use cratehouse_core::client_key::ClientKey;

    #[tokio::test]
    async fn one_client_has_no_kind_of_turn_for_itself() {
        let turns = Turns::new(&PerAddress::default());
        let client = |n: u8| ClientKey::of([192, 0, 2, n].into());
        for queue in
            [&turns.searches, &turns.checks, &turns.judged, &turns.long_answers, &turns.pages]
        {
            let all = || queue.turn(client(1)).now_or_never();
            let held: Vec<_> = std::iter::from_fn(all).collect();
            assert!(!held.is_empty() && queue.turn(client(2)).now_or_never().is_some());
        }
    }
}
