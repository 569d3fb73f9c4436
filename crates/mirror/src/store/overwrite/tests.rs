//! Overwriting in stores that compare versions, that do not, and that say so in odd ways.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutResult, Result as StoreResult,
};

use super::*;

/// Speaks S3 without `If-Match`: an error, as the client makes it of a 400 or a 501.
#[derive(Debug, Default)]
struct Plain {
    inner: InMemory,
    /// Puts over a version that were tried.
    compared: AtomicU32,
    /// Whether it answers them all the same.
    compares: AtomicBool,
    /// Whether it says nothing that tells versions apart.
    nameless: bool,
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

#[async_trait]
impl ObjectStore for Plain {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            self.compared.fetch_add(1, Ordering::Relaxed);
            if !self.compares.load(Ordering::Relaxed) {
                let source = "Server returned non-2xx status code: 501 Not Implemented".into();
                return Err(StoreError::Generic { store: "S3", source });
            }
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let mut found = self.inner.get_opts(location, options).await?;
        if self.nameless {
            found.meta.e_tag = None;
        }
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn place() -> Path {
    Path::from("here")
}

/// Appends a letter.
async fn append(store: &dyn ObjectStore, comparing: &Comparing, letter: u8) -> Result<()> {
    let merge = |former| match former {
        Former::Absent => Ok(Some(vec![letter])),
        Former::Bytes(bytes) => Ok(Some([&bytes[..], &[letter]].concat())),
        Former::TooLarge => Err(Error::unavailable("too large")),
    };
    merge_into(store, comparing, &place(), 8, merge).await
}

async fn content(store: &dyn ObjectStore) -> Bytes {
    store.get(&place()).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn a_store_that_cannot_compare_is_overwritten_and_soon_no_longer_asked_to() {
    let (store, comparing) = (Plain::default(), Comparing::default());
    for letter in *b"abcdefgh" {
        append(&store, &comparing, letter).await.unwrap();
    }
    assert_eq!(content(&store).await, "abcdefgh");
    assert_eq!(store.compared.load(Ordering::Relaxed), MAX_FAILURES);
}

#[tokio::test]
async fn a_store_that_names_no_version_is_not_asked_to_compare() {
    let store = Plain { nameless: true, ..Plain::default() };
    for letter in *b"ab" {
        append(&store, &Comparing::default(), letter).await.unwrap();
    }
    assert_eq!(content(&store).await, "ab");
    assert_eq!(store.compared.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn one_that_fails_now_and_then_goes_on_comparing() {
    let (store, comparing) = (Plain::default(), Comparing::default());
    for (n, letter) in (0_u32..).zip(*b"abcdefgh") {
        store.compares.store(n.is_multiple_of(2), Ordering::Relaxed);
        append(&store, &comparing, letter).await.unwrap();
    }
    assert_eq!(content(&store).await, "abcdefgh");
    assert_eq!(store.compared.load(Ordering::Relaxed), 7);
}

#[tokio::test]
async fn a_former_object_is_not_read_when_it_is_too_large() {
    let (store, comparing) = (InMemory::new(), Comparing::default());
    store.put(&place(), "123456789".into()).await.unwrap();
    assert!(append(&store, &comparing, b'a').await.is_err());
    store.put(&place(), "1234567".into()).await.unwrap();
    append(&store, &comparing, b'8').await.unwrap();
    assert_eq!(content(&store).await, "12345678");
}

#[tokio::test]
async fn a_full_disk_is_no_reason_to_stop_comparing() {
    use cratehouse_storage::test_util::{Call, Fault, FaultyStore};
    let inner = Arc::new(InMemory::new());
    inner.put(&place(), "a".into()).await.unwrap();
    let plan = |call, _: &Path| if call == Call::Put { Fault::Full } else { Fault::None };
    let store = FaultyStore::new(inner, Box::new(plan));
    let comparing = Comparing::default();
    for _ in 0..5 {
        assert!(append(&store, &comparing, b'b').await.is_err());
    }
    assert!(comparing.works());
}
