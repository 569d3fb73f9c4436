//! Crate files: in memory, in the store, from upstreams, and which of them were used longest ago.

pub mod cache;
pub mod crate_file;
pub mod crate_files;
pub mod download;
pub mod evict;
pub mod fill;
pub mod noted_uses;
pub mod uses;
pub mod uses_store;
