//! The packages of a lock file.

use serde::Deserialize;

use crate::Result;

/// How `Cargo.lock` names crates.io.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A version that a lock file names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// SHA-256 of the crate file.
    #[serde(default)]
    pub(super) checksum: String,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

/// Those that come from a registry; an error when that is another one than crates.io.
pub(super) fn packages(lock: &str) -> Result<Vec<Package>> {
    let all = toml::from_str::<Lock>(lock)?.package;
    let all: Vec<Package> = all.into_iter().filter(|one| one.source.is_some()).collect();
    match all.iter().find(|one| one.source.as_deref() != Some(REGISTRY)) {
        None => Ok(all),
        Some(one) => Err(format!("{} is not from crates.io", one.name).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_of_the_corpus_is_as_large_as_promised_and_of_crates_io_alone() {
        let all = packages(&std::fs::read_to_string(super::super::LOCK).unwrap()).unwrap();
        assert!(all.len() >= 500, "{} packages", all.len());
        assert!(all.iter().all(|one| one.checksum.len() == 64));
    }

    #[test]
    fn another_source_is_refused() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"git+x\"\n";
        assert!(packages(lock).unwrap_err().to_string().contains("a is not from crates.io"));
    }
}
