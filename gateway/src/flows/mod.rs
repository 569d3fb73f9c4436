//! What is held by a process, and what is done with it: a thing or a verb a file.

pub mod advisories;
pub mod audit;
pub mod authenticate;
pub mod dependencies;
pub mod doctor;
pub mod download;
pub mod download_log;
#[cfg(test)]
mod fixture;
pub mod founded;
pub mod hosting;
pub mod lock_file;
pub mod lookup;
pub mod open;
pub mod pins;
pub mod policy_check;
pub mod policy_store;
pub mod prefetch;
pub mod publish;
pub mod replica_note;
pub mod reread;
pub mod search;
pub mod show;
pub mod store_copy;
pub mod store_watch;
#[cfg(test)]
mod tests;
pub mod token_cache;
pub mod trying;
pub mod views;
pub mod violations;
