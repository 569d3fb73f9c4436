//! `replicas/<name>.json`: what each replica last told of itself. Overwritten freely; nothing rests on it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::model::replica_note::ReplicaNote;

/// Where the notes are.
pub const FOLDER: &str = "replicas";
/// The most notes that are read.
const MAX_NOTES: usize = 1000;
/// The largest note that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 4096;

/// The notes in a store.
#[derive(Debug, Clone)]
pub struct ReplicaNotes {
    store: Arc<dyn ObjectStore>,
}

impl ReplicaNotes {
    /// In this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes a replica's note over its last one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put(&self, note: &ReplicaNote) -> object_store::Result<()> {
        let text = serde_json::to_string(note).unwrap_or_default();
        self.store.put(&path(&note.replica), text.into()).await.map(drop)
    }

    /// Removes a replica's note.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&self, replica: &str) -> object_store::Result<()> {
        self.store.delete(&path(replica)).await
    }

    /// All that can be read, by name; others are of no use to anybody.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all(&self) -> object_store::Result<Vec<ReplicaNote>> {
        let folder = Path::from(FOLDER);
        let listed = self.store.list(Some(&folder)).take(MAX_NOTES);
        let small = listed.try_filter(|object| {
            let is_small = object.size <= MAX_NOTE_BYTES;
            async move { is_small }
        });
        let paths: Vec<_> = small.map_ok(|object| object.location).try_collect().await?;
        let mut notes: Vec<ReplicaNote> = Vec::new();
        for path in paths {
            let Ok(found) = self.store.get(&path).await else { continue }; // it has just been removed
            notes.extend(serde_json::from_slice(&found.bytes().await?).ok());
        }
        notes.sort_by(|a, b| a.replica.cmp(&b.replica));
        Ok(notes)
    }
}

fn path(replica: &str) -> Path {
    Path::from_iter([FOLDER, &format!("{replica}.json")])
}
