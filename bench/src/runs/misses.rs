//! Index files that the gateway does not have: what many askers of one name cost its upstream, how
//! long it takes, and whether those who ask for what is in memory notice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::memory_s3::MemoryS3;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::files::{Files, Stem};
use crate::Result;
use crate::origin::Origin;
use crate::process::Threads;
use crate::report::{MustBe, Report};
use crate::stats::median;
use crate::visitor::Visitor;

mod beside;
mod files;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Names that are asked for at one time
    #[arg(long, default_value_t = 500)]
    names: usize,
    /// Clients, each with a connection of its own, that ask for all of them
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// How long the upstream takes for an answer, in milliseconds
    #[arg(long, default_value_t = 50)]
    upstream_ms: u64,
    /// How long a store in S3 takes for a request, in milliseconds
    #[arg(long, default_value_t = 20)]
    store_ms: u64,
    /// How often each case of misses is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Misses that wait while hits are measured
    #[arg(long, default_value_t = 100)]
    waiting: usize,
    /// How long their upstream takes, in milliseconds
    #[arg(long, default_value_t = 1500)]
    waiting_ms: u64,
    /// How long hits are measured in a round, in milliseconds; shorter than that
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Rounds of hits; each has every case once
    #[arg(long, default_value_t = 30)]
    hit_rounds: usize,
}

/// One round of misses.
#[derive(Debug, Serialize)]
struct Outcome {
    store: &'static str,
    clients: usize,
    /// From the first request until every client has every file.
    took_ms: f64,
    /// CPU time of the gateway for each name, in microseconds.
    cpu_us: f64,
    /// What the upstream was asked, in all, and for the name that it was asked for most often.
    requests: usize,
    most: usize,
    /// Connections that were opened to the upstream.
    connections: usize,
}

const COLUMNS: &[&str] = &[
    "case",
    "clients",
    "first ms",
    "took ms",
    "of the sum %",
    "ideal ms",
    "CPU µs each",
    "upstream requests",
    "most for a name",
    "connections",
    "hits/s",
    "hit p50 µs",
    "hit p99 µs",
    "hit CPU µs",
];

/// What is promised: an upstream is asked once for a name, however many wait for it.
const REQUESTS_A_NAME: f64 = 1.0;

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("misses", options, COLUMNS)?;
    let runtime = Runtime::new()?;
    for store in ["folder", "S3"] {
        for clients in [1, options.clients] {
            let bench = Bench::new(options, store)?;
            let outcomes = (0..options.rounds).map(|_| bench.round(&runtime, clients));
            let outcomes = outcomes.collect::<Result<Vec<_>>>()?;
            bench.tell(&mut report, &outcomes)?;
        }
    }
    beside::measure(options, &runtime, &mut report)?;
    Ok(report)
}

/// A gateway with an empty store before an upstream that is far away.
struct Bench<'a> {
    options: &'a Options,
    store: &'static str,
    files: Arc<Files>,
    origin: Origin,
    gateway: Gateway,
    _s3: Option<MemoryS3>,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, store: &'static str) -> Result<Self> {
        let (files, origin) = Files::served()?;
        let s3 = (store == "S3").then(MemoryS3::start);
        let mut builder = Gateway::builder().upstream(origin.upstream());
        builder = builder.set("cache", "index_mib = 1024");
        if let Some(s3) = &s3 {
            builder = builder.certificate(&Authority::new()).s3(&s3.bucket());
        }
        let mut gateway = builder.prepare();
        origin.trusted_by(&gateway)?;
        gateway.start_again();
        origin.set_latency(Duration::from_millis(options.upstream_ms));
        if let Some(s3) = &s3 {
            s3.set_latency(Duration::from_millis(options.store_ms));
        }
        Ok(Self { options, store, files, origin, gateway, _s3: s3 })
    }

    /// Every client asks for all names at once, and all clients at the same time.
    fn round(&self, runtime: &Runtime, clients: usize) -> Result<Outcome> {
        let paths = self.files.more(Stem::Usual, self.options.names);
        let visitors: Vec<_> =
            (0..clients).map(|_| Visitor::of(&self.gateway)).collect::<Result<_>>()?;
        runtime.block_on(async {
            for visitor in &visitors {
                visitor.greet().await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        })?;
        self.origin.asked();
        let before = Threads::of(self.gateway.pid())?;
        let begun = Instant::now();
        runtime.block_on(ask_all(&visitors, &paths))?;
        let took = begun.elapsed();
        let used = Threads::of(self.gateway.pid())?.since(&before);
        let asked = self.origin.asked();
        Ok(Outcome {
            store: self.store,
            clients,
            took_ms: took.as_secs_f64() * 1e3,
            cpu_us: used.as_secs_f64() * 1e6 / self.options.names as f64,
            requests: asked.requests,
            most: asked.most,
            connections: asked.connections,
        })
    }

    fn tell(&self, report: &mut Report, outcomes: &[Outcome]) -> Result<()> {
        let Some(first) = outcomes.first() else { return Ok(()) };
        let middle = |of: fn(&Outcome) -> f64| median(outcomes.iter().map(of));
        let most = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).max().unwrap_or_default();
        let sum = self.options.names as f64 * self.options.upstream_ms as f64;
        let case = match self.store {
            "S3" => format!("misses, S3 at {} ms", self.options.store_ms),
            other => format!("misses, {other}"),
        };
        let cells = vec![
            case.clone(),
            first.clients.to_string(),
            format!("{:.0}", first.took_ms),
            format!("{:.0}", middle(|one| one.took_ms)),
            format!("{:.1}", middle(|one| one.took_ms) * 100.0 / sum),
            self.ideal_ms().to_string(),
            format!("{:.0}", middle(|one| one.cpu_us)),
            most(|one| one.requests).to_string(),
            most(|one| one.most).to_string(),
            most(|one| one.connections).to_string(),
        ];
        let cells = cells.into_iter().chain(vec!["-".to_owned(); 4]).collect();
        report.row(cells, &outcomes)?;
        let what =
            format!("upstream requests for a name, {} clients, {case}, the most", first.clients);
        report.bound(what, most(|one| one.most) as f64, MustBe::AtMost(REQUESTS_A_NAME));
        Ok(())
    }

    /// As many at one time as the upstream takes on a connection, and nothing but its latency and,
    /// before it, the store's.
    fn ideal_ms(&self) -> u64 {
        let waves = self.options.names.div_ceil(crate::origin::STREAMS as usize);
        let store = if self.store == "S3" { self.options.store_ms } else { 0 };
        store + self.options.upstream_ms * waves as u64
    }
}

/// Every visitor asks for every path at once.
async fn ask_all(visitors: &[Visitor], paths: &[String]) -> Result<()> {
    let mut askers = JoinSet::new();
    for path in paths {
        for visitor in visitors {
            let (visitor, path) = (visitor.clone(), path.clone());
            askers.spawn(async move { visitor.index(&path).await });
        }
    }
    while let Some(answered) = askers.join_next().await {
        answered??;
    }
    Ok(())
}
