//! Where index files are unpacked, read, compressed and hashed: threads of their own, as many as
//! there are cores. More would only take turns; and a thread keeps some of the memory that its work
//! once took, so it must not be each time another one of the hundreds that wait for disks.

use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::threads;

/// Those threads; they are begun when there is work. Cheap to clone.
#[derive(Clone, Default)]
pub struct RenderPool(Arc<Threads>);

/// A runtime that runs no task: what it has is a pool of threads with a bound.
#[derive(Default)]
struct Threads(OnceLock<io::Result<Runtime>>);

impl RenderPool {
    /// Does a piece of work when its turn has come. Whoever waits bounds the time.
    ///
    /// # Errors
    /// When it crashed, which is our own fault; unavailable, when the system has no thread for it.
    pub async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match self.0.0.get_or_init(|| threads::pool("index files")) {
            Ok(pool) => threads::aside_on(pool.handle(), work).await,
            Err(e) => Err(Error::internal(io::Error::from(e.kind()))),
        }
    }
}

impl Drop for Threads {
    /// A runtime that is dropped on an async thread would wait for its work.
    fn drop(&mut self) {
        if let Some(Ok(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for RenderPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RenderPool")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn much_work_is_done_by_few_threads() {
        let makers = RenderPool::default();
        let work = (0..100).map(|_| makers.make(|| thread::current().id()));
        let threads: HashSet<_> = join_all(work).await.into_iter().map(Result::unwrap).collect();
        assert!(threads.len() <= thread::available_parallelism().unwrap().get().max(2));
    }

    #[tokio::test]
    async fn work_that_crashes_is_an_error_and_others_go_on() {
        let makers = RenderPool::default();
        assert!(makers.make(|| panic!("on purpose")).await.is_err());
        assert_eq!(makers.make(|| 1).await.unwrap(), 1);
    }
}
