//! What clients of the registry do: publish, look up, download, search.

mod answers;
mod cargo_client;
mod dependencies;
mod download;
mod exact_versions;
mod foreign_text;
mod index;
mod large_files;
mod publish;
mod pulls;
mod questions;
mod resolvable;
mod snapshots;
mod sources;
mod tarballs;
mod views;
mod yank_owners_search;
