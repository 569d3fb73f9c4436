//! The start of a replica on an empty disk, from a checkpoint of very many versions.

use std::time::{Duration, Instant};

use clap::Args;
use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Builder, Gateway};
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::patience::until;
use serde::Serialize;

use crate::Result;
use crate::journal::{self, Journal};
use crate::process::{Memory, cpu_time, journal_head, memory};
use crate::report::{MustBe, Report};
use crate::stats::median;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Hosted versions in the checkpoint
    #[arg(long, default_value_t = 100_000)]
    versions: usize,
    /// Crates that they are versions of
    #[arg(long, default_value_t = 5_000)]
    crates: usize,
    /// How long every request to the store takes, in milliseconds
    #[arg(long, value_delimiter = ',', default_value = "0,20")]
    latency_ms: Vec<u64>,
    /// Starts at each latency
    #[arg(long, default_value_t = 3)]
    starts: usize,
}

/// What one start showed.
#[derive(Debug, Serialize)]
struct Outcome {
    latency_ms: u64,
    /// From the start of the process until its store has passed the self-test, until the checkpoint
    /// is loaded, and until its probe says that it is ready.
    tried_seconds: f64,
    loaded_seconds: f64,
    ready_seconds: f64,
    /// CPU time until then.
    cpu_seconds: f64,
    /// Resident at that moment, and once the start's work has been put away, in MB (10^6 bytes).
    ready_mb: f64,
    settled_mb: f64,
    /// The most that was resident until then.
    peak_mb: f64,
}

const COLUMNS: &[&str] =
    &["latency ms", "tried s", "loaded s", "ready s", "CPU s", "ready MB", "settled MB", "peak MB"];

/// The promised numbers, which are for this many versions.
const BOUND_VERSIONS: usize = 100_000;
const READY_SECONDS: f64 = 5.0;
const RESIDENT_MB: f64 = 150.0;

/// After this time without anything to do, memory counts as settled.
const SETTLING: Duration = Duration::from_secs(3);

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("start", options, COLUMNS)?;
    let store = MemoryS3::start();
    let mut journal = Journal::found(&store);
    journal.publish(options.versions, options.crates);
    let builder = Gateway::builder().certificate(&Authority::new()).s3(&store.bucket());
    let writing = Instant::now();
    let path = builder.clone().prepare().cli_ok(&["checkpoint"]);
    let bytes = store.bucket().get(&path).len();
    report.note(format!(
        "The checkpoint of {} versions in {} entries has {:.1} MB; `cratehouse checkpoint`, which \
         reads the whole journal, took {:.1} s.",
        options.versions,
        journal.head(),
        bytes as f64 / 1e6,
        writing.elapsed().as_secs_f64(),
    ));
    for &latency_ms in &options.latency_ms {
        store.set_latency(Duration::from_millis(latency_ms));
        let mut outcomes = Vec::new();
        for _ in 0..options.starts {
            let outcome = start(options, builder.clone(), latency_ms, journal.head())?;
            report.row(outcome.cells(), &outcome)?;
            outcomes.push(outcome);
        }
        if options.versions >= BOUND_VERSIONS {
            bound(&mut report, latency_ms, &outcomes);
        }
    }
    Ok(report)
}

fn start(options: &Options, builder: Builder, latency_ms: u64, entries: u64) -> Result<Outcome> {
    let mut gateway = builder.prepare();
    let begun = Instant::now();
    gateway.spawn();
    let said = |text: &str| {
        until(text, || gateway.log_contains(text));
        begun.elapsed().as_secs_f64()
    };
    let (tried, loaded) = (said("the store behaves"), said(" loaded ("));
    gateway.await_ready();
    let ready = begun.elapsed();
    let (pid, at_once) = (gateway.pid(), memory(gateway.pid())?);
    let cpu = cpu_time(pid)?;
    let settling = Instant::now();
    until("its memory has settled", || settling.elapsed() > SETTLING);
    let settled = memory(pid)?;
    check(options, &gateway, entries)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let Memory { resident, peak } = at_once;
    Ok(Outcome {
        latency_ms,
        tried_seconds: tried,
        loaded_seconds: loaded,
        ready_seconds: ready.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        ready_mb: mb(resident),
        settled_mb: mb(settled.resident),
        peak_mb: mb(peak),
    })
}

/// That it came from the checkpoint, and holds what is in it.
fn check(options: &Options, gateway: &Gateway, entries: u64) -> Result<()> {
    let head = journal_head(gateway)?;
    let loaded = gateway.metric("cratehouse_checkpoints_total", &[("event", "loaded")]);
    let client = gateway.client();
    let last = options.crates.min(options.versions) - 1;
    let lines = |nth: usize| client.get(&format!("/index/{}", journal::path(nth))).lines().len();
    let expected = |nth: usize| (options.versions - nth).div_ceil(options.crates);
    let whole = [0, last].into_iter().all(|nth| lines(nth) == expected(nth));
    match (head, loaded, whole) {
        (head, 1.0, true) if head == entries => Ok(()),
        _ => Err(format!(
            "the replica stands at entry {head} of {entries}, with {loaded} checkpoints loaded; \
             index files whole: {whole}"
        )
        .into()),
    }
}

/// The median start decides about the time, because others use the machine too; about memory
/// the largest.
fn bound(report: &mut Report, latency_ms: u64, outcomes: &[Outcome]) {
    let at = format!("at {latency_ms} ms");
    let ready = median(outcomes.iter().map(|one| one.ready_seconds));
    report.bound(format!("seconds of a start {at}, median"), ready, MustBe::Below(READY_SECONDS));
    let resident = outcomes.iter().map(|one| one.ready_mb.max(one.settled_mb));
    let most = resident.fold(f64::NAN, f64::max);
    report.bound(
        format!("MB resident after it {at}, at the most"),
        most,
        MustBe::Below(RESIDENT_MB),
    );
}

impl Outcome {
    fn cells(&self) -> Vec<String> {
        vec![
            self.latency_ms.to_string(),
            format!("{:.2}", self.tried_seconds),
            format!("{:.2}", self.loaded_seconds),
            format!("{:.2}", self.ready_seconds),
            format!("{:.2}", self.cpu_seconds),
            format!("{:.1}", self.ready_mb),
            format!("{:.1}", self.settled_mb),
            format!("{:.1}", self.peak_mb),
        ]
    }
}
