//! The policies that judge, and the advisory database beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::files::{SORTS, Sort, version};
use crate::Result;

/// By which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Policy {
    /// There is no policy.
    None,
    /// The starter policy of this repository.
    Starter,
    /// Every rule that judges versions, with long lists.
    Every,
}

pub(super) const POLICIES: [Policy; 3] = [Policy::None, Policy::Starter, Policy::Every];

const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/starter");

/// The advisories of each crate that is not harmless; each one knows of more versions.
const ADVISORIES_EACH: usize = 8;
/// Advisories of each other crate.
const ADVISORIES_ELSEWHERE: usize = 3;

/// How long the lists are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists {
    /// `[[ban]]`, and as many `[[allow]]`.
    pub(super) bans: usize,
    /// Exceptions from the age, and as many waivers.
    pub(super) exceptions: usize,
}

impl Policy {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Starter => "starter",
            Self::Every => "every rule",
        }
    }

    /// Writes its files into a folder.
    pub(super) fn write(self, folder: &Path, lists: Lists) -> Result<()> {
        fs::create_dir_all(folder)?;
        match self {
            Self::None => {}
            Self::Starter => {
                for file in fs::read_dir(STARTER)? {
                    let file = file?;
                    fs::copy(file.path(), folder.join(file.file_name()))?;
                }
            }
            Self::Every => fs::write(folder.join("policy.toml"), every_rule(lists))?,
        }
        Ok(())
    }
}

/// Makes a policy another one that judges alike: it bans a crate that nobody asks for.
pub(super) fn alter(folder: &Path, nth: usize) -> Result<()> {
    let text = format!("[[ban]]\nname = \"nobody-asks-for-this-{nth}\"\n");
    let new = folder.join(".round.toml");
    fs::write(&new, text)?; // renamed, so that nobody reads half of it
    Ok(fs::rename(&new, folder.join("round.toml"))?)
}

/// Of the versions of every crate that is not harmless, the first is banned, the second is on no
/// list, the third is waived.
fn every_rule(lists: Lists) -> String {
    let mut text = SECTIONS.to_owned();
    let listed = |prefix: &str| {
        let names = (0..lists.exceptions).map(|nth| format!("\"{prefix}-{nth:04}-*\""));
        names.collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(text, "[age]\nminimum = \"14d\"\naction = \"deny\"\nunknown = \"hold\"");
    let _ = writeln!(text, "exceptions = [{}]", listed("young"));
    for nth in 0..lists.bans {
        let (star, minor) = (if nth % 2 == 0 { "-*" } else { "" }, nth % 20);
        let _ = writeln!(text, "[[ban]]\nname = \"banned-{nth:04}{star}\"");
        let _ = writeln!(text, "version = \"<1.{minor}.0\"\nreason = \"never again\"");
        let _ = writeln!(text, "[[allow]]\nname = \"allowed-{nth:04}{star}\"");
    }
    for nth in 0..lists.exceptions {
        let _ = writeln!(text, "[[waiver]]\nname = \"waived-{nth:04}\"\nversion = \"=1.0.0\"");
        let _ = writeln!(text, "until = 2999-12-31\nreason = \"reviewed\"\nwho = \"ada\"");
    }
    for sort in SORTS {
        let name = sort.pattern();
        let allowed = if sort.harmless { "*" } else { ">=1.0.2" };
        let _ = writeln!(text, "[[allow]]\nname = \"{name}\"\nversion = \"{allowed}\"");
        if !sort.harmless {
            let _ = writeln!(text, "[[ban]]\nname = \"{name}\"\nversion = \"<1.0.1\"");
            let _ = writeln!(text, "[[waiver]]\nname = \"{name}\"\nversion = \"=1.0.2\"");
            let _ = writeln!(text, "until = 2999-12-31\nreason = \"reviewed\"\nwho = \"ada\"");
        }
    }
    text
}

const SECTIONS: &str = r#"
mode = "enforce"
contact = "whom it may concern"

[allow_list]
action = "hold"

[advisories]
critical = "deny"
unsound = "hold"
unmaintained = "hold"
notice = "hold"
yanked = "deny"
ignore = ["RUSTSEC-2014-0001", "RUSTSEC-2014-0002", "RUSTSEC-2014-0003"]

[licenses]
allow = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0", "Zlib"]
exceptions = [{ name = "roots", allow = ["MPL-2.0"], reason = "certificates, no code" }]
missing = "deny"
unparsable = "hold"

[integrity]
checksum_changed = "deny"

"#;

/// Writes an advisory database of that many advisories: some about each crate that is not
/// harmless, the others about crates that nobody asks for.
pub(super) fn write_advisories(folder: &Path, count: usize, rounds: usize) -> Result<()> {
    let mut nth = 0;
    let mut write = |krate: &str, patched: &str, cvss: &str| {
        let id = format!("RUSTSEC-{}-{:04}", 2016 + nth / 1000, nth % 1000 + 1);
        let crate_folder = folder.join("crates").join(krate);
        fs::create_dir_all(&crate_folder)?;
        fs::write(crate_folder.join(format!("{id}.md")), advisory(&id, krate, patched, cvss))?;
        nth += 1;
        Ok::<_, std::io::Error>(nth)
    };
    for sort in SORTS.iter().filter(|sort| !sort.harmless) {
        for round in 0..rounds {
            for step in 1..=ADVISORIES_EACH {
                let cvss = if step == 1 { CRITICAL } else { HIGH };
                write(&sort.name(round), &patched_in(sort, step), cvss)?;
            }
        }
    }
    let mut written = 0;
    while written < count {
        let elsewhere = format!("elsewhere-{:05}", written / ADVISORIES_ELSEWHERE);
        written = write(&elsewhere, "1.2.3", HIGH)?;
    }
    Ok(())
}

/// The last advisory knows of the older half of all versions, at least of one.
fn patched_in(sort: &Sort, step: usize) -> String {
    version((sort.versions() * step / (2 * ADVISORIES_EACH)).max(1))
}

const CRITICAL: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
const HIGH: &str = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H";

fn advisory(id: &str, krate: &str, patched: &str, cvss: &str) -> String {
    format!(
        "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{krate}\"\ndate = \"2025-01-02\"\n\
         cvss = \"{cvss}\"\n\n[versions]\npatched = [\">= {patched}\"]\n```\n\n\
         # What is wrong with {krate}\n\nIt is known to the few who ask.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_there() {
        let text = every_rule(Lists { bans: 2, exceptions: 1 });
        for rule in ["allow_list", "advisories", "licenses", "integrity", "age"] {
            assert!(text.contains(&format!("[{rule}]\n")), "{rule}");
        }
        for (rule, count) in [("ban", 5), ("allow", 6), ("waiver", 4)] {
            assert_eq!(text.matches(&format!("[[{rule}]]\n")).count(), count, "{rule}");
        }
    }

    #[test]
    fn an_advisory_knows_of_half_of_the_versions_at_the_most() {
        let usual = SORTS.iter().find(|sort| sort.versions() == 300).unwrap();
        assert_eq!(patched_in(usual, ADVISORIES_EACH), "1.1.50");
        assert_eq!(patched_in(&SORTS[0], 1), "1.0.1");
    }
}
