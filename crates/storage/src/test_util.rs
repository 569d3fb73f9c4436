//! A store that fails on purpose, for tests: a decorator around any other.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is done.
    None,
    /// It is not done, and fails.
    Before,
    /// It is done, and its answer is lost.
    After,
    /// It is not done, and the answer says that the object exists (an S3's 409).
    Conflict,
    /// It is not done: the disk is full.
    Full,
    /// It is not done: the file belongs to somebody else.
    Forbidden,
    /// It is done after a while.
    Late(Duration),
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `put`
    Put,
    /// `get`
    Get,
    /// `list`
    List,
    /// `delete`
    Delete,
}

/// Decides what happens to a call on a path.
pub type Plan = Box<dyn FnMut(Call, &Path) -> Fault + Send>;

/// Fails as its plan says.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultyStore {
    /// Decorates a store.
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Plan) -> Self {
        Self { inner, plan: Arc::new(Mutex::new(plan)) }
    }

    /// Changes the plan.
    pub fn plan(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    fn fault(&self, call: Call, path: &Path) -> Fault {
        (self.plan.lock().unwrap())(call, path)
    }
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "a fault on purpose".into() }
}

fn refused(kind: std::io::ErrorKind) -> Error {
    Error::Generic { store: "faulty", source: Box::new(std::io::Error::from(kind)) }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        match self.fault(Call::Put, location) {
            Fault::None => self.inner.put_opts(location, payload, opts).await,
            Fault::Late(wait) => {
                tokio::time::sleep(wait).await;
                self.inner.put_opts(location, payload, opts).await
            }
            Fault::Before => Err(lost()),
            Fault::Full => Err(refused(std::io::ErrorKind::StorageFull)),
            Fault::Forbidden => Err(refused(std::io::ErrorKind::PermissionDenied)),
            Fault::After => self.inner.put_opts(location, payload, opts).await.and(Err(lost())),
            Fault::Conflict => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "a fault on purpose".into(),
            }),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fault(Call::Get, location) {
            Fault::None => self.inner.get_opts(location, options).await,
            Fault::Late(wait) => {
                tokio::time::sleep(wait).await;
                self.inner.get_opts(location, options).await
            }
            Fault::Forbidden => Err(refused(std::io::ErrorKind::PermissionDenied)),
            _ => Err(lost()),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, plan) = (Arc::clone(&self.inner), Arc::clone(&self.plan));
        let delete = move |location: Result<Path>| {
            let (inner, plan) = (Arc::clone(&inner), Arc::clone(&plan));
            async move {
                let location = location?;
                let fault = (plan.lock().unwrap())(Call::Delete, &location);
                match fault {
                    Fault::None => inner.delete(&location).await.map(|()| location),
                    Fault::After => inner.delete(&location).await.and(Err(lost())),
                    _ => Err(lost()),
                }
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = Path::default();
        match self.fault(Call::List, prefix.unwrap_or(&root)) {
            Fault::None => self.inner.list(prefix),
            _ => Box::pin(futures_util::stream::once(async { Err(lost()) })),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}
