//! One version before the rules: the facts that they ask for, and what they say.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::advisories::Advisories;
use super::licenses::LicenseFact;
use super::parse::Rules;
use super::requirement::Requirement;
use super::schema::{Age, Allow, AllowList, Ban, Waiver};
use super::words::{Crates, Day, Mode, Verdict};
use crate::model::name::{CrateName, NameKey, NamePattern};
use crate::model::version::CrateVersion;

/// A version, and what is known of it.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The crate.
    pub name: &'a CrateName,
    /// The version.
    pub version: &'a CrateVersion,
    /// Where it comes from.
    pub source: Source<'a>,
    /// How old it is; asked of mirrored versions alone.
    pub age: AgeFact,
    /// Whether its own index line says that it is yanked.
    pub yanked: bool,
    /// What its crate file says of its licence; `None`: nobody has looked yet.
    pub license: Option<&'a LicenseFact>,
    /// Whether its upstream kept its word.
    pub integrity: IntegrityFact,
}

/// Where a version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// It was published here.
    Hosted,
    /// It is read through from the upstream of this name.
    Mirrored {
        /// The upstream's name in the configuration.
        upstream: &'a str,
    },
}

/// How old a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeFact {
    /// Its index line says when it was published (`pubtime`).
    Published(Timestamp),
    /// Its line says nothing, and it was first seen here at this time, after its crate's file had
    /// been fetched before.
    FirstSeen(Timestamp),
    /// Its line says nothing, and it was there when its crate's file was first fetched: old.
    Old,
    /// Nothing tells.
    Unknown,
}

/// Whether an upstream kept its word about a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IntegrityFact {
    /// As far as anybody knows.
    #[default]
    Sound,
    /// It has another checksum than when it was first served here.
    ChecksumChanged,
}

/// What the policy says of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// Every rule that spoke against it, enforced ones first, then the most severe.
    pub findings: Vec<Finding>,
    /// The waiver that is in force for it, the one that ends last.
    pub waiver: Option<WaiverInForce>,
    /// The `[[allow]]` that names it, if any does.
    pub allowed_by: Option<String>,
    /// The next instant at which this judgement can change without a change of any fact or rule.
    pub changes_at: Option<Timestamp>,
    /// Whether its licence is to be read.
    pub read_license: ReadLicense,
    /// Whether that may make the verdict a worse one.
    #[serde(skip)]
    pub is_open: bool,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What it wants done.
    pub action: Verdict,
    /// Whether that is done.
    pub mode: Mode,
    /// Why, as the end of a sentence about the version.
    pub reason: String,
    /// The advisory's id, where one is the reason.
    pub advisory: Option<String>,
    /// Since when: of an advisory its report, of a young version its publication.
    pub since: Option<Timestamp>,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
}

/// The rules that speak of versions, as findings and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `[[ban]]`.
    Ban,
    /// `[allow_list]`.
    AllowList,
    /// `[age]`.
    Age,
    /// `[advisories]`, but for `yanked`.
    Advisory,
    /// `[advisories] yanked`.
    Yanked,
    /// `[licenses]`.
    License,
    /// `[integrity]`.
    Integrity,
}

/// Whether a version's crate file is to be read for its licence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadLicense {
    /// It is known, or does not matter.
    #[default]
    No,
    /// It should be noted when the file is at hand; its download need not wait for a verdict.
    WhenAtHand,
    /// Before its download is answered: it may have to be refused.
    BeforeDownload,
}

/// A waiver that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaiverInForce {
    /// Its pattern and requirement, as they are written.
    pub of: String,
    /// Its last day.
    pub last_day: Day,
    /// The instant at which it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub who: String,
}

impl Judgement {
    /// The findings that made the verdict, or would have without a waiver.
    pub fn enforced(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.mode == Mode::Enforce)
    }

    /// What the verdict would be without a waiver and with every rule enforced.
    pub fn unmitigated(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.action).max().unwrap_or_default()
    }
}

impl Verdict {
    /// Whether a version of this verdict appears as yanked.
    pub fn hides(self) -> bool {
        self >= Self::Hold
    }
}

impl Rule {
    /// All of them, for metrics.
    pub const ALL: [Self; 7] = [
        Self::Ban,
        Self::AllowList,
        Self::Age,
        Self::Advisory,
        Self::Yanked,
        Self::License,
        Self::Integrity,
    ];

    /// The word, as findings and metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::AllowList => "allow_list",
            Self::Age => "age",
            Self::Advisory => "advisory",
            Self::Yanked => "yanked",
            Self::License => "license",
            Self::Integrity => "integrity",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a policy says of one crate: its entries about others, of which there may be hundreds, are
/// passed over once and not for every version.
#[derive(Debug)]
pub struct RulesAbout<'a> {
    rules: &'a Rules,
    key: NameKey,
    bans: Vec<&'a Ban>,
    allows: Vec<&'a Allow>,
    waivers: Vec<&'a Waiver>,
}

/// A judgement in the making.
pub(super) struct Hearing<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) key: &'a NameKey,
    now: Timestamp,
    /// The mode of the whole policy.
    mode: Mode,
    findings: Vec<Finding>,
    changes_at: Option<Timestamp>,
}

impl<'a> RulesAbout<'a> {
    pub(super) fn of(rules: &'a Rules, name: &CrateName) -> Self {
        let key = name.key();
        let bans = rules.bans.iter().filter(|ban| ban.name.covers(&key)).collect();
        let allows = rules.allows.iter().filter(|allow| allow.name.covers(&key)).collect();
        let waivers = rules.waivers.iter().filter(|waiver| waiver.name.covers(&key)).collect();
        Self { rules, key, bans, allows, waivers }
    }

    /// The verdict on a version of the crate; see [`super::Policy::judge`].
    pub fn judge(
        &self,
        subject: &Subject<'_>,
        advisories: Option<&Advisories>,
        now: Timestamp,
    ) -> Judgement {
        let Self { rules, key, .. } = self;
        let (mode, findings, changes_at) = (rules.mode, Vec::new(), None);
        let mut hearing = Hearing { subject, key, now, mode, findings, changes_at };
        let allowed_by = hearing.bans_and_allows(self);
        if let Some(age) = &rules.age {
            hearing.age(age);
        }
        let advising = rules.advisories.as_ref();
        if let Some(rule) = advising.filter(|rule| hearing.mirrored(&rule.upstreams)) {
            if let Some(advisories) = advisories {
                rule.hear(advisories, &mut hearing);
            }
            if subject.yanked {
                let reason = "its authors yanked it".to_owned();
                hearing.find(Rule::Yanked, rule.yanked, rule.mode, reason);
            }
        }
        if let Some((rule, fact)) = rules.licenses.as_ref().zip(subject.license)
            && hearing.among(rule.hosted, &rule.upstreams)
        {
            rule.hear(fact, &mut hearing);
        }
        hearing.integrity(rules);
        let waiver = hearing.waivers(&self.waivers);
        hearing.close(rules, allowed_by, waiver)
    }
}

impl Hearing<'_> {
    /// Notes what a rule says, unless it says that nothing is wrong.
    pub(super) fn find(
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
    pub(super) fn covers(&self, name: &NamePattern, version: &Requirement) -> bool {
        name.covers(self.key) && version.matches(self.subject.version)
    }

    /// Whether it comes from one of these upstreams; from any, without.
    fn mirrored(&self, upstreams: &Option<Vec<String>>) -> bool {
        match self.subject.source {
            Source::Hosted => false,
            Source::Mirrored { upstream } => {
                upstreams.as_ref().is_none_or(|list| list.iter().any(|name| name == upstream))
            }
        }
    }

    /// Whether a rule for mirrored crates, and perhaps hosted ones, is about this one.
    fn among(&self, hosted: bool, upstreams: &Option<Vec<String>>) -> bool {
        match self.subject.source {
            Source::Hosted => hosted,
            Source::Mirrored { .. } => self.mirrored(upstreams),
        }
    }

    fn comes_from(&self, upstream: Option<&String>) -> bool {
        match (upstream, self.subject.source) {
            (None, _) => true,
            (Some(wanted), Source::Mirrored { upstream }) => wanted == upstream,
            (Some(_), Source::Hosted) => false,
        }
    }

    /// Bans count only where nothing allows; the allow list is satisfied by what does.
    fn bans_and_allows(&mut self, about: &RulesAbout<'_>) -> Option<String> {
        let mut allows = about.allows.iter();
        if let Some(allow) = allows.find(|a| self.is_meant(&a.version, &a.upstream)) {
            return Some(described(&allow.name, &allow.version, allow.reason.as_deref()));
        }
        for ban in &about.bans {
            if self.is_meant(&ban.version, &ban.upstream) {
                self.find(Rule::Ban, ban.action, ban.mode, ban.said());
            }
        }
        self.allow_list(about.rules.allow_list.as_ref());
        None
    }

    /// Whether an entry about this crate means this version.
    fn is_meant(&self, version: &Requirement, upstream: &Option<String>) -> bool {
        version.matches(self.subject.version) && self.comes_from(upstream.as_ref())
    }

    fn allow_list(&mut self, rule: Option<&AllowList>) {
        if let Some(rule) = rule.filter(|rule| self.among(rule.hosted, &rule.upstreams)) {
            let reason = "nothing on the list of allowed crates names it".to_owned();
            self.find(Rule::AllowList, rule.action, rule.mode, reason);
        }
    }

    fn age(&mut self, rule: &Age) {
        let excepted = |crates: &Crates| self.covers(&crates.name, &crates.version);
        if !self.mirrored(&rule.upstreams) || rule.exceptions.iter().any(excepted) {
            return;
        }
        let minimum = rule.minimum;
        let (since, what) = match self.subject.age {
            AgeFact::Old => return,
            AgeFact::Unknown => {
                let action = rule.unknown.unwrap_or(rule.action);
                let reason = format!("nothing tells whether it is {minimum} old");
                self.find(Rule::Age, action, rule.mode, reason);
                return;
            }
            AgeFact::Published(at) => (at, "was published"),
            AgeFact::FirstSeen(at) => (at, "was first seen here"),
        };
        let until = since.checked_add(minimum.duration()).unwrap_or(Timestamp::MAX);
        if self.now < until && rule.action != Verdict::Allow {
            let at = since.strftime("%Y-%m-%d %H:%M UTC");
            let reason = format!("it {what} at {at}, and it must be {minimum} old");
            if let Some(found) = self.find(Rule::Age, rule.action, rule.mode, reason) {
                (found.since, found.until) = (Some(since), Some(until));
            }
            self.changes_at(until);
        }
    }

    /// What holds without any policy is not switched off by observing the whole.
    fn integrity(&mut self, rules: &Rules) {
        let rule = &rules.integrity;
        if self.subject.integrity == IntegrityFact::Sound {
            return;
        }
        let (action, reason) = (
            rule.checksum_changed,
            "its upstream lists it with another checksum than when it was first served here",
        );
        if let Some(found) = self.find(Rule::Integrity, action, rule.mode, reason.to_owned()) {
            found.mode = rule.mode.unwrap_or_default();
        }
    }

    fn waivers(&mut self, waivers: &[&Waiver]) -> Option<WaiverInForce> {
        let mut in_force: Option<&Waiver> = None;
        for waiver in waivers.iter().filter(|w| w.version.matches(self.subject.version)) {
            match waiver.from.map(Day::begin).filter(|begin| *begin > self.now) {
                Some(begin) => self.changes_at(begin),
                None if waiver.until.end() > self.now => {
                    self.changes_at(waiver.until.end());
                    in_force = in_force.filter(|w| w.until >= waiver.until).or(Some(waiver));
                }
                None => {}
            }
        }
        in_force.map(WaiverInForce::of)
    }

    fn changes_at(&mut self, at: Timestamp) {
        self.changes_at = Some(self.changes_at.map_or(at, |before| before.min(at)));
    }

    fn close(
        mut self,
        rules: &Rules,
        allowed_by: Option<String>,
        waiver: Option<WaiverInForce>,
    ) -> Judgement {
        self.findings.sort_by(|a, b| {
            let rank = |f: &Finding| (f.mode == Mode::Observe, std::cmp::Reverse(f.action), f.rule);
            rank(a).cmp(&rank(b))
        });
        let enforced = self.findings.iter().filter(|finding| finding.mode == Mode::Enforce);
        let found = enforced.map(|finding| finding.action).max().unwrap_or_default();
        let verdict = if waiver.is_some() { Verdict::Allow } else { found };
        let (read_license, is_open) = self.read_license(rules, found, waiver.is_some());
        let (findings, changes_at) = (self.findings, self.changes_at);
        Judgement { verdict, findings, waiver, allowed_by, changes_at, read_license, is_open }
    }

    /// When the licence is to be read, and whether that may make the verdict a worse one.
    fn read_license(&self, rules: &Rules, found: Verdict, waived: bool) -> (ReadLicense, bool) {
        let Some(rule) = rules.licenses.as_ref().filter(|_| self.subject.license.is_none()) else {
            return (ReadLicense::No, false);
        };
        let enforced = self.mode.and(rule.mode) == Mode::Enforce;
        let mine = self.among(rule.hosted, &rule.upstreams) && !rule.exempts(self);
        let worst = rule.worst();
        if !mine || worst == Verdict::Allow {
            return (ReadLicense::No, false);
        }
        let is_open = enforced && !waived && worst > found;
        match is_open && worst == Verdict::Deny {
            true => (ReadLicense::BeforeDownload, is_open),
            false => (ReadLicense::WhenAtHand, is_open),
        }
    }
}

impl Ban {
    /// Its reason, or itself where it gives none.
    fn said(&self) -> String {
        match self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty()) {
            Some(reason) => reason.to_owned(),
            None => format!("{} is banned", described(&self.name, &self.version, None)),
        }
    }
}

impl WaiverInForce {
    fn of(waiver: &Waiver) -> Self {
        Self {
            of: described(&waiver.name, &waiver.version, None),
            last_day: waiver.until,
            until: waiver.until.end(),
            reason: waiver.reason.clone(),
            who: waiver.who.clone(),
        }
    }
}

/// An entry of the policy, as its author wrote it.
pub(super) fn described(name: &NamePattern, version: &Requirement, reason: Option<&str>) -> String {
    let name = name.as_str();
    let reason = reason.map(|reason| format!(": {}", reason.trim())).unwrap_or_default();
    match version.as_str() {
        "*" => format!("`{name}`{reason}"),
        version => format!("`{name}` {version}{reason}"),
    }
}
