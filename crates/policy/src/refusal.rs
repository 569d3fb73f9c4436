//! The sentence that cargo prints when a download is refused.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::judgement::{Finding, Judgement};
use super::words::Verdict;
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// What a rule says is cut after this many characters.
const MAX_REASON_CHARS: usize = 400;

/// The newest version of a crate that may be had instead of one that may not. None is named that was
/// not judged to the end. In JSON `newest_allowed` is a version, or null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub enum Newest {
    /// This one.
    Version(CrateVersion),
    /// None of those whose licence was read; others were not.
    Unread,
    /// None at all; or nobody asked, since the version itself may be had.
    #[default]
    None,
}

impl Newest {
    /// It, where there is one.
    pub fn version(&self) -> Option<&CrateVersion> {
        match self {
            Self::Version(version) => Some(version),
            Self::Unread | Self::None => None,
        }
    }
}

/// Its form in JSON, among the fields of what it belongs to.
#[derive(Serialize, Deserialize)]
struct Fields {
    newest_allowed: Option<CrateVersion>,
    /// Whether licences that were not read may allow one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    newest_unread: bool,
}

impl From<Newest> for Fields {
    fn from(newest: Newest) -> Self {
        Self { newest_allowed: newest.version().cloned(), newest_unread: newest == Newest::Unread }
    }
}

impl From<Fields> for Newest {
    fn from(fields: Fields) -> Self {
        match (fields.newest_allowed, fields.newest_unread) {
            (Some(version), _) => Self::Version(version),
            (None, true) => Self::Unread,
            (None, false) => Self::None,
        }
    }
}

/// The part of a sentence.
impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "the newest allowed version is {version}"),
            Self::Unread => f.write_str(
                "no version of it is known to be allowed: the licences of others were not read yet",
            ),
            Self::None => f.write_str("no version of it is allowed"),
        }
    }
}

/// Why a download is denied, in one sentence: the rules, their reasons, the newest allowed version,
/// whom to ask. It is one line, without control characters, whatever stands in policies and
/// advisories.
pub fn refusal(
    name: &CrateName,
    version: &CrateVersion,
    judgement: &Judgement,
    newest_allowed: &Newest,
    contact: Option<&str>,
) -> String {
    format!("{}; {newest_allowed}{}", denial(name, version, judgement), whom_to_ask(contact))
}

/// The same for a version that is being published.
pub fn refusal_of_new(
    name: &CrateName,
    version: &CrateVersion,
    judgement: &Judgement,
    contact: Option<&str>,
) -> String {
    denial(name, version, judgement) + &whom_to_ask(contact)
}

fn denial(name: &CrateName, version: &CrateVersion, judgement: &Judgement) -> String {
    let mut text = format!("`{name}` {version} is denied by the policy of this registry");
    let denying = judgement.enforced().filter(|finding| finding.action == Verdict::Deny);
    for (nth, finding) in denying.enumerate() {
        let joined = if nth == 0 { ", " } else { "; and " };
        let _ = write!(text, "{joined}{}", said(finding));
    }
    text
}

fn whom_to_ask(contact: Option<&str>) -> String {
    let contact = contact.map(str::trim).filter(|contact| !contact.is_empty());
    contact.map(|contact| format!("; ask {}", one_line(contact))).unwrap_or_default()
}

/// The newest version that may be had, of versions and their judgements (leave out what is yanked): a
/// release, or a pre-release where there is no release.
pub fn newest_allowed<'a>(
    judged: impl IntoIterator<Item = (&'a CrateVersion, &'a Judgement)>,
) -> Newest {
    let allowed = judged.into_iter().filter(|(_, judged)| judged.verdict == Verdict::Allow);
    let (open, settled): (Vec<_>, Vec<_>) = allowed.partition(|(_, judged)| judged.is_open);
    let newest = settled.into_iter().map(|(version, _)| version).max_by_key(|v| newer(v));
    match newest {
        Some(newest) => Newest::Version(newest.clone()),
        None if open.is_empty() => Newest::None,
        None => Newest::Unread,
    }
}

/// The versions that would be the newest allowed one if their licence were good, the newest first;
/// none that is older than one that is known to be allowed.
pub fn unread_candidates(judged: &[(Listed, Judgement)]) -> Vec<&Listed> {
    let offered = judged
        .iter()
        .filter(|(listed, judgement)| !listed.yanked && judgement.verdict == Verdict::Allow);
    let mut offered: Vec<_> = offered.collect();
    offered.sort_by(|(a, _), (b, _)| newer(&b.version).cmp(&newer(&a.version)));
    offered.into_iter().take_while(|(_, judged)| judged.is_open).map(|(listed, _)| listed).collect()
}

fn newer(version: &CrateVersion) -> (bool, &CrateVersion) {
    (!version.is_prerelease(), version)
}

/// A finding as the part of a sentence: "rule `ban`: known to be malicious".
pub fn said(finding: &Finding) -> String {
    let until = finding.until.map(|at| format!(" (until {at:.0})")).unwrap_or_default();
    format!("rule `{}`: {}{until}", finding.rule, one_line(&finding.reason))
}

pub(super) fn one_line(text: &str) -> String {
    let plain: String =
        text.chars().take(MAX_REASON_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim_end_matches(['.', ' ']).to_owned()
}
