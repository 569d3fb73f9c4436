//! The licence that a crate file states.

use std::convert::Infallible;

use super::facts::{LicenseFact, MAX_LICENSE_BYTES};
use cratehouse_package::name::CrateName;
use cratehouse_package::tarball::{TarballLimits, first_manifest};
use cratehouse_package::toml_walk::{MANIFEST, Node, Place, Visitor, walk};
use cratehouse_package::version::CrateVersion;

/// How much of a crate file is looked at. Manifests stand among its first entries, so this is
/// hardly ever reached.
const LIMITS: TarballLimits = TarballLimits {
    unpacked_bytes: 512 * 1024 * 1024,
    entries: 100_000,
    manifest_bytes: 1024 * 1024,
};

/// The part of a manifest that is asked; old ones call the table `[project]`.
#[derive(Default)]
struct Package {
    license: Option<String>,
    license_file: Option<String>,
}

impl Visitor for Package {
    type Error = Infallible;

    fn value(&mut self, at: Place<'_>, node: Node<'_>) -> Result<(), Infallible> {
        let (["package" | "project", key], 0, Node::Text(text)) = (at.keys, at.arrays, node) else {
            return Ok(());
        };
        match *key {
            "license" => self.license = Some(cut(text).to_owned()),
            "license-file" => self.license_file = Some(cut(text).to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn item(&mut self, _at: Place<'_>, _node: Node<'_>) -> Result<(), Infallible> {
        Ok(())
    }
}

impl LicenseFact {
    /// What a crate file says; [`LicenseFact::Missing`] where it, or its Cargo.toml, cannot be
    /// read. Inflates what stands before the manifest: run it off the async threads.
    pub fn of_crate_file(bytes: &[u8], name: &CrateName, version: &CrateVersion) -> Self {
        let text = first_manifest(bytes, name, version, &LIMITS);
        text.map_or(Self::Missing, |text| Self::of_manifest(&text))
    }

    fn of_manifest(text: &str) -> Self {
        let mut package = Package::default();
        match walk(text, MANIFEST, &mut package) {
            Ok(()) => Self::of(package.license.as_deref(), package.license_file.as_deref()),
            Err(_) => Self::Missing,
        }
    }
}

/// What is too long to be an expression stays so, and is kept no longer than that.
fn cut(license: &str) -> &str {
    license.get(..license.ceil_char_boundary(MAX_LICENSE_BYTES + 1)).unwrap_or(license)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_package::test_util::CrateFile;

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
