//! Versions of crates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::CrateName;
use cratehouse_core::excerpt::excerpt;

/// The longest version, in bytes (crates.io refuses longer ones).
pub const MAX_VERSION_BYTES: usize = 150;

/// A crate's version: SemVer 2.0, at most [`MAX_VERSION_BYTES`]. Ordered by precedence, then by
/// build metadata.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateVersion(semver::Version);

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Longer than [`MAX_VERSION_BYTES`].
    #[error("the version is too long: {MAX_VERSION_BYTES} characters at most")]
    TooLong,
    /// Not SemVer.
    #[error("`{0}` is not a version: {1}")]
    NotSemver(String, String),
}

impl CrateVersion {
    /// The version as a SemVer value.
    pub fn semver(&self) -> &semver::Version {
        &self.0
    }

    /// The version without its build metadata: a registry holds one version of a crate for each
    /// such text (Cargo book, "Publishing"; crates.io `publish.rs`).
    pub fn number(&self) -> String {
        let mut number = self.0.clone();
        number.build = semver::BuildMetadata::EMPTY;
        number.to_string()
    }

    /// Whether both have the same number, whatever their build metadata.
    pub fn same_number(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0).is_eq()
    }

    /// Whether this is a pre-release.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

/// The sentence for a version that a crate does not have. A version is meant exactly, build
/// metadata included: where the crate has one of this number with other metadata (`instead`), the
/// sentence names it.
pub fn no_such_version(
    name: &CrateName,
    version: &CrateVersion,
    instead: Option<&CrateVersion>,
) -> String {
    match instead {
        Some(other) => format!(
            "`{name}` has no version {version}; it has {other}, which is another one: build \
             metadata (behind the `+`) is part of what names a version"
        ),
        None => format!("`{name}` has no version {version}"),
    }
}

impl FromStr for CrateVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() > MAX_VERSION_BYTES {
            return Err(VersionError::TooLong);
        }
        semver::Version::parse(text)
            .map(Self)
            .map_err(|e| VersionError::NotSemver(excerpt(text), excerpt(&e.to_string())))
    }
}

impl TryFrom<String> for CrateVersion {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<CrateVersion> for String {
    fn from(version: CrateVersion) -> String {
        version.0.to_string()
    }
}

impl fmt::Display for CrateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CrateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_metadata_does_not_make_another_version() {
        let a: CrateVersion = "1.0.0-rc.1+x".parse().unwrap();
        let b: CrateVersion = "1.0.0-rc.1".parse().unwrap();
        assert_eq!(a.number(), b.number());
        assert!(a.same_number(&b) && !a.same_number(&"1.0.0".parse().unwrap()));
        assert_ne!(a, b);
    }

    #[test]
    fn overlong_and_malformed_versions_are_refused() {
        let long = format!("1.0.0-{}", "a".repeat(MAX_VERSION_BYTES));
        assert_eq!(long.parse::<CrateVersion>(), Err(VersionError::TooLong));
        let broken = "1.0.0\nfaked".parse::<CrateVersion>().unwrap_err().to_string();
        assert!(!broken.contains('\n') && broken.contains("\\u{a}faked"), "{broken}");
        for bad in ["", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0 "] {
            assert!(bad.parse::<CrateVersion>().is_err(), "{bad}");
        }
    }
}
