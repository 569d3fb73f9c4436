//! Other registries, and what is kept of them: the client that asks an upstream within its limits and
//! believes it only what the index says, the index files, pins, first sights and licences in the store, and which
//! crate files were used longest ago.
//!
//! It knows upstreams by name. It does not know what is hosted here, who asks, or HTTP on our own side.

pub mod freshness;
pub mod settings;
pub mod store;
pub mod upstream;
pub mod uses;
pub mod uses_store;
