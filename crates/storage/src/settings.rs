//! Which store, and how to reach it.

use url::Url;

use crate::url::StoreUrl;
use cratehouse_core::secret::Secret;

/// `[store]`
#[derive(Debug, Clone)]
pub struct Store {
    /// Which store.
    pub url: StoreUrl,
    /// The S3 endpoint, where it is not Amazon's.
    pub endpoint: Option<Url>,
    /// The S3 region.
    pub region: Option<String>,
    /// The S3 access key; absent: the usual AWS variables and roles, as for other clouds.
    pub access_key_id: Option<String>,
    /// The S3 secret key.
    pub secret_access_key: Option<Secret>,
    /// Whether an `http:` endpoint is acceptable.
    pub allow_http: bool,
}
