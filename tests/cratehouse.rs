//! The whole gateway, seen from outside. One binary; the modules are named by what they prove.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a panic is a failed test"
)]

mod administration;
mod advisories;
mod answers;
mod auth;
mod balancers;
mod bodies;
mod browsers;
mod cargo_client;
mod checklist;
mod checkpoints;
mod circles;
mod command_line;
mod compatibility;
mod compose;
mod connections;
mod crates_io;
mod credentials;
mod dependencies;
mod download;
mod durability;
mod exact_versions;
mod fills;
mod folders;
mod foreign_text;
mod forgeries;
mod full_disk;
mod guide;
mod health;
mod image;
mod index;
mod large_files;
mod manifests;
mod mirror;
mod mistakes;
mod monitoring;
mod operations;
mod outgoing;
mod output;
mod panamax;
mod permissions;
mod pins;
mod policies;
mod policy_check;
mod policy_facts;
mod publish;
mod pulls;
mod questions;
mod replicas;
mod resolvable;
mod restoring;
mod rolling;
mod rotation;
mod s3;
mod signals;
mod soak;
mod sources;
mod start;
mod stopping;
mod store;
mod store_mistakes;
mod store_outages;
mod systemd;
mod tarballs;
mod telling;
mod tidy;
mod tracing;
mod unread;
mod views;
mod wrong_store;
mod yank_owners_search;
