//! Objects that several replicas overwrite: what one has read and another has changed meanwhile is
//! not put over it.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use crate::error::{Error, Result};

/// How often an object is read and merged anew when others put it at the same time.
const MERGE_ATTEMPTS: u32 = 4;

/// The state of an object, as it was read.
#[derive(Debug, Clone)]
pub enum Seen {
    /// There was none.
    Absent,
    /// This one.
    Version(UpdateVersion),
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It stands.
    Done,
    /// Another one came between: the object is not as it was seen.
    Overtaken,
    /// The store does not compare versions when it puts.
    CannotCompare,
}

impl Seen {
    pub(super) fn of(found: &GetResult) -> Self {
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        Self::Version(UpdateVersion { e_tag, version })
    }
}

/// Puts an object where it still is as it was seen.
pub(super) async fn put_over(
    store: &dyn ObjectStore,
    path: &Path,
    payload: PutPayload,
    seen: &Seen,
) -> Result<Put> {
    let mode = match seen {
        Seen::Absent => PutMode::Create,
        Seen::Version(version) => PutMode::Update(version.clone()),
    };
    match store.put_opts(path, payload, PutOptions::from(mode)).await {
        Ok(_) => Ok(Put::Done),
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
            Ok(Put::Overtaken)
        }
        // Deleted in between.
        Err(StoreError::NotFound { .. }) => Ok(Put::Overtaken),
        // A folder; or a server that speaks S3 without `If-Match`.
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            Ok(Put::CannotCompare)
        }
        Err(e) => Err(Error::store(e)),
    }
}

/// Reads an object, and puts what `merge` makes of it. Where others put it at the same time, what they
/// have put is merged too; a store that does not compare versions has it put over theirs.
///
/// # Errors
/// When the store does not answer, or others never stop; those of `merge`.
pub(super) async fn merge_into(
    store: &dyn ObjectStore,
    path: &Path,
    merge: impl Fn(Option<Bytes>) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    for _ in 0..MERGE_ATTEMPTS {
        let (seen, former) = match store.get(path).await {
            Ok(found) => (Seen::of(&found), Some(found.bytes().await.map_err(Error::store)?)),
            Err(StoreError::NotFound { .. }) => (Seen::Absent, None),
            Err(e) => return Err(Error::store(e)),
        };
        let Some(merged) = merge(former)? else { return Ok(()) };
        let payload = PutPayload::from(merged);
        match put_over(store, path, payload.clone(), &seen).await? {
            Put::Done => return Ok(()),
            Put::Overtaken => {}
            Put::CannotCompare => {
                return store.put(path, payload).await.map(drop).map_err(Error::store);
            }
        }
    }
    Err(Error::unavailable("an object in the registry's store is being changed by too many"))
}
