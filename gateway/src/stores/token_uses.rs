//! `token-uses/<name>.json`: which tokens were last used when, as each replica has seen it. Overwritten freely; no right
//! rests on it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use cratehouse_journal::token_use::{TokenUses, merge};

/// Where they are.
pub const FOLDER: &str = "token-uses";
/// The most files that are read.
const MAX_FILES: usize = 1000;
/// The largest file that is read, in bytes: some 200,000 tokens.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The uses in a store.
#[derive(Debug, Clone)]
pub struct TokenUseStore {
    store: Arc<dyn ObjectStore>,
}

/// What one replica has seen.
#[derive(Debug)]
pub struct OfReplica {
    /// Its name.
    pub replica: String,
    /// When it last wrote it.
    pub written: Timestamp,
}

impl TokenUseStore {
    /// In this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes what a replica has seen over what it wrote last.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put(&self, replica: &str, uses: &TokenUses) -> object_store::Result<()> {
        let text = serde_json::to_vec(uses).unwrap_or_default();
        self.store.put(&path(replica), text.into()).await.map(drop)
    }

    /// What a replica has seen; nothing, where it cannot be read.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(&self, replica: &str) -> object_store::Result<TokenUses> {
        match self.store.get(&path(replica)).await {
            Ok(found) => Ok(serde_json::from_slice(&found.bytes().await?).unwrap_or_default()),
            Err(object_store::Error::NotFound { .. }) => Ok(TokenUses::new()),
            Err(e) => Err(e),
        }
    }

    /// Removes what a replica has seen.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&self, replica: &str) -> object_store::Result<()> {
        self.store.delete(&path(replica)).await
    }

    /// The replicas that have written something.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn replicas(&self) -> object_store::Result<Vec<OfReplica>> {
        let folder = Path::from(FOLDER);
        let listed = self.store.list(Some(&folder)).take(MAX_FILES);
        let listed: Vec<_> = listed.try_collect().await?;
        let small = listed.into_iter().filter(|object| object.size <= MAX_FILE_BYTES);
        let named = small.filter_map(|object| {
            let replica = object.location.filename()?.strip_suffix(".json")?.to_owned();
            let seconds = object.last_modified.timestamp();
            Some(OfReplica { replica, written: Timestamp::from_second(seconds).ok()? })
        });
        Ok(named.collect())
    }

    /// What all replicas have seen and written down.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all(&self) -> object_store::Result<TokenUses> {
        let mut uses = TokenUses::new();
        for OfReplica { replica, .. } in self.replicas().await? {
            merge(&mut uses, self.of(&replica).await?);
        }
        Ok(uses)
    }
}

fn path(replica: &str) -> Path {
    Path::from_iter([FOLDER, &format!("{replica}.json")])
}
