//! Who pulled what: `pulls/2026-11-22/120000.123456-<replica>-<random>.jsonl`, batches of downloads
//! of one day (UTC), named by their first one's time. Immutable; whole days are deleted.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, Result};
use rand::RngExt;

const FOLDER: &str = "pulls";
/// Hours to microseconds: names sort by time.
const TIME_FORMAT: &str = "%H%M%S.%6f";
const SUFFIX: &str = ".jsonl";
/// The largest batch, in bytes; what is larger was not written by us.
pub const MAX_BATCH_BYTES: u64 = 8 * 1024 * 1024;
/// Batches of one day whose names are held in memory: a hundred replicas that write one a minute,
/// and as many again.
const MAX_BATCHES_A_DAY: usize = 300_000;

/// The batches in the store.
#[derive(Debug, Clone)]
pub struct DownloadLogStore {
    store: Arc<dyn ObjectStore>,
}

/// Where a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchName {
    /// No pull in it is earlier, to the microsecond below.
    pub begins: Timestamp,
    path: Path,
}

impl BatchName {
    /// A name that no other batch has, for one whose first pull was at this time.
    pub fn new(begins: Timestamp, replica: &str) -> Self {
        let time = begins.to_zoned(TimeZone::UTC);
        let number: u32 = rand::rng().random();
        let file = format!("{}-{replica}-{number:08x}{SUFFIX}", time.strftime(TIME_FORMAT));
        Self { begins, path: Path::from_iter([FOLDER, &time.date().to_string(), &file]) }
    }

    /// `None` for an object that is no batch.
    fn of(path: Path) -> Option<Self> {
        let mut parts = path.parts().skip(1);
        let day: Date = parts.next()?.as_ref().parse().ok()?;
        let file = parts.next()?;
        let (time, _) = file.as_ref().strip_suffix(SUFFIX)?.split_once('-')?;
        let time = Time::strptime(TIME_FORMAT, time).ok()?;
        let begins = DateTime::from_parts(day, time).to_zoned(TimeZone::UTC).ok()?.timestamp();
        Some(Self { begins, path })
    }
}

impl DownloadLogStore {
    /// In this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Writes a batch. Again with the same lines after a failure, it changes nothing that landed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn put(&self, name: &BatchName, lines: Bytes) -> Result<()> {
        self.store.put(&name.path, lines.into()).await.map(drop)
    }

    /// The days that have batches, the earliest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn days(&self) -> Result<Vec<Date>> {
        let listed = self.store.list_with_delimiter(Some(&Path::from(FOLDER))).await?;
        let day = |folder: &Path| folder.filename()?.parse().ok();
        let mut days: Vec<Date> = listed.common_prefixes.iter().filter_map(day).collect();
        days.sort();
        Ok(days)
    }

    /// The batches of a day in the order of their beginnings.
    ///
    /// # Errors
    /// Those of the store; more batches than a day can have.
    pub async fn batches(&self, day: Date) -> Result<Vec<BatchName>> {
        let listed = self.store.list(Some(&folder(day))).take(MAX_BATCHES_A_DAY + 1);
        let named = listed.try_filter_map(|found| async { Ok(BatchName::of(found.location)) });
        let mut batches: Vec<_> = named.try_collect().await?;
        if batches.len() > MAX_BATCHES_A_DAY {
            return Err(strange(format!("{day} has more than {MAX_BATCHES_A_DAY} batches")));
        }
        batches.sort_by(|a, b| (a.begins, &a.path).cmp(&(b.begins, &b.path)));
        Ok(batches)
    }

    /// The lines of a batch; `None` when it was deleted since it was listed.
    ///
    /// # Errors
    /// Those of the store; a batch that is too large to be ours.
    pub async fn read(&self, batch: &BatchName) -> Result<Option<Bytes>> {
        match self.store.get(&batch.path).await {
            Ok(found) if found.meta.size > MAX_BATCH_BYTES => {
                Err(strange(format!("{} has {} bytes", batch.path, found.meta.size)))
            }
            Ok(found) => found.bytes().await.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes all that stands under a day, and says how much it was. What somebody else has
    /// deleted meanwhile is gone already.
    ///
    /// # Errors
    /// Those of the store; then some of it is left.
    pub async fn delete(&self, day: Date) -> Result<u64> {
        let listed = self.store.list(Some(&folder(day)));
        let mut deleted = self.store.delete_stream(listed.map_ok(|found| found.location).boxed());
        let mut count = 0;
        while let Some(one) = deleted.next().await {
            match one {
                Ok(_) => count += 1,
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(count)
    }
}

fn folder(day: Date) -> Path {
    Path::from_iter([FOLDER, &day.to_string()])
}

fn strange(what: String) -> Error {
    Error::Generic { store: "pulls", source: format!("{what}: not written by us").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn name(time: &str) -> BatchName {
        BatchName::new(time.parse().unwrap(), "crates-0")
    }

    #[test]
    fn a_name_begins_with_day_and_time_and_can_be_read_back() {
        let name = name("2026-11-22T03:04:05.006007008Z");
        let text = name.path.as_ref();
        assert!(text.starts_with("pulls/2026-11-22/030405.006007-crates-0-"), "{text}");
        let read = BatchName::of(name.path.clone()).unwrap();
        assert_eq!(read.path, name.path);
        assert_eq!(read.begins, "2026-11-22T03:04:05.006007Z".parse().unwrap());
        for other in ["pulls/x/030405.006007-a.jsonl", "pulls/2026-11-22/README", "pulls"] {
            assert_eq!(BatchName::of(Path::from(other)), None, "{other}");
        }
    }

    #[tokio::test]
    async fn batches_are_listed_by_day_and_time_read_and_deleted_by_day() {
        let store = Arc::new(InMemory::new());
        let pulls = DownloadLogStore::new(Arc::clone(&store) as _);
        assert_eq!(pulls.days().await.unwrap(), []);
        let (late, early) = (name("2026-11-22T23:59:59.999999999Z"), name("2026-11-22T00:00:00Z"));
        let other = name("2026-11-21T12:00:00Z");
        for batch in [&late, &early, &other] {
            pulls.put(batch, Bytes::from_static(b"{}\n")).await.unwrap();
        }
        store.put(&Path::from("pulls/2026-11-22/README"), "hello".into()).await.unwrap();
        let (first, second) = ("2026-11-21".parse().unwrap(), "2026-11-22".parse().unwrap());
        assert_eq!(pulls.days().await.unwrap(), [first, second]);
        let paths = |batches: Vec<BatchName>| batches.into_iter().map(|b| b.path);
        let listed = paths(pulls.batches(second).await.unwrap());
        assert!(listed.eq([early.path, late.path.clone()]));
        assert_eq!(pulls.read(&late).await.unwrap(), Some(Bytes::from_static(b"{}\n")));
        assert_eq!(pulls.delete(second).await.unwrap(), 3);
        assert_eq!(pulls.delete(second).await.unwrap(), 0);
        assert_eq!(pulls.read(&late).await.unwrap(), None);
        assert_eq!(pulls.days().await.unwrap(), [first]);
    }

    #[tokio::test]
    async fn what_is_too_large_to_be_a_batch_is_not_read() {
        let pulls = DownloadLogStore::new(Arc::new(InMemory::new()));
        let large = name("2026-11-22T00:00:00Z");
        let bytes = vec![b'x'; usize::try_from(MAX_BATCH_BYTES).unwrap() + 1];
        pulls.put(&large, bytes.into()).await.unwrap();
        assert!(pulls.read(&large).await.unwrap_err().to_string().contains("not written by us"));
    }
}
