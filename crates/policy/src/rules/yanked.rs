//! `[advisories] yanked`: what a version's own authors took back.

use crate::evaluation::Evaluation;
use crate::judgement::Rule;
use crate::schema::Advising;

/// For a mirrored version.
pub(crate) fn check(rule: &Advising, evaluation: &mut Evaluation<'_>) {
    if evaluation.subject.yanked && evaluation.mirrored(&rule.upstreams) {
        let reason = "its authors yanked it".to_owned();
        evaluation.find(Rule::Yanked, rule.yanked, rule.mode, reason);
    }
}
