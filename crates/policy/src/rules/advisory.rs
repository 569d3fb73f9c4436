//! `[advisories]`: what the RustSec database says of a mirrored version.

use crate::advisory_db::{Advisories, Advisory, Kind, Severity};
use crate::evaluation::Evaluation;
use crate::judgement::Rule;
use crate::schema::Advising;
use crate::words::{Day, Verdict};

/// Every advisory about this version that the policy does not ignore.
pub(crate) fn check(rule: &Advising, advisories: &Advisories, evaluation: &mut Evaluation<'_>) {
    if !evaluation.mirrored(&rule.upstreams) {
        return;
    }
    let version = evaluation.subject.version;
    for advisory in advisories.about(evaluation.key, version) {
        if !rule.ignore.iter().any(|ignored| advisory.is(&ignored.id)) {
            let since = advisory.date.parse::<Day>().ok().map(Day::begin);
            let (action, reason) = (rule.action(advisory), advisory.reason());
            if let Some(found) = evaluation.find(Rule::Advisory, action, rule.mode, reason) {
                found.advisory = Some(advisory.id.clone());
                found.since = since;
            }
        }
    }
}

impl Advising {
    fn action(&self, advisory: &Advisory) -> Verdict {
        let exactly = match (advisory.kind, advisory.severity) {
            (Kind::Malicious, _) => Some(self.malicious),
            (Kind::Unsound, _) => Some(self.unsound),
            (Kind::Unmaintained, _) => Some(self.unmaintained),
            (Kind::Notice, _) => Some(self.notice),
            (Kind::Vulnerability, Some(Severity::Critical)) => self.critical,
            (Kind::Vulnerability, Some(Severity::High)) => self.high,
            (Kind::Vulnerability, Some(Severity::Medium)) => self.medium,
            (Kind::Vulnerability, Some(Severity::Low)) => self.low,
            (Kind::Vulnerability, None) => None,
        };
        exactly.unwrap_or(self.vulnerability)
    }
}
