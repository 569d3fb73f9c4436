//! The sentence that cargo prints when a download is refused.

use std::fmt::Write;

use super::judge::{Finding, Judgement};
use super::words::Verdict;
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;

/// What a rule says is cut after this many characters.
const MAX_REASON_CHARS: usize = 400;

/// Why a download is denied, in one sentence: the rules, their reasons, the newest allowed version
/// (`None`: there is none), whom to ask. It is one line, without control characters, whatever stands
/// in policies and advisories.
pub fn refusal(
    name: &CrateName,
    version: &CrateVersion,
    judgement: &Judgement,
    newest_allowed: Option<&CrateVersion>,
    contact: Option<&str>,
) -> String {
    let mut text = denial(name, version, judgement);
    let _ = match newest_allowed {
        Some(newest) => write!(text, "; the newest allowed version is {newest}"),
        None => write!(text, "; no version of it is allowed"),
    };
    text + &whom_to_ask(contact)
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

/// The newest version that may be had, of versions and their verdicts (leave out what is yanked): a
/// release, or a pre-release where there is no release.
pub fn newest_allowed<'a>(
    judged: impl IntoIterator<Item = (&'a CrateVersion, Verdict)>,
) -> Option<&'a CrateVersion> {
    let allowed = judged.into_iter().filter(|(_, verdict)| *verdict == Verdict::Allow);
    allowed.map(|(version, _)| version).max_by_key(|version| (!version.is_prerelease(), *version))
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
