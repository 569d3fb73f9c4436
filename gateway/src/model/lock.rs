//! A Cargo.lock: the packages that it names, and where they are from.

mod known;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use cargo_lock::{Lockfile, Package};
use serde::Serialize;

use crate::model::checksum::Checksum;

pub use self::known::KnownRegistries;

/// The largest lock file that is read, in bytes.
pub const MAX_LOCK_BYTES: usize = 4 * 1024 * 1024;
/// The most packages in a lock file.
pub const MAX_LOCK_PACKAGES: usize = 10_000;

/// A package as a lock file writes it: its texts are parsed when its turn comes, so that an odd one
/// fails alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is from.
    pub source: LockedSource,
    /// Its registry, as the lock file writes it: `registry+…`, `sparse+…` or `local-registry+…`.
    pub registry: Option<String>,
    /// SHA-256 of its crate file, where it is locked.
    pub cksum: Option<Checksum>,
}

/// Where a locked package is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LockedSource {
    /// A registry. Of those that [`KnownRegistries`] has marked: one that is asked through here.
    Registry,
    /// Another registry than those: its names are asked nowhere.
    #[serde(rename = "other-registry")]
    OtherRegistry,
    /// A git repository.
    Git,
    /// The workspace, or a path.
    Path,
}

/// Why a text is no lock file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is none.
    #[error("this is not a Cargo.lock: {0}")]
    Unreadable(String),
    /// It is too large.
    #[error("the Cargo.lock is too large: {MAX_LOCK_BYTES} bytes at most")]
    TooLarge,
    /// It names too much.
    #[error("the Cargo.lock names too many packages: {MAX_LOCK_PACKAGES} at most")]
    TooMany,
}

/// Its packages, each once, by name and version. The parser may panic on odd texts: contain it.
///
/// # Errors
/// Says why the text cannot be used.
pub fn packages(lock: &str) -> Result<BTreeSet<Locked>, LockError> {
    if lock.len() > MAX_LOCK_BYTES {
        return Err(LockError::TooLarge);
    }
    let lock = Lockfile::from_str(lock).map_err(|e| LockError::Unreadable(e.to_string()))?;
    if lock.packages.len() > MAX_LOCK_PACKAGES {
        return Err(LockError::TooMany);
    }
    Ok(lock.packages.iter().map(Locked::new).collect())
}

impl Locked {
    fn new(package: &Package) -> Self {
        let cksum = package.checksum.as_ref().and_then(|sum| sum.as_sha256());
        let registry = package.source.as_ref().filter(|source| source.is_registry());
        let source = match &package.source {
            Some(_) if registry.is_some() => LockedSource::Registry,
            Some(source) if source.is_git() => LockedSource::Git,
            _ => LockedSource::Path,
        };
        Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            source,
            registry: registry.map(ToString::to_string),
            cksum: cksum.map(Checksum::from_bytes),
        }
    }

    /// What is wrong if the index says another checksum than the lock file.
    pub fn mismatch(&self, listed: &Checksum) -> Option<String> {
        let locked = self.cksum.filter(|locked| locked != listed)?;
        Some(format!(
            "the lock file has the checksum {locked}, the index {listed}: one of the two is not \
             what was published"
        ))
    }
}

impl LockedSource {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::OtherRegistry => "other-registry",
            Self::Git => "git",
            Self::Path => "path",
        }
    }
}

impl fmt::Display for LockedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::index::CRATES_IO_IDENTITY;

    fn package(name: &str, rest: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0+b\"\n{rest}\n")
    }

    #[test]
    fn every_package_is_named_with_where_it_is_from() {
        let sum = Checksum::of(b"x");
        let public = format!("source = \"registry+{CRATES_IO_IDENTITY}\"\nchecksum = \"{sum}\"\n");
        let lock = [
            "version = 4\n".to_owned(),
            package("app", ""),
            package("public", &public),
            package("public", &public),
            package("own", "source = \"sparse+https://crates.acme.example/index/\""),
            package("forked", "source = \"git+https://git.acme.example/forked#0123456789\""),
        ]
        .concat();
        let found: Vec<_> = packages(&lock).unwrap().into_iter().collect();
        let locked = |name: &str, source, registry: Option<&str>, cksum| Locked {
            name: name.to_owned(),
            version: "1.0.0+b".to_owned(),
            source,
            registry: registry.map(str::to_owned),
            cksum,
        };
        let own = "sparse+https://crates.acme.example/index/";
        let public = format!("registry+{CRATES_IO_IDENTITY}");
        let wanted = [
            locked("app", LockedSource::Path, None, None),
            locked("forked", LockedSource::Git, None, None),
            locked("own", LockedSource::Registry, Some(own), None),
            locked("public", LockedSource::Registry, Some(&public), Some(sum)),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_too_large_or_no_lock_file_is_refused() {
        assert_eq!(packages(&" ".repeat(MAX_LOCK_BYTES + 1)), Err(LockError::TooLarge));
        let many: String = (0..=MAX_LOCK_PACKAGES).map(|n| package(&format!("a{n}"), "")).collect();
        assert_eq!(packages(&many), Err(LockError::TooMany));
        assert!(matches!(packages("[package"), Err(LockError::Unreadable(_))));
    }

    #[test]
    fn another_checksum_than_the_indexs_is_told() {
        let lock = |cksum| Locked {
            name: "foo".to_owned(),
            version: "1.0.0".to_owned(),
            source: LockedSource::Registry,
            registry: None,
            cksum,
        };
        let sum = Checksum::of(b"x");
        assert_eq!(lock(Some(sum)).mismatch(&sum), None);
        assert_eq!(lock(None).mismatch(&sum), None);
        assert!(lock(Some(Checksum::of(b"y"))).mismatch(&sum).unwrap().contains("checksum"));
    }
}
