//! Index lookups per CPU second of a replica, while it follows what another one appends, and
//! while nothing is appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::replicas::Replicas;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::Result;
use crate::crowd::look_up;
use crate::journal::{self, Journal, LOGIN};
use crate::process::{cpu_time, journal_head};
use crate::report::Report;
use crate::stats::median;
use crate::visitor::Visitor;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Entries that the other replica appends in a second: publishes, one an entry
    #[arg(long, default_value_t = 20)]
    entries: u32,
    /// How long every request to the store takes, in milliseconds
    #[arg(long, default_value_t = 10)]
    latency_ms: u64,
    /// Hosted crates; each is looked up, and published to, in turn
    #[arg(long, default_value_t = 500)]
    crates: usize,
    /// Hosted versions at the beginning
    #[arg(long, default_value_t = 10_000)]
    versions: usize,
    /// Connections of those who look up
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests under way on each
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// How long each case of a round takes, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; each has every case once
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What goes on while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Case {
    /// Lookups, and nothing is appended.
    Quiet,
    /// Lookups, and another replica appends.
    Following,
    /// No lookups, and another replica appends: what following costs by itself.
    FollowingOnly,
}

const CASES: [Case; 3] = [Case::Quiet, Case::Following, Case::FollowingOnly];

/// What one case of one round showed.
#[derive(Debug, Serialize)]
struct Outcome {
    round: usize,
    case: Case,
    lookups: usize,
    lookups_per_second: f64,
    /// CPU time of the replica for each second of the case.
    cpu_per_second: f64,
    /// `None` where nothing was looked up.
    lookups_per_cpu_second: Option<f64>,
    /// Entries that the replica applied, in a second.
    entries_per_second: f64,
}

const COLUMNS: &[&str] =
    &["round", "case", "lookups/s", "CPU s/s", "lookups/CPU s", "CPU µs each", "entries/s"];

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("lookups", options, COLUMNS)?;
    let bench = Bench::new(options)?;
    let mut outcomes = Vec::new();
    bench.run(Case::Quiet, 0)?; // every file is rendered once before anything counts
    for round in 1..=options.rounds {
        for case in CASES {
            let outcome = bench.run(case, round)?;
            report.row(outcome.cells(), &outcome)?;
            outcomes.push(outcome);
        }
    }
    let per_cpu_second = |case: Case| {
        let of_case = outcomes.iter().filter(|one| one.case == case);
        median(of_case.filter_map(|one| one.lookups_per_cpu_second))
    };
    let (quiet, following) = (per_cpu_second(Case::Quiet), per_cpu_second(Case::Following));
    report.note(format!(
        "Medians: {quiet:.0} lookups per CPU second without following, {following:.0} with; \
         ratio {:.3}.",
        following / quiet
    ));
    let alone = outcomes.iter().filter(|one| one.case == Case::FollowingOnly);
    let each = alone.map(|one| one.cpu_per_second / one.entries_per_second * 1000.0);
    report.note(format!("Following by itself: {:.2} CPU ms an entry (median).", median(each)));
    Ok(report)
}

/// A replica that is measured, another one that appends, and who asks them.
struct Bench<'a> {
    options: &'a Options,
    replicas: Replicas,
    visitors: Vec<Visitor>,
    writer: Arc<Writer>,
    paths: Arc<Vec<String>>,
    runtime: Runtime,
    _store: MemoryS3,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let store = MemoryS3::start();
        Journal::found(&store).publish(options.versions, options.crates);
        let bucket = store.bucket();
        let replicas = Replicas::start(2, bucket.clone(), &bucket.endpoint, |builder| builder);
        let [measured, other] = &replicas.all[..] else {
            return Err("there are not two replicas".into());
        };
        let token = other.cli_ok(&["token", "create", "--user", LOGIN]);
        let runtime = Runtime::new()?;
        let visitors = (0..options.connections).map(|_| Visitor::of(measured));
        let visitors = visitors.collect::<Result<Vec<_>>>()?;
        let writer = Writer {
            visitor: Visitor::of(other)?,
            token,
            crates: options.crates,
            every: Duration::from_secs(1) / options.entries.max(1),
            published: AtomicUsize::new(0),
        };
        let paths = Arc::new((0..options.crates).map(journal::path).collect());
        store.set_latency(Duration::from_millis(options.latency_ms));
        let writer = Arc::new(writer);
        Ok(Self { options, replicas, visitors, writer, paths, runtime, _store: store })
    }

    fn measured(&self) -> Result<&Gateway> {
        Ok(self.replicas.all.first().ok_or("there is no replica")?)
    }

    fn run(&self, case: Case, round: usize) -> Result<Outcome> {
        let gateway = self.measured()?;
        let (pid, length) = (gateway.pid(), Duration::from_secs(self.options.seconds));
        let stop = Arc::new(AtomicBool::new(false));
        let appending = match case {
            Case::Quiet => None,
            Case::Following | Case::FollowingOnly => Some(self.append(&stop)),
        };
        let (head, cpu_before, begun) = (journal_head(gateway)?, cpu_time(pid)?, Instant::now());
        let lookups = match case {
            Case::Quiet | Case::Following => {
                let streams = self.options.streams;
                self.runtime.block_on(look_up(&self.visitors, streams, &self.paths, length))?
            }
            Case::FollowingOnly => {
                self.runtime.block_on(async { tokio::time::sleep(length).await });
                0
            }
        };
        let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_time(pid)?);
        let entries = journal_head(gateway)?.saturating_sub(head);
        stop.store(true, Ordering::SeqCst);
        if let Some(appending) = appending {
            self.runtime.block_on(appending)??;
            self.replicas.settle();
        }
        let cpu = cpu.saturating_sub(cpu_before).as_secs_f64();
        Ok(Outcome {
            round,
            case,
            lookups,
            lookups_per_second: lookups as f64 / took,
            cpu_per_second: cpu / took,
            lookups_per_cpu_second: (lookups > 0).then_some(lookups as f64 / cpu),
            entries_per_second: entries as f64 / took,
        })
    }

    fn append(&self, stop: &Arc<AtomicBool>) -> JoinHandle<Result<()>> {
        let (writer, stop) = (Arc::clone(&self.writer), Arc::clone(stop));
        self.runtime.spawn(async move { writer.run(&stop).await })
    }
}

/// Publishes at a steady pace, one after the other, so that each one is an entry.
#[derive(Debug)]
struct Writer {
    visitor: Visitor,
    token: String,
    crates: usize,
    every: Duration,
    published: AtomicUsize,
}

impl Writer {
    async fn run(&self, stop: &AtomicBool) -> Result<()> {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            let nth = self.published.fetch_add(1, Ordering::SeqCst);
            let (name, version) = (journal::name(nth % self.crates), nth / self.crates);
            let krate = Krate::new(&name, &format!("2.0.{version}"));
            let status = self.visitor.publish(krate.publish_body(), &self.token).await?;
            if !status.is_success() {
                return Err(format!("{} was answered with {status}", krate.root()).into());
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn cells(&self) -> Vec<String> {
        let case = match self.case {
            Case::Quiet => "quiet",
            Case::Following => "following",
            Case::FollowingOnly => "following only",
        };
        let rate = self.lookups_per_cpu_second;
        vec![
            self.round.to_string(),
            case.to_owned(),
            format!("{:.0}", self.lookups_per_second),
            format!("{:.3}", self.cpu_per_second),
            rate.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
            rate.map_or("-".to_owned(), |rate| format!("{:.1}", 1e6 / rate)),
            format!("{:.1}", self.entries_per_second),
        ]
    }
}
