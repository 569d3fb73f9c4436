//! The policy, and the advisories that it asks.

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;
use crate::config::Config;
use crate::error::Result;
use crate::flows::rulebook::{InForce, try_policy};
use crate::model::policy::{Mode, Policy, WaiverState, Waivers};
use crate::stores::advisories::{self, Database};

/// RustSec has new advisories every week.
const STALE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Reads both. Blocks.
pub fn look(config: &Config) -> Vec<Finding> {
    let now = Timestamp::now();
    let policy = try_policy(config, config.policy.dir.as_deref());
    let mut findings = vec![judge(config.policy.dir.is_some(), &policy, now)];
    if let Ok(InForce { policy, .. }) = &policy
        && policy.wants_advisories()
    {
        let path = config.policy.advisories.as_deref();
        let database = path.map(|path| advisories::read(path).map_err(|e| e.to_string()));
        findings.push(judge_advisories(database.as_ref(), now));
    }
    findings
}

/// Judges a policy, or why there is none.
pub fn judge(is_configured: bool, policy: &Result<InForce>, now: Timestamp) -> Finding {
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
pub fn judge_advisories(database: Option<&Result<Database, String>>, now: Timestamp) -> Finding {
    const CHECK: &str = "advisories";
    let cure = "fetch the RustSec advisory database anew, and name it in `policy.advisories`";
    let database = match database {
        None => {
            let found = "the policy asks an advisory database, and none is configured: those rules say nothing";
            return Finding::wrong(CHECK, found, cure);
        }
        Some(Err(e)) => return Finding::wrong(CHECK, e.clone(), cure),
        Some(Ok(database)) => database,
    };
    let count = database.advisories.len();
    match database.newest {
        Some(newest) if now.duration_since(newest) > STALE => {
            let found = format!(
                "{count} advisories, and nothing in the database is newer than {newest:.0}"
            );
            Finding::mind(CHECK, found, cure)
        }
        _ if !database.damaged.is_empty() => {
            let found = format!(
                "{count} advisories, and {} files that cannot be read",
                database.damaged.len()
            );
            Finding::mind(CHECK, found, cure)
        }
        _ => Finding::fine(CHECK, format!("{count} advisories")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;
    use crate::error::Error;
    use crate::model::checksum::Checksum;
    use crate::model::policy::{Advisories, PolicyText};

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn gravity(text: &str) -> Gravity {
        let files = [PolicyText { name: "p.toml".to_owned(), text: text.to_owned() }];
        let policy = Policy::parse(&files).unwrap();
        judge(true, &Ok(InForce { policy, ..InForce::default() }), now()).gravity
    }

    #[test]
    fn a_policy_that_does_not_act_is_told() {
        assert_eq!(judge(false, &Ok(InForce::default()), now()).gravity, Gravity::Fine);
        assert_eq!(judge(true, &Err(Error::invalid("line 3")), now()).gravity, Gravity::Wrong);
        assert_eq!(gravity("mode = \"observe\""), Gravity::Mind);
        assert_eq!(gravity("mode = \"enforce\""), Gravity::Fine);
    }

    #[test]
    fn advisories_that_are_missing_or_old_are_told() {
        let database = |newest: &str| {
            Ok(Database {
                advisories: Advisories::default(),
                damaged: Vec::new(),
                newest: Some(newest.parse().unwrap()),
                fingerprint: Checksum::of(b""),
            })
        };
        let judged = |database: Option<Result<Database, String>>| {
            judge_advisories(database.as_ref(), now()).gravity
        };
        assert_eq!(judged(None), Gravity::Wrong);
        assert_eq!(judged(Some(Err("gone".to_owned()))), Gravity::Wrong);
        assert_eq!(judged(Some(database("2026-05-30T00:00:00Z"))), Gravity::Fine);
        assert_eq!(judged(Some(database("2026-04-30T00:00:00Z"))), Gravity::Mind);
    }
}
