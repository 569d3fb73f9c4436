//! Many who look up index files in closed loops: each asks for the next one as soon as the last
//! one was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Result;
use crate::visitor::Visitor;

/// That many requests are kept under way on the connection of every visitor, for this long, going
/// round the paths. Gives how many were answered.
pub(crate) async fn look_up(
    visitors: &[Visitor],
    streams: usize,
    paths: &Arc<Vec<String>>,
    length: Duration,
) -> Result<usize> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut askers = JoinSet::new();
    for visitor in visitors.iter().flat_map(|one| vec![one; streams]) {
        let asker = Asker {
            visitor: visitor.clone(),
            paths: Arc::clone(paths),
            next: Arc::clone(&next),
            end: Instant::now() + length,
        };
        askers.spawn(asker.run());
    }
    let mut all = 0;
    while let Some(done) = askers.join_next().await {
        all += done??;
    }
    Ok(all)
}

/// One of many who ask in a closed loop.
#[derive(Debug)]
struct Asker {
    visitor: Visitor,
    paths: Arc<Vec<String>>,
    /// Which file is next, whoever asks.
    next: Arc<AtomicUsize>,
    end: Instant,
}

impl Asker {
    async fn run(self) -> Result<usize> {
        let mut done = 0;
        while Instant::now() < self.end {
            let nth = self.next.fetch_add(1, Ordering::Relaxed) % self.paths.len();
            let path = self.paths.get(nth).ok_or("there are no crates")?;
            self.visitor.index(path).await?;
            done += 1;
        }
        Ok(done)
    }
}

/// Every path is asked for once, with so many requests under way on the connection of every
/// visitor.
pub(crate) async fn fetch_all(
    visitors: &[Visitor],
    streams: usize,
    paths: &Arc<Vec<String>>,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut askers = JoinSet::new();
    for visitor in visitors.iter().flat_map(|one| vec![one.clone(); streams]) {
        let (paths, next) = (Arc::clone(paths), Arc::clone(&next));
        askers.spawn(async move {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                visitor.index(path).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(done) = askers.join_next().await {
        done??;
    }
    Ok(())
}
