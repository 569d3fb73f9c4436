//! Hits while misses wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::patience::until;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use super::files::{Files, Stem};
use super::{Options, ask_all};
use crate::Result;
use crate::origin::Origin;
use crate::process::Threads;
use crate::report::{MustBe, Report};
use crate::stats::{Waits, median};
use crate::visitor::Visitor;

/// Warm names that are asked for.
const WARM: usize = 100;
/// Connections of those who ask for them, and requests under way on each: few, so that it is not
/// the clients that are measured.
const CONNECTIONS: usize = 2;
const STREAMS: usize = 2;
/// What is promised of the median hit while misses wait, in terms of one without.
const SLOWER: f64 = 1.1;

/// Who waits meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Case {
    /// Nobody.
    Alone,
    /// Misses on a connection of their own.
    Beside,
    /// Misses on the very connections of the hits.
    Among,
}

const CASES: [Case; 3] = [Case::Alone, Case::Beside, Case::Among];

#[derive(Debug, Serialize)]
struct Outcome {
    case: Case,
    hits: usize,
    hits_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// CPU time of the gateway for a hit.
    cpu_us: f64,
}

pub(super) fn measure(options: &Options, runtime: &Runtime, report: &mut Report) -> Result<()> {
    let bench = Bench::new(options, runtime)?;
    let mut outcomes = Vec::new();
    for round in 0..=options.hit_rounds {
        for nth in 0..CASES.len() {
            let case = CASES.iter().cycle().nth(round + nth).copied().unwrap_or(Case::Alone);
            let outcome = bench.run(runtime, case)?;
            if round > 0 {
                outcomes.push(outcome);
            }
        }
        eprintln!("misses: hits, round {round} of {}", options.hit_rounds);
    }
    for case in CASES {
        tell(report, case, &outcomes)?;
    }
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    files: Arc<Files>,
    origin: Origin,
    gateway: Gateway,
    warm: Arc<Vec<String>>,
    hitters: Vec<Visitor>,
    waiter: Visitor,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, runtime: &Runtime) -> Result<Self> {
        let slow = Duration::from_millis(options.waiting_ms);
        let (files, origin) = Files::served_slowly(slow)?;
        let builder = Gateway::builder().upstream(origin.upstream());
        let mut gateway = builder.set("cache", "index_mib = 1024").prepare();
        origin.trusted_by(&gateway)?;
        gateway.start_again();
        let warm = Arc::new(files.more(Stem::Usual, WARM));
        let hitters = (0..CONNECTIONS).map(|_| Visitor::of(&gateway));
        let hitters = hitters.collect::<Result<Vec<_>>>()?;
        let waiter = Visitor::of(&gateway)?;
        for visitor in hitters.iter().chain([&waiter]) {
            runtime.block_on(visitor.greet())?;
        }
        runtime.block_on(ask_all(&hitters, &warm))?;
        Ok(Self { options, files, origin, gateway, warm, hitters, waiter })
    }

    fn run(&self, runtime: &Runtime, case: Case) -> Result<Outcome> {
        let waiting = self.wait(runtime, case);
        let length = Duration::from_millis(self.options.millis);
        let (before, begun) = (Threads::of(self.gateway.pid())?, Instant::now());
        let waits = runtime.block_on(hit(&self.hitters, &self.warm, length))?;
        let took = begun.elapsed();
        let used = Threads::of(self.gateway.pid())?.since(&before);
        if let Some(waiting) = waiting {
            if waiting.is_finished() {
                return Err("the misses did not wait until the hits were measured".into());
            }
            runtime.block_on(waiting)??;
        }
        let hits = waits.len();
        let waits = Waits::new(waits);
        let micros = |part: f64| waits.quantile(part).as_secs_f64() * 1e6;
        Ok(Outcome {
            case,
            hits,
            hits_per_second: hits as f64 / took.as_secs_f64(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            cpu_us: used.as_secs_f64() * 1e6 / hits as f64,
        })
    }

    /// Begins the misses, and returns when the upstream has as many of them as it is ever asked at
    /// one time.
    fn wait(&self, runtime: &Runtime, case: Case) -> Option<JoinHandle<Result<()>>> {
        let askers = match case {
            Case::Alone => return None,
            Case::Beside => vec![self.waiter.clone()],
            Case::Among => self.hitters.clone(),
        };
        let paths = self.files.more(Stem::Slow, self.options.waiting);
        let waiting = runtime.spawn(async move {
            let mut waiting = JoinSet::new();
            let each = paths.len().div_ceil(askers.len());
            for (asker, paths) in askers.into_iter().zip(paths.chunks(each)) {
                let paths = paths.to_vec();
                waiting.spawn(async move { ask_all(&[asker], &paths).await });
            }
            while let Some(done) = waiting.join_next().await {
                done??;
            }
            Ok(())
        });
        let all = self.options.waiting;
        until("the misses wait", || self.origin.under_way() >= all.min(MOST_AT_ONE_TIME));
        Some(waiting)
    }
}

/// What the gateway asks of an upstream at one time (`limits.upstream_requests`).
const MOST_AT_ONE_TIME: usize = 128;

/// Asks in closed loops for so long. Gives how long each answer took.
async fn hit(
    visitors: &[Visitor],
    paths: &Arc<Vec<String>>,
    length: Duration,
) -> Result<Vec<Duration>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut askers = JoinSet::new();
    for visitor in visitors.iter().flat_map(|one| vec![one.clone(); STREAMS]) {
        let (paths, next, end) = (Arc::clone(paths), Arc::clone(&next), Instant::now() + length);
        askers.spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let nth = next.fetch_add(1, Ordering::Relaxed) % paths.len();
                let path = paths.get(nth).ok_or("nothing is warm")?;
                let asked = Instant::now();
                visitor.index(path).await?;
                waits.push(asked.elapsed());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = askers.join_next().await {
        all.extend(waits??);
    }
    Ok(all)
}

fn tell(report: &mut Report, case: Case, outcomes: &[Outcome]) -> Result<()> {
    let of = |case: Case| outcomes.iter().filter(move |one| one.case == case);
    let middle = |value: fn(&Outcome) -> f64| median(of(case).map(value));
    let label = match case {
        Case::Alone => "hits, nobody waits",
        Case::Beside => "hits, misses wait on another connection",
        Case::Among => "hits, misses wait on the same connections",
    };
    let cells = [label, "-", "-", "-", "-", "-", "-", "-", "-", "-"].map(str::to_owned).into_iter();
    let cells = cells.chain([
        format!("{:.0}", middle(|one| one.hits_per_second)),
        format!("{:.0}", middle(|one| one.p50_us)),
        format!("{:.0}", middle(|one| one.p99_us)),
        format!("{:.1}", middle(|one| one.cpu_us)),
    ]);
    report.row(cells.collect(), &of(case).collect::<Vec<_>>())?;
    if case == Case::Alone {
        return Ok(());
    }
    let ratio = |value: fn(&Outcome) -> f64| {
        median(of(case).zip(of(Case::Alone)).map(|(with, without)| value(with) / value(without)))
    };
    report.bound(
        format!("{label}: p50 in terms of alone"),
        ratio(|one| one.p50_us),
        MustBe::AtMost(SLOWER),
    );
    report.note(format!(
        "{label}: p99 {:.2} of alone, CPU {:.2} (medians of the rounds).",
        ratio(|one| one.p99_us),
        ratio(|one| one.cpu_us)
    ));
    Ok(())
}
