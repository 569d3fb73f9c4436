//! The ground floor: what the words mean. Bytes in, values out; no tokio, no hyper, no
//! object_store, so everything here is tested without a runtime.

pub mod certificate;
pub mod checkpoint;
pub mod client;
pub mod dl;
mod edits;
pub mod entry;
pub mod expiry;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod freshness;
mod gzip;
pub mod index;
pub mod index_bounds;
pub mod level;
pub mod lock;
pub mod manifest;
pub mod mirrored;
pub mod name;
pub mod newest;
pub mod policy;
pub mod principal;
pub mod pull;
pub mod registries;
pub mod replica_note;
pub mod tarball;
pub mod toml_walk;
pub mod trail;
pub mod upload;
pub mod uses;
pub mod version;
pub mod view;
