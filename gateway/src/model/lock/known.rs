//! Which registries of a lock file are asked through this gateway. The names of all others are none
//! of our upstreams' business.

use std::collections::BTreeSet;

use url::Url;

use super::{Locked, LockedSource};
use crate::model::index::CRATES_IO_IDENTITY;
use crate::model::registries::OurUrls;

/// crates.io, this registry by each of its URLs, and every configured upstream.
#[derive(Debug, Clone)]
pub struct KnownRegistries(OurUrls);

impl KnownRegistries {
    /// `ours` are the index URLs of this registry, `indexes` those of its upstreams and of crates.io.
    /// The identity that cargo writes for crates.io is always among them.
    pub fn new(ours: OurUrls, indexes: &[Url]) -> Self {
        let identity: Option<Url> = CRATES_IO_IDENTITY.parse().ok();
        Self(ours.and(indexes).and(identity.as_slice()))
    }

    /// Marks the packages of other registries as that.
    pub fn mark(&self, packages: BTreeSet<Locked>) -> BTreeSet<Locked> {
        packages.into_iter().map(|package| self.marked(package)).collect()
    }

    fn marked(&self, package: Locked) -> Locked {
        let known = package.registry.as_deref().is_some_and(|source| self.has(source));
        match package.source {
            LockedSource::Registry if !known => {
                Locked { source: LockedSource::OtherRegistry, ..package }
            }
            _ => package,
        }
    }

    /// By a `source` of a lock file, such as `sparse+https://crates.acme.example/index/`.
    fn has(&self, source: &str) -> bool {
        let index = ["registry+", "sparse+"].iter().find_map(|kind| source.strip_prefix(kind));
        index.is_some_and(|index| self.0.is_ours(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownRegistries {
        let urls = |texts: &[&str]| -> Vec<Url> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let aliases = urls(&["https://old.acme.example/crates"]);
        let ours = OurUrls::new("https://crates.acme.example", &aliases);
        KnownRegistries::new(ours, &urls(&["https://upstream.example/index/"]))
    }

    #[test]
    fn crates_io_this_registry_and_its_upstreams_are_known_and_no_other() {
        for source in [
            "registry+https://github.com/rust-lang/crates.io-index",
            "sparse+https://crates.acme.example/index/",
            "sparse+https://crates.acme.example/index",
            "sparse+https://crates.acme.example:443/index/",
            "sparse+https://old.acme.example/crates/index/",
            "sparse+https://upstream.example/index/",
        ] {
            assert!(known().has(source), "{source}");
        }
        for source in [
            "sparse+https://partner.example/index/",
            "registry+https://github.com/rust-lang/crates.io-index.git",
            "sparse+https://crates.acme.example/",
            "sparse+https://crates.acme.example.partner.example/index/",
            "sparse+sparse+https://partner.example/index/",
            "local-registry+file:///srv/crates",
            "local-registry+https://upstream.example/index/",
            "registry+",
            "",
        ] {
            assert!(!known().has(source), "{source}");
        }
    }

    #[test]
    fn only_packages_of_registries_are_marked() {
        let package = |source, registry: Option<&str>| Locked {
            name: "foo".to_owned(),
            version: "1.0.0".to_owned(),
            source,
            registry: registry.map(str::to_owned),
            cksum: None,
        };
        let marked = |source, registry| known().marked(package(source, registry)).source;
        let partner = Some("sparse+https://partner.example/index/");
        let upstream = Some("sparse+https://upstream.example/index/");
        assert_eq!(marked(LockedSource::Registry, partner), LockedSource::OtherRegistry);
        assert_eq!(marked(LockedSource::Registry, None), LockedSource::OtherRegistry);
        assert_eq!(marked(LockedSource::Registry, upstream), LockedSource::Registry);
        assert_eq!(marked(LockedSource::Git, None), LockedSource::Git);
        assert_eq!(marked(LockedSource::Path, None), LockedSource::Path);
    }
}
