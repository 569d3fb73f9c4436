//! Cratehouse: one Cargo registry endpoint for a whole organisation.
//!
//! Four floors; imports point down only: `http` → `flows` → `stores` → `model`.

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod cli;
pub mod config;
pub mod flows;
pub mod gateway;
pub mod http;
pub mod logging;
pub mod model;
pub mod otlp;
pub mod stores;
