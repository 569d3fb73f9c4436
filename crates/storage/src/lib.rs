//! The object store: one folder, one bucket of S3, GCS or Azure, or memory. Three handles on it, by what a
//! write must survive and whether it is tried again, every request measured, a self-test of what the journal stands on, and crate files by
//! their checksum.
//!
//! It knows paths, bytes and races. It does not know what an entry, an index file or a request is.

pub mod blobs;
pub mod disk;
pub mod format_level;
pub mod objects;
pub mod self_test;
pub mod settings;
#[cfg(any(test, feature = "test-util"))]
pub mod test_util;
pub mod url;
