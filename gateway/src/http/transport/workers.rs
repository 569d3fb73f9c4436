//! Workers: threads that each run the connections which they were given, and nothing else. A
//! connection stays on its worker, so that answering from memory wakes no other thread and takes no
//! lock that another one wants; whatever waits for a disk or an upstream is work of the runtime
//! that the process began with.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::{io, thread};

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::transport::watchdog::{Watchdog, beat};
use cratehouse_core::threads;

/// Where connections are served. The threads end when this is dropped, with whatever they still
/// had to do.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    end: CancellationToken,
    _end: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections at the moment.
    open: Arc<AtomicUsize>,
    /// One more each second.
    beats: Arc<AtomicU64>,
}

/// A place on a worker, until it is dropped.
#[derive(Debug)]
pub struct Place {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// A worker for each CPU that the process may use.
    ///
    /// # Errors
    /// When the system gives no more threads or files.
    pub fn start() -> io::Result<Self> {
        let end = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let workers =
            (0..count).map(|at| Worker::start(at, end.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers, end: end.clone(), _end: end.drop_guard() })
    }

    /// Whether they turn, as long as they are there.
    pub fn watchdog(&self) -> Watchdog {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(at, worker)| (name(at), Arc::clone(&worker.beats)));
        Watchdog::of(workers, self.end.clone())
    }

    /// No threads of their own: everything runs where this is called.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn here() -> Self {
        let (open, beats) = (Arc::default(), Arc::default());
        let worker = Worker { runtime: Handle::current(), open, beats };
        let end = CancellationToken::new();
        Self { workers: vec![worker], end: end.clone(), _end: end.drop_guard() }
    }

    /// A place on the worker with the fewest connections.
    pub fn place(&self) -> Place {
        let open = |worker: &&Worker| worker.open.load(Ordering::Relaxed);
        let worker = self.workers.iter().min_by_key(open);
        let (runtime, open) = match worker {
            Some(worker) => (worker.runtime.clone(), Arc::clone(&worker.open)),
            None => (Handle::current(), Arc::default()), // never: there is one at the least
        };
        open.fetch_add(1, Ordering::Relaxed);
        Place { runtime, open }
    }
}

impl Worker {
    fn start(at: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = threads::worker()?;
        let handle = runtime.handle().clone();
        let beats = Arc::default();
        handle.spawn(beat(Arc::clone(&beats)));
        thread::Builder::new().name(name(at)).spawn(move || runtime.block_on(end.cancelled()))?;
        Ok(Self { runtime: handle, open: Arc::default(), beats })
    }
}

fn name(at: usize) -> String {
    format!("worker-{at}")
}

impl Place {
    /// The runtime of the worker.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_connection_goes_to_the_lane_that_has_the_fewest() {
        let workers = Workers::start().unwrap();
        let count = workers.workers.len();
        let open = || -> Vec<_> {
            workers.workers.iter().map(|worker| worker.open.load(Ordering::Relaxed)).collect()
        };
        let mut places: Vec<_> = (0..2 * count).map(|_| workers.place()).collect();
        assert_eq!(open(), vec![2; count]);
        places.pop();
        places.push(workers.place());
        assert_eq!(open(), vec![2; count]);
        drop(places);
        assert_eq!(open(), vec![0; count]);
    }

    #[test]
    fn a_worker_that_is_blocked_counts_no_more() {
        let workers = Workers::start().unwrap();
        let place = workers.place();
        let beats = Arc::clone(&workers.workers[0].beats);
        let counted = || beats.load(Ordering::Relaxed);
        let end = Instant::now() + Duration::from_secs(60);
        while counted() == 0 {
            assert!(Instant::now() < end, "it never began");
            thread::yield_now();
        }
        let (tell, told) = std::sync::mpsc::channel();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        place.runtime().spawn(async move {
            tell.send(()).unwrap();
            let _ = wait.recv(); // what no task may do
        });
        told.recv().unwrap();
        let before = counted();
        let other = Arc::clone(&workers.workers.last().unwrap().beats);
        let others = other.load(Ordering::Relaxed);
        while workers.workers.len() > 1 && other.load(Ordering::Relaxed) < others + 2 {
            assert!(Instant::now() < end, "the other worker does not move");
            thread::yield_now();
        }
        assert_eq!(counted(), before);
        go.send(()).unwrap();
        while counted() == before {
            assert!(Instant::now() < end, "it does not go on");
            thread::yield_now();
        }
    }

    #[test]
    fn what_runs_on_a_worker_runs_on_its_own_thread_until_the_workers_are_dropped() {
        let workers = Workers::start().unwrap();
        let place = workers.place();
        let (tell, told) = std::sync::mpsc::channel();
        let ended = tell.clone();
        place.runtime().spawn(async move {
            let _ = tell.send(thread::current().name().map(str::to_owned));
        });
        let name = told.recv().unwrap().unwrap();
        assert!(name.starts_with("worker-"), "{name}");
        place.runtime().spawn(async move {
            let _held = ended;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(told.recv().is_err(), "the task was dropped with its worker");
    }
}
