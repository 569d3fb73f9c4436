//! The dependency tables of a manifest.

use cargo_platform::Platform;
use semver::VersionReq;

use super::features::{check_alias, check_name};
use super::schema::{RawDeps, RawDetail, RawManifest};
use super::{ManifestError, ManifestLimits, shown};
use crate::index::{DepKind, IndexDep};
use crate::name::CrateName;
use crate::registries::DepSource;

/// A dependency of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftDep {
    /// The crate that is meant, by its real name.
    pub krate: CrateName,
    /// Where the manifest says it comes from.
    pub source: DepSource,
    /// Its part of the index line, but for `registry`, which is `None`.
    pub line: IndexDep,
}

/// What is wrong with a dependency. Each follows "the dependency `x` ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// `workspace = …` is still there.
    #[error("is inherited from a workspace: package the crate with cargo, which writes it out")]
    Inherited,
    /// A path or git dependency without a version.
    #[error(
        "has a path or git source and no version; in a registry only the version counts: add one"
    )]
    Unpublishable,
    /// No requirement at all.
    #[error("has no version requirement: add one")]
    NoVersion,
    /// Not a requirement.
    #[error("has the version requirement `{0}`, which is not one: {1}")]
    Requirement(String, String),
    /// Exactly `*`.
    #[error("has the version requirement `*`, which no registry should take: say a version")]
    Wildcard,
    /// `registry = "name"`: the name is known to the publisher's machine alone.
    #[error(
        "names its registry by an alias of the publisher's configuration: package the crate with \
         cargo, which writes the URL (`registry-index`)"
    )]
    RegistryAlias,
    /// A dependency on a binary or a C library.
    #[error("is an artifact dependency, which is unstable in cargo and not taken here")]
    Artifact,
    /// The name in the dependant's code breaks a rule.
    #[error("has a name that cargo does not take: {0}")]
    Alias(&'static str),
    /// The real name breaks a rule.
    #[error("is on a crate with an impossible name: {0}")]
    Package(crate::name::NameError),
    /// A feature that it turns on breaks a rule.
    #[error("turns on the feature `{0}`: {1}")]
    Feature(String, &'static str),
    /// It turns on more features than the limit.
    #[error("turns on more than {0} features (`limits.features`)")]
    TooManyFeatures(usize),
}

/// All dependencies of a manifest.
pub(super) fn collect(
    manifest: &RawManifest,
    limits: &ManifestLimits,
) -> Result<Vec<DraftDep>, ManifestError> {
    let mut all = Vec::new();
    for table in tables(manifest)? {
        for (name, raw) in table.deps {
            let refuse = |why| ManifestError::Dependency { name: shown(name), why };
            all.extend(dependency(name, &raw.0, &table, limits.features).map_err(refuse)?);
        }
    }
    Ok(all)
}

/// A table of dependencies, and what they are for.
struct DepTable<'m> {
    kind: DepKind,
    target: Option<String>,
    deps: &'m RawDeps,
}

fn tables(manifest: &RawManifest) -> Result<Vec<DepTable<'_>>, ManifestError> {
    let for_all = [
        (DepKind::Normal, &manifest.dependencies),
        (DepKind::Build, &manifest.build_dependencies),
        (DepKind::Dev, &manifest.dev_dependencies),
    ];
    let mut tables = Vec::from(for_all.map(|(kind, deps)| DepTable { kind, target: None, deps }));
    for (target, raw) in &manifest.target {
        let target = platform(target)?;
        let for_target = [
            (DepKind::Normal, &raw.dependencies),
            (DepKind::Build, &raw.build_dependencies),
            (DepKind::Dev, &raw.dev_dependencies),
        ];
        tables.extend(for_target.map(|(kind, deps)| {
            let target = Some(target.clone());
            DepTable { kind, target, deps }
        }));
    }
    Ok(tables)
}

/// The longest target, in bytes, and the deepest: cargo's own parser calls itself.
const MAX_TARGET_BYTES: usize = 4096;
const MAX_TARGET_PARENTHESES: usize = 128;

/// A target as cargo writes it. One that cargo cannot read would spoil the whole index line.
fn platform(text: &str) -> Result<String, ManifestError> {
    let refuse = |why: &str| ManifestError::Target(shown(text), shown(why));
    if text.len() > MAX_TARGET_BYTES || text.matches('(').count() > MAX_TARGET_PARENTHESES {
        return Err(refuse("it is too long or too deep"));
    }
    let platform: Platform =
        text.parse().map_err(|e: cargo_platform::ParseError| refuse(&e.to_string()))?;
    Ok(platform.to_string())
}

/// One dependency; `None` for one that cargo leaves out of what it packages.
fn dependency(
    name: &str,
    raw: &RawDetail,
    table: &DepTable<'_>,
    max_features: usize,
) -> Result<Option<DraftDep>, DependencyError> {
    let local = raw.path.is_some() || raw.git.is_some();
    if raw.workspace.is_some() {
        return Err(DependencyError::Inherited);
    }
    if raw.artifact.is_some() || raw.lib.is_some() || raw.target.is_some() {
        return Err(DependencyError::Artifact);
    }
    let req = match &raw.version {
        Some(version) => requirement(version)?,
        None if local && table.kind == DepKind::Dev => return Ok(None),
        None if local => return Err(DependencyError::Unpublishable),
        None => return Err(DependencyError::NoVersion),
    };
    check_features(&raw.features, max_features)?;
    let (krate, package) = real_name(name, raw.package.as_deref())?;
    let line = IndexDep {
        name: name.to_owned(),
        req,
        features: raw.features.clone(),
        optional: raw.optional,
        default_features: raw.default_features.unwrap_or(true),
        target: table.target.clone(),
        kind: table.kind,
        registry: None,
        package,
    };
    Ok(Some(DraftDep { krate, source: source(raw)?, line }))
}

/// A requirement as semver writes it, so that every cargo reads it alike.
fn requirement(text: &str) -> Result<String, DependencyError> {
    match VersionReq::parse(text) {
        Ok(req) if req == VersionReq::STAR => Err(DependencyError::Wildcard),
        Ok(req) => Ok(req.to_string()),
        Err(e) => Err(DependencyError::Requirement(shown(text), shown(&e.to_string()))),
    }
}

fn check_features(features: &[String], max: usize) -> Result<(), DependencyError> {
    if features.len() > max {
        return Err(DependencyError::TooManyFeatures(max));
    }
    let refuse = |feature: &String, why| DependencyError::Feature(shown(feature), why);
    // Neither `a/b` nor `dep:a` is one, here: cargo would look for a feature of that very name.
    features.iter().try_for_each(|f| check_name(f).map_err(|why| refuse(f, why)))
}

/// The real name of a dependency, and the same once more if the manifest states it.
fn real_name(
    name: &str,
    package: Option<&str>,
) -> Result<(CrateName, Option<CrateName>), DependencyError> {
    check_alias(name).map_err(DependencyError::Alias)?;
    let krate = CrateName::parse(package.unwrap_or(name)).map_err(DependencyError::Package)?;
    let stated = package.map(|_| krate.clone());
    Ok((krate, stated))
}

/// In a packaged manifest it is the other way round than in an index line: without a key the
/// dependency is on crates.io.
fn source(raw: &RawDetail) -> Result<DepSource, DependencyError> {
    match (&raw.registry, &raw.registry_index) {
        (Some(_), _) => Err(DependencyError::RegistryAlias),
        (None, Some(url)) => Ok(DepSource::Index(url.clone())),
        (None, None) => Ok(DepSource::CratesIo),
    }
}
