//! Cratehouse: one Cargo registry endpoint for a whole organisation.
//!
//! `program` runs a command; imports point down: `http` → `flows` → `stores` → `model`, and below them the crates
//! of the workspace.

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod cli;
mod commands;
pub mod config;
mod failure;
pub mod flows;
pub mod gateway;
pub mod http;
pub mod logging;
pub mod model;
pub mod otlp;
mod ownership;
mod private;
pub mod program;
mod serve;
mod signals;
pub mod stores;
