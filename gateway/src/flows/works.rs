//! Long pieces of work that administrators ask a server for: of each kind one at a time.
//!
//! What only reads ends with the request that it was begun for. What changes the store goes on when its client has
//! left, to an end at which nothing is half done; a stop of the server is told to it, and waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use cratehouse_core::error::{Error, Kind, Result};

/// When to ask again for work of a kind that is under way.
const RETRY: Duration = Duration::from_secs(30);

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The journal is walked, and all hosted bytes are read.
    Verify,
    /// A checkpoint is made from the journal alone.
    Checkpoint,
    /// Garbage is deleted.
    Sweep,
    /// The mirror is filled ahead of need.
    Prefetch,
    /// Everything is looked at.
    Examine,
    /// An advisory database is fetched.
    Advisories,
}

/// The places for it: one of each kind.
#[derive(Debug)]
pub struct Works {
    places: [Arc<Semaphore>; Work::ALL.len()],
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Work {
    const ALL: [Self; 6] = [
        Self::Verify,
        Self::Checkpoint,
        Self::Sweep,
        Self::Prefetch,
        Self::Examine,
        Self::Advisories,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Verify => "the journal is being verified",
            Self::Checkpoint => "a checkpoint is being written",
            Self::Sweep => "a sweep is under way",
            Self::Prefetch => "the mirror is being filled",
            Self::Examine => "everything is being looked at",
            Self::Advisories => "an advisory database is being fetched",
        }
    }
}

impl Default for Works {
    fn default() -> Self {
        Self {
            places: std::array::from_fn(|_| Arc::new(Semaphore::new(1))),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }
}

impl Works {
    /// Does what may be broken off anywhere: when nobody waits for it any more, or at a stop.
    ///
    /// # Errors
    /// Unavailable, while such work is under way already, or the server stops; those of the work.
    pub async fn while_waited_for<T>(
        &self,
        work: Work,
        doing: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _place = self.place(work)?;
        self.stop.run_until_cancelled(doing).await.unwrap_or_else(|| Err(stopping()))
    }

    /// Does what is to come to an end of its own, whoever waits for it. It is given the wish to stop, and heeds it
    /// where nothing stays half done.
    ///
    /// # Errors
    /// As [`Works::while_waited_for`]; internal, when the work crashed.
    pub async fn to_the_end<T, F>(
        &self,
        work: Work,
        doing: impl FnOnce(CancellationToken) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let place = self.place(work)?;
        let doing = Box::pin(doing(self.stop.clone()));
        let working = self.tracker.spawn(async move {
            let _place = place;
            doing.await
        });
        working.await.map_err(Error::internal)?
    }

    /// Tells what is under way to end, and lets nothing begin any more.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Waits for what goes on by itself, after [`Works::stop`]. The caller bounds the time.
    pub async fn settled(&self) {
        self.tracker.wait().await;
    }

    fn place(&self, work: Work) -> Result<OwnedSemaphorePermit> {
        if self.stop.is_cancelled() {
            return Err(stopping());
        }
        let place = self.places.get(work as usize).ok_or_else(stopping)?;
        Arc::clone(place).try_acquire_owned().map_err(|_| {
            let text = format!("{} already: try again when that is over", work.words());
            Error::new(Kind::Unavailable, text).retry_after(RETRY)
        })
    }
}

fn stopping() -> Error {
    Error::unavailable("this server is stopping: ask again shortly")
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        for (place, work) in Work::ALL.into_iter().enumerate() {
            assert_eq!(work as usize, place, "{work:?}");
        }
    }

    #[tokio::test]
    async fn one_of_a_kind_is_under_way_and_what_only_reads_ends_with_who_asked() {
        let works = Works::default();
        let mut first = Box::pin(works.while_waited_for(Work::Verify, pending::<Result<()>>()));
        assert!(first.as_mut().now_or_never().is_none());
        let second = works.while_waited_for(Work::Verify, async { Ok(()) });
        let refused = second.await.unwrap_err();
        assert_eq!((refused.kind, refused.retry_after), (Kind::Unavailable, Some(RETRY)));
        assert!(works.while_waited_for(Work::Examine, async { Ok(()) }).await.is_ok());
        drop(first);
        assert!(works.while_waited_for(Work::Verify, async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn what_changes_something_goes_on_and_is_waited_for_at_a_stop() {
        let works = Arc::new(Works::default());
        let (go, gone) = oneshot::channel::<()>();
        let (tell, mut told) = oneshot::channel();
        let doing = move |stop: CancellationToken| async move {
            stop.cancelled().await;
            gone.await.map_err(Error::internal)?;
            tell.send(()).map_err(|()| stopping())
        };
        let asked = Arc::clone(&works);
        let request = tokio::spawn(async move { asked.to_the_end(Work::Sweep, doing).await });
        while works.tracker.is_empty() {
            tokio::task::yield_now().await;
        }
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        let again = works.to_the_end(Work::Sweep, |_| async { Ok(()) }).await;
        assert!(again.unwrap_err().message.contains("already"));
        works.stop();
        assert!(works.settled().now_or_never().is_none(), "it is not at its end");
        go.send(()).unwrap();
        works.settled().await;
        assert_eq!(told.try_recv(), Ok(()));
        let late = works.while_waited_for(Work::Verify, async { Ok(()) }).await;
        assert!(late.unwrap_err().message.contains("stopping"));
    }
}
