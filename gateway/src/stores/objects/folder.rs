//! A local folder as a store that knows when it is gone. An unmounted volume leaves an empty
//! folder, in which nothing is found and everything can be created: taken for the store, it
//! would answer "absent" for what is only away, and lose what it is given. So its mark, which is
//! always there once it was, is looked for before every write and behind every "not found".

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

type Listing = BoxStream<'static, Result<ObjectMeta>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    inner: LocalFileSystem,
    mark: Arc<Mark>,
}

/// A file that is never deleted. Shared by all handles on the folder.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    /// Whether it was ever there: a new store has none yet.
    seen: AtomicBool,
}

impl Mark {
    /// The mark of a folder, by the name of a file in it.
    pub(super) fn of(folder: &FsPath, file: &str) -> Arc<Self> {
        Arc::new(Self { path: folder.join(file), seen: AtomicBool::new(false) })
    }

    async fn check(&self) -> Result<()> {
        match tokio::fs::metadata(&self.path).await {
            Ok(_) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(_) if !self.seen.load(Ordering::Relaxed) => Ok(()),
            Err(e) => {
                let source = format!("the store's folder is gone: {}: {e}", self.path.display());
                Err(Error::Generic { store: "folder", source: source.into() })
            }
        }
    }
}

impl Folder {
    /// A folder with its mark.
    pub(super) fn new(inner: LocalFileSystem, mark: &Arc<Mark>) -> Self {
        Self { inner, mark: Arc::clone(mark) }
    }

    fn checked(&self, listing: Listing) -> Listing {
        let mark = Arc::clone(&self.mark);
        let checked = async move { mark.check().await.map(|()| listing) };
        checked.into_stream().try_flatten().boxed()
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.mark.check().await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.mark.check().await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.inner.get_opts(location, options).await {
            Err(absent @ Error::NotFound { .. }) => {
                self.mark.check().await?;
                Err(absent)
            }
            found => found,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> Listing {
        self.checked(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> Listing {
        self.checked(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.mark.check().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.mark.check().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn what_is_missing_in_a_folder_that_is_gone_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        std::fs::create_dir(&root).unwrap();
        let mark = Mark::of(&root, "mark");
        let store = Folder::new(LocalFileSystem::new_with_prefix(&root).unwrap(), &mark);
        let get = async |path: &str| store.get(&Path::from(path)).await;
        let count = async || store.list(None).try_collect::<Vec<_>>().await.map(|all| all.len());
        assert!(matches!(get("mark").await, Err(Error::NotFound { .. })), "a new store");
        store.put(&Path::from("mark"), "m".into()).await.unwrap();
        store.put(&Path::from("a"), "a".into()).await.unwrap();
        assert!(matches!(get("b").await, Err(Error::NotFound { .. })));
        assert_eq!(count().await.unwrap(), 2);

        let away = folder.path().join("away");
        std::fs::rename(&root, &away).unwrap();
        std::fs::create_dir(&root).unwrap();
        assert!(matches!(get("a").await, Err(Error::Generic { .. })));
        assert!(store.put(&Path::from("c"), "c".into()).await.is_err());
        assert!(count().await.is_err());
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "nothing was created");

        std::fs::remove_dir(&root).unwrap();
        std::fs::rename(&away, &root).unwrap();
        get("a").await.unwrap();
        store.put(&Path::from("c"), "c".into()).await.unwrap();
    }
}
