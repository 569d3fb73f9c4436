//! The web API and the index, a file a resource. Each handler takes a [`call::Call`].

pub mod access;
pub mod admin;
pub mod call;
pub mod crate_files;
pub mod index;
pub mod me;
pub mod openapi;
pub mod own_tokens;
pub mod owners;
pub mod policy;
pub mod publish;
pub mod report;
pub mod search;
pub mod upkeep;
pub mod yank;
