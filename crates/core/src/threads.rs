//! Threads: how many the process may have, and the one way to those for work that blocks.
//!
//! A system that refuses a thread (`TasksMax`, `pids.max`, `ulimit -u`) must cost a request and not
//! the process. Tokio's `spawn_blocking` panics then if its pool has no thread at all, and else
//! leaves the work in a queue that perhaps nobody serves; so nothing but this file calls it, and
//! the process has one such pool, in which one thread is kept alive.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};

/// Threads for work that blocks: files, the catalog, hashing, names that are resolved.
const BLOCKING_THREADS: usize = 256;
/// Such threads of a worker, which has no such work: tokio wants one at the least.
const WORKER_BLOCKING_THREADS: usize = 1;
/// Threads that index files are made on, where there are fewer cores.
const FEWEST_MAKERS: usize = 2;
/// The thread that the process begins with, and those of libraries.
const OTHER_THREADS: usize = 15;
/// How long a thread for work that blocks stays without any.
const STAY: Duration = Duration::from_secs(10);
/// How often one of them gets some, so that it stays: less than [`STAY`].
const KEEP_EVERY: Duration = Duration::from_secs(3);
/// How long threads that index files are made on stay: as good as for ever.
const STAY_LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long work waits for a thread before a request is answered with 503.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// The runtime of the process, once it has begun.
static HOME: OnceLock<Handle> = OnceLock::new();
/// Pieces of work for which there was no thread.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// The most threads that the process has on a machine of so many cores: `deploy/`'s bounds are
/// held against it.
pub const fn at_most(cores: usize) -> usize {
    let runtime = cores;
    let workers = cores * (1 + WORKER_BLOCKING_THREADS);
    OTHER_THREADS + runtime + BLOCKING_THREADS + workers + renderers(cores)
}

const fn renderers(cores: usize) -> usize {
    if cores < FEWEST_MAKERS { FEWEST_MAKERS } else { cores }
}

/// Begins the runtime of the process: everything but the connections runs there.
///
/// # Errors
/// When the system gives no threads or files.
pub fn begin() -> io::Result<Runtime> {
    let build = || {
        Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(STAY)
            .build()
    };
    // Tokio panics where the system gives it no threads for its workers.
    let refused = |_| Err(io::Error::other("the system gives the process no threads"));
    let runtime = catch_unwind(build).unwrap_or_else(refused)?;
    runtime.spawn(keep_one_alive());
    let _ = HOME.set(runtime.handle().clone()); // a process begins once
    Ok(runtime)
}

/// A runtime for a thread that serves connections.
///
/// # Errors
/// As [`begin`].
pub fn worker() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(WORKER_BLOCKING_THREADS).build()
}

/// A runtime that runs no task: what it has is a pool of a few threads, which stay.
///
/// # Errors
/// As [`begin`].
pub fn pool(name: &str) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(FEWEST_MAKERS, usize::from);
    Builder::new_current_thread()
        .max_blocking_threads(renderers(cores))
        .thread_keep_alive(STAY_LONG)
        .thread_name(name)
        .build()
}

/// The runtime of the process; `None` in tests, where everything runs on the one that they began.
pub fn home() -> Option<&'static Handle> {
    HOME.get()
}

/// How many pieces of work found no thread since the process began.
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// Does work that blocks, or computes for long, off the async threads. Once begun it is done to its end,
/// also when nobody waits for it any more: what bounds it belongs into the work.
///
/// # Errors
/// Unavailable, when it has not begun within ten seconds, and then it never will; internal, when it
/// crashed.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    run(&here(), Some(BEGIN_WAIT), work).await
}

/// The same, however long it takes until there is a thread: what no request waits for.
///
/// # Errors
/// Unavailable, when the process stops; internal, when it crashed.
pub async fn aside_in_time<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    run(&here(), None, work).await
}

/// The same, on the threads of a [`pool`]. Whoever waits bounds the time.
///
/// # Errors
/// As [`aside_in_time`].
pub async fn aside_on<T: Send + 'static>(
    pool: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    run(pool, None, work).await
}

fn here() -> Handle {
    home().cloned().unwrap_or_else(Handle::current)
}

async fn run<T: Send + 'static>(
    on: &Handle,
    wait: Option<Duration>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    // Whoever sets it first decides: the work, that it is done, or its client, that it never is.
    let decided = Arc::new(AtomicBool::new(false));
    let _waiting = Waiting(Arc::clone(&decided));
    let (begins, begun) = oneshot::channel::<()>();
    let claim = Arc::clone(&decided);
    let work = move || {
        if claim.swap(true, Ordering::AcqRel) {
            return None;
        }
        let _ = begins.send(()); // nobody may wait for it
        Some(work())
    };
    // A panic here is tokio's: the system gave no thread, and the work lies in its queue.
    let spawned = catch_unwind(AssertUnwindSafe(|| spawn(on, work)));
    let is_given_up = match (&spawned, wait) {
        (Err(_), _) => true,
        (Ok(_), None) => false,
        (Ok(_), Some(wait)) => timeout(wait, begun).await.is_err(),
    };
    let never = is_given_up && !decided.swap(true, Ordering::AcqRel);
    match spawned {
        Ok(working) if !never => match working.await {
            Ok(Some(done)) => Ok(done),
            Err(crashed) if crashed.is_panic() => Err(Error::internal(crashed)),
            Ok(None) | Err(_) => Err(no_thread()),
        },
        _ => Err(no_thread()),
    }
}

/// Who waits for work. Work that nobody waits for is never begun: what a client may ask for again and
/// again, leaving each time, must not pile up in front of the threads.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place")]
fn spawn<T: Send + 'static>(
    on: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    on.spawn_blocking(work)
}

fn no_thread() -> Error {
    REFUSED.fetch_add(1, Ordering::Relaxed);
    Error::unavailable("the registry has no thread free for this; try again in a few seconds")
}

/// With one thread alive, work that finds no other waits for this one.
async fn keep_one_alive() {
    loop {
        let _ = aside_in_time(|| ()).await;
        sleep(KEEP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::error::Kind;

    fn one_thread() -> Runtime {
        Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap()
    }

    #[test]
    fn work_that_finds_no_thread_in_time_is_refused_and_never_done() {
        let pool = one_thread();
        let (let_go, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let before = refused();
        let busy = pool.spawn({
            let handle = pool.handle().clone();
            async move { aside_on(&handle, move || held.recv()).await.is_ok() }
        });
        let tried = pool.block_on(async {
            tokio::task::yield_now().await;
            run(pool.handle(), Some(Duration::from_millis(1)), move || tell.send(())).await
        });
        let error = tried.unwrap_err();
        assert_eq!((error.kind, error.retry_after.is_some()), (Kind::Unavailable, true));
        assert!(refused() > before);
        let_go.send(()).unwrap();
        assert!(pool.block_on(busy).unwrap());
        let after = pool.block_on(async { aside_on(pool.handle(), || 7).await });
        assert_eq!(after.unwrap(), 7);
        assert!(told.try_recv().is_err(), "what was refused is not done later");
    }

    #[test]
    fn work_whose_client_leaves_before_it_has_begun_is_never_done() {
        let pool = one_thread();
        let (let_go, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let permit = Arc::new(());
        pool.block_on(async {
            let mut busy = Box::pin(aside_on(pool.handle(), move || held.recv()));
            assert!(busy.as_mut().now_or_never().is_none());
            for _ in 0..100 {
                let (tell, permit) = (tell.clone(), Arc::clone(&permit));
                let work = move || (permit, tell.send(()));
                assert!(aside(work).now_or_never().is_none());
            }
            let_go.send(()).unwrap();
            assert!(busy.await.unwrap().is_ok());
            assert_eq!(aside(|| 7).await.unwrap(), 7);
        });
        assert!(told.try_recv().is_err(), "nobody waited for it");
        assert_eq!(Arc::strong_count(&permit), 1, "what the work would have held is free");
    }

    #[test]
    fn work_that_begins_in_time_may_take_longer() {
        let pool = one_thread();
        let (let_go, held) = mpsc::channel::<()>();
        let handle = pool.handle().clone();
        let done = pool.block_on(async {
            let work = tokio::spawn(async move {
                run(&handle, Some(Duration::from_secs(60)), move || held.recv().is_ok()).await
            });
            tokio::task::yield_now().await;
            let_go.send(()).unwrap();
            work.await.unwrap()
        });
        assert!(done.unwrap());
    }

    #[tokio::test]
    async fn work_that_crashes_is_a_fault_of_ours() {
        let crashed: Result<()> = aside(|| panic!("on purpose")).await;
        assert_eq!(crashed.unwrap_err().kind, Kind::Internal);
        assert_eq!(aside(|| 1).await.unwrap(), 1);
    }

    /// The cores of the largest machine that the unit is for.
    const MOST_CORES: usize = 128;

    #[test]
    fn the_systemd_unit_allows_as_many_threads_as_there_may_be() {
        let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../deploy/systemd/cratehouse.service");
        let unit = std::fs::read_to_string(unit).unwrap();
        let allowed = unit.lines().find_map(|line| line.strip_prefix("TasksMax=")).unwrap();
        assert_eq!(allowed, at_most(MOST_CORES).to_string(), "the sum of bounds has changed");
    }

    #[test]
    fn the_sum_counts_every_runtime() {
        assert_eq!(at_most(1), 15 + 1 + 256 + 2 + 2);
        assert_eq!(at_most(8), 15 + 8 + 256 + 16 + 8);
    }
}
