//! What policies cost: the first verdicts on an index file, and a lookup afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cratehouse_tests::gateway::{Gateway, UpstreamConfig};
use cratehouse_tests::patience::until;
use cratehouse_tests::upstream::{Answer, Upstream};
use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Runtime;

use self::files::{SORTS, Sort};
use self::rules::{Lists, POLICIES, Policy, alter, write_advisories};
use crate::Result;
use crate::crowd::look_up;
use crate::process::Threads;
use crate::report::{MustBe, Report};
use crate::stats::median;
use crate::visitor::Visitor;

mod files;
mod rules;

/// What is measured.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Options {
    /// Advisories in the database
    #[arg(long, default_value_t = 3000)]
    advisories: usize,
    /// Bans of the policy with every rule, and as many allows
    #[arg(long, default_value_t = 200)]
    bans: usize,
    /// Its exceptions from the age, and as many waivers
    #[arg(long, default_value_t = 20)]
    exceptions: usize,
    /// How often each file is judged, fetched and in memory
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections of those who look up
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests under way on each
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// How long each case of a round of warm lookups takes, in milliseconds
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Rounds of warm lookups; each has every case once
    #[arg(long, default_value_t = 24)]
    warm_rounds: usize,
}

/// What was measured of one sort of file under one policy. Times are CPU times of the gateway.
#[derive(Debug, Serialize)]
struct Outcome {
    file: &'static str,
    policy: Policy,
    versions: usize,
    /// Versions that appear as yanked.
    hidden: usize,
    gzip_bytes: usize,
    /// Of a lookup that fetches the file, in milliseconds.
    fetched_ms: Vec<f64>,
    /// Of the first lookup under another policy, in milliseconds.
    judged_ms: Vec<f64>,
    /// Of a warm lookup, in microseconds, by round.
    warm_us: Vec<f64>,
    /// Warm lookups in all.
    lookups: usize,
    /// What a warm lookup costs in per cent of one without a policy: the median of the rounds.
    warm_per_cent: f64,
}

const COLUMNS: &[&str] = &[
    "file",
    "policy",
    "versions",
    "hidden",
    "gzip kB",
    "fetched ms",
    "judged ms",
    "warm µs",
    "% of none",
];

/// The promised number: a warm lookup is as cheap as without a policy, but for noise.
const WARM_PER_CENT: f64 = 110.0;

/// So long that nothing is revalidated meanwhile.
const FRESH_SECONDS: u32 = 3600;
/// How often a gateway looks for changes of its policy: by default, and while warm lookups are
/// measured, which are not to be charged with that.
const WATCHING: &str = "reload_seconds = 2";
const NOT_WATCHING: &str = "reload_seconds = 3600";
/// For how long nobody asks, to see what looking for changes of the policy costs.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::begin("policies", options, COLUMNS)?;
    let mut bench = Bench::new(options)?;
    let mut outcomes = bench.fetch()?;
    bench.judge(&mut outcomes)?;
    for (policy, ms) in bench.idle()? {
        let label = policy.label();
        report.note(format!("With nobody asking, policy {label}: {ms:.1} CPU ms a second."));
    }
    bench.servers.iter_mut().for_each(TestGateway::watch_no_more);
    bench.warm(&mut outcomes)?;
    for outcome in &outcomes {
        report.row(outcome.cells(), outcome)?;
        if outcome.policy != Policy::None {
            let (file, policy) = (outcome.file, outcome.policy.label());
            let what = format!("% of a warm lookup without policy: {file}, {policy}");
            report.bound(what, outcome.warm_per_cent, MustBe::AtMost(WARM_PER_CENT));
        }
    }
    Ok(report)
}

/// An upstream, and a gateway in front of it for every policy.
struct Bench<'a> {
    options: &'a Options,
    servers: Vec<TestGateway>,
    runtime: Runtime,
    _upstream: Upstream,
}

/// A gateway with its policy.
struct TestGateway {
    policy: Policy,
    gateway: Gateway,
    visitors: Vec<Visitor>,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let (upstream, now) = (Upstream::start(), Timestamp::now());
        for (sort, round) in
            SORTS.iter().flat_map(|sort| (0..options.rounds).map(move |r| (sort, r)))
        {
            let (path, file) = (format!("/index/{}", sort.path(round)), sort.file(round, now));
            upstream.set(|switches| _ = switches.paths.insert(path, Answer::Bytes(file)));
        }
        let servers =
            POLICIES.into_iter().map(|policy| TestGateway::new(options, policy, &upstream));
        let (servers, runtime) = (servers.collect::<Result<Vec<_>>>()?, Runtime::new()?);
        for visitor in servers.iter().flat_map(|server| &server.visitors) {
            runtime.block_on(visitor.greet())?;
        }
        Ok(Self { options, servers, runtime, _upstream: upstream })
    }

    /// Every file is fetched once by every gateway. What was fetched is looked at: whether the
    /// policies say what they are meant to.
    fn fetch(&self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for sort in &SORTS {
            for server in &self.servers {
                let mut outcome = Outcome::of(sort, server.policy);
                for round in 0..self.options.rounds {
                    let (used, bytes) = self.one_lookup(server, &sort.path(round))?;
                    outcome.fetched_ms.push(used.as_secs_f64() * 1e3);
                    outcome.gzip_bytes = bytes;
                }
                outcome.hidden = server.hidden(sort);
                let quiet = sort.harmless || server.policy == Policy::None;
                if quiet != (outcome.hidden == 0) {
                    return Err(format!("versions hidden by mistake, or not: {outcome:?}").into());
                }
                eprintln!("policies: {}, {}: fetched", sort.label, server.policy.label());
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    /// Each file is judged anew because the policy is another one.
    fn judge(&self, outcomes: &mut [Outcome]) -> Result<()> {
        let [canary, measured @ ..] = &SORTS;
        for (round, server) in (0..self.options.rounds)
            .flat_map(|round| self.servers.iter().map(move |server| (round, server)))
            .filter(|(_, server)| server.policy != Policy::None)
        {
            let (version, verdicts) = (server.policy_version(), server.verdicts());
            alter(&server.policy_folder(), round)?;
            until("another policy is in force", || server.policy_version() != version);
            // The metric is set a moment before the policy is in force.
            let canary = format!("/index/{}", canary.path(0));
            let client = server.gateway.client();
            until("files are judged anew", || {
                client.get(&canary).assert_status(200);
                server.verdicts() > verdicts
            });
            for sort in measured {
                let before = server.verdicts();
                let (used, _) = self.one_lookup(server, &sort.path(0))?;
                if server.verdicts() - before != sort.versions() as f64 {
                    return Err(format!("{} was not judged once", sort.label).into());
                }
                let mine = |one: &&mut Outcome| one.is(sort, server.policy);
                if let Some(outcome) = outcomes.iter_mut().find(mine) {
                    outcome.judged_ms.push(used.as_secs_f64() * 1e3);
                }
            }
        }
        eprintln!("policies: judged");
        Ok(())
    }

    /// Cases take turns, so that what else the machine does meets all of them.
    fn warm(&self, outcomes: &mut [Outcome]) -> Result<()> {
        let length = Duration::from_millis(self.options.millis);
        for round in 0..=self.options.warm_rounds {
            let turns = self.servers.iter().cycle().skip(round % self.servers.len());
            let turns: Vec<_> = turns.take(self.servers.len()).collect();
            for (sort, server) in
                SORTS.iter().flat_map(|sort| turns.iter().map(move |server| (sort, server)))
            {
                let paths = Arc::new((0..self.options.rounds).map(|nth| sort.path(nth)).collect());
                let asking = look_up(&server.visitors, self.options.streams, &paths, length);
                let before = server.threads()?;
                let lookups = self.runtime.block_on(asking)?;
                let used = server.threads()?.since(&before);
                let mine = |one: &&mut Outcome| one.is(sort, server.policy) && round > 0;
                if let Some(outcome) = outcomes.iter_mut().find(mine) {
                    outcome.warm_us.push(used.as_secs_f64() * 1e6 / lookups as f64);
                    outcome.lookups += lookups;
                }
            }
            eprintln!("policies: warm lookups, round {round} of {}", self.options.warm_rounds);
        }
        compare(outcomes);
        Ok(())
    }

    /// CPU milliseconds that every gateway uses in a second when nobody asks.
    fn idle(&self) -> Result<Vec<(Policy, f64)>> {
        let threads = || self.servers.iter().map(TestGateway::threads).collect::<Result<Vec<_>>>();
        let before = threads()?;
        self.runtime.block_on(async { tokio::time::sleep(IDLE).await });
        let used = threads()?.into_iter().zip(before).map(|(now, before)| now.since(&before));
        let per_second = used.map(|used| used.as_secs_f64() * 1e3 / IDLE.as_secs_f64());
        Ok(self.servers.iter().map(|server| server.policy).zip(per_second).collect())
    }

    /// The CPU time of a single lookup, and the size of what came.
    fn one_lookup(&self, server: &TestGateway, path: &str) -> Result<(Duration, usize)> {
        let visitor = server.visitors.first().ok_or("there is nobody who asks")?;
        let before = server.threads()?;
        let bytes = self.runtime.block_on(visitor.index(path))?;
        Ok((server.threads()?.since(&before), bytes))
    }
}

/// Each round with the same round without a policy.
fn compare(outcomes: &mut [Outcome]) {
    let none: Vec<_> = outcomes
        .iter()
        .filter(|one| one.policy == Policy::None)
        .map(|one| (one.file, one.warm_us.clone()))
        .collect();
    for outcome in outcomes {
        let without = none.iter().filter(|(file, _)| *file == outcome.file).flat_map(|(_, us)| us);
        let ratios = outcome.warm_us.iter().zip(without).map(|(with, without)| with / without);
        outcome.warm_per_cent = 100.0 * median(ratios);
    }
}

impl TestGateway {
    fn new(options: &Options, policy: Policy, upstream: &Upstream) -> Result<Self> {
        let upstream = UpstreamConfig::from(upstream).fresh_seconds(FRESH_SECONDS);
        let mut builder = Gateway::builder().upstream(upstream).set("cache", "index_mib = 1024");
        if policy != Policy::None {
            builder = builder.set("policy", "dir = \"policies\"");
            builder = builder.set("policy", "advisories = \"advisories\"");
            builder = builder.set("policy", WATCHING);
        }
        let mut server = Self { policy, gateway: builder.prepare(), visitors: Vec::new() };
        let lists = Lists { bans: options.bans, exceptions: options.exceptions };
        policy.write(&server.policy_folder(), lists)?;
        let database = server.gateway.folder().join("advisories");
        write_advisories(&database, options.advisories, options.rounds)?;
        server.gateway.start_again();
        let known = server.gateway.metric("cratehouse_policy_advisories", &[]);
        if policy != Policy::None && known < options.advisories as f64 {
            return Err(format!("{known} advisories are known").into());
        }
        let visitors = (0..options.connections).map(|_| Visitor::of(&server.gateway));
        server.visitors = visitors.collect::<Result<Vec<_>>>()?;
        Ok(server)
    }

    /// Starts it again, to look for changes of its policy hardly ever.
    fn watch_no_more(&mut self) {
        self.gateway.reconfigure(|text| text.replace(WATCHING, NOT_WATCHING));
        self.gateway.restart();
    }

    fn policy_folder(&self) -> PathBuf {
        self.gateway.folder().join("policies")
    }

    fn threads(&self) -> Result<Threads> {
        Threads::of(self.gateway.pid())
    }

    /// How many versions of the first crate of a sort appear as yanked.
    fn hidden(&self, sort: &Sort) -> usize {
        let path = format!("/index/{}", sort.path(0));
        let file = self.gateway.client().get(&path).assert_status(200).text();
        file.matches("\"yanked\":true").count()
    }

    /// The series that tells the policy's version.
    fn policy_version(&self) -> Option<String> {
        let metrics = self.gateway.admin().get("/metrics").assert_status(200).text();
        let mut lines = metrics.lines();
        lines.find(|line| line.starts_with("cratehouse_policy_info{")).map(str::to_owned)
    }

    fn verdicts(&self) -> f64 {
        self.gateway.metric("cratehouse_policy_verdicts_total", &[])
    }
}

impl Outcome {
    fn of(sort: &Sort, policy: Policy) -> Self {
        Self {
            file: sort.label,
            policy,
            versions: sort.versions(),
            hidden: 0,
            gzip_bytes: 0,
            fetched_ms: Vec::new(),
            judged_ms: Vec::new(),
            warm_us: Vec::new(),
            lookups: 0,
            warm_per_cent: f64::NAN,
        }
    }

    fn is(&self, sort: &Sort, policy: Policy) -> bool {
        self.file == sort.label && self.policy == policy
    }

    fn cells(&self) -> Vec<String> {
        let middle = |all: &[f64]| match all {
            [] => "-".to_owned(),
            all => format!("{:.1}", median(all.iter().copied())),
        };
        vec![
            self.file.to_owned(),
            self.policy.label().to_owned(),
            self.versions.to_string(),
            self.hidden.to_string(),
            format!("{:.1}", self.gzip_bytes as f64 / 1e3),
            middle(&self.fetched_ms),
            middle(&self.judged_ms),
            middle(&self.warm_us),
            format!("{:.1}", self.warm_per_cent),
        ]
    }
}
