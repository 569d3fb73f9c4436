//! What cargo demands of features and dependencies together. It skips an index line that breaks one
//! of these rules, so that a version of which it is true would be in the index, and no build would
//! ever see it. Source: cargo `core/summary.rs` (`Summary::new`, `build_feature_map`); a test holds
//! this file against the real cargo.

use std::collections::{BTreeMap, BTreeSet};

use super::feature_error::FeatureError;
use super::{DraftDep, shown};
use crate::index::DepKind;

/// The `[features]` of a manifest.
type Features = BTreeMap<String, Vec<String>>;

/// What a value of a feature turns on.
enum Value<'a> {
    /// `name`: another feature, perhaps the implicit one of an optional dependency.
    Feature(&'a str),
    /// `dep:name`
    Dependency(&'a str),
    /// `name/feature`, or `name?/feature`, which is weak.
    Of { dependency: &'a str, weak: bool },
}

/// What the dependencies are, for the values that name them.
struct Dependencies<'a> {
    /// By the name in the dependant's code: whether any of that name is optional.
    optional: BTreeMap<&'a str, bool>,
    /// Those that some `dep:` names: they have no implicit feature.
    named: BTreeSet<&'a str>,
}

/// Refuses features and dependencies of which cargo can make no version.
pub(super) fn check(features: &Features, deps: &[DraftDep]) -> Result<(), FeatureError> {
    if let Some(dep) = deps.iter().find(|d| d.line.optional && d.line.kind == DepKind::Dev) {
        return Err(FeatureError::OptionalDev(shown(&dep.line.name)));
    }
    let known = Dependencies::of(features, deps);
    for (feature, values) in features {
        for value in values {
            known.check(&Value::of(value), features).map_err(|why| FeatureError::Value {
                feature: shown(feature),
                value: shown(value),
                why,
            })?;
        }
    }
    match known.unused(features) {
        Some(name) => Err(FeatureError::Unused(shown(name))),
        None => Ok(()),
    }
}

impl<'a> Value<'a> {
    fn of(text: &'a str) -> Self {
        match (text.split_once('/'), text.strip_prefix("dep:")) {
            (Some((name, _)), _) => {
                let strong = name.strip_suffix('?');
                Self::Of { dependency: strong.unwrap_or(name), weak: strong.is_some() }
            }
            (None, Some(name)) => Self::Dependency(name),
            (None, None) => Self::Feature(text),
        }
    }
}

impl<'a> Dependencies<'a> {
    fn of(features: &'a Features, deps: &'a [DraftDep]) -> Self {
        let mut optional = BTreeMap::new();
        for dep in deps {
            *optional.entry(dep.line.name.as_str()).or_default() |= dep.line.optional;
        }
        let named = features.values().flatten().filter_map(|value| match Value::of(value) {
            Value::Dependency(name) => Some(name),
            _ => None,
        });
        Self { optional, named: named.collect() }
    }

    fn check(&self, value: &Value<'_>, features: &Features) -> Result<(), &'static str> {
        match *value {
            Value::Feature(name) if features.contains_key(name) => Ok(()),
            Value::Feature(name) => match self.optional.get(name) {
                Some(true) if !self.named.contains(name) => Ok(()),
                Some(true) => {
                    Err("the optional dependency of this name has no feature of its own, \
                     because a `dep:` names it elsewhere: write `dep:` here too")
                }
                Some(false) => Err("the dependency of this name is not optional"),
                None => Err("there is neither a feature nor an optional dependency of this name"),
            },
            Value::Dependency(name) => match self.optional.get(name) {
                Some(true) => Ok(()),
                _ => Err("there is no optional dependency of this name"),
            },
            Value::Of { dependency, weak } => match self.optional.get(dependency) {
                Some(false) if weak => Err("`?` is for optional dependencies, and this is none"),
                Some(_) => Ok(()),
                None => Err("there is no dependency of this name"),
            },
        }
    }

    /// An optional dependency that no feature turns on, not even one that cargo adds: it adds none
    /// where another feature has the dependency's name.
    fn unused(&self, features: &'a Features) -> Option<&'a str> {
        let used = features.values().flatten().filter_map(|value| match Value::of(value) {
            Value::Feature(_) => None,
            Value::Dependency(name) | Value::Of { dependency: name, .. } => Some(name),
        });
        let used: BTreeSet<_> = used.collect();
        let shadowed = |name: &&str| features.contains_key(*name) && !used.contains(*name);
        let optional = self.optional.iter().filter(|(_, optional)| **optional);
        let name = optional.map(|(name, _)| *name).find(shadowed)?;
        features.get_key_value(name).map(|(name, _)| name.as_str())
    }
}
