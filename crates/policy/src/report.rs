//! What a policy makes of the packages of a Cargo.lock, and what another would make of them: one
//! report for the command line, as a table or as JSON, and for the web API.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::judgement::{Finding, Judgement, ReadLicense, WaiverInForce};
use super::refusal::{Newest, newest_allowed, one_line, said};
use super::words::{Mode, Verdict};
use super::{Advisories, Policy};
use cratehouse_core::table::Table;
use cratehouse_package::index::Listed;
use cratehouse_package::lock_file::{Locked, LockedSource};

/// The most packages of another identity than theirs that are told in words.
const MISPLACED_TOLD: usize = 20;

/// What a policy makes of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The answer for the whole.
    pub outcome: Outcome,
    /// The policy's version.
    pub policy: String,
    /// The policy's mode.
    pub mode: Mode,
    /// What to know about the answer, each a sentence.
    pub notes: Vec<String>,
    /// How many packages came out how.
    pub counts: Counts,
    /// Every package, by name.
    pub packages: Vec<Row>,
}

/// The answer for a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything can be had; perhaps not in new resolutions.
    Passed,
    /// Something is denied, whatever else could not be judged.
    Denied,
    /// Nothing is denied as far as could be judged, and something could not.
    Unknown,
}

/// How many packages came out how; each counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Allowed.
    pub allow: usize,
    /// Held.
    pub hold: usize,
    /// Denied.
    pub deny: usize,
    /// They could not be judged.
    pub unknown: usize,
    /// They are from no registry, or from one that is not asked through this one: so they are not
    /// judged.
    pub outside: usize,
}

/// One package of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is from.
    pub source: LockedSource,
    /// Why it could not be judged, or why that says nothing yet.
    pub problem: Option<String>,
    /// What is wrong with the identity that the lock file has it under, and what cures that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misplaced: Option<String>,
    /// The newest version that is allowed, if this one appears as yanked.
    #[serde(flatten)]
    pub newest_allowed: Newest,
    /// What the policy says; in JSON its fields stand among these, or are absent.
    #[serde(flatten)]
    pub judgement: Option<Judgement>,
}

/// What another policy would change for a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// [`Outcome::Denied`] where the new policy denies something that the old one does not.
    pub outcome: Outcome,
    /// The old policy's version.
    pub old: String,
    /// The new policy's version.
    pub new: String,
    /// What to know about the answer, each a sentence.
    pub notes: Vec<String>,
    /// How many packages were looked at.
    pub packages: usize,
    /// The packages whose verdict is another, by name.
    pub changes: Vec<Change>,
    /// The packages that could not be judged, by name.
    pub unknown: Vec<Row>,
}

/// A package whose verdict is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The newest version that the new policy allows, if this one would appear as yanked.
    #[serde(flatten)]
    pub newest_allowed: Newest,
    /// What the old policy says.
    pub old: Judgement,
    /// What the new policy says.
    pub new: Judgement,
}

/// How a package came out, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Deny,
    Unknown,
    Hold,
    Allow,
    Outside,
}

impl Report {
    /// The report of a policy, applied with these advisories, on packages in the order of the lock
    /// file.
    pub fn of(policy: &Policy, advisories: Option<&Advisories>, packages: Vec<Row>) -> Self {
        let mut counts = Counts::default();
        for row in &packages {
            *match row.standing() {
                Standing::Deny => &mut counts.deny,
                Standing::Unknown => &mut counts.unknown,
                Standing::Hold => &mut counts.hold,
                Standing::Allow => &mut counts.allow,
                Standing::Outside => &mut counts.outside,
            } += 1;
        }
        Self {
            outcome: Outcome::of(counts.deny, counts.unknown),
            policy: policy.version().to_owned(),
            mode: policy.mode(),
            notes: [notes(policy, advisories), misplaced(&packages)].concat(),
            counts,
            packages,
        }
    }

    /// What another policy's report on the same packages changes.
    pub fn to(&self, new: &Self) -> Diff {
        let pairs = self.packages.iter().zip(&new.packages);
        let changes: Vec<_> = pairs.filter_map(|(old, new)| Change::between(old, new)).collect();
        let unknown = new.packages.iter().filter(|row| row.problem.is_some());
        let unknown: Vec<_> = unknown.cloned().collect();
        let denied = changes.iter().filter(|change| change.new.verdict == Verdict::Deny).count();
        let mut notes = self.notes.clone();
        notes.extend(new.notes.iter().filter(|note| !self.notes.contains(note)).cloned());
        Diff {
            outcome: Outcome::of(denied, unknown.len()),
            old: self.policy.clone(),
            new: new.policy.clone(),
            notes,
            packages: new.packages.len(),
            changes,
            unknown,
        }
    }
}

/// What makes a policy's answers other than they look.
pub(super) fn notes(policy: &Policy, advisories: Option<&Advisories>) -> Vec<String> {
    let mut notes = Vec::new();
    if policy.allows_everything() && policy.mode() != Mode::Observe {
        let note = "there is no policy, or it has no rules, so everything is allowed: `policy.dir` or \
                    `--policy` names one";
        notes.push(note.to_owned());
    }
    if policy.wants_advisories() && advisories.is_none() {
        let note = "there is no advisory database, so no package was judged by `[advisories]`: \
                    `cratehouse advisories fetch` gets RustSec's";
        notes.push(note.to_owned());
    }
    if policy.mode() == Mode::Observe {
        notes.push("the policy only observes: what its rules say changes no verdict".to_owned());
    }
    notes
}

impl Outcome {
    fn of(denied: usize, unknown: usize) -> Self {
        match (denied, unknown) {
            (0, 0) => Self::Passed,
            (0, _) => Self::Unknown,
            _ => Self::Denied,
        }
    }
}

/// A note for each package that is misplaced, as far as those can be read.
fn misplaced(packages: &[Row]) -> Vec<String> {
    let told = |row: &Row| {
        let why = row.misplaced.as_ref()?;
        Some(format!("{} {}: {why}", one_line(&row.name), one_line(&row.version)))
    };
    let mut notes: Vec<String> = packages.iter().filter_map(told).collect();
    let more = notes.len().saturating_sub(MISPLACED_TOLD);
    notes.truncate(MISPLACED_TOLD);
    if more > 0 {
        notes.push(format!("{more} more packages are locked under another identity than theirs"));
    }
    notes
}

impl Row {
    /// A package that nobody judges.
    pub fn outside(locked: &Locked) -> Self {
        Self {
            name: locked.name.clone(),
            version: locked.version.clone(),
            source: locked.source,
            problem: None,
            misplaced: None,
            newest_allowed: Newest::None,
            judgement: None,
        }
    }

    /// A package that could not be judged.
    pub fn unknown(locked: &Locked, why: impl Into<String>) -> Self {
        Self { problem: Some(why.into()), ..Self::outside(locked) }
    }

    /// A package, given all versions of its index file, each with its judgement. `unread`: why its licence
    /// was not read, where it was tried in vain.
    pub fn of(locked: &Locked, judged: &[(Listed, Judgement)], unread: Option<&str>) -> Self {
        let mine = judged.iter().find(|(listed, _)| listed.version.to_string() == locked.version);
        let Some((listed, judgement)) = mine else {
            return Self::unknown(locked, "the registry does not list this version");
        };
        if listed.name.as_str() != locked.name {
            let spelled = format!("the registry spells its name `{}`", listed.name);
            return Self::unknown(locked, spelled);
        }
        let why = unread.unwrap_or(
            "its crate file is not in the mirror (`cratehouse policy check --fetch` reads it)",
        );
        let unread = (judgement.read_license == ReadLicense::BeforeDownload)
            .then(|| format!("its licence is not known yet, and may forbid it: {why}"));
        let newest = match judgement.verdict.hides() {
            true => newest_of(judged),
            false => Newest::None,
        };
        Self {
            problem: locked.mismatch(&listed.cksum).or(unread),
            newest_allowed: newest,
            judgement: Some(judgement.clone()),
            ..Self::outside(locked)
        }
    }

    fn standing(&self) -> Standing {
        let verdict = self.judgement.as_ref().map(|judgement| judgement.verdict);
        match (verdict, &self.problem) {
            (Some(Verdict::Deny), _) => Standing::Deny,
            (_, Some(_)) => Standing::Unknown,
            (Some(Verdict::Hold), None) => Standing::Hold,
            (Some(Verdict::Allow), None) => Standing::Allow,
            (None, None) => Standing::Outside,
        }
    }

    fn why(&self) -> String {
        let mut parts: Vec<String> = self.problem.iter().map(|problem| one_line(problem)).collect();
        match &self.judgement {
            Some(judgement) => parts.extend(reasons(judgement, &self.newest_allowed)),
            None if self.problem.is_none() => parts.push(match self.source {
                LockedSource::Git => "it is from git".to_owned(),
                LockedSource::OtherRegistry => "it is from another registry".to_owned(),
                _ => "it is from no registry".to_owned(),
            }),
            None => (),
        }
        parts.join("; ")
    }
}

impl Change {
    fn between(old: &Row, new: &Row) -> Option<Self> {
        let (was, is) = (old.judgement.as_ref()?, new.judgement.as_ref()?);
        (was.verdict != is.verdict).then(|| Self {
            name: new.name.clone(),
            version: new.version.clone(),
            newest_allowed: new.newest_allowed.clone(),
            old: was.clone(),
            new: is.clone(),
        })
    }

    /// Why it is as it will be; where that is no longer anything, why it was as it is.
    fn why(&self) -> String {
        let now = reasons(&self.new, &self.newest_allowed);
        if now.is_empty() {
            let before = self.old.enforced().map(|finding| format!("no longer {}", said(finding)));
            return before.collect::<Vec<_>>().join("; ");
        }
        now.join("; ")
    }
}

impl Standing {
    fn label(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Unknown => "unknown",
            Self::Hold => "hold",
            Self::Allow => "allow",
            Self::Outside => "-",
        }
    }
}

/// The newest version of an index file that may be had.
pub(super) fn newest_of(judged: &[(Listed, Judgement)]) -> Newest {
    let offered = judged.iter().filter(|(listed, _)| !listed.yanked);
    newest_allowed(offered.map(|(listed, judgement)| (&listed.version, judgement)))
}

/// Everything that a judgement rests on, for people.
fn reasons(judgement: &Judgement, newest: &Newest) -> Vec<String> {
    let mut parts: Vec<_> = judgement.waiver.iter().map(waived).collect();
    parts.extend(judgement.findings.iter().map(found));
    if judgement.verdict.hides() {
        parts.push(newest.to_string());
    }
    parts
}

fn found(finding: &Finding) -> String {
    match finding.mode {
        Mode::Enforce => said(finding),
        Mode::Observe => format!("observed: {}", said(finding)),
    }
}

fn waived(waiver: &WaiverInForce) -> String {
    let (who, reason) = (one_line(&waiver.who), one_line(&waiver.reason));
    format!("waived until {} by {who}: {reason}", waiver.last_day)
}

/// The table: the worst packages first.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.packages.iter().collect();
        rows.sort_by_key(|row| row.standing()); // stable: by name otherwise
        let mut table = Table::new(["package", "version", "verdict", "why"]);
        for row in rows {
            table.row([&row.name, &row.version, row.standing().label(), &row.why()]);
        }
        write!(f, "{table}")?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        let Counts { allow, hold, deny, unknown, outside } = self.counts;
        let other = |row: &&Row| row.source == LockedSource::OtherRegistry;
        let elsewhere = self.packages.iter().filter(other).count();
        write!(
            f,
            "{} packages by policy {}: {allow} allowed, {hold} held, {deny} denied, {unknown} \
             unknown, {} from no registry",
            self.packages.len(),
            self.policy,
            outside - elsewhere
        )?;
        match elsewhere {
            0 => Ok(()),
            some => write!(f, ", {some} from another registry"),
        }
    }
}

/// The table, and a line for each package that could not be judged.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|change| std::cmp::Reverse(change.new.verdict));
        let mut table = Table::new(["package", "version", "verdict", "why"]);
        for change in changes {
            let verdicts = format!("{} -> {}", change.old.verdict, change.new.verdict);
            table.row([&change.name, &change.version, &verdicts, &change.why()]);
        }
        for row in &self.unknown {
            let problem = row.problem.as_deref().unwrap_or_default();
            table.row([&row.name, &row.version, Standing::Unknown.label(), problem]);
        }
        write!(f, "{table}")?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        write!(
            f,
            "{} packages from policy {} to {}: {} verdicts change, {} unknown",
            self.packages,
            self.old,
            self.new,
            self.changes.len(),
            self.unknown.len()
        )
    }
}

#[cfg(test)]
mod tests;
