//! `policy …`: what a policy says of a lock file, for people and for CI.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{PolicyCheck, PolicyCommand, PolicyDiff, PolicyWaivers};
use crate::config::Config;
use crate::flows::access::reader::Reader;
use crate::flows::open::{Keep, Running, advisories_in};
use crate::flows::policy::store::try_policy;
use crate::flows::policy::trying::{Trial, advised};
use crate::flows::registry::policy_check::{Allowance, Reach};
use crate::flows::store::founded;
use crate::stores::policy_files;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::console::tell;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::progress::Progress;
use cratehouse_core::threads::aside;
use cratehouse_policy::PolicyGeneration;
use cratehouse_policy::{Outcome, Report, Waivers};
use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;

use super::remote::{Server, path};

/// What says to a script: something is denied.
const DENIED: u8 = 1;
/// What says to a script: whatever went wrong, this is no verdict.
const NOT_JUDGED: u8 = 2;

/// Does it. Whatever goes wrong is one status of its own, so that CI can tell it from a verdict.
pub(super) async fn run(
    config: &Arc<Config>,
    command: &PolicyCommand,
    server: Option<&Server>,
) -> ExitCode {
    let answer = match command {
        PolicyCommand::Check(what) => check(config, what, server).await,
        PolicyCommand::Diff(what) => diff(config, what, server).await,
        PolicyCommand::Waivers(what) => waivers(config, what, server).await,
    };
    answer.unwrap_or_else(|e| {
        tell(&format!("error: {}", e.chain()));
        ExitCode::from(NOT_JUDGED)
    })
}

async fn check(
    config: &Arc<Config>,
    what: &PolicyCheck,
    server: Option<&Server>,
) -> Result<ExitCode> {
    let reports = match (server, &what.policy) {
        (None, dir) => {
            let policy = tried(config, dir.as_deref().or(config.policy.dir.as_deref())).await?;
            judged(config, &what.lock, vec![policy], what.fetch).await?
        }
        // By the policy in force there.
        (Some(server), None) if what.fetch => return Err(fetching_by_the_policy_in_force(server)),
        (Some(server), None) => {
            vec![server.post_text("/api/v1/policy/check", locked(&what.lock)?).await?]
        }
        (Some(server), Some(dir)) => tried_there(server, &what.lock, &[dir], what.fetch).await?,
    };
    let [report] = reports.as_slice() else { return Ok(ExitCode::from(NOT_JUDGED)) };
    print(report, what.json)?;
    Ok(status(report.outcome))
}

async fn diff(
    config: &Arc<Config>,
    what: &PolicyDiff,
    server: Option<&Server>,
) -> Result<ExitCode> {
    let reports = match server {
        None => {
            let policies =
                vec![tried(config, Some(&what.old)).await?, tried(config, Some(&what.new)).await?];
            judged(config, &what.lock, policies, what.fetch).await?
        }
        Some(server) => {
            tried_there(server, &what.lock, &[&what.old, &what.new], what.fetch).await?
        }
    };
    let [old, new] = reports.as_slice() else { return Ok(ExitCode::from(NOT_JUDGED)) };
    let diff = old.to(new);
    print(&diff, what.json)?;
    Ok(status(diff.outcome))
}

/// Needs neither the store nor an upstream; of a folder here, no server either.
async fn waivers(
    config: &Arc<Config>,
    what: &PolicyWaivers,
    server: Option<&Server>,
) -> Result<ExitCode> {
    let waivers = match (server, &what.policy) {
        (Some(server), None) => server.get("/api/v1/policy/waivers").await?,
        (_, dir) => {
            let policy = tried(config, dir.as_deref().or(config.policy.dir.as_deref())).await?;
            Waivers::of(policy.policy.waivers(), Timestamp::now())
        }
    };
    print(&waivers, what.json)?;
    Ok(ExitCode::SUCCESS)
}

/// The reports of a server on policies that are here.
async fn tried_there(
    server: &Server,
    lock: &Path,
    folders: &[&PathBuf],
    fetch: bool,
) -> Result<Vec<Report>> {
    let texts = |folder: &&PathBuf| policy_files::read(folder).map(|files| files.texts);
    let policies = folders.iter().map(texts).collect::<Result<_, _>>().map_err(Error::invalid)?;
    let trial = Trial { lock: locked(lock)?, policies, fetch };
    server.work(Method::POST, &path(&["policy", "try"], &[])?, Some(&trial)).await
}

fn locked(lock: &Path) -> Result<String> {
    let refuse = |e| Error::invalid(format!("{} cannot be read: {e}", lock.display()));
    fs::read_to_string(lock).map_err(refuse)
}

fn fetching_by_the_policy_in_force(server: &Server) -> Error {
    Error::invalid(format!(
        "`--fetch` does not go with the policy in force at {}: fill its mirror first (`cratehouse prefetch --lock \
         Cargo.lock --server …`), or name a policy (`--policy`)",
        server.url()
    ))
}

async fn tried(config: &Arc<Config>, dir: Option<&Path>) -> Result<PolicyGeneration> {
    let (config, dir) = (Arc::clone(config), dir.map(PathBuf::from));
    aside(move || try_policy(&config, dir.as_deref())).await?
}

/// The reports of some policies, by the index files that a server over the same store would use.
async fn judged(
    config: &Arc<Config>,
    lock: &Path,
    policies: Vec<PolicyGeneration>,
    fetch: bool,
) -> Result<Vec<Report>> {
    let lock = locked(lock)?;
    let mut config = Config::clone(config);
    config.policy.dir = None; // the policy in force has no say here, and may be broken
    let (url, voice) = (config.url_for(config.server.listen), config.log.format);
    let objects = founded::open_existing(&config)?;
    let running = Running::open(Arc::new(config), url, Keep::Memory).await?;
    let policies = match advised(&advisories_in(&objects), policies).await {
        Ok(policies) => policies,
        Err(error) => {
            super::close(running).await;
            return Err(error);
        }
    };
    let judging = Progress::begin("judging packages", voice);
    let reach = Reach::Upstreams(Reader::Own(ClientKey::Exempt));
    let tick = |done: usize, total: usize| judging.tick(done as u64, Some(total as u64));
    let (gateway, allowance) = (&running.gateway, Allowance::of_command(fetch));
    let reports = gateway.checks.check(&reach, &lock, &policies, &allowance, tick).await;
    super::close(running).await;
    reports
}

fn print(answer: &(impl Serialize + Display), json: bool) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(answer).map_err(Error::internal)?,
        false => answer.to_string(),
    };
    super::print(&text) // a reader that has seen enough may leave: the status still tells
}

fn status(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Denied => ExitCode::from(DENIED),
        Outcome::Unknown => ExitCode::from(NOT_JUDGED),
    }
}
