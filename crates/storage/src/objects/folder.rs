//! A local folder as a store that knows when it is gone. An unmounted volume leaves an empty
//! folder, in which nothing is found and everything can be created: taken for the store, it
//! would answer "absent" for what is only away, and lose what it is given. So its mark, which is
//! always there once it was, is looked for before every write and behind every "not found".
//!
//! No symbolic link in it is followed: see [`links`].

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, io};

use async_trait::async_trait;
use cratehouse_core::threads;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::links;

/// Objects of a listing that are looked at together.
const LISTED_AT_ONCE: usize = 512;

type Listing = BoxStream<'static, Result<ObjectMeta>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    inner: LocalFileSystem,
    root: Arc<FsPath>,
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
    pub(super) fn new(inner: LocalFileSystem, root: &FsPath, mark: &Arc<Mark>) -> Self {
        Self { inner, root: root.into(), mark: Arc::clone(mark) }
    }

    /// That no link stands on the way.
    async fn no_link(&self, location: &Path) -> Result<()> {
        let (root, location) = (Arc::clone(&self.root), location.clone());
        blocking(move || links::check(&root, &location)).await
    }

    /// That what was opened was not reached by a link.
    async fn opened_directly(&self, location: &Path, found: GetResult) -> Result<GetResult> {
        let (root, location) = (Arc::clone(&self.root), location.clone());
        let check = move || match &found.payload {
            GetResultPayload::File(file, _) => {
                links::check_file(&root, &location, file).map(|()| found)
            }
            _ => links::check(&root, &location).map(|()| found),
        };
        blocking(check).await
    }

    fn without_links(&self, listing: Listing) -> Listing {
        let lister = links::Lister::new(&self.root);
        let chunks = listing.ready_chunks(LISTED_AT_ONCE);
        let admitted = stream::unfold((chunks, lister), |(mut chunks, mut lister)| async move {
            let chunk = chunks.next().await?;
            let admit = move || {
                let admitted = chunk.into_iter().filter_map(|found| admitted(&mut lister, found));
                let chunk: Vec<_> = admitted.collect();
                Ok((chunk, lister))
            };
            match blocking(admit).await {
                Ok((chunk, lister)) => Some((stream::iter(chunk), (chunks, lister))),
                Err(e) => {
                    let end = stream::empty().boxed().ready_chunks(LISTED_AT_ONCE);
                    let lister = links::Lister::new(FsPath::new(""));
                    Some((stream::iter(vec![Err(e)]), (end, lister)))
                }
            }
        });
        admitted.flatten().boxed()
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
        self.no_link(location).await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.mark.check().await?;
        self.no_link(location).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.inner.get_opts(location, options).await {
            Err(absent @ Error::NotFound { .. }) => {
                self.mark.check().await?;
                Err(absent)
            }
            Ok(found) => self.opened_directly(location, found).await,
            Err(e) => Err(e),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let root = Arc::clone(&self.root);
        let checked = locations.and_then(move |location| {
            let root = Arc::clone(&root);
            async move {
                let way = location.clone();
                blocking(move || links::check_way(&root, &way)).await.map(|()| location)
            }
        });
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> Listing {
        self.checked(self.without_links(self.inner.list(prefix)))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> Listing {
        self.checked(self.without_links(self.inner.list_with_offset(prefix, offset)))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.mark.check().await?;
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        let mut lister = links::Lister::new(&self.root);
        let admit = move || {
            let mut kept = Vec::new();
            for object in listed.objects {
                if lister.admits(&object.location)? {
                    kept.push(object);
                }
            }
            let mut folders = Vec::new();
            for folder in listed.common_prefixes {
                if lister.admits(&folder)? {
                    folders.push(folder);
                }
            }
            listed.objects = kept;
            listed.common_prefixes = folders;
            Ok(listed)
        };
        blocking(admit).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.mark.check().await?;
        self.no_link(from).await?;
        self.no_link(to).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What a listing shows of an object that it found: an error, where that cannot be looked at.
fn admitted(lister: &mut links::Lister, found: Result<ObjectMeta>) -> Option<Result<ObjectMeta>> {
    let found = match found {
        Ok(found) => found,
        Err(e) => return Some(Err(e)),
    };
    match lister.admits(&found.location) {
        Ok(true) => Some(Ok(found)),
        Ok(false) => None,
        Err(e) => Some(Err(Error::Generic { store: "folder", source: e.into() })),
    }
}

/// Does what blocks off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let folder = |source| Error::Generic { store: "folder", source };
    let done = threads::aside(work).await.map_err(|e| folder(e.into()))?;
    done.map_err(|e| folder(e.into()))
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
        let store = Folder::new(LocalFileSystem::new_with_prefix(&root).unwrap(), &root, &mark);
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

    #[tokio::test]
    async fn no_link_in_it_is_followed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("store"), folder.path().join("outside"));
        std::fs::create_dir_all(root.join("blobs/real")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        std::fs::write(root.join("blobs/real/own"), "own").unwrap();
        symlink(outside.join("secret"), root.join("blobs/file")).unwrap();
        symlink(root.join("blobs/real/own"), root.join("blobs/inside")).unwrap();
        symlink(&outside, root.join("blobs/folder")).unwrap();
        symlink(&outside, root.join("away")).unwrap();
        // The folder of the store may itself be behind one.
        symlink(&root, folder.path().join("way")).unwrap();
        let root = folder.path().join("way");
        let mark = Mark::of(&root, "mark");
        let store = Folder::new(LocalFileSystem::new_with_prefix(&root).unwrap(), &root, &mark);
        for linked in ["blobs/file", "blobs/inside", "blobs/folder/secret", "away/secret"] {
            let linked = Path::from(linked);
            for refusal in [
                store.get(&linked).await.map(drop).unwrap_err(),
                store.head(&linked).await.map(drop).unwrap_err(),
                store.put(&linked, "mine".into()).await.map(drop).unwrap_err(),
                store.copy(&linked, &Path::from("copy")).await.unwrap_err(),
                store.copy(&Path::from("blobs/real/own"), &linked).await.unwrap_err(),
            ] {
                assert!(refusal.to_string().contains("symbolic link"), "{linked}: {refusal}");
            }
        }
        let new = Path::from("away/new");
        assert!(store.put(&new, "mine".into()).await.is_err());
        assert!(store.delete(&Path::from("away/secret")).await.is_err());
        store.delete(&Path::from("blobs/file")).await.unwrap(); // the link, and not what it names
        assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);

        let names = |objects: Vec<ObjectMeta>| {
            objects.into_iter().map(|it| it.location.to_string()).collect::<Vec<_>>()
        };
        let all = store.list(None).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(names(all), ["blobs/real/own"]);
        let below = store.list(Some(&Path::from("away"))).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(names(below), Vec::<String>::new());
        let listed = store.list_with_delimiter(Some(&Path::from("blobs"))).await.unwrap();
        assert_eq!(names(listed.objects), Vec::<String>::new());
        assert_eq!(listed.common_prefixes, [Path::from("blobs/real")]);
        let own = store.get(&Path::from("blobs/real/own")).await.unwrap();
        assert_eq!(own.bytes().await.unwrap(), "own");
        store.put(&Path::from("blobs/new/one"), "new".into()).await.unwrap();
    }
}
