//! What is held by a process, and what is done with it: a thing or a verb a file.

pub mod advisories;
pub mod audit;
pub mod authenticate;
pub mod crate_cache;
pub mod crate_file;
pub mod crate_uses;
pub mod credit;
pub mod dependencies;
pub mod doctor;
pub mod download;
pub mod download_log;
pub mod evict;
pub mod fill;
#[cfg(test)]
mod fixture;
pub mod founded;
pub mod gc;
pub mod index_cache;
mod judged;
mod judging;
mod learning;
pub mod license_facts;
pub mod licenses;
mod lock_file;
pub mod lookup;
pub mod mirror_lines;
pub mod mirroring;
pub mod open;
pub mod parsing;
pub mod pin_cache;
pub mod pinning;
pub mod pins;
pub mod policy_check;
pub mod policy_store;
pub mod prefetch;
pub mod publish;
mod read_through;
mod reading;
pub mod replica_note;
pub mod reread;
pub mod search;
pub mod show;
#[cfg(test)]
mod simulation;
pub mod store_copy;
pub mod store_watch;
mod streaming;
#[cfg(test)]
mod tests;
pub mod token_cache;
pub mod trying;
pub mod views;
mod violations;
