//! Mirrored index files, licences and pins in the store.
//!
//! An index file is a cache: overwritten by what is newer, and absent when it is damaged. A pin
//! decides: it is created once, and never changed or deleted.

mod licenses;
mod names;
mod overwrite;
mod sights;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use serde::{Deserialize, Serialize};

pub use self::licenses::Licenses;
pub use self::names::NamesList;
pub use self::overwrite::Seen;
use self::overwrite::{Comparing, Put, put_over, put_plainly};
pub use self::sights::Sights;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::threads;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// How often a pin is tried before the store counts as unavailable.
const PIN_ATTEMPTS: u32 = 3;
/// How often an index file is put when others put it at the same time.
const PUT_ATTEMPTS: u32 = 3;
/// The wait before a pin is tried again; it doubles.
const PIN_WAIT: Duration = Duration::from_millis(100);

/// Mirrored index files and pins in the store.
#[derive(Debug, Clone)]
pub struct MirrorStore {
    /// For index files and licences, which may be lost.
    cache: Arc<dyn ObjectStore>,
    /// For pins, which may not.
    durable: Arc<dyn ObjectStore>,
    comparing: Arc<Comparing>,
}

/// An upstream's index file as the store keeps it: a line of JSON, then the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIndex {
    /// The first line.
    pub head: KeptHead,
    /// The upstream's body, byte for byte.
    pub body: Bytes,
}

/// What is known of a kept index file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHead {
    /// The upstream's `ETag`, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The upstream's `Last-Modified`, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// When the upstream was last asked.
    pub checked: Timestamp,
    /// The index URL that it was asked at: validators of another server mean nothing.
    pub from: String,
    /// SHA-256 of the body.
    pub sha256: Checksum,
    /// When versions without a `pubtime` were first seen here, if not at the first fetch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<CrateVersion, Timestamp>,
    /// Whether the first sights of all its versions without a `pubtime` are noted beside it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sights_noted: bool,
    /// The pins of versions whose checksum was seen to change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed: BTreeMap<CrateVersion, Checksum>,
}

/// The checksum of a mirrored version, as first seen here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// SHA-256 of the crate file.
    pub cksum: Checksum,
    /// When it was pinned.
    pub first_seen: Timestamp,
}

impl MirrorStore {
    /// By two handles on a store: index files are a cache, pins must last.
    pub fn new(cache: Arc<dyn ObjectStore>, durable: Arc<dyn ObjectStore>) -> Self {
        Self { cache, durable, comparing: Arc::default() }
    }

    /// The kept index file of a crate, if there is one. A damaged one counts as absent.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn index(&self, upstream: &str, name: &CrateName) -> Result<Option<KeptIndex>> {
        Ok(self.index_seen(upstream, name).await?.0)
    }

    /// The same, and what stands in its place: for who will put another. Where something does and there
    /// is none, it is damaged.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn index_seen(
        &self,
        upstream: &str,
        name: &CrateName,
    ) -> Result<(Option<KeptIndex>, Seen)> {
        let path = index_path(upstream, name);
        let (seen, bytes) = match self.cache.get(&path).await {
            Ok(found) => (Seen::of(&found), found.bytes().await.map_err(Error::store)?),
            Err(StoreError::NotFound { .. }) => return Ok((None, Seen::Absent)),
            Err(e) => return Err(Error::store(e)),
        };
        let kept = threads::aside(move || KeptIndex::decode(&bytes)).await?;
        Ok((kept, seen))
    }

    /// Whether the index file of a crate is kept.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn has_index(&self, upstream: &str, name: &CrateName) -> Result<bool> {
        match self.cache.head(&index_path(upstream, name)).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(Error::store(e)),
        }
    }

    /// Keeps an index file, in place of the one that was seen. Where another replica has put one
    /// meanwhile, the one that was checked later stays, with what either knows of first sights.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_index(
        &self,
        upstream: &str,
        name: &CrateName,
        mut kept: KeptIndex,
        mut seen: Seen,
    ) -> Result<()> {
        let path = index_path(upstream, name);
        for _ in 0..PUT_ATTEMPTS {
            let payload = kept.encode().map_err(Error::internal)?;
            let (store, comparing) = (self.cache.as_ref(), self.comparing.as_ref());
            let put = put_over(store, comparing, &path, payload.clone(), &seen).await?;
            let (other, now) = match put {
                Put::Done => return Ok(()),
                Put::Overtaken | Put::CannotCompare => self.index_seen(upstream, name).await?,
            };
            if other.as_ref().is_some_and(|other| other.head.checked > kept.head.checked) {
                return Ok(());
            }
            if put == Put::CannotCompare {
                return put_plainly(store, comparing, &path, payload).await;
            }
            if let Some(other) = other {
                kept.head.learn_from(&other.head);
            }
            seen = now;
        }
        Ok(()) // others put it again and again: theirs will do
    }

    /// Drops a kept index file, unless another replica has checked it after `checked`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn delete_index_as_of(
        &self,
        upstream: &str,
        name: &CrateName,
        checked: Timestamp,
    ) -> Result<()> {
        match self.index(upstream, name).await? {
            Some(kept) if kept.head.checked > checked => Ok(()),
            _ => self.delete_index(upstream, name).await,
        }
    }

    /// Drops a kept index file; fine when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn delete_index(&self, upstream: &str, name: &CrateName) -> Result<()> {
        match self.cache.delete(&index_path(upstream, name)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::store(e)),
        }
    }

    /// The names, in lower case, of the crates whose index file is kept.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn names(&self, upstream: &str) -> Result<Vec<CrateName>> {
        let folder = Path::from(format!("mirror/{upstream}/index"));
        let listed = self.cache.list(Some(&folder));
        let names = listed.try_filter_map(|object| async move {
            Ok(object.location.filename().and_then(|name| name.parse().ok()))
        });
        names.try_collect().await.map_err(Error::store)
    }

    /// Pins the checksum of a version, and returns the pin that stands: this one, or one that
    /// was there before.
    ///
    /// # Errors
    /// When the store does not answer, or holds a pin that cannot be read.
    pub async fn pin(
        &self,
        upstream: &str,
        name: &CrateName,
        version: &CrateVersion,
        cksum: &Checksum,
        now: Timestamp,
    ) -> Result<Pin> {
        let path = pin_path(upstream, name, version);
        let mine = Pin { cksum: *cksum, first_seen: now };
        let mut wait = PIN_WAIT;
        for _ in 1..PIN_ATTEMPTS {
            match self.create_or_read_pin(&path, &mine).await {
                Err(e) if e.kind != Kind::Internal => tokio::time::sleep(wait).await,
                settled => return settled,
            }
            wait *= 2;
        }
        self.create_or_read_pin(&path, &mine).await
    }

    /// The pin of a version, if there is one.
    ///
    /// # Errors
    /// When the store does not answer, or holds a pin that cannot be read.
    pub async fn pinned(
        &self,
        upstream: &str,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<Option<Pin>> {
        self.read_pin(&pin_path(upstream, name, version)).await
    }

    /// The pinned versions of a crate.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pinned_versions(
        &self,
        upstream: &str,
        name: &CrateName,
    ) -> Result<Vec<CrateVersion>> {
        let folder = pins_folder(upstream, name);
        let listed = self.durable.list(Some(&folder));
        let versions = listed.try_filter_map(|object| async move {
            Ok(object.location.filename().and_then(|version| version.parse().ok()))
        });
        versions.try_collect().await.map_err(Error::store)
    }

    /// Whatever the put answers, what stands there afterwards decides: a lost reply looks like a
    /// failure, and a conflict may be with our own put.
    async fn create_or_read_pin(&self, path: &Path, pin: &Pin) -> Result<Pin> {
        let bytes = serde_json::to_vec(pin).map_err(Error::internal)?;
        let options = PutOptions::from(PutMode::Create);
        match self.durable.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(pin.clone()),
            Err(e) => self.read_pin(path).await?.ok_or_else(|| Error::store(e)),
        }
    }

    async fn read_pin(&self, path: &Path) -> Result<Option<Pin>> {
        let bytes = match self.durable.get(path).await {
            Ok(found) => found.bytes().await.map_err(Error::store)?,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(Error::store(e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(Error::internal)
    }
}

impl KeptHead {
    /// Takes over what another replica noted, of the same versions, and this one did not see: the
    /// earlier sights, and checksums that had changed.
    fn learn_from(&mut self, other: &Self) {
        for (version, at) in &mut self.seen {
            if let Some(earlier) = other.seen.get(version) {
                *at = (*at).min(*earlier);
            }
        }
        if self.sha256 == other.sha256 {
            for (version, pinned) in &other.changed {
                self.changed.entry(version.clone()).or_insert(*pinned);
            }
        }
    }
}

impl KeptIndex {
    /// In two parts: the body is that which is served too, and not copied.
    fn encode(&self) -> serde_json::Result<PutPayload> {
        let mut head = serde_json::to_vec(&self.head)?;
        head.push(b'\n');
        Ok([Bytes::from(head), self.body.clone()].into_iter().collect())
    }

    /// `None` when the bytes are damaged.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: KeptHead = serde_json::from_slice(bytes.get(..end)?).ok()?;
        let body = bytes.slice(end + 1..);
        (Checksum::of(&body) == head.sha256).then_some(Self { head, body })
    }
}

fn index_path(upstream: &str, name: &CrateName) -> Path {
    Path::from(format!("mirror/{upstream}/index/{}", name.index_path()))
}

fn pins_folder(upstream: &str, name: &CrateName) -> Path {
    Path::from(format!("mirror/{upstream}/pins/{}", name.lower()))
}

fn pin_path(upstream: &str, name: &CrateName, version: &CrateVersion) -> Path {
    Path::from(format!("{}/{version}", pins_folder(upstream, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn foo() -> CrateName {
        "Foo".parse().unwrap()
    }

    fn kept(body: &'static str) -> KeptIndex {
        KeptIndex {
            head: KeptHead {
                etag: Some("\"1\"".to_owned()),
                last_modified: None,
                checked: "2026-01-01T00:00:00Z".parse().unwrap(),
                from: "https://up.example/".to_owned(),
                sha256: Checksum::of(body.as_bytes()),
                sights_noted: false,
                seen: [("1.0.0+b".parse().unwrap(), Timestamp::UNIX_EPOCH)].into(),
                changed: [("1.1.0".parse().unwrap(), Checksum::of(b"was"))].into(),
            },
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn in_memory() -> MirrorStore {
        let store = Arc::new(object_store::memory::InMemory::new());
        MirrorStore::new(Arc::clone(&store) as _, store)
    }

    #[tokio::test]
    async fn index_files_come_back_as_they_were_kept() {
        let mirror = in_memory();
        assert_eq!(mirror.index("up", &foo()).await.unwrap(), None);
        for body in ["{}\n{}", ""] {
            let seen = mirror.index_seen("up", &foo()).await.unwrap().1;
            mirror.put_index("up", &foo(), kept(body), seen).await.unwrap();
            assert_eq!(mirror.index("up", &foo()).await.unwrap(), Some(kept(body)));
        }
        assert_eq!(mirror.names("up").await.unwrap(), ["foo".parse().unwrap()]);
        assert_eq!(mirror.names("u").await.unwrap(), []);
        for _ in 0..2 {
            mirror.delete_index("up", &foo()).await.unwrap();
        }
        assert_eq!(mirror.index("up", &foo()).await.unwrap(), None);
    }

    fn checked(body: &'static str, second: i64) -> KeptIndex {
        let mut kept = kept(body);
        kept.head.checked = Timestamp::from_second(second).unwrap();
        kept
    }

    fn in_a_folder() -> (tempfile::TempDir, MirrorStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        (folder, MirrorStore::new(Arc::clone(&store), store))
    }

    /// Of two replicas that have read the same copy, one puts late what it fetched early.
    #[tokio::test]
    async fn a_copy_that_was_fetched_earlier_does_not_replace_a_later_one() {
        let (_folder, local) = in_a_folder();
        for mirror in [in_memory(), local] {
            for before in [None, Some(checked("{}\n", 5))] {
                if let Some(before) = before {
                    mirror.delete_index("up", &foo()).await.unwrap();
                    mirror.put_index("up", &foo(), before, Seen::Absent).await.unwrap();
                }
                let seen = mirror.index_seen("up", &foo()).await.unwrap().1;
                let (early, late) = (checked("early", 10), checked("late", 20));
                mirror.put_index("up", &foo(), late.clone(), seen.clone()).await.unwrap();
                mirror.put_index("up", &foo(), early, seen).await.unwrap();
                assert_eq!(mirror.index("up", &foo()).await.unwrap(), Some(late));
            }
        }
    }

    #[tokio::test]
    async fn a_later_copy_replaces_one_that_came_between_and_learns_from_it() {
        let (_folder, local) = in_a_folder();
        for mirror in [in_memory(), local] {
            let (mut early, mut late) = (checked("early", 10), checked("late", 20));
            let version: CrateVersion = "1.0.0".parse().unwrap();
            early.head.seen = [(version.clone(), Timestamp::from_second(9).unwrap())].into();
            late.head.seen = [(version.clone(), Timestamp::from_second(19).unwrap())].into();
            mirror.put_index("up", &foo(), early, Seen::Absent).await.unwrap();
            mirror.put_index("up", &foo(), late, Seen::Absent).await.unwrap();
            let stands = mirror.index("up", &foo()).await.unwrap().unwrap();
            assert_eq!(stands.body, "late");
            assert_eq!(stands.head.seen[&version], Timestamp::from_second(9).unwrap());
        }
    }

    #[tokio::test]
    async fn who_learned_earlier_that_a_crate_is_gone_does_not_delete_a_later_copy() {
        let mirror = in_memory();
        mirror.put_index("up", &foo(), checked("late", 20), Seen::Absent).await.unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        mirror.delete_index_as_of("up", &foo(), at(10)).await.unwrap();
        assert!(mirror.index("up", &foo()).await.unwrap().is_some());
        mirror.delete_index_as_of("up", &foo(), at(20)).await.unwrap();
        assert!(mirror.index("up", &foo()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_damaged_index_file_counts_as_absent() {
        let store = Arc::new(InMemory::new());
        let mirror = MirrorStore::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let whole: Bytes = kept("{}\n{}\n").encode().unwrap().into();
        let changed = Bytes::from(String::from_utf8_lossy(&whole).replace("{}\n{}", "{}\n[]"));
        for damaged in [whole.slice(..whole.len() - 1), changed, Bytes::new(), "\n".into()] {
            store.put(&Path::from("mirror/up/index/3/f/foo"), damaged.into()).await.unwrap();
            let (kept_now, seen) = mirror.index_seen("up", &foo()).await.unwrap();
            assert_eq!(kept_now, None);
            mirror.put_index("up", &foo(), kept("{}\n"), seen).await.unwrap();
            assert_eq!(mirror.index("up", &foo()).await.unwrap(), Some(kept("{}\n")));
        }
    }

    #[tokio::test]
    async fn the_first_pin_stands() {
        let mirror = in_memory();
        let version: CrateVersion = "1.0.0+b.1".parse().unwrap();
        let (first, second) = (Checksum::of(b"a"), Checksum::of(b"b"));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(mirror.pinned("up", &foo(), &version).await.unwrap(), None);
        for cksum in [first, second] {
            let pin = mirror.pin("up", &foo(), &version, &cksum, now).await.unwrap();
            assert_eq!(pin, Pin { cksum: first, first_seen: now });
        }
        assert_eq!(mirror.pinned("up", &foo(), &version).await.unwrap().unwrap().cksum, first);
        assert_eq!(mirror.pinned_versions("up", &foo()).await.unwrap(), [version]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_count_as_damaged(bytes in proptest::collection::vec(0u8..255, 0..200)) {
            let _ = KeptIndex::decode(&Bytes::from(bytes));
        }
    }
}
