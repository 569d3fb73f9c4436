//! A crate's Cargo.toml, as cargo normalises it before packaging, becomes all of an index line
//! that it decides. What the publisher's request said about the same things is never asked.
//!
//! Only the keys that the index and the pages need are read, whatever else cargo may add to
//! manifests: a new edition, lint or profile key must not stop a publish. That is why this is
//! not a general manifest library: those refuse what they do not know, and leave out the old
//! spellings (`dev_dependencies`, `default_features`) that cargo still honours.
//! Sources: Cargo book, "The Manifest Format"; crates.io `crates_io_tarball/src/manifest.rs`,
//! `controllers/krate/publish.rs`.

mod dependencies;
mod feature_error;
mod features;
mod resolvable;
mod schema;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use semver::VersionReq;

pub use self::dependencies::{DependencyError, DraftDep};
pub use self::feature_error::FeatureError;
pub use self::features::MAX_FEATURE_BYTES;
use self::features::Split;
use self::schema::{RawManifest, RawPackage, RawValue};
use crate::index::{IndexDep, IndexLine};
use crate::name::CrateName;
use crate::published::Metadata;
use crate::version::CrateVersion;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::excerpt::excerpt as shown;

/// How much a manifest may ask for.
#[derive(Debug, Clone, Copy)]
pub struct ManifestLimits {
    /// Its dependencies, of all kinds and targets.
    pub dependencies: usize,
    /// Its features, the values of one feature, and the features asked of one dependency.
    pub features: usize,
}

/// An index line before the registry has decided its part: the checksum, the time, and where
/// each dependency comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The crate's name.
    pub name: CrateName,
    /// Its version.
    pub version: CrateVersion,
    /// Its dependencies, in the order of the manifest's tables.
    pub deps: Vec<DraftDep>,
    /// The features that every cargo understands.
    pub features: BTreeMap<String, Vec<String>>,
    /// The features that use `dep:` or `?/`, and those that build on them; `None` without any.
    pub features2: Option<BTreeMap<String, Vec<String>>>,
    /// The native library that the crate links.
    pub links: Option<String>,
    /// The oldest Rust that builds it.
    pub rust_version: Option<String>,
    /// Whether it has a README.
    pub readme: bool,
    /// What search and pages show. Nothing here is checked beyond its length: a page must not
    /// make a link of what is not `http(s)`.
    pub metadata: Metadata,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, or more of it than is read.
    #[error("the Cargo.toml cannot be read: {0}")]
    Toml(String),
    /// A key has a value of the wrong kind.
    #[error("`{0}` in the Cargo.toml must be {1}")]
    NotOfKind(String, &'static str),
    /// There is no `[package]`.
    #[error("the Cargo.toml has no `[package]` table: publish one crate, not a workspace")]
    NoPackage,
    /// A key without which there is no crate is missing.
    #[error("the Cargo.toml has no `package.{0}`")]
    Missing(&'static str),
    /// A key has something else than a text (or a list of texts).
    #[error("`package.{0}` in the Cargo.toml is not of the right kind")]
    WrongKind(String),
    /// A value is still to be inherited from a workspace that is not in the crate file.
    #[error(
        "`{0}` in the Cargo.toml is inherited from a workspace: package the crate with cargo, \
         which writes the value out"
    )]
    Inherited(String),
    /// The name is not the one of the request.
    #[error("the Cargo.toml says the crate's name is `{found}`, the request says `{expected}`")]
    OtherName {
        /// What the manifest says.
        found: String,
        /// What the request says.
        expected: CrateName,
    },
    /// The version is not the one of the request.
    #[error("the Cargo.toml says the version is `{found}`, the request says `{expected}`")]
    OtherVersion {
        /// What the manifest says.
        found: String,
        /// What the request says.
        expected: CrateVersion,
    },
    /// `[patch]` or `[replace]`: they act on workspaces, and never on a published crate.
    #[error("a crate with a `[{0}]` table cannot be published: remove it from the Cargo.toml")]
    Override(&'static str),
    /// Not `1`, `1.70` or `1.70.0`.
    #[error("`package.rust-version` is `{0}`; it must be a version such as `1.70` or `1.70.0`")]
    RustVersion(String),
    /// Empty, overlong, or with control characters.
    #[error("`package.links` must be the name of a native library")]
    Links,
    /// A text for search and pages is too long.
    #[error("`package.{0}` is too long: {MAX_TEXT_BYTES} bytes at most")]
    TextTooLong(&'static str),
    /// An item of a list for search and pages is too long.
    #[error("`package.{0}` has an item that is too long: {MAX_WORD_BYTES} bytes at most")]
    WordTooLong(&'static str),
    /// A list for search and pages is too long.
    #[error("`package.{0}` has too many items: {MAX_WORDS} at most")]
    TooManyWords(&'static str),
    /// A target that cargo cannot read.
    #[error("the target `{0}` in the Cargo.toml is not one: {1}")]
    Target(String, String),
    /// More dependencies than the limit.
    #[error(
        "the crate has too many dependencies, or targets; this registry takes {limit} at most (`limits.dependencies`)"
    )]
    TooManyDependencies {
        /// The limit.
        limit: usize,
    },
    /// A dependency breaks a rule.
    #[error("the dependency `{name}` {why}")]
    Dependency {
        /// Its name in the manifest.
        name: String,
        /// What is wrong.
        why: DependencyError,
    },
    /// A feature breaks a rule.
    #[error(transparent)]
    Feature(#[from] FeatureError),
}

/// The longest description, licence or URL, in bytes: the journal keeps it for ever.
pub const MAX_TEXT_BYTES: usize = 4096;

/// The longest keyword or category, in bytes (crates.io: 20, and its own list).
pub const MAX_WORD_BYTES: usize = 256;

/// The most keywords, and the most categories.
pub const MAX_WORDS: usize = 50;

impl Draft {
    /// Reads a manifest that must be the one of this crate and version.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(
        text: &str,
        name: &CrateName,
        version: &CrateVersion,
        limits: &ManifestLimits,
    ) -> Result<Self, ManifestError> {
        let manifest = RawManifest::read(text, limits)?;
        refuse_overrides(&manifest)?;
        let package = manifest.package.as_ref().ok_or(ManifestError::NoPackage)?;
        refuse_inheritance(package, manifest.inherits_lints)?;
        check_identity(package, name, version)?;

        let links = string(package, "links")?;
        let rust_version = string(package, "rust-version")?;
        check_links(links.as_deref())?;
        check_rust_version(rust_version.as_deref())?;
        let readme = has_readme(package);
        let metadata = metadata(package)?;
        let deps = dependencies::collect(&manifest, limits)?;
        let Split { features, features2 } =
            features::check_and_split(manifest.features, &deps, limits)?;
        let (name, version) = (name.clone(), version.clone());
        Ok(Self { name, version, deps, features, features2, links, rust_version, readme, metadata })
    }

    /// The index line, complete, and the metadata beside it. `registry` gives the `registry` of
    /// a dependency's line; it is asked once for each, so that none is forgotten.
    ///
    /// # Errors
    /// Those of `registry`.
    pub fn into_line<E>(
        self,
        cksum: Checksum,
        pubtime: Option<String>,
        mut registry: impl FnMut(&DraftDep) -> Result<Option<String>, E>,
    ) -> Result<(IndexLine, Metadata), E> {
        let mut deps = Vec::with_capacity(self.deps.len());
        for mut dep in self.deps {
            dep.line.registry = registry(&dep)?;
            deps.push(dep.line);
        }
        deps.sort_by(as_crates_io_sorts);
        let line = IndexLine {
            name: self.name,
            vers: self.version,
            deps,
            cksum,
            features: self.features,
            v: self.features2.is_some().then_some(2),
            features2: self.features2,
            yanked: false,
            links: self.links,
            rust_version: self.rust_version,
            pubtime,
        };
        Ok((line, self.metadata))
    }
}

/// By name, and of one name the normal dependency first: old cargos misread `optional` where it
/// is not (crates.io: `crates_io_index/src/data.rs`).
fn as_crates_io_sorts(a: &IndexDep, b: &IndexDep) -> Ordering {
    (&a.name, a.kind, &a.req)
        .cmp(&(&b.name, b.kind, &b.req))
        .then(a.optional.cmp(&b.optional))
        .then(a.default_features.cmp(&b.default_features))
        .then_with(|| a.target.cmp(&b.target))
        .then_with(|| a.package.cmp(&b.package))
        .then_with(|| a.features.cmp(&b.features))
}

fn refuse_overrides(manifest: &RawManifest) -> Result<(), ManifestError> {
    match (manifest.patch, manifest.replace) {
        (true, _) => Err(ManifestError::Override("patch")),
        (_, true) => Err(ManifestError::Override("replace")),
        _ => Ok(()),
    }
}

/// Whatever key of `[package]` says `key.workspace = …`, known here or not, is not written out.
fn refuse_inheritance(package: &RawPackage, inherits_lints: bool) -> Result<(), ManifestError> {
    if let Some(key) = &package.inherited {
        return Err(ManifestError::Inherited(format!("package.{key}")));
    }
    match inherits_lints {
        true => Err(ManifestError::Inherited("lints".to_owned())),
        false => Ok(()),
    }
}

fn check_identity(
    package: &RawPackage,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<(), ManifestError> {
    let found = string(package, "name")?.ok_or(ManifestError::Missing("name"))?;
    if found != name.as_str() {
        let (found, expected) = (shown(&found), name.clone());
        return Err(ManifestError::OtherName { found, expected });
    }
    let found = string(package, "version")?.ok_or(ManifestError::Missing("version"))?;
    if found.parse().as_ref() != Ok(version) {
        let (found, expected) = (shown(&found), version.clone());
        return Err(ManifestError::OtherVersion { found, expected });
    }
    Ok(())
}

fn check_links(links: Option<&str>) -> Result<(), ManifestError> {
    let bad = |text: &str| {
        text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains(char::is_control)
    };
    match links.is_some_and(bad) {
        true => Err(ManifestError::Links),
        false => Ok(()),
    }
}

/// One to three numbers: no operator, no pre-release (crates.io: `validate_rust_version`).
fn check_rust_version(rust_version: Option<&str>) -> Result<(), ManifestError> {
    let Some(text) = rust_version else { return Ok(()) };
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match plain && VersionReq::parse(text).is_ok_and(|req| req.comparators.len() == 1) {
        true => Ok(()),
        false => Err(ManifestError::RustVersion(shown(text))),
    }
}

/// Cargo writes out the README that it found, or `false` (cargo: `toml/mod.rs`, `readme_for_package`).
fn has_readme(package: &RawPackage) -> bool {
    match package.get("readme") {
        Some(RawValue::Text(path)) => !path.trim().is_empty(),
        Some(RawValue::Bool(found)) => *found,
        _ => false,
    }
}

fn metadata(package: &RawPackage) -> Result<Metadata, ManifestError> {
    Ok(Metadata {
        description: short_string(package, "description")?,
        license: short_string(package, "license")?,
        license_file: short_string(package, "license-file")?,
        homepage: short_string(package, "homepage")?,
        documentation: short_string(package, "documentation")?,
        repository: short_string(package, "repository")?,
        keywords: words(package, "keywords")?,
        categories: words(package, "categories")?,
    })
}

fn string(package: &RawPackage, key: &str) -> Result<Option<String>, ManifestError> {
    match package.get(key) {
        None => Ok(None),
        Some(RawValue::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ManifestError::WrongKind(key.to_owned())),
    }
}

fn short_string(package: &RawPackage, key: &'static str) -> Result<Option<String>, ManifestError> {
    match string(package, key)? {
        Some(text) if text.len() > MAX_TEXT_BYTES => Err(ManifestError::TextTooLong(key)),
        text => Ok(text),
    }
}

fn words(package: &RawPackage, key: &'static str) -> Result<Vec<String>, ManifestError> {
    match package.get(key) {
        None => Ok(Vec::new()),
        Some(RawValue::Words(words)) if words.len() > MAX_WORDS => {
            Err(ManifestError::TooManyWords(key))
        }
        Some(RawValue::Words(words)) if words.iter().any(|word| word.len() > MAX_WORD_BYTES) => {
            Err(ManifestError::WordTooLong(key))
        }
        Some(RawValue::Words(words)) => Ok(words.clone()),
        Some(_) => Err(ManifestError::WrongKind(key.to_owned())),
    }
}

#[cfg(test)]
mod tests;
