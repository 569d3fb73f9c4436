//! What the crate files of a mirrored crate state of their licences: one object a crate, by
//! checksum. A cache: replicas add to it, and what is lost is read again.

use std::collections::BTreeMap;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};

use super::MirrorStore;
use super::overwrite::{Former, merge_into};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::log_limit::LineLimit;
use cratehouse_package::name::CrateName;
use cratehouse_policy::LicenseFact;

/// The largest object, in bytes: that of a crate of 5000 versions has 500 kB. A larger one is
/// neither read nor kept.
const LARGEST_BYTES: u64 = 8 << 20;

/// Licences by the checksum of their crate file.
pub type Licenses = BTreeMap<Checksum, LicenseFact>;

impl MirrorStore {
    /// The licences of a crate's versions that were read, here or by another replica. What is
    /// damaged counts as absent.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn licenses(
        &self,
        upstream: &str,
        name: &CrateName,
        lines: &LineLimit,
    ) -> Result<Licenses> {
        let path = path(upstream, name);
        let bytes = match self.cache.get(&path).await {
            Ok(found) if found.meta.size > LARGEST_BYTES => Bytes::new(),
            Ok(found) => found.bytes().await.map_err(Error::store)?,
            Err(StoreError::NotFound { .. }) => return Ok(Licenses::new()),
            Err(e) => return Err(Error::store(e)),
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            if let Some(suppressed) = lines.admit() {
                tracing::warn!(%path, %error, suppressed,
                    "licences in the store are damaged and not used");
            }
            Licenses::new()
        }))
    }

    /// Adds to the licences of a crate's versions. Those of versions that are no longer listed stay,
    /// for they may come back; when all of them become too many, `more` alone is kept.
    ///
    /// # Errors
    /// When the store does not answer; when `more` are too many.
    pub async fn add_licenses(
        &self,
        upstream: &str,
        name: &CrateName,
        more: &Licenses,
    ) -> Result<()> {
        let add = |former| {
            let mut all: Licenses = match former {
                Former::Bytes(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
                Former::Absent | Former::TooLarge => Licenses::new(),
            };
            all.extend(more.iter().map(|(sum, fact)| (*sum, fact.clone())));
            let bytes = serde_json::to_vec(&all).map_err(Error::internal)?;
            if bytes.len() as u64 <= LARGEST_BYTES {
                return Ok(Some(bytes));
            }
            let bytes = serde_json::to_vec(more).map_err(Error::internal)?;
            let why = format!("the licences of `{name}` take more than {LARGEST_BYTES} bytes");
            let fits = bytes.len() as u64 <= LARGEST_BYTES;
            fits.then_some(Some(bytes)).ok_or_else(|| Error::new(Kind::Internal, why))
        };
        let (store, comparing) = (self.cache.as_ref(), self.comparing.as_ref());
        merge_into(store, comparing, &path(upstream, name), LARGEST_BYTES, add).await
    }
}

fn path(upstream: &str, name: &CrateName) -> Path {
    Path::from(format!("mirror/{upstream}/licenses/{}", name.index_path()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use cratehouse_core::metrics::Metrics;

    #[tokio::test]
    async fn licences_come_back_by_checksum_and_damage_counts_as_none() {
        let objects = Arc::new(InMemory::new());
        let mirror = MirrorStore::new(Arc::clone(&objects) as _, Arc::clone(&objects) as _);
        let foo = "Foo".parse().unwrap();
        let lines = LineLimit::new("damaged_licenses", &Metrics::new().unwrap());
        assert_eq!(mirror.licenses("up", &foo, &lines).await.unwrap(), Licenses::new());
        let facts = [LicenseFact::Stated("MIT".to_owned()), LicenseFact::Missing];
        let sums = [Checksum::of(b"a"), Checksum::of(b"b")];
        let kept: Licenses = sums.into_iter().zip(facts).collect();
        // Two replicas, each with what it has read.
        let parts: Vec<Licenses> =
            kept.iter().map(|(sum, fact)| [(*sum, fact.clone())].into()).collect();
        for part in &parts {
            mirror.add_licenses("up", &foo, part).await.unwrap();
        }
        assert_eq!(mirror.licenses("up", &foo, &lines).await.unwrap(), kept);
        assert_eq!(mirror.licenses("other", &foo, &lines).await.unwrap(), Licenses::new());
        assert!(mirror.names("up").await.unwrap().is_empty());

        let place = Path::from("mirror/up/licenses/3/f/foo");
        let large = vec![b' '; LARGEST_BYTES as usize + 1];
        for damaged in [Bytes::from_static(b"{\"a\""), Bytes::new(), large.into()] {
            objects.put(&place, damaged.into()).await.unwrap();
            assert_eq!(mirror.licenses("up", &foo, &lines).await.unwrap(), Licenses::new());
            mirror.add_licenses("up", &foo, &kept).await.unwrap();
            assert_eq!(
                mirror.licenses("up", &foo, &lines).await.unwrap(),
                kept,
                "it is put in its place"
            );
        }
    }
}
