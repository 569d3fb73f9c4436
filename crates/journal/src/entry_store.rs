//! The journal's objects: `journal/00000000000000000042.json`, create-only, never deleted.

use cratehouse_storage::objects::Objects;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

const FOLDER: &str = "journal";
/// An entry holds one group of commands; none comes near this.
const MAX_ENTRY_BYTES: u64 = 64 * 1024 * 1024;

/// Reads and creates numbered entries.
#[derive(Debug, Clone)]
pub struct Journal {
    read: Arc<dyn ObjectStore>,
    commit: Arc<dyn ObjectStore>,
}

impl Journal {
    /// The journal by two handles on a store: `commit` must not retry by itself.
    pub fn new(read: Arc<dyn ObjectStore>, commit: Arc<dyn ObjectStore>) -> Self {
        Self { read, commit }
    }

    /// Creates an entry's object where none is.
    ///
    /// # Errors
    /// Every error means *unknown*, "already exists" included: read the number to learn what
    /// stands there.
    pub async fn create(&self, seq: u64, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions::from(PutMode::Create);
        self.commit.put_opts(&path(seq), bytes.into(), options).await.map(drop)
    }

    /// An entry's bytes; `None` when the store definitely has none of this number.
    ///
    /// # Errors
    /// When the store does not answer, or the object cannot be an entry.
    pub async fn read(&self, seq: u64) -> object_store::Result<Option<Bytes>> {
        let found = match self.read.get(&path(seq)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        if found.meta.size > MAX_ENTRY_BYTES {
            let source = format!("journal entry {seq} has {} bytes", found.meta.size).into();
            return Err(object_store::Error::Generic { store: "journal", source });
        }
        found.bytes().await.map(Some)
    }

    /// The highest number behind `seq` that a listing shows: a hint for progress, no truth.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn newest_hint(&self, seq: u64) -> object_store::Result<u64> {
        let listing = self.read.list_with_offset(Some(&Path::from(FOLDER)), &path(seq));
        let highest = |top: u64, object: object_store::ObjectMeta| async move {
            let number =
                object.location.filename().and_then(|f| f.strip_suffix(".json")?.parse().ok());
            Ok(top.max(number.unwrap_or(0)))
        };
        listing.try_fold(seq, highest).await
    }
}

fn path(seq: u64) -> Path {
    Path::from(format!("{FOLDER}/{seq:020}.json"))
}

/// The journal in a store.
pub fn journal_in(objects: &Objects) -> Journal {
    Journal::new(Arc::clone(&objects.durable), Arc::clone(&objects.commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn an_entry_is_created_once_and_read_back() {
        let store = Arc::new(InMemory::new());
        let journal = Journal::new(Arc::clone(&store) as _, store);
        assert_eq!(journal.read(1).await.unwrap(), None);
        journal.create(1, Bytes::from_static(b"a")).await.unwrap();
        assert!(journal.create(1, Bytes::from_static(b"b")).await.is_err());
        assert_eq!(journal.read(1).await.unwrap().unwrap(), "a");
        assert_eq!(journal.newest_hint(0).await.unwrap(), 1);
    }
}
