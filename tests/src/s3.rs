//! A place in an S3 bucket: for the gateway to keep its registry in, and for tests to look at.

use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};
use sha2::{Digest, Sha256};

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

    /// Puts a policy on the bucket, as its owner may.
    pub fn set_policy(&self, policy: &serde_json::Value) {
        let url = format!("{}/{}?policy=", self.endpoint, self.bucket);
        let mut request = reqwest::blocking::Client::new().put(url).body(policy.to_string());
        let host = self.endpoint.split('/').nth(2).unwrap();
        for (name, value) in self.signature("PUT", host, &format!("/{}", self.bucket), "policy=") {
            request = request.header(name, value);
        }
        let answer = request.send().unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text());
    }

    /// The headers of a signed request (AWS Signature Version 4), for what `object_store` has no
    /// call for; the body is not signed.
    fn signature(
        &self,
        method: &str,
        host: &str,
        path: &str,
        query: &str,
    ) -> Vec<(String, String)> {
        const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
        const NAMES: &str = "host;x-amz-content-sha256;x-amz-date";
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let (day, time) =
            (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string());
        let headers = format!("host:{host}\nx-amz-content-sha256:{UNSIGNED}\nx-amz-date:{time}\n");
        let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{NAMES}\n{UNSIGNED}");
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let hash = crate::krate::sha256(canonical.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let first = format!("AWS4{}", self.secret_key).into_bytes();
        let key = [&day, REGION, "s3", "aws4_request"]
            .into_iter()
            .fold(first, |key, part| hmac(&key, part.as_bytes()));
        let signature = hex::encode(hmac(&key, text.as_bytes()));
        let credential = format!("{}/{scope}", self.access_key);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={NAMES}, Signature={signature}"
        );
        [("authorization", authorization), ("x-amz-content-sha256", UNSIGNED.to_owned())]
            .into_iter()
            .chain([("x-amz-date", time)])
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
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

/// HMAC-SHA256 (RFC 2104), of a key that is no longer than a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    assert!(key.len() <= BLOCK);
    let padded = |with: u8| -> Vec<u8> {
        let zeros = std::iter::repeat_n(&0, BLOCK - key.len());
        key.iter().chain(zeros).map(|byte| byte ^ with).collect()
    };
    let inner = Sha256::digest([padded(0x36), text.to_vec()].concat());
    Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let code = hmac(b"Jefe", b"what do ya want for nothing?");
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(code), wanted);
    }
}
