//! Other registries, and what is kept of them: the client that asks an upstream within its limits and
//! believes it only what the index says; index files and crate files in memory, in the store and on their way;
//! pins, licences, and the names that search finds.
//!
//! It knows upstreams by name, and applies the policy in force to what it has. It does not know the journal (what
//! is hosted here it asks by [`hosting`]), who asks, or HTTP on our own side. [`mirror::Mirror`] puts the parts
//! together; each part knows only the parts that it uses.

#![cfg_attr(test, allow(clippy::disallowed_macros, reason = "tests print what they have measured"))]

pub mod files;
pub mod freshness;
pub mod hosting;
pub mod index;
pub mod judge;
pub mod licenses;
mod log_lines;
pub mod mirror;
pub mod names;
pub mod pins;
pub mod settings;
pub mod store;
pub mod upstream;
