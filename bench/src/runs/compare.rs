//! Cratehouse beside nginx, which serves the same bodies as files: the same machine, the same run,
//! the same certificate and TLS settings, in turns.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::cases::Case;
use self::gateways::{Houses, KINDS, Kind};
use self::outcome::{Outcome, compare};
use crate::chart::{Bar, Chart};
use crate::corpus::{Corpus, Source};
use crate::report::{MustBe, Report};
use crate::{Result, tools};

mod cases;
mod gateways;
mod outcome;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    #[command(flatten)]
    corpus: Source,
    /// Rounds; in each, every server has a turn with every case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn takes, in seconds, about
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only the cases whose names begin with this
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Also draw the ratios of CPU time into this file, as SVG
    #[arg(long, value_name = "PATH")]
    plot: Option<PathBuf>,
}

const COLUMNS: &[&str] = &[
    "case",
    "server",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "kB",
    "MB",
    "CPU ratio",
    "rate ratio",
    "p99 ratio",
];

/// What a token and policies may cost.
const MORE_WORK: f64 = 1.1;
/// p99 is no worse, and a tenth is left to noise: one thread that asks and two that answer share two
/// cores, and who waits longest depends on whom the kernel lets run.
const P99_NOISE: f64 = 1.1;
/// Resident when nobody has asked yet, in MB (10^6 bytes).
const IDLE_MB: f64 = 64.0;

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let tools = tools::install()?;
    let mut report = Report::begin("compare", options, COLUMNS)?.using(tools);
    let corpus = Corpus::open(&options.corpus)?;
    eprintln!("compare: {corpus}");
    let registries = Houses::open(&corpus)?;
    let mut cases = cases::all(&corpus, &registries)?;
    cases.retain(|case| options.case.as_ref().is_none_or(|start| case.label.starts_with(start)));
    let outcomes = turns(options, &registries, &cases)?;
    same_work(&outcomes)?;
    for outcome in &outcomes {
        report.row(outcome.cells(), outcome)?;
    }
    judge(&mut report, &cases, &outcomes);
    report.note(format!("Corpus: {corpus}."));
    let idle =
        registries.all.iter().map(|registry| (registry.kind.label(), registry.idle as f64 / 1e6));
    let idle: Vec<_> = idle.map(|(label, mb)| format!("{label} {mb:.0}")).collect();
    report.note(format!("Resident MB when nobody had asked yet: {}.", idle.join(", ")));
    let idle = registries.of(Kind::Gateway)?.idle as f64 / 1e6;
    report.bound("resident MB of an idle gateway", idle, MustBe::Below(IDLE_MB));
    if let Some(path) = &options.plot {
        fs::write(path, chart(&cases, &outcomes).svg())?;
    }
    Ok(report)
}

/// Servers take turns, so that what else the machine does meets all of them; who is first changes
/// with each round.
fn turns(options: &Options, registries: &Houses, cases: &[Case]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in cases {
        let requests = case.calibrated(registries, options.seconds)?;
        let mut own: Vec<_> =
            case.kinds.iter().map(|kind| Outcome::new(case.label, *kind)).collect();
        // The round before the first warms up, and does not count.
        for round in 0..=options.rounds {
            let first = round % own.len();
            own.rotate_left(first);
            for outcome in &mut own {
                let sample = case.turn(registries, registries.of(outcome.server)?, requests)?;
                if round > 0 {
                    outcome.rounds.push(sample);
                }
            }
        }
        own.sort_unstable_by_key(|one| KINDS.iter().position(|kind| *kind == one.server));
        eprintln!("compare: {}: {requests} requests a turn", case.label);
        outcomes.extend(own);
    }
    compare(&mut outcomes);
    Ok(outcomes)
}

/// An error where a server had less to do than another: other bodies, or another cipher. What a
/// policy changes in index files is its own.
fn same_work(outcomes: &[Outcome]) -> Result<()> {
    for own in outcomes.iter().filter(|one| one.server != Kind::Nginx) {
        let nginx = outcomes.iter().find(|one| one.case == own.case && one.server == Kind::Nginx);
        let pairs = nginx.into_iter().flat_map(|nginx| nginx.rounds.iter().zip(&own.rounds));
        for (its, mine) in pairs {
            let bodies = own.server != Kind::Policies && its.body_bytes != mine.body_bytes;
            if bodies || its.agreed != mine.agreed {
                let who = own.server.label();
                return Err(format!("{}: {its:?} of nginx, {mine:?} of {who}", own.case).into());
            }
        }
    }
    Ok(())
}

fn judge(report: &mut Report, cases: &[Case], outcomes: &[Outcome]) {
    for outcome in outcomes {
        let Some(ratios) = &outcome.ratios else { continue };
        let what = |number: &str| {
            let (case, server) = (outcome.case, outcome.server.label());
            format!("{number}, % of {}'s: {case}, {server}", ratios.to.label())
        };
        let Some(limit) = limit(cases, outcome) else { continue };
        let at_most = |ratio: f64| MustBe::AtMost((ratio * 100.0).round());
        report.bound(what("CPU"), ratios.cpu.median * 100.0, at_most(limit));
        if ratios.to == Kind::Nginx {
            report.bound(what("requests/s"), ratios.rate.median * 100.0, MustBe::AtLeast(100.0));
            report.bound(what("p99"), ratios.p99.median * 100.0, at_most(P99_NOISE));
        }
    }
}

/// The most CPU time, as a ratio, that was promised.
fn limit(cases: &[Case], outcome: &Outcome) -> Option<f64> {
    match outcome.server {
        Kind::Nginx => None,
        Kind::Gateway => cases.iter().find(|case| case.label == outcome.case)?.limit,
        Kind::Token | Kind::Policies => Some(MORE_WORK),
    }
}

fn chart(cases: &[Case], outcomes: &[Outcome]) -> Chart {
    let bar = |outcome: &Outcome| {
        let ratios = outcome.ratios.as_ref()?;
        let label = match outcome.server {
            Kind::Nginx | Kind::Gateway => outcome.case.to_owned(),
            Kind::Token => format!("{} with a token (to without)", outcome.case),
            Kind::Policies => format!("{} with policies (to without)", outcome.case),
        };
        let limit = limit(cases, outcome).unwrap_or(1.0);
        Some(Bar { label, value: ratios.cpu.median, limit })
    };
    Chart {
        title: "Server CPU time per request, as a ratio to nginx".to_owned(),
        subtitle: "Less is better; the mark across a bar is its bound".to_owned(),
        bars: outcomes.iter().filter_map(bar).collect(),
    }
}
