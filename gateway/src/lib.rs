//! Cratehouse: one Cargo registry endpoint for a whole organisation.
//!
//! Four floors; imports point down only: `http` → `flows` → `stores` → `model`.

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod cli;
pub mod config;
pub mod error;
pub mod flows;
pub mod gateway;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod startup;
pub mod stores;
pub mod threads;
pub mod traces;
