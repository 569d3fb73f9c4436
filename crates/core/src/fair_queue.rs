//! Turns for work that takes a core or much memory for long. Clients share each limit
//! ([`crate::fair_share`]): what one has begun, or waits for, keeps no other from having a turn.
//!
//! A turn belongs to the work and not to its client. Work on a thread cannot be broken off, so a
//! client that leaves must not get the turn back before the work is over: move it into the work.

use std::time::Duration;

use crate::client_key::ClientKey;
use crate::error::{Error, Result};
use crate::fair_share::{FairShares, Share};
use crate::per_address::PerAddress;

/// How long a request waits for its turn.
pub const TURN_WAIT: Duration = Duration::from_secs(10);
/// Those that wait are requests, and bounded as such.
const MOST_WAITING: usize = usize::MAX;

/// Turns of one kind, and the requests that wait for one.
#[derive(Debug)]
pub struct FairQueue {
    turns: FairShares,
    wait: Duration,
    refusal: &'static str,
}

impl FairQueue {
    /// So many turns, of which one client may have a part; `refusal` is what one reads who waited so long
    /// in vain.
    pub fn new(
        most: usize,
        per_address: &PerAddress,
        wait: Duration,
        refusal: &'static str,
    ) -> Self {
        Self { turns: FairShares::new(most, per_address), wait, refusal }
    }

    /// A turn for a client, until it is dropped.
    ///
    /// # Errors
    /// Unavailable, when there is none in time.
    pub async fn turn(&self, client: ClientKey) -> Result<Share> {
        let turn = self.turns.take(client, 1, (MOST_WAITING, self.wait)).await;
        turn.ok_or_else(|| Error::unavailable(self.refusal))
    }
}

/// Does work with a turn, which comes back with what came of it. The work goes on when nobody waits for
/// it any more, and so does the turn.
///
/// # Errors
/// Those of the work; internal, when it crashed.
pub async fn with_turn<T: Send + 'static>(
    turn: Share,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<(T, Share)> {
    let working = tokio::spawn(async move { work.await.map(|done| (done, turn)) });
    working.await.map_err(Error::internal)?
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::error::Kind;
    use crate::threads::aside;

    fn queue() -> FairQueue {
        FairQueue::new(
            4,
            &PerAddress::default(),
            TURN_WAIT,
            "too many are under way: try again shortly",
        )
    }

    fn client(n: u8) -> ClientKey {
        ClientKey::of(IpAddr::from([192, 0, 2, n]))
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_has_not_all_turns_however_many_it_waits_for() {
        let queue = queue();
        let mut held = Vec::new();
        while let Some(turn) = queue.turn(client(1)).now_or_never() {
            held.push(turn.unwrap());
        }
        assert!(!held.is_empty() && held.len() < queue.turns.total());
        let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(queue.turn(client(1)))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        assert!(queue.turn(client(2)).now_or_never().is_some(), "another client has its turn");
        assert!(queue.turn(ClientKey::Exempt).now_or_never().is_some());
        drop(waiting);
        let refused = queue.turn(client(1)).await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after.is_some()), (Kind::Unavailable, true));
        drop(held);
        assert_eq!(queue.turns.taken(), 0);
    }

    #[tokio::test]
    async fn a_client_that_leaves_gets_no_turn_back_before_its_work_is_over() {
        let queue = queue();
        let (go, gone) = mpsc::channel::<()>();
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let turn = queue.turn(client(1)).await.unwrap();
        let work = async move {
            let _ = tell.send(()).await;
            aside(move || gone.recv().is_ok()).await
        };
        let request = tokio::spawn(with_turn(turn, work));
        told.recv().await.unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert_eq!(queue.turns.taken(), 1);
        assert!(queue.turn(client(1)).now_or_never().is_none());
        go.send(()).unwrap();
        assert!(queue.turn(client(1)).await.is_ok());
    }
}
