//! The policy in force and the advisories that it is applied with: where they come from.

pub mod advisories;
pub mod store;
pub mod trying;
