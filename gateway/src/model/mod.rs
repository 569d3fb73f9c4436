//! The lowest layer: what the words mean. Bytes in, values out; no tokio, no hyper, no
//! object_store, so everything here is tested without a runtime.

pub mod account;
pub mod age;
pub mod certificate;
pub mod pull;
pub mod replica_note;
pub mod server_url;
