//! `[allow_list]`: nothing enters that no `[[allow]]` names.

use crate::evaluation::Evaluation;
use crate::judgement::Rule;
use crate::schema::AllowList;

/// For a version that nothing allows.
pub(crate) fn check(rule: &AllowList, evaluation: &mut Evaluation<'_>) {
    if evaluation.among(rule.hosted, &rule.upstreams) {
        let reason = "nothing on the list of allowed crates names it".to_owned();
        evaluation.find(Rule::AllowList, rule.action, rule.mode, reason);
    }
}
