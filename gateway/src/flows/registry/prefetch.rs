//! Fills the mirror ahead of need: with what lock files name, and with the newest versions of crates.

mod named;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::flows::access::reader::Reader;
use crate::flows::registry::download::{Downloads, Part};
use crate::flows::registry::lock_file::LockFiles;
use crate::flows::registry::lookup::Lookup;
use crate::model::pull::{Subject, Versions};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_mirror::files::crate_file::Source;
use cratehouse_mirror::licenses::search::LicenseSearch;
use cratehouse_package::lock_file::{Locked, LockedSource};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Packages that are fetched at one time.
const PACKAGES_AT_ONCE: usize = 16;

/// What is to be in the mirror.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The texts of lock files, with their names for errors: every package of them.
    pub locks: Vec<(String, String)>,
    /// Crates: the newest version of each, among those that are meant. What they depend on is not meant.
    pub crates: Vec<Subject>,
}

/// What came of filling the mirror.
#[derive(Debug, Default)]
pub struct Prefetched {
    /// How many crate files came from upstreams.
    pub fetched: usize,
    /// How many bytes those have.
    pub fetched_bytes: u64,
    /// How many were there already, or are hosted here.
    pub present: usize,
    /// Which version of a crate was meant, where only its name or a requirement was given.
    pub chosen: Vec<String>,
    /// How many packages are from no registry: of the workspace, a path or git.
    pub unpublished: usize,
    /// The packages that failed, sorted, with their reasons.
    pub failed: Vec<(String, Error)>,
    /// The packages of other registries, sorted, each with its registry: they were left out.
    pub elsewhere: Vec<(String, String)>,
}

/// The same, as it is told: to programs, and by a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How many crate files came from upstreams.
    pub fetched: usize,
    /// How many bytes those have.
    pub fetched_bytes: u64,
    /// How many were there already, or are hosted here.
    pub present: usize,
    /// Which version of a crate was meant.
    pub chosen: Vec<String>,
    /// The packages that failed.
    pub failed: Vec<Failed>,
    /// The packages of other registries.
    pub elsewhere: Vec<Elsewhere>,
    /// How many packages are from no registry.
    pub unpublished: usize,
}

/// A package that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub package: String,
    /// Why.
    pub error: String,
    /// The same with what caused it, for who has the store.
    #[serde(skip)]
    pub chain: Option<String>,
}

/// A package of another registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Which.
    pub package: String,
    /// Of which registry.
    pub registry: String,
}

/// What fills the mirror ahead of need.
#[derive(Debug)]
pub struct Prefetcher {
    /// What reads lock files.
    pub locks: Arc<LockFiles>,
    /// What finds index files.
    pub lookup: Arc<Lookup>,
    /// What fetches crate files.
    pub downloads: Arc<Downloads>,
    /// What reads licences.
    pub licenses: Arc<LicenseSearch>,
}

impl Prefetcher {
    /// Fills the mirror with every package of the lock files that is from crates.io, from this registry or
    /// from one of its upstreams, and with the named crates. `progress(done, total)` is called after each; all
    /// are tried.
    ///
    /// # Errors
    /// Invalid, when a text is no Cargo.lock.
    pub async fn prefetch(
        &self,
        wanted: &Wanted,
        progress: impl Fn(usize, usize),
    ) -> Result<Prefetched> {
        let mut packages = BTreeSet::new();
        for (file, text) in &wanted.locks {
            let named = self.locks.packages(ClientKey::Exempt, text).await;
            let of_file = |e: Error| Error::new(e.kind, format!("{file}: {}", e.message));
            packages.extend(named.map_err(of_file)?);
        }
        let mut done = Prefetched::default();
        let other = |package: &&Locked| package.source == LockedSource::OtherRegistry;
        let source = |package: &Locked| package.registry.clone().unwrap_or_default();
        done.elsewhere = packages.iter().filter(other).map(|p| (full_name(p), source(p))).collect();
        let all = packages.len();
        packages.retain(|package| package.source == LockedSource::Registry);
        done.unpublished = all - packages.len() - done.elsewhere.len();
        for subject in &wanted.crates {
            match named::newest(&self.lookup, subject).await {
                Ok(package) => {
                    if !matches!(subject.versions, Versions::One(_)) {
                        done.chosen.push(full_name(&package));
                    }
                    packages.insert(package);
                }
                Err(error) => done.failed.push((subject.to_string(), error)),
            }
        }
        done.fetch_all(self, packages, progress).await;
        done.failed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(done)
    }

    async fn fetch_named(&self, package: Locked) -> (String, Result<Fetched>) {
        let answer = self.fetch(&package).await;
        (full_name(&package), answer)
    }

    async fn fetch(&self, package: &Locked) -> Result<Fetched> {
        let name = CrateName::parse(&package.name).map_err(Error::invalid)?;
        let version: CrateVersion = package.version.parse().map_err(Error::invalid)?;
        let lower = CrateName::parse(&name.lower()).map_err(Error::invalid)?;
        let file = self.lookup.find(&lower).await?;
        let listed = file.as_ref().and_then(|file| file.version(&version));
        if let Some(mismatch) = listed.and_then(|listed| package.mismatch(&listed.cksum)) {
            return Err(Error::invalid(mismatch));
        }
        // Where the index lists nothing, the download says best what is wrong.
        let fetched = self.downloads.get(&name, &version, Part::Head).await;
        // Also of what its licence has forbidden.
        if self.licenses.wants_licenses()
            && let Ok(answered) = self.lookup.known(&Reader::OWN, &lower).await
        {
            self.licenses.settle(&answered.known, &version).await;
        }
        fetched.map(|download| (download.source, download.file.length()))
    }
}

impl From<Prefetched> for Told {
    fn from(done: Prefetched) -> Self {
        let failed = done.failed.into_iter().map(|(package, why)| {
            let chain = Some(why.chain());
            Failed { package, error: why.message, chain }
        });
        let elsewhere = done.elsewhere.into_iter();
        let elsewhere = elsewhere.map(|(package, registry)| Elsewhere { package, registry });
        Self {
            fetched: done.fetched,
            fetched_bytes: done.fetched_bytes,
            present: done.present,
            chosen: done.chosen,
            failed: failed.collect(),
            elsewhere: elsewhere.collect(),
            unpublished: done.unpublished,
        }
    }
}

/// Where a crate file was found, and its bytes.
type Fetched = (Source, u64);

impl Prefetched {
    async fn fetch_all(
        &mut self,
        prefetcher: &Prefetcher,
        packages: BTreeSet<Locked>,
        progress: impl Fn(usize, usize),
    ) {
        let total = packages.len();
        // Collected before they are buffered: a stream of closures is not `Send` for every caller.
        let fetches: Vec<_> = packages.into_iter().map(|p| prefetcher.fetch_named(p)).collect();
        let mut fetches = stream::iter(fetches).buffer_unordered(PACKAGES_AT_ONCE);
        let mut done = 0;
        while let Some((package, answer)) = fetches.next().await {
            done += 1;
            match answer {
                Ok((Source::Upstream, bytes)) => {
                    self.fetched += 1;
                    self.fetched_bytes += bytes;
                }
                Ok(_) => self.present += 1,
                Err(error) => self.failed.push((package, error)),
            }
            progress(done, total);
        }
    }
}

fn full_name(package: &Locked) -> String {
    format!("{} {}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::fixture::{Public, TestGateway, limits, memory};
    use cratehouse_core::checksum::Checksum;
    use cratehouse_core::error::Kind;
    use cratehouse_package::index::CRATES_IO_IDENTITY;

    fn locks(texts: &[&str]) -> Wanted {
        let lock = |text: &&str| ("Cargo.lock".to_owned(), (*text).to_owned());
        Wanted { locks: texts.iter().map(lock).collect(), crates: Vec::new() }
    }

    fn crates(subjects: &[&str]) -> Wanted {
        let crates = subjects.iter().map(|subject| subject.parse().unwrap()).collect();
        Wanted { locks: Vec::new(), crates }
    }

    fn package(name: &str, rest: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0+b\"\n{rest}\n")
    }

    #[tokio::test]
    async fn every_package_is_tried_and_the_failures_are_told() {
        let public = Public::start(b"x").await;
        let server = TestGateway::open(&memory(), &[&public], limits()).await;
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
        let done =
            server.gateway.prefetcher.prefetch(&locks(&[&text, &text]), progress).await.unwrap();
        assert_eq!((done.fetched, done.fetched_bytes, done.present), (1, 1, 0));
        let failed = done.failed;
        let failed: Vec<_> = failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        assert_eq!(failed, [("Foo 1.0.1", Kind::Absent), ("bar 1.0.0", Kind::Absent)]);
        assert_eq!(seen.into_inner(), [(1, 3), (2, 3), (3, 3)]);
        assert_eq!((public.fills(), server.foo().await.1), (1, "hit"));

        let changed = lock("Foo", "1.0.0", b"y");
        let done =
            server.gateway.prefetcher.prefetch(&locks(&[&changed]), |_, _| ()).await.unwrap();
        let failed = done.failed;
        assert!(failed[0].1.message.contains("checksum"), "{failed:?}");
    }

    #[tokio::test]
    async fn names_of_other_registries_are_left_out_and_told() {
        let public = Public::start(b"x").await;
        let server = TestGateway::open(&memory(), &[&public], limits()).await;
        let from = |source: &str| package("Foo", &format!("source = \"{source}\""));
        let ours = "sparse+https://crates.acme.example/index/";
        let upstream = format!("sparse+{}/index/", public.server.url);
        let lock = ["sparse+https://partner.example/index/", ours, &upstream].map(from).concat();
        let done = server.gateway.prefetcher.prefetch(&locks(&[&lock]), |_, _| ()).await.unwrap();
        let elsewhere = ("Foo 1.0.0+b", "sparse+https://partner.example/index/");
        assert_eq!(done.elsewhere, [(elsewhere.0.to_owned(), elsewhere.1.to_owned())]);
        let failed: Vec<_> = done.failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        assert_eq!(failed, [("Foo 1.0.0+b", Kind::Absent); 2], "that version is nowhere");

        public.server.paths();
        let partner = from("sparse+https://partner.example/index/").replace("Foo", "secret");
        let done =
            server.gateway.prefetcher.prefetch(&locks(&[&partner]), |_, _| ()).await.unwrap();
        assert_eq!((done.failed.len(), done.elsewhere.len()), (0, 1));
        assert_eq!(public.server.paths(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn crates_are_fetched_by_name_or_requirement_and_what_was_done_is_told() {
        let public = Public::start(b"x").await;
        let server = TestGateway::open(&memory(), &[&public], limits()).await;
        let fetch = async |wanted: &[&str]| {
            server.gateway.prefetcher.prefetch(&crates(wanted), |_, _| ()).await.unwrap()
        };
        let done = fetch(&["foo"]).await;
        assert_eq!((done.fetched, done.present, done.failed.len()), (1, 0, 0), "{done:?}");
        assert_eq!(done.chosen, ["Foo 1.0.0"]);
        let done = fetch(&["Foo@1", "foo@1.0.0"]).await;
        assert_eq!((done.fetched, done.present, done.failed.len()), (0, 1, 0), "{done:?}");
        let done = fetch(&["foo@2", "foo@1.0.1", "bar"]).await;
        let failed: Vec<_> = done.failed.iter().map(|(what, e)| (what.as_str(), e.kind)).collect();
        let absent = |what| (what, Kind::Absent);
        assert_eq!(failed, [absent("bar"), absent("foo@1.0.1"), absent("foo@2")]);
        let mixed = Wanted {
            locks: locks(&["version = 4\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n"])
                .locks,
            ..crates(&["foo"])
        };
        let done = server.gateway.prefetcher.prefetch(&mixed, |_, _| ()).await.unwrap();
        assert_eq!((done.unpublished, done.present), (1, 1));
    }

    #[tokio::test]
    async fn what_is_no_lock_file_is_refused() {
        let server = TestGateway::open(&memory(), &[], limits()).await;
        let odd = format!("{}é{}", "0".repeat(31), "0".repeat(31));
        let source = "source = \"sparse+https://crates.acme.example/index/\"";
        let odd = package("a", &format!("{source}\nchecksum = \"{odd}\""));
        for lock in ["[package", "version = 4\n[[package]]\nname = 1", &odd] {
            let refused = server
                .gateway
                .prefetcher
                .locks
                .packages(ClientKey::Exempt, lock)
                .await
                .unwrap_err();
            assert_eq!(refused.kind, Kind::Invalid, "{lock}");
        }
        let told =
            server.gateway.prefetcher.prefetch(&locks(&["[package"]), |_, _| ()).await.unwrap_err();
        assert!(told.message.starts_with("Cargo.lock: this is not a Cargo.lock"), "{told}");
    }
}
