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
use crate::flows::policy::advisories::kept;
use crate::flows::policy::store::try_policy;
use crate::flows::registry::policy_check::{Allowance, Reach};
use crate::flows::store::founded;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::console::tell;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::progress::Progress;
use cratehouse_core::threads::aside;
use cratehouse_policy::PolicyGeneration;
use cratehouse_policy::{Outcome, Report, Waivers};
use cratehouse_storage::objects::Objects;
use jiff::Timestamp;
use serde::Serialize;

/// What says to a script: something is denied.
const DENIED: u8 = 1;
/// What says to a script: whatever went wrong, this is no verdict.
const NOT_JUDGED: u8 = 2;

/// Does it. Whatever goes wrong is one status of its own, so that CI can tell it from a verdict.
pub(super) async fn run(config: &Arc<Config>, command: &PolicyCommand) -> ExitCode {
    let answer = match command {
        PolicyCommand::Check(what) => check(config, what).await,
        PolicyCommand::Diff(what) => diff(config, what).await,
        PolicyCommand::Waivers(what) => waivers(config, what).await,
    };
    answer.unwrap_or_else(|e| {
        tell(&format!("error: {}", e.chain()));
        ExitCode::from(NOT_JUDGED)
    })
}

async fn check(config: &Arc<Config>, what: &PolicyCheck) -> Result<ExitCode> {
    let policy = tried(config, what.policy.as_deref().or(config.policy.dir.as_deref())).await?;
    let reports = judged(config, &what.lock, vec![policy], what.fetch).await?;
    let [report] = reports.as_slice() else { return Ok(ExitCode::from(NOT_JUDGED)) };
    print(report, what.json)?;
    Ok(status(report.outcome))
}

async fn diff(config: &Arc<Config>, what: &PolicyDiff) -> Result<ExitCode> {
    let policies =
        vec![tried(config, Some(&what.old)).await?, tried(config, Some(&what.new)).await?];
    let reports = judged(config, &what.lock, policies, what.fetch).await?;
    let [old, new] = reports.as_slice() else { return Ok(ExitCode::from(NOT_JUDGED)) };
    let diff = old.to(new);
    print(&diff, what.json)?;
    Ok(status(diff.outcome))
}

/// Needs neither the store nor an upstream.
async fn waivers(config: &Arc<Config>, what: &PolicyWaivers) -> Result<ExitCode> {
    let dir = what.policy.as_deref().or(config.policy.dir.as_deref());
    let policy = tried(config, dir).await?;
    print(&Waivers::of(policy.policy.waivers(), Timestamp::now()), what.json)?;
    Ok(ExitCode::SUCCESS)
}

async fn tried(config: &Arc<Config>, dir: Option<&Path>) -> Result<PolicyGeneration> {
    let (config, dir) = (Arc::clone(config), dir.map(PathBuf::from));
    aside(move || try_policy(&config, dir.as_deref())).await?
}

/// The same policies with the advisories that the store keeps, where the configuration names none.
async fn advised(
    objects: &Objects,
    mut policies: Vec<PolicyGeneration>,
) -> Result<Vec<Arc<PolicyGeneration>>> {
    let lacks = |by: &PolicyGeneration| by.policy.wants_advisories() && by.advisories.is_none();
    if policies.iter().any(lacks) {
        let kept = kept(&advisories_in(objects)).await?.map(|kept| kept.advisories);
        policies.iter_mut().filter(|by| lacks(by)).for_each(|by| by.advisories.clone_from(&kept));
    }
    Ok(policies.into_iter().map(Arc::new).collect())
}

/// The reports of some policies, by the index files that a server over the same store would use.
async fn judged(
    config: &Arc<Config>,
    lock: &Path,
    policies: Vec<PolicyGeneration>,
    fetch: bool,
) -> Result<Vec<Report>> {
    let refuse = |e| Error::invalid(format!("{} cannot be read: {e}", lock.display()));
    let lock = fs::read_to_string(lock).map_err(refuse)?;
    let mut config = Config::clone(config);
    config.policy.dir = None; // the policy in force has no say here, and may be broken
    let (url, voice) = (config.url_for(config.server.listen), config.log.format);
    let objects = founded::open_existing(&config)?;
    let running = Running::open(Arc::new(config), url, Keep::Memory).await?;
    let policies = match advised(&objects, policies).await {
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
