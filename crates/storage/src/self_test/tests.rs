//! Stores that misbehave, each in its own way.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::*;
use crate::test_util::{Call, Fault, FaultyStore};

const EFFORT: Effort = Effort { races: 20, creates: 32 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vice {
    /// Ignores that a put is create-only.
    Overwrites,
    /// Looks first and writes later, so that several creates win.
    LooksFirst,
    /// Answers 403 for what is absent, as S3 does without s3:ListBucket.
    ForbidsAbsent,
    /// A read does not see the write before it.
    ReadsLate,
    /// Lists nothing.
    ListsNothing,
    /// Deletes in words alone.
    KeepsDeleted,
    /// Allows no write.
    ForbidsWrites,
}

#[derive(Debug)]
struct Bad {
    inner: InMemory,
    vice: Vice,
    unseen: Mutex<BTreeSet<Path>>,
}

fn forbidden(path: &Path) -> object_store::Error {
    let source = "403 on purpose".into();
    object_store::Error::PermissionDenied { path: path.to_string(), source }
}

#[async_trait]
impl ObjectStore for Bad {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        self.unseen.lock().unwrap().insert(path.clone());
        match self.vice {
            Vice::ForbidsWrites => Err(forbidden(path)),
            Vice::Overwrites => self.inner.put(path, payload).await,
            Vice::LooksFirst if options.mode == PutMode::Create => {
                if self.inner.head(path).await.is_ok() {
                    return self.inner.put_opts(path, payload, options).await;
                }
                tokio::task::yield_now().await;
                self.inner.put(path, payload).await
            }
            _ => self.inner.put_opts(path, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let unseen = self.unseen.lock().unwrap().remove(path);
        let source = || "on purpose".into();
        match (self.vice, self.inner.get_opts(path, options).await) {
            (Vice::ReadsLate, _) if unseen => {
                Err(object_store::Error::NotFound { path: path.to_string(), source: source() })
            }
            (Vice::ForbidsAbsent, Err(_)) => Err(forbidden(path)),
            (_, found) => found,
        }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        match self.vice {
            Vice::KeepsDeleted => paths,
            _ => self.inner.delete_stream(paths),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.vice {
            Vice::ListsNothing => stream::empty().boxed(),
            _ => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bad")
    }
}

async fn left(store: &dyn ObjectStore) -> usize {
    store.list(None).count().await
}

async fn tried(vice: Vice) -> Error {
    let bad = Bad { inner: InMemory::new(), vice, unseen: Mutex::default() };
    let bad = Arc::new(bad);
    let error = self_test(&Objects::same(Arc::clone(&bad) as _), EFFORT, |_, _| ()).await;
    let left = if vice == Vice::KeepsDeleted { 0 } else { left(&bad.inner).await };
    assert_eq!(left, 0, "{vice:?} left objects");
    error.unwrap_err()
}

#[tokio::test]
async fn a_good_store_passes_and_nothing_is_left_in_it() {
    let (objects, folder) = (Objects::in_memory(), tempfile::tempdir().unwrap());
    self_test(&objects, EFFORT, |_, _| ()).await.unwrap();
    assert_eq!(left(&*objects.durable).await, 0);

    let url = StoreUrl::Folder(folder.path().to_owned());
    let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    let objects = Objects::same(Arc::new(store));
    for effort in [Effort::of(&url), EFFORT] {
        self_test(&objects, effort, |_, _| ()).await.unwrap();
        assert_eq!(left(&*objects.durable).await, 0);
    }
}

#[tokio::test]
async fn each_vice_is_refused_by_its_name_and_nothing_is_left() {
    for (vice, says) in [
        (Vice::Overwrites, "overwrites it"),
        (Vice::LooksFirst, "of 32 simultaneous create-only puts"),
        (Vice::ForbidsAbsent, "lack the permission s3:ListBucket"),
        (Vice::ReadsLate, "does not find what was written"),
        (Vice::ListsNothing, "a listing does not show"),
        (Vice::KeepsDeleted, "still there"),
        (Vice::ForbidsWrites, "lack the permission s3:PutObject"),
    ] {
        let error = tried(vice).await;
        assert_eq!(error.kind, Kind::Internal, "{vice:?}: {error}");
        assert!(error.message.contains(says), "{vice:?}: {error}");
        assert!(error.message.contains("Ceph RGW") && error.message.contains("s3:GetObject"));
    }
}

fn faulty(fault: impl FnMut(&Path) -> Fault + Send + 'static) -> (Objects, Arc<InMemory>) {
    let (inner, mut fault) = (Arc::new(InMemory::new()), fault);
    let plan = move |call, path: &Path| match call {
        Call::Put if path.as_ref().contains("race") => fault(path),
        _ => Fault::None,
    };
    let store = FaultyStore::new(Arc::clone(&inner) as _, Box::new(plan));
    (Objects::same(Arc::new(store)), inner)
}

#[tokio::test]
async fn lost_answers_are_no_vice() {
    let mut n = 0;
    let (objects, inner) = faulty(move |_| {
        n += 1;
        match n % 33 {
            1 => Fault::After,
            2 => Fault::Before,
            3 => Fault::Conflict,
            _ => Fault::None,
        }
    });
    self_test(&objects, EFFORT, |_, _| ()).await.unwrap();
    assert_eq!(left(&*inner).await, 0);
}

#[tokio::test]
async fn a_store_that_never_answers_a_create_is_said_not_to_answer() {
    for fault in [Fault::Before, Fault::After, Fault::Conflict] {
        let (objects, inner) = faulty(move |_| fault);
        let error = self_test(&objects, EFFORT, |_, _| ()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{fault:?}: {error}");
        assert!(error.message.contains("came to nothing"), "{fault:?}: {error}");
        assert_eq!(left(&*inner).await, 0, "{fault:?}");
    }
}
