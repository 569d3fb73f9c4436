//! What may enter the organisation: the policy of one folder of TOML files, and its verdict on a
//! version. Facts in, verdicts out; `policies/README.md` is the reference of the files.
//!
//! **Precedence.** It is fixed, and does not depend on the order of files or entries:
//!
//! 1. A `[[waiver]]` in force makes the verdict *allow*, whatever any rule says.
//! 2. Otherwise the verdict is the most severe action among the findings that are enforced.
//! 3. An `[[allow]]` that names a version lifts every `[[ban]]` from it and satisfies
//!    `[allow_list]`, and touches no other rule.
//! 4. Findings that are observed are reported, and change nothing. A finding is enforced only if
//!    neither the whole policy, nor its section or entry, says `observe`.
//!
//! `[integrity]` protects without any policy, and so when the whole is observed: only its own
//! `mode` observes it.

mod advisory_db;
mod evaluate;
mod evaluation;
mod explain;
mod facts;
mod in_force;
mod judgement;
mod license_name;
mod parse;
mod refusal;
mod render;
mod report;
mod requirement;
mod rules;
mod schema;
mod stated;
mod waivers;
mod words;

use std::collections::BTreeSet;

use jiff::Timestamp;

pub use self::advisory_db::{Advisories, Advisory, Kind, Severity};
pub use self::evaluate::RulesAbout;
pub use self::explain::{Explained, Explanation, Which};
pub use self::facts::{AgeFact, IntegrityFact, LicenseFact, Source, Subject};
pub use self::in_force::{PolicyGeneration, PolicyInForce, PolicySwitch};
pub use self::judgement::{Finding, Judgement, ReadLicense, Rule, WaiverInForce};
use self::parse::Rules;
pub use self::parse::{PolicyError, PolicyText, Problem};
pub use self::refusal::{Newest, newest_allowed, refusal, refusal_of_new, said, unread_candidates};
pub use self::render::hide;
pub use self::report::{Change, Counts, Diff, Outcome, Report, Row};
pub use self::requirement::{Requirement, RequirementError};
pub use self::rules::lookalike::resembles;
pub use self::rules::publish::Violation;
pub use self::schema::{Integrity, Waiver};
pub use self::waivers::{ListedWaiver, WaiverState, Waivers};
pub use self::words::{Day, Mode, Verdict};
use cratehouse_core::checksum::Checksum;
use cratehouse_package::name::CrateName;
use cratehouse_package::published::Published;

/// The rules of a folder; never changed, only replaced. The default allows everything.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Rules,
    version: String,
}

impl Policy {
    /// Reads the files of a folder. Their order, their comments and their layout do not matter.
    ///
    /// # Errors
    /// Names file and line of everything that is wrong, and says what is allowed there.
    pub fn parse(files: &[PolicyText]) -> Result<Self, PolicyError> {
        parse::parse(files).map(Self::of)
    }

    fn of(rules: Rules) -> Self {
        let content = serde_json::to_vec(&rules).unwrap_or_default();
        let hash = Checksum::of(&content).to_string();
        Self { rules, version: hash.get(..16).unwrap_or(&hash).to_owned() }
    }

    /// 16 hexadecimal digits: a hash of what the files say, the same for equal policies.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether no rule speaks of any version: it is as if there were no policy. (Rules about
    /// publishes may speak all the same.)
    pub fn allows_everything(&self) -> bool {
        // No `..`: who adds a section decides here.
        let Rules {
            bans,
            allow_list,
            age,
            advisories,
            licenses,
            // These only make an exception from others, or protect without any policy.
            allows: _,
            waivers: _,
            integrity: _,
            // These are about publishes, or about the whole.
            names: _,
            publish: _,
            mode: _,
            contact: _,
        } = &self.rules;
        bans.is_empty()
            && allow_list.is_none()
            && age.is_none()
            && advisories.is_none()
            && licenses.is_none()
    }

    /// What it says of one crate: for who judges many versions of it.
    pub fn about(&self, name: &CrateName) -> RulesAbout<'_> {
        RulesAbout::of(&self.rules, name)
    }

    /// The verdict on a version, with every rule that spoke. Without a database the advisories
    /// are silent, but for `yanked`.
    pub fn judge(
        &self,
        subject: &Subject<'_>,
        advisories: Option<&Advisories>,
        now: Timestamp,
    ) -> Judgement {
        self.about(subject.name).judge(subject, advisories, now)
    }

    /// Whether `[integrity]`, or a waiver, lets a version be downloaded whatever happened to it
    /// upstream. Other rules are not asked.
    pub fn tolerates(&self, subject: &Subject<'_>, now: Timestamp) -> bool {
        let judgement = self.judge(subject, None, now);
        let mut denying = judgement.enforced().filter(|finding| finding.action == Verdict::Deny);
        judgement.waiver.is_some() || denying.all(|finding| finding.rule != Rule::Integrity)
    }

    /// The mode of the whole.
    pub fn mode(&self) -> Mode {
        self.rules.mode
    }

    /// Whom to ask.
    pub fn contact(&self) -> Option<&str> {
        self.rules.contact.as_deref()
    }

    /// Whether an advisory database is wanted.
    pub fn wants_advisories(&self) -> bool {
        self.rules.advisories.is_some()
    }

    /// Whether first sights have to be kept, for versions without a `pubtime`.
    pub fn wants_age(&self) -> bool {
        self.rules.age.is_some()
    }

    /// What happens when an upstream goes back on its word.
    pub fn integrity(&self) -> &Integrity {
        &self.rules.integrity
    }

    /// All waivers, those that ended included.
    pub fn waivers(&self) -> &[Waiver] {
        &self.rules.waivers
    }

    /// The upstreams that the rules name; one that the configuration does not know is a mistake.
    pub fn upstreams(&self) -> BTreeSet<&str> {
        // No `..`: who adds a section says here whether it names upstreams.
        let Rules {
            bans,
            allows,
            allow_list,
            age,
            advisories,
            licenses,
            waivers: _,
            integrity: _,
            names: _,
            publish: _,
            mode: _,
            contact: _,
        } = &self.rules;
        let lists = [
            allow_list.as_ref().and_then(|rule| rule.upstreams.as_ref()),
            age.as_ref().and_then(|rule| rule.upstreams.as_ref()),
            advisories.as_ref().and_then(|rule| rule.upstreams.as_ref()),
            licenses.as_ref().and_then(|rule| rule.upstreams.as_ref()),
        ];
        let bans = bans.iter().filter_map(|ban| ban.upstream.as_deref());
        let allows = allows.iter().filter_map(|allow| allow.upstream.as_deref());
        let listed = lists.into_iter().flatten().flatten().map(String::as_str);
        listed.chain(bans).chain(allows).collect()
    }

    /// Whether first publishes are compared with the hosted names.
    pub fn compares_names(&self) -> bool {
        self.rules.names.is_some()
    }

    /// Whether licences have to be known, of versions from upstreams at the least.
    pub fn wants_licenses(&self) -> bool {
        self.rules.licenses.is_some()
    }

    /// What the policy has against a first publish under this name, given all hosted names.
    pub fn objection_to_name<'a>(
        &self,
        new: &CrateName,
        hosted: impl IntoIterator<Item = &'a CrateName>,
    ) -> Option<Violation> {
        rules::lookalike::objection(&self.rules, new, hosted)
    }

    /// What the policy has against a publish; `readme` says whether the crate has one.
    pub fn objection_to_publish(&self, published: &Published, readme: bool) -> Option<Violation> {
        rules::publish::objection(&self.rules, published, readme)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::of(Rules::default())
    }
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
