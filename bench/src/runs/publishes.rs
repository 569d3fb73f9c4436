//! Publishes a second: publishers in closed loops, each with a connection and a crate of its own,
//! over one replica and over three, at several latencies of the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::replicas::Replicas;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Result;
use crate::journal::{LOGIN, count_published};
use crate::process::cpu_time;
use crate::report::{MustBe, Report};
use crate::stats::Waits;
use crate::visitor::Visitor;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// How many publish at one time
    #[arg(long, value_delimiter = ',', default_value = "1,8,64")]
    publishers: Vec<usize>,
    /// How long every request to the store takes, in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "0,20,100")]
    latency_ms: Vec<u64>,
    /// How many replicas share the store
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    replicas: Vec<usize>,
    /// For how long each case publishes, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of each crate file that do not compress
    #[arg(long, default_value_t = 10_000)]
    crate_bytes: usize,
}

/// What one case showed. Times are in milliseconds.
#[derive(Debug, Serialize)]
struct Outcome {
    replicas: usize,
    latency_ms: u64,
    publishers: usize,
    publishes_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    /// The longest wait in round trips of the store; absent where those take no time.
    longest_round_trips: Option<f64>,
    published: usize,
    /// Answered with anything but 200.
    refused: usize,
    entries: f64,
    publishes_per_entry: f64,
    /// Puts of an entry that lost their race, or whose answer was not "created".
    append_retries: f64,
    /// CPU time of all replicas together, for one publish.
    server_cpu_ms: f64,
}

const COLUMNS: &[&str] = &[
    "replicas",
    "latency ms",
    "publishers",
    "publishes/s",
    "p50 ms",
    "p99 ms",
    "longest ms",
    "round trips",
    "per entry",
    "lost puts",
    "refused",
    "CPU ms each",
];

/// The promised numbers: at this latency, with this many publishers.
const BOUND_LATENCY_MS: u64 = 100;
const BOUND_PUBLISHERS: usize = 64;
const ONE_REPLICA_PER_SECOND: f64 = 100.0;
const THREE_REPLICAS_PER_SECOND: f64 = 60.0;
const LONGEST_ROUND_TRIPS: f64 = 20.0;

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("publishes", options, COLUMNS)?;
    for &replicas in &options.replicas {
        for &latency_ms in &options.latency_ms {
            for &publishers in &options.publishers {
                let outcome = case(options, replicas, latency_ms, publishers)?;
                report.row(outcome.cells(), &outcome)?;
                outcome.bound(&mut report);
            }
        }
    }
    Ok(report)
}

/// Everything is new for each case, and the store is quick until the replicas are ready.
fn case(options: &Options, replicas: usize, latency_ms: u64, publishers: usize) -> Result<Outcome> {
    let store = MemoryS3::start();
    let bucket = store.bucket();
    let replicas = Replicas::start(replicas, bucket.clone(), &bucket.endpoint, |builder| builder);
    let token = first(&replicas)?.token(LOGIN);
    let runtime = Runtime::new()?;
    let visitors = runtime.block_on(visitors(&replicas, publishers))?;

    store.set_latency(Duration::from_millis(latency_ms));
    let before = Counted::of(&replicas)?;
    let length = Duration::from_secs(options.seconds);
    let load = Load { token, crate_bytes: options.crate_bytes, end: Instant::now() + length };
    let tries = runtime.block_on(load.run(visitors))?;
    let counted = Counted::of(&replicas)?.since(&before);
    store.set_latency(Duration::ZERO);

    let published = tries.iter().filter(|one| one.answered).count();
    let kept = count_published(&store);
    if kept < published {
        return Err(format!("{published} publishes were answered, and {kept} are there").into());
    }
    let in_time = tries.iter().filter(|one| one.answered && one.in_time).count();
    let waits = Waits::new(tries.iter().map(|one| one.wait).collect());
    let millis = |wait: Duration| wait.as_secs_f64() * 1000.0;
    let longest_ms = millis(waits.longest());
    Ok(Outcome {
        replicas: replicas.all.len(),
        latency_ms,
        publishers,
        publishes_per_second: in_time as f64 / length.as_secs_f64(),
        p50_ms: millis(waits.quantile(0.5)),
        p99_ms: millis(waits.quantile(0.99)),
        longest_ms,
        longest_round_trips: (latency_ms > 0).then(|| longest_ms / latency_ms as f64),
        published,
        refused: tries.len() - published,
        entries: counted.entries,
        publishes_per_entry: published as f64 / counted.entries,
        append_retries: counted.retries,
        server_cpu_ms: millis(counted.cpu) / published as f64,
    })
}

fn first(replicas: &Replicas) -> Result<&Gateway> {
    Ok(replicas.all.first().ok_or("there must be a replica")?)
}

/// What the replicas count, together.
struct Counted {
    entries: f64,
    retries: f64,
    cpu: Duration,
}

impl Counted {
    fn of(replicas: &Replicas) -> Result<Self> {
        let sum = |name: &str| replicas.all.iter().map(|one| one.metric(name, &[])).sum::<f64>();
        let times = replicas.all.iter().map(|one| cpu_time(one.pid()));
        Ok(Self {
            entries: sum("cratehouse_journal_appends_total"),
            retries: sum("cratehouse_journal_append_retries_total"),
            cpu: times.sum::<Result<Duration>>()?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            entries: self.entries - before.entries,
            retries: self.retries - before.retries,
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

/// Publishers go round the replicas; each is connected.
async fn visitors(replicas: &Replicas, publishers: usize) -> Result<Vec<Visitor>> {
    let mut visitors = Vec::new();
    for gateway in replicas.all.iter().cycle().take(publishers) {
        let visitor = Visitor::of(gateway)?;
        visitor.greet().await?;
        visitors.push(visitor);
    }
    Ok(visitors)
}

/// What all publishers do.
#[derive(Debug)]
struct Load {
    token: String,
    crate_bytes: usize,
    /// From then on nobody begins another one; what is under way is waited for.
    end: Instant,
}

/// One publish.
#[derive(Debug)]
struct Try {
    wait: Duration,
    answered: bool,
    /// Whether the answer came before the end.
    in_time: bool,
}

impl Load {
    async fn run(self, visitors: Vec<Visitor>) -> Result<Vec<Try>> {
        let load = Arc::new(self);
        let mut publishers = JoinSet::new();
        for (nth, visitor) in visitors.into_iter().enumerate() {
            let load = Arc::clone(&load);
            publishers.spawn(async move { load.publish(nth, visitor).await });
        }
        let mut all = Vec::new();
        while let Some(tries) = publishers.join_next().await {
            all.extend(tries??);
        }
        Ok(all)
    }

    /// One version after another of a crate that nobody else publishes.
    async fn publish(&self, nth: usize, visitor: Visitor) -> Result<Vec<Try>> {
        let mut tries = Vec::new();
        while Instant::now() < self.end {
            let version = format!("1.0.{}", tries.len());
            let krate = Krate::new(&format!("acme-{nth}"), &version).ballast(self.crate_bytes);
            let body = krate.publish_body();
            let asked = Instant::now();
            let status = visitor.publish(body, &self.token).await?;
            let (wait, answered) = (asked.elapsed(), status.is_success());
            if !answered {
                eprintln!("{} was answered with {status} after {wait:?}", krate.root());
            }
            tries.push(Try { wait, answered, in_time: Instant::now() <= self.end });
        }
        Ok(tries)
    }
}

impl Outcome {
    fn cells(&self) -> Vec<String> {
        vec![
            self.replicas.to_string(),
            self.latency_ms.to_string(),
            self.publishers.to_string(),
            format!("{:.1}", self.publishes_per_second),
            format!("{:.0}", self.p50_ms),
            format!("{:.0}", self.p99_ms),
            format!("{:.0}", self.longest_ms),
            self.longest_round_trips.map_or("-".to_owned(), |trips| format!("{trips:.1}")),
            format!("{:.1}", self.publishes_per_entry),
            self.append_retries.to_string(),
            self.refused.to_string(),
            format!("{:.2}", self.server_cpu_ms),
        ]
    }

    /// The bounds of the cases that have one.
    fn bound(&self, report: &mut Report) {
        if (self.latency_ms, self.publishers) != (BOUND_LATENCY_MS, BOUND_PUBLISHERS) {
            return;
        }
        let (replicas, least) = match self.replicas {
            1 => ("one replica", ONE_REPLICA_PER_SECOND),
            3 => ("three replicas", THREE_REPLICAS_PER_SECOND),
            _ => return,
        };
        let of = format!("{BOUND_PUBLISHERS} publishers at {BOUND_LATENCY_MS} ms on {replicas}");
        let rate = self.publishes_per_second;
        report.bound(format!("publishes/s of {of}"), rate, MustBe::Above(least));
        let refused = self.refused as f64;
        report.bound(format!("refused of {of}"), refused, MustBe::AtMost(0.0));
        if let (3, Some(trips)) = (self.replicas, self.longest_round_trips) {
            let what = format!("longest wait of {of}, in round trips");
            report.bound(what, trips, MustBe::AtMost(LONGEST_ROUND_TRIPS));
        }
    }
}
