//! Who used what, by day: `uses/2026-11-22/<replica>`, the checksums of the mirrored crate files
//! that one replica served on one day. A hint for eviction, overwritten freely.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::TryStreamExt;
use jiff::civil::Date;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use cratehouse_core::checksum::Checksum;

const FOLDER: &str = "uses";
/// A list of 200,000 checksums; what is larger was not written by us.
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// The lists in the store.
#[derive(Debug, Clone)]
pub struct UsesStore {
    store: Arc<dyn ObjectStore>,
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseList {
    /// Its day (UTC).
    pub day: Date,
    path: Path,
    bytes: u64,
}

impl UsesStore {
    /// In this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes what a replica, under a name that is its own, has used on a day so far.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put(
        &self,
        day: Date,
        replica: &str,
        used: &BTreeSet<Checksum>,
    ) -> object_store::Result<()> {
        let mut text = String::with_capacity(used.len() * 65);
        for cksum in used {
            let _ = writeln!(text, "{cksum}"); // a String takes everything
        }
        let path = Path::from_iter([FOLDER, &day.to_string(), replica]);
        self.store.put(&path, text.into()).await.map(drop)
    }

    /// All lists.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn lists(&self) -> object_store::Result<Vec<UseList>> {
        let listed = self.store.list(Some(&Path::from(FOLDER)));
        listed.try_filter_map(|object| async move { Ok(list_of(object)) }).try_collect().await
    }

    /// What a list says. Lines that are no checksums are passed over.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(&self, list: &UseList) -> object_store::Result<Vec<Checksum>> {
        if list.bytes > MAX_LIST_BYTES {
            return Ok(Vec::new());
        }
        let bytes = match self.store.get(&list.path).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Deletes a list; it may be gone already.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, list: &UseList) -> object_store::Result<()> {
        match self.store.delete(&list.path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }
}

fn list_of(object: ObjectMeta) -> Option<UseList> {
    let day = object.location.parts().nth(1)?.as_ref().parse().ok()?;
    Some(UseList { day, path: object.location, bytes: object.size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn a_list_is_read_as_it_was_written_and_can_be_deleted() {
        let uses = UsesStore::new(Arc::new(InMemory::new()));
        let (day, used) = ("2026-11-22".parse().unwrap(), BTreeSet::from([Checksum::of(b"a")]));
        uses.put(day, "one", &used).await.unwrap();
        uses.put(day, "one", &used).await.unwrap();
        let lists = uses.lists().await.unwrap();
        assert_eq!(lists.iter().map(|list| list.day).collect::<Vec<_>>(), [day]);
        assert_eq!(uses.read(&lists[0]).await.unwrap(), [Checksum::of(b"a")]);
        uses.delete(&lists[0]).await.unwrap();
        uses.delete(&lists[0]).await.unwrap();
        assert_eq!(uses.lists().await.unwrap(), []);
    }
}
