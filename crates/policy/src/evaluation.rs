//! A judgement in the making: what every rule asks of a version, and where it puts its findings.

use jiff::Timestamp;

use crate::facts::{Source, Subject};
use crate::judgement::{Finding, Rule};
use crate::requirement::Requirement;
use crate::words::{Mode, Verdict};
use cratehouse_package::name::{NameKey, NamePattern};

/// One version under evaluation.
pub(crate) struct Evaluation<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) key: &'a NameKey,
    pub(crate) now: Timestamp,
    /// The mode of the whole policy.
    pub(crate) mode: Mode,
    pub(crate) findings: Vec<Finding>,
    pub(crate) changes_at: Option<Timestamp>,
}

impl<'a> Evaluation<'a> {
    /// Nothing found yet.
    pub(crate) fn new(
        subject: &'a Subject<'a>,
        key: &'a NameKey,
        mode: Mode,
        now: Timestamp,
    ) -> Self {
        Self { subject, key, now, mode, findings: Vec::new(), changes_at: None }
    }

    /// Notes what a rule says, unless it says that nothing is wrong.
    pub(crate) fn find(
        &mut self,
        rule: Rule,
        action: Verdict,
        mode: Option<Mode>,
        reason: String,
    ) -> Option<&mut Finding> {
        if action == Verdict::Allow {
            return None;
        }
        let mode = self.mode.and(mode);
        let (advisory, since, until) = (None, None, None);
        self.findings.push(Finding { rule, action, mode, reason, advisory, since, until });
        self.findings.last_mut()
    }

    /// Whether a pattern and a requirement mean this version.
    pub(crate) fn covers(&self, name: &NamePattern, version: &Requirement) -> bool {
        name.covers(self.key) && version.matches(self.subject.version)
    }

    /// Whether it comes from one of these upstreams; from any, without.
    pub(crate) fn mirrored(&self, upstreams: &Option<Vec<String>>) -> bool {
        match self.subject.source {
            Source::Hosted => false,
            Source::Mirrored { upstream } => {
                upstreams.as_ref().is_none_or(|list| list.iter().any(|name| name == upstream))
            }
        }
    }

    /// Whether a rule for mirrored crates, and perhaps hosted ones, is about this one.
    pub(crate) fn among(&self, hosted: bool, upstreams: &Option<Vec<String>>) -> bool {
        match self.subject.source {
            Source::Hosted => hosted,
            Source::Mirrored { .. } => self.mirrored(upstreams),
        }
    }

    /// Whether it comes from this upstream; from anywhere, without.
    pub(crate) fn comes_from(&self, upstream: Option<&String>) -> bool {
        match (upstream, self.subject.source) {
            (None, _) => true,
            (Some(wanted), Source::Mirrored { upstream }) => wanted == upstream,
            (Some(_), Source::Hosted) => false,
        }
    }

    /// Whether an entry about this crate means this version.
    pub(crate) fn is_meant(&self, version: &Requirement, upstream: &Option<String>) -> bool {
        version.matches(self.subject.version) && self.comes_from(upstream.as_ref())
    }

    /// Notes that the judgement may change at this instant.
    pub(crate) fn changes_at(&mut self, at: Timestamp) {
        self.changes_at = Some(self.changes_at.map_or(at, |before| before.min(at)));
    }
}

/// An entry of the policy, as its author wrote it.
pub(crate) fn described(name: &NamePattern, version: &Requirement, reason: Option<&str>) -> String {
    let name = name.as_str();
    let reason = reason.map(|reason| format!(": {}", reason.trim())).unwrap_or_default();
    match version.as_str() {
        "*" => format!("`{name}`{reason}"),
        version => format!("`{name}` {version}{reason}"),
    }
}
