//! The `[features]` of a manifest. Sources: crates.io `crates_io_validation` (what is allowed)
//! and `crates_io_index/src/features.rs` (what goes where).

use std::collections::{BTreeMap, BTreeSet};

use unicode_ident::{is_xid_continue, is_xid_start};

use super::feature_error::FeatureError;
use super::{DraftDep, ManifestLimits, resolvable, shown};
use crate::name::MAX_NAME_BYTES;

/// The longest name of a feature, in bytes. It stands in the index, and in the journal for ever;
/// those of crates.io stay below 100.
pub const MAX_FEATURE_BYTES: usize = 200;

/// Features as the index has them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) features: BTreeMap<String, Vec<String>>,
    pub(super) features2: Option<BTreeMap<String, Vec<String>>>,
}

pub(super) fn check_and_split(
    features: BTreeMap<String, Vec<String>>,
    deps: &[DraftDep],
    limits: &ManifestLimits,
) -> Result<Split, FeatureError> {
    let (found, limit) = (features.len(), limits.features);
    if found > limit {
        return Err(FeatureError::TooMany { found, limit });
    }
    for (feature, values) in &features {
        check_name(feature).map_err(|why| FeatureError::Name(shown(feature), why))?;
        if values.len() > limit {
            return Err(FeatureError::TooManyValues { feature: shown(feature), limit });
        }
        for value in values {
            check_value(value).map_err(|why| FeatureError::Value {
                feature: shown(feature),
                value: shown(value),
                why,
            })?;
        }
    }
    resolvable::check(&features, deps)?;
    Ok(split(features))
}

/// Moves the features that use `dep:` or `?/`, and those that build on a moved one, to
/// `features2`, where cargos that do not know the syntax never look.
fn split(all: BTreeMap<String, Vec<String>>) -> Split {
    let is_new = |value: &String| value.starts_with("dep:") || value.contains("?/");
    let mut dependants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut queue = Vec::new();
    for (feature, values) in &all {
        for value in values {
            dependants.entry(value).or_default().push(feature);
        }
        if values.iter().any(is_new) {
            queue.push(feature.as_str());
        }
    }
    let mut moved = BTreeSet::new();
    while let Some(feature) = queue.pop() {
        if moved.insert(feature.to_owned()) {
            queue.extend(dependants.get(feature).into_iter().flatten());
        }
    }
    let (features2, features): (BTreeMap<_, _>, _) =
        all.into_iter().partition(|(feature, _)| moved.contains(feature));
    Split { features, features2: (!features2.is_empty()).then_some(features2) }
}

/// A value of a feature: `name`, `dep:name`, `dep/name` or `dep?/name`.
pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    if let Some((dep, feature)) = value.split_once('/') {
        check_alias(dep.strip_suffix('?').unwrap_or(dep))?;
        check_name(feature)
    } else if let Some(dep) = value.strip_prefix("dep:") {
        check_alias(dep)
    } else {
        check_name(value)
    }
}

/// The name of a feature.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let mut chars = name.chars();
    let first = chars.next().ok_or("it is empty")?;
    if name.len() > MAX_FEATURE_BYTES {
        return Err("a feature name has 200 bytes at most");
    }
    if !(is_xid_start(first) || first == '_' || first.is_ascii_digit()) {
        return Err("a feature name starts with a letter, a digit or `_`");
    }
    match chars.all(|c| is_xid_continue(c) || matches!(c, '+' | '-' | '.')) {
        true => Ok(()),
        false => Err("a feature name has only letters, digits, `_`, `-`, `+` and `.`"),
    }
}

/// The name of a dependency in the dependant's code: a crate name that may begin with `_`.
pub(super) fn check_alias(name: &str) -> Result<(), &'static str> {
    let first = name.bytes().next().ok_or("a dependency name cannot be empty")?;
    if name.len() > MAX_NAME_BYTES {
        return Err("a dependency name has 64 characters at most");
    }
    if !(first.is_ascii_alphabetic() || first == b'_') {
        return Err("a dependency name starts with an ASCII letter or `_`");
    }
    match name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        true => Ok(()),
        false => Err("a dependency name has only ASCII letters, digits, `-` and `_`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(features: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        features.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    #[test]
    fn features_without_new_syntax_stay_where_they_are() {
        let all = map(&[("default", &["std"]), ("std", &["serde/std"]), ("x", &[])]);
        assert_eq!(split(all.clone()), Split { features: all, features2: None });
    }

    #[test]
    fn dep_and_weak_features_move_with_all_that_build_on_them() {
        let all = map(&[
            ("default", &["json"]),
            ("json", &["serde"]),
            ("serde", &["dep:serde"]),
            ("std", &["serde?/std"]),
            ("full", &["std", "plain"]),
            ("plain", &["serde/derive"]),
        ]);
        let Split { features, features2 } = split(all);
        assert_eq!(features.keys().collect::<Vec<_>>(), ["plain"]);
        let moved = features2.unwrap();
        assert_eq!(moved.keys().collect::<Vec<_>>(), ["default", "full", "json", "serde", "std"]);
        assert_eq!(moved["std"], ["serde?/std"]);
    }

    #[test]
    fn features_that_build_on_each_other_in_a_circle_end() {
        let all = map(&[("a", &["b"]), ("b", &["a", "dep:x"]), ("c", &["c"])]);
        let Split { features, features2 } = split(all);
        assert_eq!(features.len(), 1);
        assert_eq!(features2.unwrap().len(), 2);
    }

    #[test]
    fn values_are_checked_as_crates_io_does() {
        for good in [
            "foo",
            "1foo",
            "_foo-_+.1",
            "a/a",
            "32-column",
            "c++20",
            "krate/c++20",
            "foo?/bar",
            "dep:foo",
            "dep:_foo",
            "bar.web",
            "größe",
        ] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "%/%",
            "c++20/wow",
            "dep:foo?/bar",
            "foo/?bar",
            "foo?bar",
            "dep:0foo",
            "dep:",
            "0foo?/bar",
            "a b",
            "-a",
            "a/b/c",
            "x\n",
            "dep:dep:x",
        ] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn too_many_features_or_values_are_refused() {
        let limits = ManifestLimits { dependencies: 1, features: 2 };
        let three = map(&[("a", &[]), ("b", &[]), ("c", &[])]);
        assert!(matches!(check_and_split(three, &[], &limits), Err(FeatureError::TooMany { .. })));
        let values = map(&[("a", &["b", "c", "d"])]);
        let refused = check_and_split(values, &[], &limits);
        assert!(matches!(refused, Err(FeatureError::TooManyValues { .. })));
    }

    #[test]
    fn feature_names_and_values_have_a_bound() {
        let (longest, longer) = ("f".repeat(MAX_FEATURE_BYTES), "f".repeat(MAX_FEATURE_BYTES + 1));
        assert!(check_name(&longer).unwrap_err().contains(&MAX_FEATURE_BYTES.to_string()));
        for (good, bad) in
            [(longest.clone(), longer.clone()), (format!("a?/{longest}"), format!("a?/{longer}"))]
        {
            assert_eq!((check_value(&good), check_value(&bad).is_err()), (Ok(()), true));
        }
    }

    #[test]
    fn feature_names_have_no_dependency_syntax() {
        let limits = ManifestLimits { dependencies: 1, features: 2 };
        for name in ["", "a/b", "dep:a", "a?"] {
            let refused = check_and_split(map(&[(name, &[])]), &[], &limits);
            assert!(matches!(refused, Err(FeatureError::Name(..))), "{name}");
        }
    }
}
