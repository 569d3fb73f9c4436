//! The ground floor: what the words mean. Bytes in, values out; no tokio, no hyper, no
//! object_store, so everything here is tested without a runtime.

pub mod certificate;
pub mod checkpoint;
pub mod entry;
pub mod expiry;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod freshness;
pub mod principal;
pub mod pull;
pub mod replica_note;
pub mod trail;
pub mod uses;
