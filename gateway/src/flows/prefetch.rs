//! Fills the mirror ahead of need, with what a Cargo.lock names.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::flows::{download, lookup};
use crate::gateway::Gateway;
use crate::model::lock::{self, Locked, LockedSource};
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;
use crate::threads::aside;

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
    let mut packages = parse_aside(lock).await?;
    packages.retain(|package| package.source == LockedSource::Registry);
    let total = packages.len();
    // Collected before they are buffered: a stream of closures is not `Send` for every caller.
    let fetches: Vec<_> = packages.into_iter().map(|p| fetch_named(gateway, p)).collect();
    let mut fetches = stream::iter(fetches).buffer_unordered(PACKAGES_AT_ONCE);
    let (mut done, mut failed) = (0, Vec::new());
    while let Some((package, answer)) = fetches.next().await {
        done += 1;
        if let Err(error) = answer {
            failed.push((package, error));
        }
        progress(done, total);
    }
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(failed)
}

/// The packages of a Cargo.lock. Parses in a task of its own, so that a panic of the parser is an
/// error here.
///
/// # Errors
/// Invalid, when the text is no Cargo.lock, or too large.
pub(super) async fn parse_aside(lock: &str) -> Result<BTreeSet<Locked>> {
    let text = lock.to_owned();
    let parsing = aside(move || lock::packages(&text));
    let parsed =
        parsing.await.map_err(|e| Error::invalid("this is not a Cargo.lock").because(e))?;
    parsed.map_err(Error::invalid)
}

async fn fetch_named(gateway: &Arc<Gateway>, package: Locked) -> (String, Result<()>) {
    let answer = fetch(gateway, &package).await;
    (format!("{} {}", package.name, package.version), answer)
}

async fn fetch(gateway: &Arc<Gateway>, package: &Locked) -> Result<()> {
    let name = CrateName::parse(&package.name).map_err(Error::invalid)?;
    let version: CrateVersion = package.version.parse().map_err(Error::invalid)?;
    let lower = CrateName::parse(&name.lower()).map_err(Error::invalid)?;
    let file = lookup::lookup(gateway, &lower).await?;
    let listed = file.as_ref().and_then(|file| file.version(&version));
    if let Some(mismatch) = listed.and_then(|listed| package.mismatch(&listed.cksum)) {
        return Err(Error::invalid(mismatch));
    }
    // Where the index lists nothing, the download says best what is wrong.
    download::download(gateway, &name, &version, download::Part::Head).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::flows::fixture::{House, Public, memory};
    use crate::model::checksum::Checksum;
    use crate::model::index::CRATES_IO_IDENTITY;
    use crate::stores::upstream::fixture::limits;

    fn package(name: &str, rest: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0+b\"\n{rest}\n")
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
}
