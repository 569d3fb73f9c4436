//! The rules, one file a kind. Each reads its section of the policy and says what it finds of a version;
//! `lookalike` and `publish` speak of publishes instead. Which facts there are stands in `facts.rs`, and
//! `evaluate.rs` asks every rule of [`crate::Rule`].

pub(crate) mod advisory;
pub(crate) mod age;
pub(crate) mod allow_list;
pub(crate) mod ban;
pub(crate) mod integrity;
pub(crate) mod license;
pub(crate) mod lookalike;
pub(crate) mod publish;
pub(crate) mod yanked;
