//! The policy, and the advisories that it asks.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::finding::Finding;
use crate::config::Config;
use crate::flows::open::advisories_in;
use crate::flows::policy::advisories::kept;
use crate::flows::policy::store::{Kept, try_policy};
use crate::stores::advisories::{self, Database};
use cratehouse_core::error::Result;
use cratehouse_core::threads::aside;
use cratehouse_policy::PolicyGeneration;
use cratehouse_policy::{Mode, Policy, WaiverState, Waivers};
use cratehouse_storage::objects::Objects;

/// RustSec has new advisories every week.
const STALE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long the store may take for a question.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads both; the advisories in the store only where no folder of them is configured, as a server does.
///
/// # Errors
/// When the system gives no thread.
pub async fn look(config: &Arc<Config>, objects: Option<&Objects>) -> Result<Vec<Finding>> {
    let owned = Arc::clone(config);
    let policy = aside(move || try_policy(&owned, owned.policy.dir.as_deref())).await?;
    let mut findings = vec![judge(config.policy.dir.is_some(), &policy, Timestamp::now())];
    let wants = policy.is_ok_and(|in_force| in_force.policy.wants_advisories());
    if wants {
        let found = advisories_of(config, objects).await?;
        findings.push(judge_advisories(found, Timestamp::now()));
    }
    Ok(findings)
}

/// An advisory database, as far as it is judged.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where: as a sentence has it.
    pub place: String,
    /// How many advisories it has.
    pub count: usize,
    /// How many files of it cannot be read.
    pub damaged: usize,
    /// When it was the newest there is.
    pub fresh_at: Option<Timestamp>,
}

/// `None`: there is none. A store that does not answer has a finding of its own.
async fn advisories_of(
    config: &Config,
    objects: Option<&Objects>,
) -> Result<Option<Result<Found, String>>> {
    if let Some(path) = config.policy.advisories.clone() {
        let place = path.display().to_string();
        let read = aside(move || advisories::read(&path)).await?;
        let found = read.map(|Database { advisories, damaged, newest, .. }| Found {
            place,
            count: advisories.len(),
            damaged: damaged.count,
            fresh_at: newest,
        });
        return Ok(Some(found.map_err(|e| e.to_string())));
    }
    let Some(objects) = objects else {
        return Ok(Some(Err("the store that keeps them cannot be read".to_owned())));
    };
    let kept = match timeout(PATIENCE, kept(&advisories_in(objects))).await {
        Ok(Ok(kept)) => Ok(kept),
        Ok(Err(e)) => Err(e.chain()),
        Err(_) => Err(format!("the store does not answer within {} s", PATIENCE.as_secs())),
    };
    let found = |kept: Kept| Found {
        place: "the store".to_owned(),
        count: kept.advisories.len(),
        damaged: 0, // told when it is read
        fresh_at: Some(kept.checked),
    };
    Ok(kept.map(|kept| kept.map(found)).transpose())
}

/// Judges a policy, or why there is none.
pub fn judge(is_configured: bool, policy: &Result<PolicyGeneration>, now: Timestamp) -> Finding {
    let policy = match policy {
        Ok(in_force) => &in_force.policy,
        Err(e) => {
            let cure = "mend it and try it with `cratehouse policy check`: a running server keeps the last good one, and a start is refused";
            return Finding::wrong("policy", e.chain(), cure);
        }
    };
    if !is_configured {
        return Finding::fine("policy", "none is configured: everything may enter (`policy.dir`)");
    }
    let version = policy.version();
    let ended = ended_waivers(policy, now);
    if policy.mode() == Mode::Observe {
        let found = format!("policy {version} only observes: nothing is held or denied by it");
        return Finding::mind(
            "policy",
            found,
            "put it in force (`mode = \"enforce\"`) once its findings are as wanted",
        );
    }
    if ended > 0 {
        let found = format!("policy {version} is in force, and {ended} of its waivers have ended");
        return Finding::mind(
            "policy",
            found,
            "renew them or take them out: `cratehouse policy waivers` lists them",
        );
    }
    Finding::fine("policy", format!("policy {version} is in force"))
}

fn ended_waivers(policy: &Policy, now: Timestamp) -> usize {
    let all = Waivers::of(policy.waivers(), now).waivers;
    all.iter().filter(|waiver| waiver.state == WaiverState::Ended).count()
}

/// Judges the advisory database of a policy that wants one.
pub fn judge_advisories(found: Option<Result<Found, String>>, now: Timestamp) -> Finding {
    const CHECK: &str = "advisories";
    let cure = "run `cratehouse advisories fetch`, or have the server do so (`policy.advisories_hours`); where `policy.advisories` names a folder, fetch the RustSec advisory database anew into it";
    let Found { place, count, damaged, fresh_at } = match found {
        None => {
            let found =
                "the policy asks an advisory database, and there is none: those rules say nothing";
            return Finding::wrong(CHECK, found, cure);
        }
        Some(Err(e)) => return Finding::wrong(CHECK, e, cure),
        Some(Ok(found)) => found,
    };
    match fresh_at {
        Some(fresh_at) if now.duration_since(fresh_at) > STALE => Finding::mind(
            CHECK,
            format!(
                "{count} advisories in {place}, which was last known to be new at {fresh_at:.0}"
            ),
            cure,
        ),
        _ if damaged > 0 => Finding::mind(
            CHECK,
            format!("{count} advisories in {place}, and {damaged} files that cannot be read"),
            cure,
        ),
        _ => Finding::fine(CHECK, format!("{count} advisories in {place}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;
    use cratehouse_core::error::Error;
    use cratehouse_policy::PolicyText;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn gravity(text: &str) -> Gravity {
        let files = [PolicyText { name: "p.toml".to_owned(), text: text.to_owned() }];
        let policy = Policy::parse(&files).unwrap();
        judge(true, &Ok(PolicyGeneration { policy, ..PolicyGeneration::default() }), now()).gravity
    }

    #[test]
    fn a_policy_that_does_not_act_is_told() {
        assert_eq!(judge(false, &Ok(PolicyGeneration::default()), now()).gravity, Gravity::Fine);
        assert_eq!(judge(true, &Err(Error::invalid("line 3")), now()).gravity, Gravity::Wrong);
        assert_eq!(gravity("mode = \"observe\""), Gravity::Mind);
        assert_eq!(gravity("mode = \"enforce\""), Gravity::Fine);
    }

    #[test]
    fn advisories_that_are_missing_or_old_are_told() {
        let found = |fresh_at: &str, damaged| Found {
            place: "the store".to_owned(),
            count: 700,
            damaged,
            fresh_at: Some(fresh_at.parse().unwrap()),
        };
        let judged = |found| judge_advisories(found, now()).gravity;
        assert_eq!(judged(None), Gravity::Wrong);
        assert_eq!(judged(Some(Err("gone".to_owned()))), Gravity::Wrong);
        assert_eq!(judged(Some(Ok(found("2026-05-30T00:00:00Z", 0)))), Gravity::Fine);
        assert_eq!(judged(Some(Ok(found("2026-05-30T00:00:00Z", 1)))), Gravity::Mind);
        assert_eq!(judged(Some(Ok(found("2026-04-30T00:00:00Z", 0)))), Gravity::Mind);
    }
}
