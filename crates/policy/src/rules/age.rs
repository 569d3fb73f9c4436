//! `[age]`: a version must have been public for a while, so that others find what is wrong with it.

use jiff::Timestamp;

use crate::evaluation::Evaluation;
use crate::facts::AgeFact;
use crate::judgement::Rule;
use crate::schema::Age;
use crate::words::{Crates, Verdict};

/// For a mirrored version.
pub(crate) fn check(rule: &Age, evaluation: &mut Evaluation<'_>) {
    let excepted = |crates: &Crates| evaluation.covers(&crates.name, &crates.version);
    if !evaluation.mirrored(&rule.upstreams) || rule.exceptions.iter().any(excepted) {
        return;
    }
    let minimum = rule.minimum;
    let (since, what) = match evaluation.subject.age {
        AgeFact::Old => return,
        AgeFact::Unknown => {
            let action = rule.unknown.unwrap_or(rule.action);
            let reason = format!("nothing tells whether it is {minimum} old");
            evaluation.find(Rule::Age, action, rule.mode, reason);
            return;
        }
        AgeFact::Published(at) => (at, "was published"),
        AgeFact::FirstSeen(at) => (at, "was first seen here"),
    };
    let until = since.checked_add(minimum.duration()).unwrap_or(Timestamp::MAX);
    if evaluation.now < until && rule.action != Verdict::Allow {
        let at = since.strftime("%Y-%m-%d %H:%M UTC");
        let reason = format!("it {what} at {at}, and it must be {minimum} old");
        if let Some(found) = evaluation.find(Rule::Age, rule.action, rule.mode, reason) {
            (found.since, found.until) = (Some(since), Some(until));
        }
        evaluation.changes_at(until);
    }
}
