//! Packages that a lock file has under another identity than theirs. Away from this registry its
//! reader would ask somebody else for such a crate, and beside a dependant that names it rightly it stands
//! twice in one tree.

use super::{Locked, LockedAs};
use crate::cargo_config::{PUBLIC_SOURCE, REGISTRY};

/// What is wrong with the identity of a locked package, and what cures it. `ours` says that the
/// crate is hosted here, or from an upstream whose crates become ours.
pub fn misplaced(locked: &Locked, ours: bool) -> Option<String> {
    let name = &locked.name;
    match (locked.identity?, ours) {
        (LockedAs::CratesIo, true) => Some(format!(
            "it is locked as a crate of crates.io and is one of this registry: write `registry = \"{REGISTRY}\"` \
             at each dependency on `{name}` in Cargo.toml, then run `cargo update --package {name}`"
        )),
        (LockedAs::Ours, false) => Some(format!(
            "it is locked as a crate of this registry and is one of crates.io: take `registry = \"{REGISTRY}\"` \
             away from each dependency on `{name}` in Cargo.toml, and `[registry] default` from cargo's \
             configuration, then run `cargo update --package {name}`"
        )),
        (LockedAs::View, _) => Some(format!(
            "it is locked under the URL of a view: name that as `[source.{PUBLIC_SOURCE}]` in cargo's \
             configuration and not as a registry, take `registry` away from each dependency on `{name}` in \
             Cargo.toml, then run `cargo update --package {name}`"
        )),
        (LockedAs::CratesIo, false) | (LockedAs::Ours, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::LockedSource;
    use super::*;

    #[test]
    fn a_package_under_another_identity_than_its_own_is_told_with_the_cure() {
        let locked = |identity| Locked {
            name: "acme-app".to_owned(),
            version: "1.0.0".to_owned(),
            source: LockedSource::Registry,
            registry: None,
            identity,
            cksum: None,
        };
        let said = |identity, ours| misplaced(&locked(Some(identity)), ours);
        assert_eq!(said(LockedAs::CratesIo, false), None);
        assert_eq!(said(LockedAs::Ours, true), None);
        assert_eq!(misplaced(&locked(None), true), None);
        for (identity, ours, cure) in [
            (LockedAs::CratesIo, true, "write `registry = \"cratehouse\"`"),
            (LockedAs::Ours, false, "take `registry = \"cratehouse\"` away"),
            (LockedAs::View, false, "[source.cratehouse-public]"),
        ] {
            let text = said(identity, ours).unwrap();
            assert!(
                text.contains(cure) && text.contains("cargo update --package acme-app"),
                "{text}"
            );
        }
    }
}
