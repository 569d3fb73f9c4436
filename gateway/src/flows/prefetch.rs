//! Fills the mirror ahead of need, with what a Cargo.lock names.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use cargo_lock::{Lockfile, Package};
use futures_util::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::flows::{download, lookup};
use crate::gateway::Gateway;
use crate::model::checksum::Checksum;
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;

/// Packages that are fetched at one time.
const PACKAGES_AT_ONCE: usize = 16;

/// Fills the mirror with every registry package of a Cargo.lock (its text), from whatever
/// registry: through this gateway there is one. `progress(done, total)` is called after each.
/// Returns the packages that failed, sorted, with their reasons; tries all.
///
/// # Errors
/// Invalid, when the text is no Cargo.lock.
pub async fn prefetch(
    gateway: &Arc<Gateway>,
    lock: &str,
    progress: impl Fn(usize, usize),
) -> Result<Vec<(String, Error)>> {
    let packages = parse_aside(lock).await?;
    let total = packages.len();
    let mut fetches = stream::iter(packages)
        .map(async |package| (fetch(gateway, &package).await, package))
        .buffer_unordered(PACKAGES_AT_ONCE);
    let (mut done, mut failed) = (0, Vec::new());
    while let Some((answer, package)) = fetches.next().await {
        done += 1;
        if let Err(error) = answer {
            failed.push((format!("{} {}", package.name, package.version), error));
        }
        progress(done, total);
    }
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(failed)
}

/// A registry package, as a lock file writes it: its texts are parsed when its turn comes, so
/// that an odd one fails alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Locked {
    name: String,
    version: String,
    cksum: Option<Checksum>,
}

/// Parses in a task of its own, so that a panic of the parser is an error here.
async fn parse_aside(lock: &str) -> Result<BTreeSet<Locked>> {
    let text = lock.to_owned();
    let parsing = tokio::task::spawn_blocking(move || registry_packages(&text));
    parsing.await.unwrap_or_else(|e| Err(Error::invalid("this is not a Cargo.lock").because(e)))
}

fn registry_packages(lock: &str) -> Result<BTreeSet<Locked>> {
    let lock = Lockfile::from_str(lock)
        .map_err(|e| Error::invalid(format_args!("this is not a Cargo.lock: {e}")))?;
    let from_registry = |p: &&Package| p.source.as_ref().is_some_and(|s| s.is_registry());
    Ok(lock.packages.iter().filter(from_registry).map(Locked::new).collect())
}

impl Locked {
    fn new(package: &Package) -> Self {
        let cksum = package.checksum.as_ref().and_then(|sum| sum.as_sha256());
        Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            cksum: cksum.map(Checksum::from_bytes),
        }
    }
}

async fn fetch(gateway: &Arc<Gateway>, package: &Locked) -> Result<()> {
    let name = CrateName::parse(&package.name).map_err(Error::invalid)?;
    let version: CrateVersion = package.version.parse().map_err(Error::invalid)?;
    let lower = CrateName::parse(&name.lower()).map_err(Error::invalid)?;
    let file = lookup::lookup(gateway, &lower).await?;
    let listed = file.as_ref().and_then(|file| file.version(&version));
    if let (Some(locked), Some(listed)) = (package.cksum, listed) {
        compare(locked, listed.cksum)?;
    }
    // Where the index lists nothing, the download says best what is wrong.
    download::download(gateway, &name, &version).await.map(drop)
}

fn compare(locked: Checksum, listed: Checksum) -> Result<()> {
    if locked == listed {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "the lock file has the checksum {locked}, the index {listed}: one of the two is not what \
         was published"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::flows::fixture::{House, Public, memory};
    use crate::model::index::CRATES_IO_IDENTITY;
    use crate::stores::upstream::fixture::limits;

    fn package(name: &str, rest: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0+b\"\n{rest}\n")
    }

    #[test]
    fn packages_of_any_registry_are_taken_and_those_of_paths_and_git_are_not() {
        let sum = Checksum::of(b"x");
        let public = format!("source = \"registry+{CRATES_IO_IDENTITY}\"\nchecksum = \"{sum}\"\n");
        let lock = [
            "version = 4\n".to_owned(),
            package("public", &public),
            package("own", "source = \"sparse+https://crates.acme.example/index/\""),
            package("local", ""),
            package("forked", "source = \"git+https://git.acme.example/forked#0123456789\""),
        ]
        .concat();
        let found: Vec<_> = registry_packages(&lock).unwrap().into_iter().collect();
        let locked = |name: &str, cksum| Locked {
            name: name.to_owned(),
            version: "1.0.0+b".to_owned(),
            cksum,
        };
        assert_eq!(found, [locked("own", None), locked("public", Some(sum))]);
    }

    #[tokio::test]
    async fn every_package_is_tried_and_the_failures_are_told() {
        let public = Public::start(b"x").await;
        let house = House::open(&memory(), &[&public], limits()).await;
        let lock = |name: &str, version: &str, sum: &[u8]| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
                 source = \"registry+{CRATES_IO_IDENTITY}\"\nchecksum = \"{}\"\n",
                Checksum::of(sum)
            )
        };
        let text =
            [lock("Foo", "1.0.0", b"x"), lock("Foo", "1.0.1", b"x"), lock("bar", "1.0.0", b"x")]
                .concat();
        let seen = std::cell::RefCell::new(Vec::new());
        let progress = |done, total| seen.borrow_mut().push((done, total));
        let failed = prefetch(&house.gateway, &text, progress).await.unwrap();
        let failed: Vec<_> = failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        assert_eq!(failed, [("Foo 1.0.1", Kind::Absent), ("bar 1.0.0", Kind::Absent)]);
        assert_eq!(seen.into_inner(), [(1, 3), (2, 3), (3, 3)]);
        assert_eq!((public.fills(), house.foo().await.1), (1, "hit"));

        let changed = lock("Foo", "1.0.0", b"y");
        let failed = prefetch(&house.gateway, &changed, |_, _| ()).await.unwrap();
        assert!(failed[0].1.message.contains("checksum"), "{failed:?}");
    }

    #[tokio::test]
    async fn what_is_no_lock_file_is_refused_even_when_its_parser_panics() {
        let odd = format!("{}é{}", "0".repeat(31), "0".repeat(31));
        let source = "source = \"sparse+https://crates.acme.example/index/\"";
        let panics = package("a", &format!("{source}\nchecksum = \"{odd}\""));
        for lock in ["[package", "version = 4\n[[package]]\nname = 1", &panics] {
            assert_eq!(parse_aside(lock).await.unwrap_err().kind, Kind::Invalid, "{lock}");
        }
    }

    #[test]
    fn another_checksum_than_the_lock_files_is_a_failure() {
        assert!(compare(Checksum::of(b"x"), Checksum::of(b"x")).is_ok());
        assert_eq!(
            compare(Checksum::of(b"x"), Checksum::of(b"y")).unwrap_err().kind,
            Kind::Invalid
        );
    }
}
