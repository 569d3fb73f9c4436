//! The part of the manifest format that is read. Old spellings are accepted beside the new ones,
//! never both at once; unknown keys are passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Table;

/// A dependency table.
pub(super) type RawDeps = BTreeMap<String, RawDep>;

/// A Cargo.toml.
#[derive(Debug, Deserialize)]
pub(super) struct RawManifest {
    #[serde(alias = "project")]
    pub(super) package: Option<Table>,
    #[serde(default)]
    pub(super) dependencies: RawDeps,
    #[serde(default, rename = "dev-dependencies", alias = "dev_dependencies")]
    pub(super) dev_dependencies: RawDeps,
    #[serde(default, rename = "build-dependencies", alias = "build_dependencies")]
    pub(super) build_dependencies: RawDeps,
    #[serde(default)]
    pub(super) target: BTreeMap<String, RawTarget>,
    #[serde(default)]
    pub(super) features: BTreeMap<String, Vec<String>>,
    pub(super) patch: Option<Table>,
    pub(super) replace: Option<Table>,
    pub(super) lints: Option<Table>,
}

/// The dependencies for one target.
#[derive(Debug, Deserialize)]
pub(super) struct RawTarget {
    #[serde(default)]
    pub(super) dependencies: RawDeps,
    #[serde(default, rename = "dev-dependencies", alias = "dev_dependencies")]
    pub(super) dev_dependencies: RawDeps,
    #[serde(default, rename = "build-dependencies", alias = "build_dependencies")]
    pub(super) build_dependencies: RawDeps,
}

/// A dependency: its requirement alone, or a table.
#[derive(Debug)]
pub(super) struct RawDep(pub(super) RawDetail);

/// A dependency's table.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawDetail {
    pub(super) version: Option<String>,
    pub(super) package: Option<String>,
    pub(super) registry: Option<IgnoredAny>,
    pub(super) registry_index: Option<String>,
    pub(super) path: Option<IgnoredAny>,
    pub(super) git: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) features: Vec<String>,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(alias = "default_features")]
    pub(super) default_features: Option<bool>,
    pub(super) workspace: Option<IgnoredAny>,
    pub(super) artifact: Option<IgnoredAny>,
    pub(super) lib: Option<IgnoredAny>,
    pub(super) target: Option<IgnoredAny>,
}

impl<'de> Deserialize<'de> for RawDep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DepVisitor)
    }
}

struct DepVisitor;

impl<'de> Visitor<'de> for DepVisitor {
    type Value = RawDep;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version requirement like \"0.9.8\" or a table like { version = \"0.9.8\" }")
    }

    fn visit_str<E>(self, version: &str) -> Result<RawDep, E> {
        Ok(RawDep(RawDetail { version: Some(version.to_owned()), ..RawDetail::default() }))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RawDep, M::Error> {
        RawDetail::deserialize(MapAccessDeserializer::new(map)).map(RawDep)
    }
}
