//! A place in an S3 bucket: for the gateway to keep its registry in, and for tests to look at.

use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};

/// A prefix in a bucket of some server, and the keys to it.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// Everything stands below it; without slashes at its ends.
    pub prefix: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// Any will do for the servers of the tests.
pub(crate) const REGION: &str = "us-east-1";
const SIGNED_FOR: Duration = Duration::from_secs(60);

impl S3 {
    /// The same place by another way, such as a proxy before the server.
    #[must_use]
    pub fn through(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self.clone() }
    }

    /// `s3://bucket/prefix`
    pub fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    /// What stands there below a folder (`""` is all), as sorted paths without the prefix.
    pub fn list(&self, below: &str) -> Vec<String> {
        let below = Path::from(below);
        let mut paths: Vec<_> = block_on(async {
            let objects = self.open().list(Some(&below)).try_collect::<Vec<_>>().await;
            objects.unwrap().into_iter().map(|object| object.location.to_string()).collect()
        });
        paths.sort();
        paths
    }

    /// An object's bytes.
    pub fn get(&self, path: &str) -> Vec<u8> {
        let path = Path::from(path);
        block_on(async { self.open().get(&path).await.unwrap().bytes().await.unwrap().to_vec() })
    }

    /// Writes an object.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let (path, bytes) = (Path::from(path), bytes.to_vec());
        block_on(async { self.open().put(&path, bytes.into()).await.unwrap() });
    }

    /// Writes an object where there is none.
    ///
    /// # Errors
    /// Whatever the server, or the way to it, makes of it. It is tried once.
    pub fn create_only(&self, path: &str, bytes: &[u8]) -> object_store::Result<()> {
        let (path, bytes) = (Path::from(path), bytes.to_vec());
        let options = PutOptions::from(PutMode::Create);
        block_on(async { self.open().put_opts(&path, bytes.into(), options).await.map(drop) })
    }

    /// Deletes an object.
    pub fn delete(&self, path: &str) {
        block_on(async { self.open().delete(&Path::from(path)).await.unwrap() });
    }

    /// Makes the bucket.
    pub(crate) fn create(&self) {
        let bucket = self.open_bucket();
        let root = Path::default();
        let url = block_on(bucket.signed_url(reqwest::Method::PUT, &root, SIGNED_FOR)).unwrap();
        let made = reqwest::blocking::Client::new().put(url).send().unwrap();
        assert!(made.status().is_success(), "{made:?}");
    }

    fn open(&self) -> PrefixStore<AmazonS3> {
        PrefixStore::new(self.open_bucket(), self.prefix.as_str())
    }

    fn open_bucket(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_region(REGION)
            .with_bucket_name(&self.bucket)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .build()
            .unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
