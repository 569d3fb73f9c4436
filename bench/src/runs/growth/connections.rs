//! Connections, all of them open from the beginning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::memory_s3::MemoryS3;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{Options, settled_mb, take_turns, tell};
use crate::Result;
use crate::journal::{self, Journal};
use crate::process::Threads;
use crate::report::Report;
use crate::visitor::Visitor;

/// Hosted crates, of which each is asked for.
const CRATES: usize = 100;
/// Requests under way in all, where that is the same for every number of connections.
const UNDER_WAY: usize = 64;

/// Measured twice: with one request under way on each connection, and with the same number in all.
pub(super) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let (bench, counts) = (Bench::new(options)?, &options.connections);
    let at = |nth: usize| counts.get(nth).copied().ok_or("no such size");
    let resident = |_| settled_mb(&bench.gateway);
    let each = |nth: usize, _| bench.ask(at(nth)?, at(nth)?);
    let axis = "connections, a request under way on each";
    tell(report, &take_turns(axis, counts, options.rounds, each, resident)?, true)?;
    let same = |nth: usize, _| bench.ask(at(nth)?, UNDER_WAY);
    let axis = format!("connections, {UNDER_WAY} requests under way in all");
    tell(report, &take_turns(&axis, counts, options.rounds, same, resident)?, false)
}

struct Bench<'a> {
    options: &'a Options,
    gateway: Gateway,
    visitors: Vec<Visitor>,
    paths: Arc<Vec<String>>,
    runtime: Runtime,
    _store: MemoryS3,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let store = MemoryS3::start();
        Journal::found(&store).publish(CRATES, CRATES);
        let authority = cratehouse_tests::authority::Authority::new();
        let gateway = Gateway::builder().certificate(&authority).s3(&store.bucket()).start();
        let most = options.connections.iter().max().copied().unwrap_or_default();
        let visitors = (0..most).map(|_| Visitor::of(&gateway)).collect::<Result<Vec<_>>>()?;
        let paths = Arc::new((0..CRATES).map(journal::path).collect());
        Ok(Self { options, gateway, visitors, paths, runtime: Runtime::new()?, _store: store })
    }

    /// So many requests are kept under way; who asks goes round the connections. Gives the CPU time
    /// of a request, in microseconds.
    fn ask(&self, connections: usize, under_way: usize) -> Result<f64> {
        let visitors = self.visitors.get(..connections).ok_or("not as many connections")?;
        self.runtime.block_on(greet(visitors))?;
        let before = Threads::of(self.gateway.pid())?;
        let visitors = Arc::<[Visitor]>::from(visitors);
        let end = Instant::now() + Duration::from_millis(self.options.millis);
        let asked = self.runtime.block_on(ask_in_turn(&visitors, under_way, &self.paths, end))?;
        let used = Threads::of(self.gateway.pid())?.since(&before);
        Ok(used.as_secs_f64() * 1e6 / asked as f64)
    }
}

/// Connects where that is not so, and has every connection used a moment ago.
async fn greet(visitors: &[Visitor]) -> Result<()> {
    for visitor in visitors {
        visitor.greet().await?;
    }
    Ok(())
}

async fn ask_in_turn(
    visitors: &Arc<[Visitor]>,
    under_way: usize,
    paths: &Arc<Vec<String>>,
    end: Instant,
) -> Result<usize> {
    let mut askers = JoinSet::new();
    for first in 0..under_way {
        let (visitors, paths) = (Arc::clone(visitors), Arc::clone(paths));
        askers.spawn(async move {
            let (mut asked, mut next) = (0, first);
            while Instant::now() < end {
                let visitor = visitors.get(next % visitors.len()).ok_or("nobody asks")?;
                let path = paths.get(next % paths.len()).ok_or("there are no crates")?;
                visitor.index(path).await?;
                (asked, next) = (asked + 1, next + under_way);
            }
            Ok::<usize, Box<dyn std::error::Error + Send + Sync>>(asked)
        });
    }
    let mut all = 0;
    while let Some(asked) = askers.join_next().await {
        all += asked??;
    }
    Ok(all)
}
