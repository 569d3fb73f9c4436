//! Fills the mirror ahead of need, with what a Cargo.lock names.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::flows::{download, learning, lock_file, lookup};
use crate::gateway::Gateway;
use crate::model::client_key::ClientKey;
use crate::model::lock::{Locked, LockedSource};
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;

/// Packages that are fetched at one time.
const PACKAGES_AT_ONCE: usize = 16;

/// What came of filling the mirror.
#[derive(Debug, Default)]
pub struct Prefetched {
    /// The packages that failed, sorted, with their reasons.
    pub failed: Vec<(String, Error)>,
    /// The packages of other registries, sorted: they were left out.
    pub elsewhere: Vec<String>,
}

/// Fills the mirror with every package of a Cargo.lock (its text) that is from crates.io, from this
/// registry or from one of its upstreams. `progress(done, total)` is called after each; all are
/// tried.
///
/// # Errors
/// Invalid, when the text is no Cargo.lock.
pub async fn prefetch(
    gateway: &Arc<Gateway>,
    lock: &str,
    progress: impl Fn(usize, usize),
) -> Result<Prefetched> {
    let mut packages = lock_file::packages(gateway, ClientKey::Exempt, lock).await?;
    let other = |package: &&Locked| package.source == LockedSource::OtherRegistry;
    let elsewhere = packages.iter().filter(other).map(full_name).collect();
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
    Ok(Prefetched { failed, elsewhere })
}

fn full_name(package: &Locked) -> String {
    format!("{} {}", package.name, package.version)
}

async fn fetch_named(gateway: &Arc<Gateway>, package: Locked) -> (String, Result<()>) {
    let answer = fetch(gateway, &package).await;
    (full_name(&package), answer)
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
    let fetched = download::download(gateway, &name, &version, download::Part::Head).await;
    learning::settle(gateway, &lower, &version).await; // also of what its licence has forbidden
    fetched.map(drop)
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
        let failed = prefetch(&house.gateway, &text, progress).await.unwrap().failed;
        let failed: Vec<_> = failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        assert_eq!(failed, [("Foo 1.0.1", Kind::Absent), ("bar 1.0.0", Kind::Absent)]);
        assert_eq!(seen.into_inner(), [(1, 3), (2, 3), (3, 3)]);
        assert_eq!((public.fills(), house.foo().await.1), (1, "hit"));

        let changed = lock("Foo", "1.0.0", b"y");
        let failed = prefetch(&house.gateway, &changed, |_, _| ()).await.unwrap().failed;
        assert!(failed[0].1.message.contains("checksum"), "{failed:?}");
    }

    #[tokio::test]
    async fn names_of_other_registries_are_left_out_and_told() {
        let public = Public::start(b"x").await;
        let house = House::open(&memory(), &[&public], limits()).await;
        let from = |source: &str| package("Foo", &format!("source = \"{source}\""));
        let ours = "sparse+https://crates.acme.example/index/";
        let upstream = format!("sparse+{}/index/", public.server.url);
        let lock = ["sparse+https://partner.example/index/", ours, &upstream].map(from).concat();
        let done = prefetch(&house.gateway, &lock, |_, _| ()).await.unwrap();
        assert_eq!(done.elsewhere, ["Foo 1.0.0+b"]);
        let failed: Vec<_> = done.failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        assert_eq!(failed, [("Foo 1.0.0+b", Kind::Absent); 2], "that version is nowhere");

        public.server.paths();
        let partner = from("sparse+https://partner.example/index/").replace("Foo", "secret");
        let done = prefetch(&house.gateway, &partner, |_, _| ()).await.unwrap();
        assert_eq!((done.failed.len(), done.elsewhere), (0, vec!["secret 1.0.0+b".to_owned()]));
        assert_eq!(public.server.paths(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_no_lock_file_is_refused() {
        let house = House::open(&memory(), &[], limits()).await;
        let odd = format!("{}é{}", "0".repeat(31), "0".repeat(31));
        let source = "source = \"sparse+https://crates.acme.example/index/\"";
        let odd = package("a", &format!("{source}\nchecksum = \"{odd}\""));
        for lock in ["[package", "version = 4\n[[package]]\nname = 1", &odd] {
            let refused =
                lock_file::packages(&house.gateway, ClientKey::Exempt, lock).await.unwrap_err();
            assert_eq!(refused.kind, Kind::Invalid, "{lock}");
        }
    }
}
