//! Permits to parse foreign text. Inflating an archive and reading a text take a core and some memory
//! each; so no more of them are under way than there are cores, and one client has a part of those.

use std::thread::available_parallelism;

use prometheus::{IntCounter, IntGauge};

use crate::client_key::ClientKey;
use crate::error::Result;
use crate::fair_queue::{FairQueue, TURN_WAIT};
use crate::fair_share::Share;
use crate::metrics::Metrics;
use crate::per_address::PerAddress;
use crate::threads::aside;

/// A short text need not wait for a long one.
const FEWEST: usize = 2;
/// What one parse takes beside its input and its result, in bytes: 1 MiB and 32 times the inflated text,
/// and never more than this. `tests/parsers.rs` measures it.
pub const MAX_PARSE_BYTES: usize = 64 * 1024 * 1024;

/// Permits for one kind of foreign text.
#[derive(Debug)]
pub struct Parsers {
    turns: FairQueue,
    under_way: IntGauge,
    refusals: IntCounter,
}

/// A turn that is counted while it lasts.
struct Turn {
    _share: Share,
    under_way: IntGauge,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.dec();
    }
}

impl Parsers {
    /// As many permits as there are cores, for `what`: a value of the metric's label `of`.
    pub fn new(per_address: &PerAddress, metrics: &Metrics, what: &str) -> Self {
        Self::with_turns(
            available_parallelism().map_or(FEWEST, usize::from),
            per_address,
            metrics,
            what,
        )
    }

    fn with_turns(turns: usize, per_address: &PerAddress, metrics: &Metrics, what: &str) -> Self {
        let refusal = "too many requests that take long to read are under way: try again shortly";
        Self {
            turns: FairQueue::new(turns.max(FEWEST), per_address, TURN_WAIT, refusal),
            under_way: metrics.parsing.with_label_values(&[what]),
            refusals: metrics.parsing_refusals.with_label_values(&[what]),
        }
    }

    /// Parses for a client, off the async threads, when its turn has come. The permit is held until the
    /// work is over, also when nobody waits for it any more.
    ///
    /// # Errors
    /// Unavailable, when it has no turn within [`TURN_WAIT`]; internal, when the work crashed.
    pub async fn parse<T: Send + 'static>(
        &self,
        client: ClientKey,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn(client).await?;
        let working = move || {
            let _turn = turn;
            work()
        };
        aside(working).await
    }

    async fn turn(&self, client: ClientKey) -> Result<Turn> {
        let share = self.turns.turn(client).await.inspect_err(|_| self.refusals.inc())?;
        self.under_way.inc();
        Ok(Turn { _share: share, under_way: self.under_way.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::{Arc, mpsc};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::error::Kind;

    fn two_turns() -> Arc<Parsers> {
        let metrics = Metrics::new().unwrap();
        Arc::new(Parsers::with_turns(2, &PerAddress::default(), &metrics, "publish"))
    }

    fn client(n: u8) -> ClientKey {
        ClientKey::of(IpAddr::from([192, 0, 2, n]))
    }

    #[tokio::test]
    async fn what_is_parsed_keeps_its_permit_when_nobody_waits_for_it_any_more() {
        let parsers = two_turns();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (go, gone) = mpsc::channel::<()>();
        let busy = tokio::spawn({
            let parsers = Arc::clone(&parsers);
            let work = move || (tell.send(()), gone.recv().is_ok());
            async move { parsers.parse(ClientKey::Exempt, work).await.is_ok() }
        });
        told.await.unwrap();
        busy.abort();
        assert!(busy.await.unwrap_err().is_cancelled());
        assert_eq!(parsers.under_way.get(), 1);
        let _other = parsers.turn(ClientKey::Exempt).await.unwrap();
        assert!(parsers.turn(ClientKey::Exempt).now_or_never().is_none());
        go.send(()).unwrap();
        assert_eq!(parsers.parse(ClientKey::Exempt, || 1).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_its_part_waits_and_others_do_not() {
        let parsers = two_turns();
        let _held = parsers.turn(client(1)).await.unwrap();
        let refused = parsers.turn(client(1)).await.err().unwrap();
        assert_eq!((refused.kind, parsers.refusals.get()), (Kind::Unavailable, 1));
        assert!(parsers.turn(client(2)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_parser_that_crashes_is_an_error_and_gives_its_permit_back() {
        let parsers = two_turns();
        for _ in 0..4 {
            assert!(parsers.parse(client(1), || panic!("on purpose")).await.is_err());
        }
        assert_eq!(parsers.under_way.get(), 0);
    }
}
