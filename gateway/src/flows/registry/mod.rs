//! Where hosted crates, mirrored ones and the policy meet.

pub mod clashes;
pub mod dependencies;
pub mod download;
pub mod hosting;
pub mod lock_file;
pub mod lookup;
pub mod pins;
pub mod policy_check;
pub mod prefetch;
pub mod publish;
pub mod publish_rules;
pub mod search;
pub mod views;
