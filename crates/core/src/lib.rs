//! What every part of Cratehouse stands on: errors, metrics, traces, threads, and the bounds that
//! keep one client from taking what others need (memory budgets, fair shares, single flights).
//!
//! It knows the process and its clients. It knows nothing of crates, registries, stores or HTTP.

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod checksum;
pub mod client_key;
pub mod console;
pub mod deadline;
pub mod error;
pub mod excerpt;
pub mod fair_queue;
pub mod fair_share;
pub mod log_limit;
pub mod memory_budget;
pub mod memory_tally;
pub mod metrics;
pub mod networks;
pub mod parsers;
pub mod per_address;
pub mod process;
pub mod progress;
pub mod random_id;
pub mod render_pool;
pub mod secret;
pub mod single_flight;
pub mod table;
pub mod threads;
pub mod times;
pub mod trace_context;
pub mod traces;
pub mod write_behind;
