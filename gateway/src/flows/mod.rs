//! The third floor: one verb a file.

pub mod append;
pub mod audit;
pub mod authenticate;
pub mod chain;
pub mod checkpoint;
pub mod command;
pub mod crate_cache;
pub mod dependencies;
pub mod download;
pub mod evict;
pub mod fill;
#[cfg(test)]
mod fixture;
pub mod flights;
pub mod format;
pub mod gc;
mod index_cache;
mod judging;
pub mod licenses;
pub mod lookup;
mod makers;
pub mod mirroring;
mod objecting;
pub mod open;
pub mod owners;
pub mod pinning;
pub mod policy_check;
pub mod prefetch;
pub mod publish;
pub mod pulls;
mod read_through;
mod reading;
pub mod remove;
mod room;
pub mod rulebook;
pub mod search;
pub mod self_test;
pub mod show;
#[cfg(test)]
mod simulation;
pub mod store_copy;
mod streaming;
mod tally;
pub mod tokens;
pub mod users;
pub mod verify;
pub mod yank;
