//! The advisory database that the store keeps for all replicas: `advisories/<sha256>.tar.gz`, an archive as
//! it was fetched, and `advisories/current.json`, which names the one that counts. An archive is put before
//! it is named, and never changed.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::MAX_ARCHIVE_BYTES;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};

const FOLDER: &str = "advisories";
const CURRENT: &str = "advisories/current.json";
const MAX_CURRENT_BYTES: u64 = 64 * 1024;

/// The database that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The SHA-256 of the archive.
    pub archive: Checksum,
    /// How many bytes it has.
    pub bytes: u64,
    /// How many advisories count in it.
    pub advisories: usize,
    /// The newest time of modification in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// Where it is from: a URL, or a file.
    pub from: String,
    /// What its server recognises it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it was fetched.
    pub fetched: Timestamp,
    /// When its server last said that it is the newest there is; of a file, the newest time in it.
    pub checked: Timestamp,
}

/// The database in the store.
#[derive(Debug, Clone)]
pub struct AdvisoryStore {
    store: Arc<dyn ObjectStore>,
}

impl AdvisoryStore {
    /// In this store, whose writes are durable: what came from a file can be had nowhere else.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// The database that counts; `None`: there is none.
    ///
    /// # Errors
    /// When the store does not answer; [`Kind::Internal`] when what names it is damaged.
    pub async fn current(&self) -> Result<Option<Current>> {
        let bytes = match self.store.get(&Path::from(CURRENT)).await {
            Ok(found) if found.meta.size > MAX_CURRENT_BYTES => Bytes::new(),
            Ok(found) => found.bytes().await.map_err(Error::store)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(Error::store(e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let text = format!(
                "{CURRENT} in the store is damaged: run `cratehouse advisories fetch --force`"
            );
            Error::new(Kind::Internal, text).because(error)
        })
    }

    /// The archive of a database, compared with its checksum.
    ///
    /// # Errors
    /// When the store does not answer; [`Kind::Internal`] when the archive is gone or damaged.
    pub async fn archive(&self, current: &Current) -> Result<Bytes> {
        let path = path(&current.archive);
        let lost = |what: &str| {
            let text = format!("{path} in the store is {what}: run `cratehouse advisories fetch`");
            Error::new(Kind::Internal, text)
        };
        let found = match self.store.get(&path).await {
            Err(StoreError::NotFound { .. }) => return Err(lost("missing")),
            found => found.map_err(Error::store)?,
        };
        if found.meta.size > MAX_ARCHIVE_BYTES {
            return Err(lost("too large"));
        }
        let bytes = found.bytes().await.map_err(Error::store)?;
        match Checksum::of(&bytes) == current.archive {
            true => Ok(bytes),
            false => Err(lost("damaged")),
        }
    }

    /// Keeps an archive, which was read and found good; it does not count before it is named.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_archive(&self, archive: &Checksum, bytes: Bytes) -> Result<()> {
        self.store.put(&path(archive), bytes.into()).await.map(drop).map_err(Error::store)
    }

    /// Names the database that counts from now on, whose archive is there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn name(&self, current: &Current) -> Result<()> {
        let json = serde_json::to_vec_pretty(current).map_err(Error::internal)?;
        if json.len() as u64 > MAX_CURRENT_BYTES {
            return Err(Error::new(
                Kind::Internal,
                format!("{CURRENT} would be larger than it may be"),
            ));
        }
        self.store.put(&Path::from(CURRENT), json.into()).await.map(drop).map_err(Error::store)
    }

    /// Deletes other archives than these that were put before a time: nobody is about to name one of them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep(&self, kept: &[Checksum], before: Timestamp) -> Result<()> {
        let mut kept: Vec<_> = kept.iter().map(path).collect();
        kept.push(Path::from(CURRENT));
        let listed = self.store.list(Some(&Path::from(FOLDER)));
        let listed: Vec<_> = listed.try_collect().await.map_err(Error::store)?;
        for object in listed {
            let is_old = object.last_modified.timestamp() < before.as_second();
            if is_old && !kept.contains(&object.location) {
                match self.store.delete(&object.location).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => (),
                    Err(e) => return Err(Error::store(e)),
                }
            }
        }
        Ok(())
    }
}

fn path(archive: &Checksum) -> Path {
    Path::from(format!("{FOLDER}/{archive}.tar.gz"))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn current(archive: &[u8]) -> Current {
        let at = "2026-11-22T00:00:00Z".parse().unwrap();
        Current {
            archive: Checksum::of(archive),
            bytes: archive.len() as u64,
            advisories: 1,
            newest: None,
            from: "https://advisories.example/db.tar.gz".to_owned(),
            etag: None,
            fetched: at,
            checked: at,
        }
    }

    async fn put(store: &AdvisoryStore, archive: &'static [u8]) {
        let current = current(archive);
        store.put_archive(&current.archive, Bytes::from_static(archive)).await.unwrap();
        store.name(&current).await.unwrap();
    }

    #[tokio::test]
    async fn the_archive_that_is_named_is_read_and_others_are_swept() {
        let objects = Arc::new(InMemory::new());
        let store = AdvisoryStore::new(Arc::clone(&objects) as _);
        assert_eq!(store.current().await.unwrap(), None);
        for archive in [b"one", b"two"] {
            put(&store, archive).await;
        }
        let found = store.current().await.unwrap().unwrap();
        assert_eq!(found, current(b"two"));
        assert_eq!(store.archive(&found).await.unwrap(), "two");
        let (long_ago, soon) =
            (Timestamp::UNIX_EPOCH, Timestamp::now() + jiff::SignedDuration::from_secs(9));
        store.sweep(&[found.archive], long_ago).await.unwrap();
        assert!(store.archive(&current(b"one")).await.is_ok(), "it is young");
        store.sweep(&[found.archive], soon).await.unwrap();
        let lost = store.archive(&current(b"one")).await.unwrap_err();
        assert!(lost.message.contains("is missing: run"), "{lost}");
        assert_eq!(store.archive(&found).await.unwrap(), "two");
    }

    #[tokio::test]
    async fn what_is_damaged_is_told() {
        let objects = Arc::new(InMemory::new());
        let store = AdvisoryStore::new(Arc::clone(&objects) as _);
        put(&store, b"one").await;
        objects.put(&path(&Checksum::of(b"one")), "other".into()).await.unwrap();
        let damaged = store.archive(&current(b"one")).await.unwrap_err();
        assert!(damaged.message.contains("is damaged"), "{damaged}");
        objects.put(&Path::from(CURRENT), "{".into()).await.unwrap();
        let damaged = store.current().await.unwrap_err();
        assert!(damaged.message.contains("advisories fetch --force"), "{damaged}");
    }
}
