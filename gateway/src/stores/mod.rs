//! One outside thing a file: each file owns one outside thing, as a concrete type. Stores never import
//! each other; flows combine them.

pub mod advisories;
pub mod download_log;
pub mod policy_files;
pub mod replicas;
pub mod token_uses;
