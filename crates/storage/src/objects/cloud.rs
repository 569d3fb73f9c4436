//! Buckets: S3 and its like, Google Cloud Storage, Azure Blob Storage.

use std::fmt::Display;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};

use super::Objects;
use crate::settings::Store;
use crate::url::Cloud;
use cratehouse_core::error::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(25);

/// How a bucket is reached.
pub(super) struct Way<'a> {
    pub(super) cloud: Cloud,
    pub(super) bucket: &'a str,
    pub(super) prefix: &'a str,
    pub(super) config: &'a Store,
    pub(super) extra_ca: Option<&'a FsPath>,
}

impl Way<'_> {
    /// Handles on the bucket. Asks nobody.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub(super) fn open(&self) -> Result<Objects> {
        let durable = self.client(RETRIES)?;
        Ok(Objects { cache: Arc::clone(&durable), durable, commit: self.client(0)? })
    }

    fn client(&self, retries: usize) -> Result<Arc<dyn ObjectStore>> {
        let options = client_options(self.config.allow_http, self.extra_ca)?;
        let retry = RetryConfig {
            max_retries: retries,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        match self.cloud {
            Cloud::S3 => {
                let store = self.s3(options, retry);
                store
                    .map(|store| self.below_prefix(store))
                    .map_err(|e| unusable("the S3 settings in [store]", &e))
            }
            // Everything but the bucket from their usual variables: there are many ways to say
            // who one is, and each has its own.
            Cloud::Gcs => GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(self.bucket)
                .with_client_options(options)
                .with_retry(retry)
                .build()
                .map(|store| self.below_prefix(store))
                .map_err(|e| unusable("the variables for a gs:// store (GOOGLE_…)", &e)),
            Cloud::Azure => MicrosoftAzureBuilder::from_env()
                .with_container_name(self.bucket)
                .with_client_options(options)
                .with_retry(retry)
                .build()
                .map(|store| self.below_prefix(store))
                .map_err(|e| unusable("the variables for an az:// store (AZURE_STORAGE_…)", &e)),
        }
    }

    fn s3(&self, options: ClientOptions, retry: RetryConfig) -> object_store::Result<AmazonS3> {
        let config = self.config;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(self.bucket)
            .with_allow_http(config.allow_http)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
            // As one thing, so that nothing of the environment's mixes with it: a session
            // token there would make these keys useless.
            let credential = AwsCredential {
                key_id: id.clone(),
                secret_key: secret.reveal().to_owned(),
                token: None,
            };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        builder.build()
    }

    fn below_prefix(&self, store: impl ObjectStore) -> Arc<dyn ObjectStore> {
        match self.prefix {
            "" => Arc::new(store),
            prefix => Arc::new(PrefixStore::new(store, Path::from(prefix))),
        }
    }
}

fn unusable(what: &str, why: &dyn Display) -> Error {
    Error::invalid(format!("{what} do not work: {why}"))
}

fn client_options(allow_http: bool, extra_ca: Option<&FsPath>) -> Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(allow_http);
    if let Some(path) = extra_ca {
        let refuse = |e: &dyn std::fmt::Display| {
            Error::invalid(format!(
                "`outgoing.ca_file`: the CA bundle {} cannot be used: {e}",
                path.display()
            ))
        };
        let pem = std::fs::read(path).map_err(|e| refuse(&e))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| refuse(&e))? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}
