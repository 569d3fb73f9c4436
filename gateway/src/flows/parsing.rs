//! Permits to parse foreign text. Inflating an archive and reading a text take a core and some memory
//! each; so no more of them are under way than there are cores, whoever sends them.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::threads::aside;

/// A short text need not wait for a long one.
const FEWEST: usize = 2;
/// How long a parse waits for its turn.
pub const TURN_WAIT: Duration = Duration::from_secs(10);
/// What one parse takes beside its input and its result, in bytes: 1 MiB and 32 times the inflated text,
/// and never more than this. `tests/parsers.rs` measures it.
pub const MAX_PARSE_BYTES: usize = 64 * 1024 * 1024;

/// Permits for one kind of foreign text. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parsers {
    turns: Arc<Semaphore>,
    under_way: IntGauge,
    refusals: IntCounter,
}

/// Permits for what clients send, a kind apart from the other: a large publish does not hold up the
/// checks of lock files.
#[derive(Debug, Clone)]
pub struct ClientParsers {
    /// Publishes: the archive and its manifest.
    pub publishes: Parsers,
    /// Lock files.
    pub locks: Parsers,
}

impl ClientParsers {
    /// As many permits as there are cores for each.
    pub fn new(metrics: &Metrics) -> Self {
        Self { publishes: Parsers::new(metrics, "publish"), locks: Parsers::new(metrics, "lock") }
    }
}

/// A turn that is counted while it lasts.
struct Turn {
    _permit: OwnedSemaphorePermit,
    under_way: IntGauge,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.dec();
    }
}

impl Parsers {
    /// As many permits as there are cores, for `what`: a value of the metric's label `of`.
    pub fn new(metrics: &Metrics, what: &str) -> Self {
        Self::with_turns(metrics, what, available_parallelism().map_or(FEWEST, usize::from))
    }

    fn with_turns(metrics: &Metrics, what: &str, turns: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(turns.max(FEWEST))),
            under_way: metrics.parsing.with_label_values(&[what]),
            refusals: metrics.parsing_refusals.with_label_values(&[what]),
        }
    }

    /// Parses off the async threads when its turn has come. The permit is held until the work is over,
    /// also when nobody waits for it any more.
    ///
    /// # Errors
    /// Unavailable, when it has no turn within [`TURN_WAIT`]; internal, when the work crashed.
    pub async fn parse<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn().await?;
        let working = move || {
            let _turn = turn;
            work()
        };
        aside(working).await
    }

    async fn turn(&self) -> Result<Turn> {
        let Ok(Ok(permit)) = timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned()).await
        else {
            self.refusals.inc();
            return Err(Error::unavailable(
                "too many requests that take long to read are under way: try again shortly",
            ));
        };
        self.under_way.inc();
        Ok(Turn { _permit: permit, under_way: self.under_way.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::error::Kind;

    #[tokio::test(start_paused = true)]
    async fn no_more_are_parsed_at_one_time_than_there_are_permits() {
        let metrics = Metrics::new().unwrap();
        let parsers = Parsers::with_turns(&metrics, "lock", 2);
        let (go, gone): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<()>()).unzip();
        let busy: Vec<_> = gone
            .into_iter()
            .map(|gone| {
                let parsers = parsers.clone();
                tokio::spawn(async move { parsers.parse(move || gone.recv().is_ok()).await })
            })
            .collect();
        while parsers.under_way.get() < 2 {
            tokio::task::yield_now().await;
        }
        let third = parsers.clone();
        let third = tokio::spawn(async move { third.turn().await.err() });
        tokio::task::yield_now().await;
        tokio::time::advance(TURN_WAIT * 2).await;
        let refused = third.await.unwrap().unwrap();
        assert_eq!((refused.kind, parsers.refusals.get()), (Kind::Unavailable, 1));

        // The one who asked is gone; the permit is not, before the work is over.
        busy.iter().for_each(|task| task.abort());
        assert_eq!(parsers.turns.available_permits(), 0);
        go.iter().for_each(|go| go.send(()).unwrap());
        assert_eq!(parsers.parse(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_parser_that_crashes_is_an_error_and_gives_its_permit_back() {
        let parsers = Parsers::with_turns(&Metrics::new().unwrap(), "publish", 2);
        for _ in 0..4 {
            assert!(parsers.parse(|| panic!("on purpose")).await.is_err());
        }
        assert_eq!(parsers.under_way.get(), 0);
    }
}
