//! The licence that a crate file states.

use serde::Deserialize;
use toml::Table;

use super::licenses::{LicenseFact, MAX_LICENSE_BYTES};
use crate::model::name::CrateName;
use crate::model::tarball::{TarballLimits, first_manifest};
use crate::model::version::CrateVersion;

/// How much of a crate file is looked at. Manifests stand among its first entries, so this is
/// hardly ever reached.
const LIMITS: TarballLimits = TarballLimits {
    unpacked_bytes: 512 * 1024 * 1024,
    entries: 100_000,
    manifest_bytes: 1024 * 1024,
};

/// The part of a manifest that is asked; old ones call it `[project]`.
#[derive(Deserialize)]
struct Manifest {
    #[serde(alias = "project")]
    package: Option<Table>,
}

impl LicenseFact {
    /// What a crate file says; [`LicenseFact::Missing`] where it, or its Cargo.toml, cannot be
    /// read. Inflates what stands before the manifest: run it off the async threads.
    pub fn of_crate_file(bytes: &[u8], name: &CrateName, version: &CrateVersion) -> Self {
        let text = first_manifest(bytes, name, version, &LIMITS);
        text.map_or(Self::Missing, |text| Self::of_manifest(&text))
    }

    fn of_manifest(text: &str) -> Self {
        let manifest = toml::from_str::<Manifest>(text).ok();
        let package = manifest.and_then(|manifest| manifest.package).unwrap_or_default();
        let said = |key| package.get(key).and_then(|value| value.as_str());
        Self::of(said("license").map(cut), said("license-file"))
    }
}

/// What is too long to be an expression stays so, and is kept no longer than that.
fn cut(license: &str) -> &str {
    license.get(..license.ceil_char_boundary(MAX_LICENSE_BYTES + 1)).unwrap_or(license)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::CrateFile;

    fn stated(text: &str) -> LicenseFact {
        LicenseFact::Stated(text.to_owned())
    }

    #[test]
    fn a_crate_file_states_what_its_manifest_does() {
        let of = |manifest: &str| {
            let bytes = CrateFile::new("foo", "1.0.0").file("Cargo.toml", manifest).build();
            let version = "1.0.0".parse().unwrap();
            LicenseFact::of_crate_file(&bytes, &"foo".parse().unwrap(), &version)
        };
        assert_eq!(of("[package]\nlicense = \"MIT\"\nlicense-file = \"L\""), stated("MIT"));
        assert_eq!(of("[project]\nlicense = \"ISC\""), stated("ISC"));
        assert_eq!(of("[package]\nlicense-file = \"L\""), LicenseFact::FileOnly);
        for nothing in
            ["[package]", "", "[package", "package = 1", "[package]\nlicense.workspace = true"]
        {
            assert_eq!(of(nothing), LicenseFact::Missing, "{nothing}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_stays_too_long() {
        let long = format!("[package]\nlicense = \"{}\"", "é".repeat(MAX_LICENSE_BYTES));
        let LicenseFact::Stated(kept) = LicenseFact::of_manifest(&long) else { panic!() };
        assert!((MAX_LICENSE_BYTES + 1..MAX_LICENSE_BYTES + 4).contains(&kept.len()));
    }
}
