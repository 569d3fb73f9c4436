//! Objects that several replicas overwrite: what one has read and another has changed meanwhile is
//! not put over it.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};

use cratehouse_core::error::{Error, Refusal, Result};

/// How often an object is read and merged anew when others put it at the same time.
const MERGE_ATTEMPTS: u32 = 4;

/// Puts of one version over another that fail, each while a plain one behind it is done, until no more
/// are tried.
const MAX_FAILURES: u32 = 3;

/// Whether a store compares versions when it puts. A folder does not; a server that speaks S3 without
/// `If-Match` answers with whatever error, and loses time with it. Shared by all handles on it.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// In a row.
    failures: AtomicU32,
}

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
    /// The store does not compare versions when it puts, or did not now.
    CannotCompare,
}

/// What stands in an object's place before it is merged into.
#[derive(Debug)]
pub(super) enum Former {
    /// Nothing.
    Absent,
    /// This.
    Bytes(Bytes),
    /// More than may be read.
    TooLarge,
}

impl Comparing {
    /// Whether it is worth trying.
    fn works(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < MAX_FAILURES
    }

    fn worked(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// It never will.
    fn is_unknown_here(&self) {
        self.failures.store(MAX_FAILURES, Ordering::Relaxed);
    }

    /// Where a plain put is done, it was the comparing that failed.
    fn failed(&self) {
        let more = |failures: u32| Some(failures.saturating_add(1));
        let _ = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
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
    comparing: &Comparing,
    path: &Path,
    payload: PutPayload,
    seen: &Seen,
) -> Result<Put> {
    let mode = match seen {
        Seen::Absent => PutMode::Create,
        Seen::Version(UpdateVersion { e_tag: None, version: None }) => {
            return Ok(Put::CannotCompare);
        }
        Seen::Version(_) if !comparing.works() => return Ok(Put::CannotCompare),
        Seen::Version(version) => PutMode::Update(version.clone()),
    };
    let compares = mode != PutMode::Create;
    let put = store.put_opts(path, payload, PutOptions::from(mode)).await;
    match put {
        Err(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) if compares => {
            comparing.is_unknown_here();
            Ok(Put::CannotCompare)
        }
        // Those that do not know `If-Match` have many ways to say so: 400, 501, an error that nobody
        // has a name for. A store that does not answer at all does not answer a plain put either.
        Err(e) if compares && !is_answer(&e) && Refusal::of(&e).is_none() => Ok(Put::CannotCompare),
        Err(e) if !is_answer(&e) => Err(Error::store(e)),
        answer => {
            if compares {
                comparing.worked();
            }
            Ok(answer.map_or(Put::Overtaken, |_| Put::Done))
        }
    }
}

/// Whether it says what stands there: another one, or, as it was deleted in between, none.
fn is_answer(e: &StoreError) -> bool {
    use StoreError::{AlreadyExists, NotFound, Precondition};
    matches!(e, AlreadyExists { .. } | Precondition { .. } | NotFound { .. })
}

/// Puts an object over whatever stands there, where comparing was of no use.
pub(super) async fn put_plainly(
    store: &dyn ObjectStore,
    comparing: &Comparing,
    path: &Path,
    payload: PutPayload,
) -> Result<()> {
    store.put(path, payload).await.map_err(Error::store)?;
    comparing.failed();
    Ok(())
}

/// Reads an object of so many bytes at the most, and puts what `merge` makes of it. Where others put it at
/// the same time, what they have put is merged too; a store that does not compare versions has it put
/// over theirs.
///
/// # Errors
/// When the store does not answer, or others never stop; those of `merge`.
pub(super) async fn merge_into(
    store: &dyn ObjectStore,
    comparing: &Comparing,
    path: &Path,
    max_bytes: u64,
    merge: impl Fn(Former) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    let mut compare = comparing.works();
    for _ in 0..MERGE_ATTEMPTS {
        let (seen, former) = match store.get(path).await {
            Ok(found) if found.meta.size > max_bytes => (Seen::of(&found), Former::TooLarge),
            Ok(found) => {
                let seen = Seen::of(&found);
                (seen, Former::Bytes(found.bytes().await.map_err(Error::store)?))
            }
            Err(StoreError::NotFound { .. }) => (Seen::Absent, Former::Absent),
            Err(e) => return Err(Error::store(e)),
        };
        let Some(merged) = merge(former)? else { return Ok(()) };
        let payload = PutPayload::from(merged);
        if matches!(seen, Seen::Version(_)) && !compare {
            return put_plainly(store, comparing, path, payload).await;
        }
        match put_over(store, comparing, path, payload, &seen).await? {
            Put::Done => return Ok(()),
            Put::Overtaken => {}
            // What stands there is read again, so that little can come between.
            Put::CannotCompare => compare = false,
        }
    }
    Err(Error::unavailable("an object in the registry's store is being changed by too many"))
}

#[cfg(test)]
mod tests;
