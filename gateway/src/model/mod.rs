//! The ground floor: what the words mean. Bytes in, values out; no tokio, no hyper, no
//! object_store, so everything here is tested without a runtime.

pub mod checksum;
pub mod client;
pub mod entry;
pub mod index;
pub mod name;
pub mod principal;
pub mod version;
