//! The checkpoints' objects: `checkpoints/00000000000000000040-<hash>`, create-only, immutable.

use cratehouse_storage::objects::Objects;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::checkpoint_format::Name;
use cratehouse_core::error::Refusal;

/// Where they are.
pub const FOLDER: &str = "checkpoints";
/// The largest, in bytes, compressed: tens of millions of versions.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// What an error is by that says so.
const TOO_LARGE: &str = "checkpoints";

/// Lists, reads and creates checkpoints. What they say is for others to judge.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    store: Arc<dyn ObjectStore>,
}

impl Checkpoints {
    /// Checkpoints by a durable handle on a store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// The names of those that a listing shows within some numbers, newest first, `most` at the
    /// most: a hint, no truth. What else lies in the folder is passed over.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn newest(
        &self,
        within: RangeInclusive<u64>,
        most: usize,
    ) -> object_store::Result<Vec<Name>> {
        let from = Path::from(format!("{FOLDER}/{:020}", within.start()));
        let listing = self.store.list_with_offset(Some(&Path::from(FOLDER)), &from);
        let keep = |mut newest: BTreeSet<Name>, object: object_store::ObjectMeta| {
            let name = object.location.filename().and_then(|f| f.parse::<Name>().ok());
            newest.extend(name.filter(|name| within.contains(&name.seq)));
            if newest.len() > most {
                newest.pop_first();
            }
            async move { Ok(newest) }
        };
        let newest = listing.try_fold(BTreeSet::new(), keep).await?;
        Ok(newest.into_iter().rev().collect())
    }

    /// A checkpoint's bytes.
    ///
    /// # Errors
    /// When there is none, it is too large, or the store does not answer.
    pub async fn get(&self, name: &Name) -> object_store::Result<Bytes> {
        let found = self.store.get(&path(name)).await?;
        if found.meta.size > MAX_BYTES {
            let source = format!("checkpoint {name} has {} bytes", found.meta.size).into();
            return Err(Error::Generic { store: TOO_LARGE, source });
        }
        found.bytes().await
    }

    /// Whether [`Checkpoints::get`] failed by what lies there, or does not, while the store answers.
    pub fn is_of_the_object(why: &Error) -> bool {
        let too_large = matches!(why, Error::Generic { store: TOO_LARGE, .. });
        let forbidden = Refusal::of(why) == Some(Refusal::Forbidden);
        too_large || forbidden || matches!(why, Error::NotFound { .. })
    }

    /// Creates a checkpoint; says whether there was none of this name. One that is there is the
    /// same, since its name has its hash.
    ///
    /// # Errors
    /// When it is not known to be there.
    pub async fn put(&self, name: &Name, bytes: Bytes) -> object_store::Result<bool> {
        let (path, options) = (path(name), PutOptions::from(PutMode::Create));
        match self.store.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            // Some stores say this of a conflict in which nothing was written.
            Err(Error::AlreadyExists { .. }) => self.store.head(&path).await.map(|_| false),
            Err(e) => Err(e),
        }
    }
}

fn path(name: &Name) -> Path {
    Path::from(format!("{FOLDER}/{name}"))
}

/// The checkpoints in a store.
pub fn checkpoints_in(objects: &Objects) -> Checkpoints {
    Checkpoints::new(Arc::clone(&objects.durable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::checksum::Checksum;
    use cratehouse_storage::test_util::{Call, Fault, FaultyStore};
    use object_store::memory::InMemory;

    fn name(seq: u64) -> Name {
        Name { seq, hash: Checksum::of(&seq.to_be_bytes()) }
    }

    #[tokio::test]
    async fn the_newest_are_listed_first_and_nothing_else() {
        let store = Arc::new(InMemory::new());
        let checkpoints = Checkpoints::new(Arc::clone(&store) as _);
        assert_eq!(checkpoints.newest(0..=u64::MAX, 3).await.unwrap(), []);
        for seq in [1, 9, 10, 200, 30] {
            assert!(checkpoints.put(&name(seq), Bytes::from_static(b"x")).await.unwrap());
        }
        store.put(&Path::from("checkpoints/README"), "hello".into()).await.unwrap();
        let newest = checkpoints.newest(0..=u64::MAX, 3).await.unwrap();
        assert_eq!(newest, [name(200), name(30), name(10)]);
        assert_eq!(checkpoints.newest(9..=10, 3).await.unwrap(), [name(10), name(9)]);
        assert_eq!(checkpoints.newest(11..=29, 3).await.unwrap(), []);
    }

    #[tokio::test]
    async fn one_is_written_once_and_never_again() {
        let checkpoints = Checkpoints::new(Arc::new(InMemory::new()));
        assert!(checkpoints.get(&name(1)).await.is_err());
        assert!(checkpoints.put(&name(1), Bytes::from_static(b"one")).await.unwrap());
        assert!(!checkpoints.put(&name(1), Bytes::from_static(b"two")).await.unwrap());
        assert_eq!(checkpoints.get(&name(1)).await.unwrap(), "one");
    }

    #[tokio::test]
    async fn a_conflict_in_which_nothing_was_written_is_no_success() {
        let plan = |call, _: &Path| if call == Call::Put { Fault::Conflict } else { Fault::None };
        let store = FaultyStore::new(Arc::new(InMemory::new()), Box::new(plan));
        let checkpoints = Checkpoints::new(Arc::new(store));
        assert!(checkpoints.put(&name(1), Bytes::from_static(b"one")).await.is_err());
    }
}
