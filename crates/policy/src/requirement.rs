//! Version requirements that see pre-releases.
//!
//! Cargo's own matching leaves pre-releases out, because nobody wants to be given one unasked. A
//! rule must not: `version = "<1.2.3"` that let 1.2.3-rc.1 through would be a hole. So each part
//! of a requirement (they are joined by commas, and all must hold) is an interval in the order of
//! SemVer 2.0 §11, which knows pre-releases:
//!
//! - **Written in full, a version is exactly itself:** `<1.2.3` has 1.2.3-rc.1 in it, `>=1.2.3`
//!   has not, `=1.2.3` is that one version.
//! - **Written in part, it means all versions that begin so, their pre-releases included:** `=1.2`
//!   and `1.2.*` have 1.2.0-rc.1 in them, `>=1.2` too, `<1.2` and `>1.2` have not.
//! - **The end that `^` and `~` imply lies before the pre-releases there:** `^1.2.3`, which `1.2.3`
//!   alone means too, has no 2.0.0-rc.1 in it.
//!
//! Build metadata counts for nothing, but where `=` names it: `=1.2.3+b` is that one version and no
//! other `1.2.3`, while `=1.2.3` is every `1.2.3`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};
use serde::{Deserialize, Serialize};

use cratehouse_package::version::CrateVersion;

/// A version requirement of a rule; see the module for what it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Requirement {
    text: String,
    all: Vec<Interval>,
}

/// Why a text is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a version requirement: write `*`, `=1.2.3`, `1.2` (which is `^1.2`), or several \
     such as `>=1.2, <1.4`"
)]
pub struct RequirementError(String);

impl Requirement {
    /// Whether a version is meant.
    pub fn matches(&self, version: &CrateVersion) -> bool {
        self.all.iter().all(|interval| interval.has(version.semver()))
    }

    /// The requirement as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it means every version, however it is written.
    pub fn is_any(&self) -> bool {
        let zero = Version::new(0, 0, 0);
        let from_zero = |edge: &Edge| edge.version.cmp_precedence(&zero) != Ordering::Greater;
        self.all.iter().all(|i| {
            i.to.is_none() && i.from.as_ref().is_none_or(|edge| edge.included && from_zero(edge))
        })
    }
}

impl Default for Requirement {
    fn default() -> Self {
        Self { text: "*".to_owned(), all: Vec::new() }
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let parsed = VersionReq::parse(text)
            .map_err(|_| RequirementError(text.chars().take(100).collect()))?;
        let parts = text.split(',').map(named_build).chain(std::iter::repeat(None));
        let all = parsed.comparators.iter().zip(parts);
        let all = all.map(|(part, build)| Interval { build, ..Interval::of(part) }).collect();
        Ok(Self { text: text.trim().to_owned(), all })
    }
}

impl TryFrom<String> for Requirement {
    type Error = RequirementError;
    fn try_from(text: String) -> Result<Self, RequirementError> {
        text.parse()
    }
}

impl From<Requirement> for String {
    fn from(requirement: Requirement) -> String {
        requirement.text
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The build metadata that a part such as `=1.2.3+b` names, which the parser of requirements drops.
fn named_build(part: &str) -> Option<BuildMetadata> {
    let version = part.trim().strip_prefix('=')?.trim_start().parse::<Version>().ok()?;
    Some(version.build).filter(|build| !build.is_empty())
}

/// A stretch of versions; an edge that is absent is open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interval {
    from: Option<Edge>,
    to: Option<Edge>,
    /// Only versions with this build metadata, where it is named.
    build: Option<BuildMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    version: Version,
    included: bool,
}

impl Interval {
    fn of(part: &Comparator) -> Self {
        let (first, last) = (Some(first(part)), last(part));
        match part.op {
            Op::Exact | Op::Wildcard => Self::between(first, last),
            Op::Greater => match last {
                Some(last) => Self::between(Some(last.other_side()), None),
                None => Self::nothing(),
            },
            Op::GreaterEq => Self::between(first, None),
            Op::Less => Self::between(None, first.map(Edge::other_side)),
            Op::LessEq => Self::between(None, last),
            Op::Tilde => Self::between(first, tilde_end(part).map(Edge::before)),
            _ => Self::between(first, caret_end(part).map(Edge::before)),
        }
    }

    fn between(from: Option<Edge>, to: Option<Edge>) -> Self {
        Self { from, to, build: None }
    }

    fn nothing() -> Self {
        let end = Edge { version: Version::new(0, 0, 0), included: false };
        Self::between(Some(end.clone()), Some(end))
    }

    fn has(&self, version: &Version) -> bool {
        let inside = |edge: &Edge, wanted: Ordering| {
            let order = version.cmp_precedence(&edge.version);
            order == wanted || (edge.included && order == Ordering::Equal)
        };
        self.from.as_ref().is_none_or(|edge| inside(edge, Ordering::Greater))
            && self.to.as_ref().is_none_or(|edge| inside(edge, Ordering::Less))
            && self.build.as_ref().is_none_or(|build| *build == version.build)
    }
}

impl Edge {
    fn at(version: Version) -> Self {
        Self { version, included: true }
    }

    /// Before a version and all its pre-releases.
    fn before(numbers: (u64, u64, u64)) -> Self {
        Self { version: lowest(numbers), included: false }
    }

    /// What ends here now begins here, or the other way round.
    fn other_side(self) -> Self {
        Self { included: !self.included, ..self }
    }
}

/// Where what is meant begins: in part, with the lowest pre-release.
fn first(part: &Comparator) -> Edge {
    match (part.minor, part.patch) {
        (Some(minor), Some(patch)) => Edge::at(full(part, minor, patch)),
        (minor, _) => Edge::at(lowest((part.major, minor.unwrap_or(0), 0))),
    }
}

/// Where what is meant ends: in part, before all that begins with the next number. `None`: no
/// number is higher.
fn last(part: &Comparator) -> Option<Edge> {
    match (part.minor, part.patch) {
        (Some(minor), Some(patch)) => Some(Edge::at(full(part, minor, patch))),
        (Some(minor), None) => Some(Edge::before((part.major, minor.checked_add(1)?, 0))),
        (None, _) => Some(Edge::before((part.major.checked_add(1)?, 0, 0))),
    }
}

fn tilde_end(part: &Comparator) -> Option<(u64, u64, u64)> {
    match part.minor {
        Some(minor) => Some((part.major, minor.checked_add(1)?, 0)),
        None => Some((part.major.checked_add(1)?, 0, 0)),
    }
}

/// Cargo book, "Caret requirements".
fn caret_end(part: &Comparator) -> Option<(u64, u64, u64)> {
    match (part.major, part.minor, part.patch) {
        (0, Some(0), Some(patch)) => Some((0, 0, patch.checked_add(1)?)),
        (0, Some(minor), _) => Some((0, minor.checked_add(1)?, 0)),
        (major, ..) => Some((major.checked_add(1)?, 0, 0)),
    }
}

fn full(part: &Comparator, minor: u64, patch: u64) -> Version {
    Version { pre: part.pre.clone(), ..Version::new(part.major, minor, patch) }
}

/// The lowest pre-release of a version (SemVer 2.0 §11: a number is lower than any word).
fn lowest((major, minor, patch): (u64, u64, u64)) -> Version {
    let pre = Prerelease::new("0").unwrap_or(Prerelease::EMPTY);
    Version { pre, ..Version::new(major, minor, patch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(requirement: &str, version: &str) -> bool {
        requirement.parse::<Requirement>().unwrap().matches(&version.parse().unwrap())
    }

    #[test]
    fn a_requirement_matches_as_its_documentation_says() {
        for (requirement, inside, outside) in [
            ("*", "0.0.0-0 1.0.0-rc.1 9.9.9+b", ""),
            ("=1.2.3", "1.2.3 1.2.3+b", "1.2.3-rc.1 1.2.4 1.2.4-0"),
            ("=1.2.3+b", "1.2.3+b", "1.2.3 1.2.3+c 1.2.4+b"),
            ("= 1.2.3-rc.1+b , <2", "1.2.3-rc.1+b", "1.2.3-rc.1 1.2.3+b"),
            ("=1.2.3-rc.1", "1.2.3-rc.1", "1.2.3 1.2.3-rc.1.0"),
            ("=1.2", "1.2.0 1.2.0-rc.1 1.2.9", "1.3.0-0 1.1.9"),
            ("1.2.*", "1.2.0-rc.1 1.2.9-rc.1", "1.3.0-rc.1"),
            ("1.2.3", "1.2.3 1.9.0 1.9.0-rc.1", "1.2.3-rc.1 2.0.0-rc.1 2.0.0"),
            ("^1", "1.0.0-rc.1 1.9.9", "2.0.0-0 0.9.0"),
            ("^0.2.3", "0.2.3 0.2.9", "0.3.0-rc.1 0.2.2"),
            ("^0.0.3", "0.0.3", "0.0.4-0 0.0.4"),
            ("^0", "0.0.0 0.9.9 0.0.0-0", "1.0.0-0"),
            ("~1.2.3", "1.2.3 1.2.9", "1.3.0-rc.1 1.2.3-rc.1"),
            ("~1", "1.0.0-rc.1 1.9.0", "2.0.0-0"),
            ("<1.2.3", "1.2.3-rc.1 0.1.0", "1.2.3 1.2.3+b"),
            ("<1.2", "1.1.9", "1.2.0-rc.1 1.2.0"),
            ("<=1.2.3", "1.2.3 1.2.3+b 1.2.3-rc.1", "1.2.4-0"),
            ("<=1.2", "1.2.9 1.2.0-0", "1.3.0-0"),
            (">1.2.3", "1.2.4-0 1.2.4", "1.2.3 1.2.3-rc.1 1.2.3+b"),
            (">1.2", "1.3.0-0", "1.2.9"),
            (">=1.2.3", "1.2.3 2.0.0-rc.1", "1.2.3-rc.1"),
            (">=1.2", "1.2.0-rc.1", "1.1.9"),
            (">=1.2, <1.4", "1.2.0-rc.1 1.3.9", "1.4.0-rc.1"),
            (">18446744073709551615", "", "18446744073709551615.0.0"),
        ] {
            for version in inside.split_whitespace() {
                assert!(matches(requirement, version), "{requirement} has {version}");
            }
            for version in outside.split_whitespace() {
                assert!(!matches(requirement, version), "{requirement} has no {version}");
            }
        }
    }

    #[test]
    fn a_requirement_for_anything_is_known_as_one() {
        for any in ["*", ">=0", ">=0.0.0", ">=0.0"] {
            assert!(any.parse::<Requirement>().unwrap().is_any(), "{any}");
        }
        for some in ["0", ">0.0.0", ">=0.0.1", "<9", ">=0, <1", "1"] {
            assert!(!some.parse::<Requirement>().unwrap().is_any(), "{some}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_cargo_matches_is_matched(
            op in "(=|\\^|~|<|>|<=|>=|)",
            a in 0u64..3, b in 0u64..3, c in 0u64..3,
            parts in 1usize..4,
            x in 0u64..3, y in 0u64..3, z in 0u64..3,
        ) {
            let numbers = [a, b, c].map(|n| n.to_string());
            let text = format!("{op}{}", numbers[..parts].join("."));
            let version = format!("{x}.{y}.{z}");
            let cargo = VersionReq::parse(&text).unwrap().matches(&version.parse().unwrap());
            assert_eq!(cargo, matches(&text, &version), "{text} {version}");
        }

        #[test]
        fn any_text_is_a_requirement_or_an_error(text in ".{0,40}") {
            let _ = text.parse::<Requirement>();
        }
    }
}
