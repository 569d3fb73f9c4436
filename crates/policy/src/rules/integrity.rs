//! `[integrity]`: an upstream that changes what it has published.

use crate::evaluation::Evaluation;
use crate::facts::IntegrityFact;
use crate::judgement::Rule;
use crate::schema::Integrity;

/// What holds without any policy is not switched off by observing the whole.
pub(crate) fn check(rule: &Integrity, evaluation: &mut Evaluation<'_>) {
    if evaluation.subject.integrity == IntegrityFact::Sound {
        return;
    }
    let (action, reason) = (
        rule.checksum_changed,
        "its upstream lists it with another checksum than when it was first served here",
    );
    if let Some(found) = evaluation.find(Rule::Integrity, action, rule.mode, reason.to_owned()) {
        found.mode = rule.mode.unwrap_or_default();
    }
}
