//! Which registries of a lock file are asked through this gateway. The names of all others are none
//! of our upstreams' business.

use std::collections::BTreeSet;

use url::Url;

use super::{Locked, LockedAs, LockedSource};
use crate::index::CRATES_IO_IDENTITY;
use crate::registries::{OurUrls, PublicUrls};

/// crates.io, this registry by each of its URLs, and every configured upstream.
#[derive(Debug, Clone)]
pub struct KnownRegistries {
    ours: OurUrls,
    views: PublicUrls,
    crates_io: OurUrls,
    others: OurUrls,
}

impl KnownRegistries {
    /// `ours` are the index URLs of this registry, `views` those of crates.io's crates here, `crates_io` the
    /// index of crates.io, `upstreams` those of its upstreams. The identity that cargo writes for crates.io
    /// is always among them.
    pub fn new(ours: OurUrls, views: PublicUrls, crates_io: &Url, upstreams: &[Url]) -> Self {
        let identity: Option<Url> = CRATES_IO_IDENTITY.parse().ok();
        let none = OurUrls::default();
        let crates_io = none.clone().and(std::slice::from_ref(crates_io)).and(identity.as_slice());
        Self { ours, views, crates_io, others: none.and(upstreams) }
    }

    /// Marks the packages of other registries as that, and says of the rest whose they are by the lock
    /// file.
    pub fn mark(&self, packages: BTreeSet<Locked>) -> BTreeSet<Locked> {
        packages.into_iter().map(|package| self.marked(package)).collect()
    }

    fn marked(&self, package: Locked) -> Locked {
        let Some(index) = package.registry.as_deref().and_then(index) else {
            return self.of_another(package);
        };
        let identity = self.identity(index);
        if identity.is_none() && !self.others.is_ours(index) {
            return self.of_another(package);
        }
        Locked { identity, ..package }
    }

    fn of_another(&self, package: Locked) -> Locked {
        match package.source {
            LockedSource::Registry => Locked { source: LockedSource::OtherRegistry, ..package },
            _ => package,
        }
    }

    fn identity(&self, index: &str) -> Option<LockedAs> {
        [
            (self.ours.is_ours(index), LockedAs::Ours),
            (self.views.has(index), LockedAs::View),
            (self.crates_io.is_ours(index), LockedAs::CratesIo),
        ]
        .into_iter()
        .find_map(|(is_that, identity)| is_that.then_some(identity))
    }
}

/// The index URL in a `source` of a lock file, such as `sparse+https://crates.acme.example/index/`.
fn index(source: &str) -> Option<&str> {
    ["registry+", "sparse+"].iter().find_map(|kind| source.strip_prefix(kind))
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
        let views = PublicUrls::new("https://crates.acme.example", &aliases);
        let public = "https://public.example/".parse().unwrap();
        KnownRegistries::new(ours, views, &public, &urls(&["https://upstream.example/index/"]))
    }

    fn marked(source: LockedSource, registry: Option<&str>) -> Locked {
        known().marked(Locked {
            name: "foo".to_owned(),
            version: "1.0.0".to_owned(),
            source,
            registry: registry.map(str::to_owned),
            identity: None,
            cksum: None,
        })
    }

    #[test]
    fn crates_io_this_registry_and_its_upstreams_are_known_and_no_other() {
        for (source, identity) in [
            ("registry+https://github.com/rust-lang/crates.io-index", Some(LockedAs::CratesIo)),
            ("sparse+https://public.example/", Some(LockedAs::CratesIo)),
            ("sparse+https://crates.acme.example/index/", Some(LockedAs::Ours)),
            ("sparse+https://crates.acme.example/index", Some(LockedAs::Ours)),
            ("sparse+https://crates.acme.example:443/index/", Some(LockedAs::Ours)),
            ("sparse+https://old.acme.example/crates/index/", Some(LockedAs::Ours)),
            ("sparse+https://crates.acme.example/crates-io/index/", Some(LockedAs::View)),
            ("sparse+https://old.acme.example/crates/crates-io/index/", Some(LockedAs::View)),
            ("sparse+https://upstream.example/index/", None),
        ] {
            let marked = marked(LockedSource::Registry, Some(source));
            assert_eq!(
                (marked.source, marked.identity),
                (LockedSource::Registry, identity),
                "{source}"
            );
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
            let marked = marked(LockedSource::Registry, Some(source));
            assert_eq!(
                (marked.source, marked.identity),
                (LockedSource::OtherRegistry, None),
                "{source}"
            );
        }
    }

    #[test]
    fn only_packages_of_registries_are_marked() {
        for (source, becomes) in [
            (LockedSource::Registry, LockedSource::OtherRegistry),
            (LockedSource::Git, LockedSource::Git),
            (LockedSource::Path, LockedSource::Path),
        ] {
            assert_eq!(marked(source, None).source, becomes);
        }
    }
}
