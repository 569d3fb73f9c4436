//! What a warm lookup costs as the work grows: with the index files in memory, with the hosted
//! versions, and with the connections. And a large index that is walked through a small cache.

use std::collections::BTreeMap;
use std::thread;

use clap::Args;
use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::patience::until;
use serde::Serialize;

use crate::Result;
use crate::h2load::Load;
use crate::process::{Threads, memory};
use crate::report::{MustBe, Report};
use crate::stats::median;

mod connections;
mod files;
mod versions;
mod walk;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Index files in memory, all of them mirrored and asked for; the largest number is walked, too
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000,250000")]
    files: Vec<usize>,
    /// Hosted versions, each of a crate of its own, of which one is asked for
    #[arg(long, value_delimiter = ',', default_value = "1,1000,100000")]
    versions: Vec<usize>,
    /// Connections
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,1000")]
    connections: Vec<usize>,
    /// Requests of each case in a round
    #[arg(long, default_value_t = 40_000)]
    requests: u64,
    /// Rounds; each has every case of its kind once
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How long each number of connections is measured in a round, in milliseconds
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// The memory for index files (`cache.index_mib`) in which the largest index is walked
    #[arg(long, default_value_t = 64)]
    walk_mib: u64,
}

/// One size, measured.
#[derive(Debug, Serialize)]
struct Outcome {
    /// What grows.
    axis: String,
    count: usize,
    /// CPU time of the gateway for a request, in microseconds, by round.
    cpu_us: Vec<f64>,
    /// That in terms of the same round of the smallest size, per cent: the median.
    per_cent: f64,
    resident_mb: f64,
}

const COLUMNS: &[&str] =
    &["what grows", "count", "CPU µs each", "% of the smallest", "resident MB", "from memory %"];

/// The promised numbers: what a request costs at any size, in terms of the smallest, and what a
/// gateway that has done nothing yet holds.
const FLAT_PER_CENT: f64 = 110.0;
const IDLE_MB: f64 = 64.0;

/// Who asks: some h2loads, so that not all connections go round the same paths at the same time.
const DRIVERS: usize = 4;
const LOAD_CONNECTIONS: usize = 2;
/// Paths that each of them goes round in a run.
const PATHS: usize = 5_000;

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("growth", options, COLUMNS)?;
    let mut fresh = Gateway::builder().start();
    idle(&mut report, &fresh)?;
    fresh.stop();
    let files = files::measure(options, &mut report)?;
    if let Some(largest) = files {
        walk::measure(options, largest, &mut report)?;
    }
    versions::measure(options, &mut report)?;
    connections::measure(options, &mut report)?;
    Ok(report)
}

/// A gateway as it is configured by default, before anybody asks it anything.
fn idle(report: &mut Report, fresh: &Gateway) -> Result<()> {
    let resident = settled_mb(fresh)?;
    let cells = ["nothing yet", "-", "-", "-", &format!("{resident:.1}"), "-"];
    report.row(cells.map(str::to_owned).into(), &BTreeMap::from([("idle_mb", resident)]))?;
    report.bound("MB resident, idle", resident, MustBe::Below(IDLE_MB));
    Ok(())
}

/// What is resident once the last work has been put away, in MB.
fn settled_mb(gateway: &Gateway) -> Result<f64> {
    let begun = std::time::Instant::now();
    until("its memory has settled", || begun.elapsed() > SETTLING);
    Ok(memory(gateway.pid())?.resident as f64 / 1e6)
}

/// After this time without anything to do, memory counts as settled.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(3);

/// A gateway of one size, with all that it is asked for.
#[derive(Debug)]
struct Size {
    count: usize,
    gateway: Gateway,
    paths: Vec<String>,
}

impl Size {
    /// Asks so many times, going round some of the paths, others in each round. Gives the CPU time
    /// of a request, in microseconds.
    fn ask(&self, requests: u64, round: usize) -> Result<f64> {
        let (before, url) = (Threads::of(self.gateway.pid())?, &self.gateway.url());
        let each = requests / DRIVERS as u64;
        thread::scope(|scope| {
            let drivers: Vec<_> = (0..DRIVERS)
                .map(|nth| some_of(&self.paths, round * DRIVERS + nth))
                .map(|paths| scope.spawn(move || load().run(url, &paths, each).map(drop)))
                .collect();
            let crashed = |_| Err("a driver crashed".into());
            drivers.into_iter().try_for_each(|one| one.join().unwrap_or_else(crashed))
        })?;
        let used = Threads::of(self.gateway.pid())?.since(&before);
        Ok(used.as_secs_f64() * 1e6 / (each * DRIVERS as u64) as f64)
    }
}

fn load() -> Load {
    Load { connections: LOAD_CONNECTIONS, ..Load::default() }
}

/// The nth few thousand of all paths, from the beginning again at their end.
fn some_of(paths: &[String], nth: usize) -> Vec<String> {
    let wanted = PATHS.min(paths.len());
    paths.iter().cycle().skip(nth * PATHS % paths.len().max(1)).take(wanted).cloned().collect()
}

/// All sizes take turns, so that what else the machine does meets all of them.
fn take_turns(
    axis: &str,
    counts: &[usize],
    rounds: usize,
    mut ask: impl FnMut(usize, usize) -> Result<f64>,
    resident: impl Fn(usize) -> Result<f64>,
) -> Result<Vec<Outcome>> {
    let mut all = vec![Vec::new(); counts.len()];
    for round in 0..=rounds {
        for turn in 0..counts.len() {
            let nth = (round + turn) % counts.len();
            let cpu_us = ask(nth, round)?;
            if let Some(measured) = all.get_mut(nth).filter(|_| round > 0) {
                measured.push(cpu_us);
            }
        }
        eprintln!("growth: {axis}, round {round} of {rounds}");
    }
    let smallest = all.first().cloned().unwrap_or_default();
    let outcome = |(nth, (count, cpu_us)): (usize, (&usize, Vec<f64>))| {
        let ratios = cpu_us.iter().zip(&smallest).map(|(this, smallest)| this / smallest);
        let per_cent = 100.0 * median(ratios);
        let resident_mb = resident(nth)?;
        Ok(Outcome { axis: axis.to_owned(), count: *count, cpu_us, per_cent, resident_mb })
    };
    counts.iter().zip(all).enumerate().map(outcome).collect()
}

/// Each is told; those that have grown are bounded.
fn tell(report: &mut Report, outcomes: &[Outcome], bounded: bool) -> Result<()> {
    for (nth, outcome) in outcomes.iter().enumerate() {
        report.row(outcome.cells(), outcome)?;
        if nth > 0 && bounded {
            let what = format!("% of the smallest: {} {}", outcome.count, outcome.axis);
            report.bound(what, outcome.per_cent, MustBe::AtMost(FLAT_PER_CENT));
        }
    }
    Ok(())
}

impl Outcome {
    fn cells(&self) -> Vec<String> {
        vec![
            self.axis.clone(),
            self.count.to_string(),
            format!("{:.1}", median(self.cpu_us.iter().copied())),
            format!("{:.1}", self.per_cent),
            format!("{:.1}", self.resident_mb),
            "-".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_paths_follow_each_other_and_begin_again() {
        let paths: Vec<String> = (0..PATHS * 2 + 1).map(|nth| nth.to_string()).collect();
        assert_eq!(some_of(&paths, 1)[..2], ["5000", "5001"]);
        assert_eq!(some_of(&paths, 2)[..2], ["10000", "0"]);
        assert_eq!(some_of(&paths[..1], 7), ["0"]);
    }

    #[test]
    fn sizes_are_compared_round_by_round() {
        let ask = |nth: usize, round: usize| Ok((round * (nth + 1)) as f64);
        let outcomes = take_turns("x", &[1, 10], 3, ask, |_| Ok(1.0)).unwrap();
        assert_eq!(outcomes[0].cpu_us, [1.0, 2.0, 3.0]);
        assert_eq!((outcomes[0].per_cent, outcomes[1].per_cent), (100.0, 200.0));
    }
}
