//! Benchmarks of the gateway: real processes of the `dist` binary, clients that speak HTTP, and
//! an S3 server in this process whose latency can be chosen. Each run prints a table, says which
//! of the project's bounds hold, and writes JSON on demand. README.md says what the numbers mean.

#![allow(clippy::disallowed_macros, reason = "it is read by whoever runs it")]

mod chart;
mod corpus;
mod crowd;
mod h2load;
mod handshakes;
mod journal;
mod nginx;
mod origin;
mod process;
mod report;
mod runs;
mod site;
mod stats;
mod tools;
mod visitor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Report;

/// What may go wrong in a measurement: it is told, and nothing is measured.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// A bound does not hold.
const BOUND_BROKEN: u8 = 1;
/// There is no result.
const FAILED: u8 = 2;

/// Measures the gateway. Ends with status 1 when a bound does not hold, and 2 when there is no
/// result.
#[derive(Debug, Parser)]
#[command(name = "cratehouse-bench")]
struct Cli {
    #[command(subcommand)]
    run: Run,
    /// Also write the results to this file
    #[arg(long, global = true, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Also write the tables to this file, in Markdown
    #[arg(long, global = true, value_name = "PATH")]
    markdown: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Publishes a second, by publishers, replicas and the store's latency
    Publishes(runs::publishes::Options),
    /// The start of a replica on an empty disk, from a checkpoint of many versions
    Start(runs::start::Options),
    /// Index lookups per CPU second, with and without following the journal
    Lookups(runs::lookups::Options),
    /// What policies cost: the first verdicts on an index file, and a lookup afterwards
    Policies(runs::policies::Options),
    /// Index files that the gateway does not have, and hits while such misses wait
    Misses(runs::misses::Options),
    /// What a warm lookup costs as files, versions and connections grow; a small cache
    Growth(runs::growth::Options),
    /// The real cargo, many processes at once, warm and cold
    Cargo(runs::cargo::Options),
    /// Beside nginx with the same files: requests a second, waits, CPU time, memory
    Compare(runs::compare::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if corpus::profile().is_ok_and(|profile| !profile.ends_with("dist")) {
        eprintln!("run it with `--profile dist`: the bounds are those of that build");
    }
    match cli.measure() {
        Ok(report) if report.holds() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(BOUND_BROKEN),
        Err(e) => {
            eprintln!("nothing was measured: {e}");
            ExitCode::from(FAILED)
        }
    }
}

impl Cli {
    fn measure(&self) -> Result<Report> {
        let report = match &self.run {
            Run::Publishes(options) => runs::publishes::measure(options)?,
            Run::Start(options) => runs::start::measure(options)?,
            Run::Lookups(options) => runs::lookups::measure(options)?,
            Run::Policies(options) => runs::policies::measure(options)?,
            Run::Misses(options) => runs::misses::measure(options)?,
            Run::Growth(options) => runs::growth::measure(options)?,
            Run::Cargo(options) => runs::cargo::measure(options)?,
            Run::Compare(options) => runs::compare::measure(options)?,
        };
        print!("{report}");
        if let Some(path) = &self.json {
            report.write(path)?;
        }
        if let Some(path) = &self.markdown {
            report.write_markdown(path)?;
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
