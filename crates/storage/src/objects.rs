//! The object store: where every durable byte lives. One folder, one bucket, or memory.

mod abilities;
mod cloud;
mod folder;
mod links;
mod measured;
mod mistakes;

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use self::cloud::Way;
use self::folder::{Folder, Mark};
use self::measured::Measured;
pub use self::measured::PROBES;
use crate::format_level::Level;
use crate::settings::Store;
use crate::url::StoreUrl;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::random_id::RandomId;
use cratehouse_core::threads;

/// The layout that this release reads and writes.
const FORMAT: u32 = 1;
/// Where a registry keeps what is true.
const TRUTH: [&str; 3] = ["journal", "checkpoints", "blobs"];
const FORMAT_PATH: &str = "format.json";
/// Stands in a store as long as a copy of a registry into it is not whole; written as
/// `format.json` is.
const COPYING_PATH: &str = "copying.json";
const MAX_FORMAT_BYTES: u64 = 64 * 1024;

/// Handles on one store, by what a caller needs of a write.
#[derive(Debug, Clone)]
pub struct Objects {
    /// Writes are on disk when they return, and are retried.
    pub durable: Arc<dyn ObjectStore>,
    /// Writes may vanish with the power: for what can be fetched again.
    pub cache: Arc<dyn ObjectStore>,
    /// Durable, and without any retry: a retried create-only put can fail against itself.
    pub commit: Arc<dyn ObjectStore>,
}

/// A registry's random identity: a catalog belongs to one registry, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryId(RandomId);

#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    registry: RegistryId,
    /// The format level of the journal that its first entry enables. Release 0.1, which does not know
    /// this field, founded with the first.
    #[serde(default, skip_serializing_if = "Level::is_first")]
    founding: Level,
}

/// What is read first, and what every release must be able to read: of a newer layout nothing else
/// is known.
#[derive(Deserialize)]
struct Layout {
    format: u32,
}

impl RegistryId {
    /// A new one.
    pub fn random() -> Self {
        Self(RandomId::random())
    }
}

impl std::fmt::Display for RegistryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Objects {
    /// Opens the store that the configuration names; a missing folder is created.
    ///
    /// # Errors
    /// When the folder cannot be made, or the settings of a bucket do not fit together.
    pub fn open(config: &Store, extra_ca: Option<&FsPath>) -> Result<Self> {
        match &config.url {
            StoreUrl::Memory => Ok(Self::in_memory()),
            StoreUrl::Folder(path) => Self::folder(path),
            StoreUrl::Bucket { cloud, bucket, prefix } => {
                Way { cloud: *cloud, bucket, prefix, config, extra_ca }.open()
            }
        }
    }

    /// The same handles; what each request through them takes is measured.
    #[must_use]
    pub fn measured(self, metrics: &Metrics) -> Self {
        let measured = |store| Arc::new(Measured::new(store, metrics));
        let Self { durable, cache, commit } = self;
        Self { durable: measured(durable), cache: measured(cache), commit: measured(commit) }
    }

    /// A store that vanishes with the process, for tests.
    pub fn in_memory() -> Self {
        Self::same(Arc::new(InMemory::new()))
    }

    /// Three names for one store.
    pub fn same(store: Arc<dyn ObjectStore>) -> Self {
        Self { durable: Arc::clone(&store), cache: Arc::clone(&store), commit: store }
    }

    fn folder(path: &FsPath) -> Result<Self> {
        let refuse = |e: &dyn std::fmt::Display| {
            Error::new(
                Kind::Internal,
                format!("the store's folder {} cannot be used: {e}", path.display()),
            )
        };
        std::fs::create_dir_all(path).map_err(|e| refuse(&e))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|e| refuse(&e))?;
        let mark = Mark::of(path, FORMAT_PATH);
        let durable: Arc<dyn ObjectStore> =
            Arc::new(Folder::new(store.clone().with_fsync(true), path, &mark));
        let cache = Arc::new(Folder::new(store, path, &mark));
        Ok(Self { durable: Arc::clone(&durable), cache, commit: durable })
    }

    /// Whether the file system of a folder can do what a registry needs; of other stores, yes.
    ///
    /// # Errors
    /// [`Kind::Internal`] names what is missing; [`Kind::Unavailable`] when the disk takes nothing now.
    pub async fn check_folder(&self, url: &StoreUrl) -> Result<()> {
        let StoreUrl::Folder(path) = url else { return Ok(()) };
        let path = path.clone();
        threads::aside(move || abilities::check(&path)).await?
    }

    /// The identity of the registry in this store; a new registry is founded in an empty one.
    ///
    /// # Errors
    /// When the store does not answer, was written by a newer release, or holds an unfinished
    /// copy.
    pub async fn registry(&self) -> Result<RegistryId> {
        if let Some(id) = self.existing().await? {
            return Ok(id);
        }
        match self.read_id(COPYING_PATH).await? {
            None => {
                self.refuse_remains().await?;
                self.create_id(FORMAT_PATH, RegistryId::random(), Level::KNOWN).await
            }
            Some(id) => Err(Error::new(
                Kind::Internal,
                format!(
                    "the object store holds an unfinished copy of registry {id}: run `cratehouse store copy` again to finish it"
                ),
            )),
        }
    }

    /// Refuses a store that holds a registry without its name: a new one in its place would not fit.
    async fn refuse_remains(&self) -> Result<()> {
        for folder in TRUTH {
            let mut listing = self.durable.list(Some(&Path::from(folder)));
            if listing.try_next().await.map_err(Error::store)?.is_some() {
                return Err(Error::new(
                    Kind::Internal,
                    format!(
                        "the object store holds {folder}/ without {FORMAT_PATH}, which names its registry: bring {FORMAT_PATH} back from a backup; no new registry is founded there"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The identity of the registry in this store, if there is one.
    ///
    /// # Errors
    /// When the store does not answer, or was written by a newer release.
    pub async fn existing(&self) -> Result<Option<RegistryId>> {
        self.read_id(FORMAT_PATH).await
    }

    /// The format level that the journal's first entry enables: of a registry that an earlier release
    /// founded the first, since replicas of that release may still run.
    ///
    /// # Errors
    /// As [`Objects::existing`].
    pub async fn founding(&self) -> Result<Level> {
        let format = self.read_format(FORMAT_PATH).await?;
        Ok(format.map_or(Level::FIRST, |format| format.founding.min(Level::KNOWN)))
    }

    /// Marks an empty store as an unfinished copy of a registry, so that no new registry is
    /// founded in it. Gives the registry whose copy it is by now: that of whoever was first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn begin_copy(&self, registry: RegistryId) -> Result<RegistryId> {
        match self.read_id(COPYING_PATH).await? {
            Some(id) => Ok(id),
            None => self.create_id(COPYING_PATH, registry, Level::FIRST).await,
        }
    }

    /// Makes a registry of a copy that is whole; `founding` is the original's.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn finish_copy(&self, registry: RegistryId, founding: Level) -> Result<()> {
        if self.existing().await?.is_none() {
            self.create_id(FORMAT_PATH, registry, founding).await?;
        }
        match self.durable.delete(&Path::from(COPYING_PATH)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::store(e)),
        }
    }

    async fn create_id(
        &self,
        path: &str,
        registry: RegistryId,
        founding: Level,
    ) -> Result<RegistryId> {
        let format = Format { format: FORMAT, registry, founding };
        let bytes = serde_json::to_vec(&format).map_err(Error::internal)?;
        let options = PutOptions::from(PutMode::Create);
        let place = Path::from(path);
        let put = self.commit.put_opts(&place, Bytes::from(bytes).into(), options);
        let failure = put.await.err(); // whoever was first: the answer is what stands there now
        match (self.read_id(path).await?, failure) {
            (Some(id), _) => Ok(id),
            (None, Some(e)) => Err(Error::store(e)),
            (None, None) => Err(Error::unavailable(
                "the object store does not show what was just written to it: it cannot hold a registry",
            )),
        }
    }

    async fn read_id(&self, path: &str) -> Result<Option<RegistryId>> {
        Ok(self.read_format(path).await?.map(|format| format.registry))
    }

    async fn read_format(&self, path: &str) -> Result<Option<Format>> {
        let found = match self.durable.get(&Path::from(path)).await {
            Ok(found) if found.meta.size <= MAX_FORMAT_BYTES => found,
            Ok(_) => return Err(foreign(path, "is too large")),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(Error::store(e)),
        };
        let bytes = found.bytes().await.map_err(Error::store)?;
        let unreadable = |e| foreign(path, "cannot be read").because(e);
        let Layout { format } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format > FORMAT {
            let what = format!(
                "names layout {format}, and this release knows layouts up to {FORMAT}: a newer release wrote it. Run that release, or a later one"
            );
            return Err(foreign(path, &what));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
    }
}

fn foreign(path: &str, what: &str) -> Error {
    Error::new(Kind::Internal, format!("{path} in the object store {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_keeps_its_identity() {
        let objects = Objects::in_memory();
        let first = objects.registry().await.unwrap();
        assert_eq!(objects.registry().await.unwrap(), first);
    }

    #[tokio::test]
    async fn only_a_registry_that_this_release_founded_begins_at_its_level() {
        let new = Objects::in_memory();
        new.registry().await.unwrap();
        assert_eq!(new.founding().await.unwrap(), Level::KNOWN);
        let old = Objects::in_memory();
        let format = serde_json::json!({"format": 1, "registry": RegistryId::random()});
        old.durable.put(&Path::from(FORMAT_PATH), format.to_string().into()).await.unwrap();
        old.registry().await.unwrap();
        assert_eq!(old.founding().await.unwrap(), Level::FIRST);
    }

    #[tokio::test]
    async fn the_layout_of_a_newer_release_is_refused() {
        let objects = Objects::in_memory();
        let like_ours = serde_json::json!({"format": 2, "registry": RegistryId::random()});
        let unlike_ours = serde_json::json!({"format": 2, "registries": ["a", "b"]});
        for newer in [like_ours, unlike_ours] {
            let bytes = newer.to_string().into();
            objects.durable.put(&Path::from(FORMAT_PATH), bytes).await.unwrap();
            let error = objects.registry().await.unwrap_err();
            let told = "names layout 2, and this release knows layouts up to 1: a newer release";
            assert!(error.message.contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_layout_at_all_is_not_called_newer() {
        let objects = Objects::in_memory();
        for damaged in ["{", r#"{"format": 1}"#, r#"{"registry": 1}"#] {
            objects.durable.put(&Path::from(FORMAT_PATH), damaged.into()).await.unwrap();
            let error = objects.registry().await.unwrap_err();
            assert!(error.message.contains("format.json in the object store cannot be read"));
        }
    }
}
