//! Cargo's formats, as Cargo and crates.io read and write them: names and versions, index lines and
//! files, manifests, crate files, publish requests, lock files. Bytes in, values out.
//!
//! Everything here is pure: no clock, no runtime, no files. It does not know who asks, where anything is
//! kept, or what a policy says of it.

pub mod cargo_config;
pub mod dl;
pub mod edits;
mod gzip;
pub mod index;
pub mod index_bounds;
pub mod lock_file;
pub mod manifest;
pub mod mirrored;
pub mod name;
pub mod newest;
pub mod publish_frame;
pub mod published;
pub mod registries;
pub mod tarball;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod toml_walk;
pub mod version;
pub mod view;
