//! `mirror/<upstream>/names.txt`: the crates whose index file is kept, each with its newest version.
//! A cache for search: overwritten freely by every replica, and made anew when it is lost.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, ObjectStore as _, ObjectStoreExt as _};

use super::MirrorStore;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::log_limit::LineLimit;

/// The largest list, in bytes; what is larger was not written by us.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// What the store has.
#[derive(Debug)]
pub enum NamesList {
    /// The list that the asker knows.
    Same,
    /// None, or one that cannot be ours.
    Absent,
    /// Another one.
    Found {
        /// Its lines.
        lines: Bytes,
        /// What tells it from others, where the store says so.
        etag: Option<String>,
    },
}

impl MirrorStore {
    /// The list of an upstream, if it is another than the one of this etag.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn names_list(
        &self,
        upstream: &str,
        known: Option<&str>,
        lines: &LineLimit,
    ) -> Result<NamesList> {
        let options =
            GetOptions { if_none_match: known.map(str::to_owned), ..GetOptions::default() };
        let found = match self.cache.get_opts(&list_path(upstream), options).await {
            Ok(found) => found,
            Err(StoreError::NotModified { .. }) => return Ok(NamesList::Same),
            Err(StoreError::NotFound { .. }) => return Ok(NamesList::Absent),
            Err(e) => return Err(Error::store(e)),
        };
        if found.meta.size > MAX_LIST_BYTES {
            if let Some(suppressed) = lines.admit() {
                let bytes = found.meta.size;
                tracing::warn!(upstream, bytes, suppressed, "the list of names is too large");
            }
            return Ok(NamesList::Absent);
        }
        let etag = found.meta.e_tag.clone();
        let lines = found.bytes().await.map_err(Error::store)?;
        Ok(NamesList::Found { lines, etag })
    }

    /// Keeps a list in place of a former one, and gives its etag.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_names_list(&self, upstream: &str, lines: Bytes) -> Result<Option<String>> {
        let put = self.cache.put(&list_path(upstream), lines.into()).await;
        put.map(|put| put.e_tag).map_err(Error::store)
    }
}

fn list_path(upstream: &str) -> Path {
    Path::from(format!("mirror/{upstream}/names.txt"))
}
