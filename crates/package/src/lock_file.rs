//! A Cargo.lock: the packages that it names, and where they are from.

mod known;
mod misplaced;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::toml_walk::{Node, Place, Stopped, Visitor, WalkLimits, walk};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::excerpt::{acts, excerpt};

pub use self::known::KnownRegistries;
pub use self::misplaced::misplaced;

/// The largest lock file that is read, in bytes.
pub const MAX_LOCK_BYTES: usize = 4 * 1024 * 1024;
/// The most packages in a lock file.
pub const MAX_LOCK_PACKAGES: usize = 10_000;
/// The longest name, version or source of a package that is kept as it is, in bytes. A longer one is
/// none, and an excerpt of it shows that as well.
const MAX_WORD_BYTES: usize = 1024;
/// Six keys a package, a checksum for each in old lock files, and some more.
const LIMITS: WalkLimits = WalkLimits { keys: 100_000, depth: 8 };

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
    /// Whose crate it is by that; `None`: that says nothing, or [`KnownRegistries`] has not looked.
    pub identity: Option<LockedAs>,
    /// SHA-256 of its crate file, where it is locked.
    pub cksum: Option<Checksum>,
}

/// Where a locked package is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// As whose crate a package is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockedAs {
    /// As one of crates.io.
    CratesIo,
    /// As one of this registry.
    Ours,
    /// As one of the view of crates.io's crates that this registry has.
    View,
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

/// Its packages, each once, by name and version. Of everything else in it nothing is kept.
///
/// # Errors
/// Says why the text cannot be used.
pub fn packages(lock: &str) -> Result<BTreeSet<Locked>, LockError> {
    if lock.len() > MAX_LOCK_BYTES {
        return Err(LockError::TooLarge);
    }
    let mut reader = Reader::default();
    match walk(lock, LIMITS, &mut reader) {
        Ok(()) => reader.finish(),
        Err(Stopped::Toml(error)) => Err(LockError::Unreadable(error.to_string())),
        Err(Stopped::Visitor(error)) => Err(error),
    }
}

/// Collects packages while a lock file is walked.
#[derive(Default)]
struct Reader {
    found: usize,
    packages: BTreeSet<Locked>,
    /// The package that is being read.
    current: Option<Draft>,
    /// Of lock files of the first version: checksums by name and version.
    sums: BTreeMap<(String, String), Checksum>,
}

/// A package that is being read.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    version: Option<String>,
    source: Option<LockedSource>,
    registry: Option<String>,
    cksum: Option<Checksum>,
}

impl Visitor for Reader {
    type Error = LockError;

    fn value(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), LockError> {
        match (at.keys, at.arrays) {
            (["package"], 0) if node != Node::Array => Err(unreadable("`package` is no array")),
            (["package", key @ ("name" | "version" | "source" | "checksum")], 1) => {
                let Node::Text(text) = node else {
                    return Err(unreadable(format!("the {key} of a package is no text")));
                };
                self.set(key, text)
            }
            (["metadata", key], 0) => {
                self.note_checksum(key, node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn item(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), LockError> {
        if at.keys != ["package"] || at.arrays > 0 {
            return Ok(());
        }
        if node != Node::Table {
            return Err(unreadable("a package is no table"));
        }
        self.take()?;
        self.found += 1;
        if self.found > MAX_LOCK_PACKAGES {
            return Err(LockError::TooMany);
        }
        self.current = Some(Draft::default());
        Ok(())
    }
}

impl Reader {
    fn finish(mut self) -> Result<BTreeSet<Locked>, LockError> {
        self.take()?;
        if self.sums.is_empty() {
            return Ok(self.packages);
        }
        let sums = self.sums;
        let summed = self.packages.into_iter().map(|mut package| {
            if package.cksum.is_none() && package.source == LockedSource::Registry {
                let key = (package.name, package.version);
                package.cksum = sums.get(&key).copied();
                (package.name, package.version) = key;
            }
            package
        });
        Ok(summed.collect())
    }

    fn take(&mut self) -> Result<(), LockError> {
        let Some(draft) = self.current.take() else { return Ok(()) };
        let (Some(name), Some(version)) = (draft.name, draft.version) else {
            return Err(unreadable("a package has no name or no version"));
        };
        let source = draft.source.unwrap_or(LockedSource::Path);
        let (registry, cksum) = (draft.registry, draft.cksum);
        self.packages.insert(Locked { name, version, source, registry, identity: None, cksum });
        Ok(())
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), LockError> {
        let Some(draft) = self.current.as_mut() else { return Ok(()) };
        match key {
            "name" => draft.name = Some(word(text)),
            "version" => draft.version = Some(word(text)),
            "source" => {
                let source = LockedSource::parse(text)?;
                draft.registry = (source == LockedSource::Registry).then(|| word(text));
                draft.source = Some(source);
            }
            _ => draft.cksum = Some(text.parse().map_err(|_| no_checksum(text))?),
        }
        Ok(())
    }

    /// `"checksum NAME VERSION (SOURCE)" = "…"`, in lock files of the first version.
    fn note_checksum(&mut self, key: &str, node: Node<'_>) {
        let mut words = key.split(' ');
        let (Some("checksum"), Some(name), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return;
        };
        if let (Node::Text(text), true) = (node, self.sums.len() < MAX_LOCK_PACKAGES)
            && let Ok(sum) = text.parse()
        {
            self.sums.insert((word(name), word(version)), sum);
        }
    }
}

fn unreadable(why: impl Into<String>) -> LockError {
    LockError::Unreadable(why.into())
}

fn no_checksum(text: &str) -> LockError {
    unreadable(format!("`{}` is no checksum", excerpt(text)))
}

fn word(text: &str) -> String {
    match text.len() <= MAX_WORD_BYTES && !text.chars().any(acts) {
        true => text.to_owned(),
        false => excerpt(text),
    }
}

impl LockedSource {
    /// From what a lock file writes, `registry+https://…` for instance.
    fn parse(text: &str) -> Result<Self, LockError> {
        match text.split_once('+') {
            Some(("registry" | "sparse" | "local-registry", _)) => Ok(Self::Registry),
            Some(("git", _)) => Ok(Self::Git),
            Some(("path", _)) => Ok(Self::Path),
            _ => Err(unreadable(format!("the source `{}` is of no known kind", excerpt(text)))),
        }
    }
}

impl Locked {
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
    use crate::index::CRATES_IO_IDENTITY;

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
            identity: None,
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
    fn checksums_of_the_first_version_stand_in_the_metadata() {
        let sum = Checksum::of(b"x");
        let source = format!("source = \"registry+{CRATES_IO_IDENTITY}\"");
        let text = format!(
            "{}{}[metadata]\n\"checksum a 1.0.0+b (registry+{CRATES_IO_IDENTITY})\" = \"{sum}\"\n\
             \"checksum c 1.0.0+b (registry+x)\" = \"<none>\"\n",
            package("a", &source),
            package("c", &source)
        );
        let found: Vec<_> =
            packages(&text).unwrap().into_iter().map(|p| (p.name, p.cksum)).collect();
        assert_eq!(found, [("a".to_owned(), Some(sum)), ("c".to_owned(), None)]);
    }

    #[test]
    fn lock_files_of_real_projects_are_read_whole() {
        for lock in
            [include_str!("../../../Cargo.lock"), include_str!("../../../bench/corpus/Cargo.lock")]
        {
            let found = packages(lock).unwrap();
            assert_eq!(found.len(), lock.matches("[[package]]").count());
            let public = found.iter().filter(|p| p.source == LockedSource::Registry);
            let locked = public.clone().filter(|p| p.cksum.is_some()).count();
            assert_eq!((public.count(), locked), (locked, lock.matches("\nchecksum = ").count()));
        }
    }

    #[test]
    fn the_words_of_a_lock_file_come_back_as_excerpts() {
        let long = "a".repeat(100_000);
        let named = packages(&package(&long, "")).unwrap().pop_first().unwrap();
        assert!(named.name.chars().count() <= 201);
        for odd in [
            format!("x = {long}"),
            package("a", &format!("source = \"{long}\"")),
            package("a", &format!("checksum = \"{long}\"")),
        ] {
            let refused = packages(&odd).unwrap_err().to_string();
            assert!(refused.len() < 400, "{refused:.400}");
        }
    }

    #[test]
    fn what_is_too_large_or_no_lock_file_is_refused() {
        assert_eq!(packages(&" ".repeat(MAX_LOCK_BYTES + 1)), Err(LockError::TooLarge));
        let many: String = (0..=MAX_LOCK_PACKAGES).map(|n| package(&format!("a{n}"), "")).collect();
        assert_eq!(packages(&many), Err(LockError::TooMany));
        for odd in [
            "[package",
            "[package]",
            "package = 1",
            "package = [1]",
            "[[package]]",
            "[[package]]\nname = 1",
            "[[package]]\nname = \"a\"\nversion = \"1\"\nname = \"b\"",
            &package("a", "checksum = \"x\""),
            &package("a", "source = \"x\""),
        ] {
            assert!(matches!(packages(odd), Err(LockError::Unreadable(_))), "{odd}");
        }
    }

    #[test]
    fn another_checksum_than_the_indexs_is_told() {
        let lock = |cksum| Locked {
            name: "foo".to_owned(),
            version: "1.0.0".to_owned(),
            source: LockedSource::Registry,
            registry: None,
            identity: None,
            cksum,
        };
        let sum = Checksum::of(b"x");
        assert_eq!(lock(Some(sum)).mismatch(&sum), None);
        assert_eq!(lock(None).mismatch(&sum), None);
        assert!(lock(Some(Checksum::of(b"y"))).mismatch(&sum).unwrap().contains("checksum"));
    }
}
