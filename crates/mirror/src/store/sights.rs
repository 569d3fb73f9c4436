//! When versions without a date were first seen: one object a crate, which outlives its index file's
//! copy. Only upstreams whose lines have no `pubtime` need it.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::MirrorStore;
use super::overwrite::{Former, merge_into};
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// The largest object, in bytes: that of a crate of 10,000 versions has 500 kB. A larger one is
/// neither read nor written.
const LARGEST_BYTES: u64 = 8 << 20;

/// Versions without a date, with their first sight; `None`: they were there at the first fetch, and
/// count as old.
pub type Sights = BTreeMap<CrateVersion, Option<Timestamp>>;

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    versions: Sights,
}

impl MirrorStore {
    /// What was noted of a crate; `None`: nothing ever was.
    ///
    /// # Errors
    /// When the store does not answer. Internal, when what it holds cannot be read: to take that for
    /// nothing would make young versions old.
    pub async fn sights(&self, upstream: &str, name: &CrateName) -> Result<Option<Sights>> {
        let bytes = match self.durable.get(&path(upstream, name)).await {
            Ok(found) if found.meta.size > LARGEST_BYTES => return Err(too_large(name)),
            Ok(found) => found.bytes().await.map_err(Error::store)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(Error::store(e)),
        };
        read(&bytes).map(Some)
    }

    /// Adds to what was noted of a crate. What stands there already counts, or the earlier sight.
    ///
    /// # Errors
    /// When the store does not answer, or holds what cannot be read.
    pub async fn add_sights(&self, upstream: &str, name: &CrateName, more: &Sights) -> Result<()> {
        let add = |former| {
            let former = match former {
                Former::Absent => None,
                Former::Bytes(bytes) => Some(read(&bytes)?),
                Former::TooLarge => return Err(too_large(name)),
            };
            let versions = merged(former.clone().unwrap_or_default(), more);
            if former.is_some_and(|former| former == versions) {
                return Ok(None);
            }
            let bytes = serde_json::to_vec(&Kept { versions }).map_err(Error::internal)?;
            match bytes.len() as u64 > LARGEST_BYTES {
                true => Err(too_large(name)),
                false => Ok(Some(bytes)),
            }
        };
        let (store, comparing) = (self.durable.as_ref(), self.comparing.as_ref());
        merge_into(store, comparing, &path(upstream, name), LARGEST_BYTES, add).await
    }
}

/// Two notes of the same versions: old is older than any time.
fn merged(mut sights: Sights, more: &Sights) -> Sights {
    for (version, at) in more {
        let known = sights.entry(version.clone()).or_insert(*at);
        *known = (*known).min(*at); // `None` is the least
    }
    sights
}

fn read(bytes: &Bytes) -> Result<Sights> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(Error::internal)?;
    Ok(kept.versions)
}

fn too_large(name: &CrateName) -> Error {
    let why = format!("the first sights of `{name}` take more than {LARGEST_BYTES} bytes");
    Error::new(Kind::Internal, why)
}

fn path(upstream: &str, name: &CrateName) -> Path {
    Path::from(format!("mirror/{upstream}/sights/{}", name.index_path()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    fn sights(list: &[(&str, Option<Timestamp>)]) -> Sights {
        list.iter().map(|(version, at)| (version.parse().unwrap(), *at)).collect()
    }

    #[tokio::test]
    async fn the_earliest_sight_stands_and_nothing_is_lost() {
        let store = Arc::new(InMemory::new());
        let mirror = MirrorStore::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let foo = "Foo".parse().unwrap();
        assert_eq!(mirror.sights("up", &foo).await.unwrap(), None);
        let first = sights(&[("1.0.0", None), ("1.1.0", at(5))]);
        let second = sights(&[("1.0.0", at(9)), ("1.1.0", at(9)), ("1.2.0+b", at(9))]);
        let (a, b) = tokio::join!(
            mirror.add_sights("up", &foo, &first),
            mirror.add_sights("up", &foo, &second)
        );
        a.and(b).unwrap();
        let expected = sights(&[("1.0.0", None), ("1.1.0", at(5)), ("1.2.0+b", at(9))]);
        assert_eq!(mirror.sights("up", &foo).await.unwrap(), Some(expected));
        assert!(mirror.names("up").await.unwrap().is_empty(), "it is no index file");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_no_clean_slate() {
        let store = Arc::new(InMemory::new());
        let mirror = MirrorStore::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let foo = "foo".parse().unwrap();
        let large = format!("{{\"versions\":{{}}}}{}", " ".repeat(LARGEST_BYTES as usize));
        for unreadable in ["{".to_owned(), large] {
            let place = Path::from("mirror/up/sights/3/f/foo");
            store.put(&place, unreadable.into()).await.unwrap();
            assert!(mirror.sights("up", &foo).await.is_err());
            assert!(mirror.add_sights("up", &foo, &sights(&[("1.0.0", None)])).await.is_err());
        }
    }
}
