//! The whole gateway, seen from outside. One binary; a folder a capability, and in it a module for what it proves.

#![allow(
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is test code: a panic is a failed test"
)]

mod access;
mod deploy;
mod mirror;
mod operations;
mod policy;
mod registry;
mod rules;
mod store;
mod transport;
