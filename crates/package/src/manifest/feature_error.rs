//! Why the features of a manifest are refused.

/// Why features are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// More than the limit.
    #[error(
        "the crate has more than {limit} features, which is all that this registry takes (`limits.features`)"
    )]
    TooMany {
        /// How many there are.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// One feature has more values than the limit.
    #[error("the feature `{feature}` has more than {limit} values (`limits.features`)")]
    TooManyValues {
        /// The feature.
        feature: String,
        /// The limit.
        limit: usize,
    },
    /// A name breaks a rule.
    #[error("the feature name `{0}` is not allowed: {1}")]
    Name(String, &'static str),
    /// A value breaks a rule.
    #[error("the feature `{feature}` has the value `{value}`: {why}")]
    Value {
        /// The feature.
        feature: String,
        /// The value.
        value: String,
        /// The rule.
        why: &'static str,
    },
    /// A dependency for tests is optional.
    #[error(
        "the dev-dependency `{0}` is optional, which cargo takes for none: no build can turn it on"
    )]
    OptionalDev(String),
    /// No feature turns an optional dependency on.
    #[error(
        "the optional dependency `{0}` is in no feature, and the feature of its name does not turn \
         it on: write `dep:{0}` in one"
    )]
    Unused(String),
}
