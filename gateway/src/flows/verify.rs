//! Walking the journal from its beginning, and saying what is wrong and where.

mod rebuild;

use std::collections::BTreeMap;

use futures_util::stream::{self, FuturesOrdered, StreamExt};

pub use self::rebuild::Rebuild;
use crate::model::entry::{Entry, Happened};
use crate::stores::journal::Journal;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::blobs::{Blob, Blobs, Origin};

/// Entries that are read at once.
const READ_AHEAD: u64 = 64;
/// Crate files that are read at once; so many are in memory.
const BLOBS_AHEAD: usize = 8;

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The last entry of the chain that holds.
    pub head: u64,
    /// Its hash.
    pub hash: Checksum,
    /// What is wrong, one sentence each; none when all is well.
    pub wrong: Vec<String>,
    /// The versions that were not removed, with the checksum and the size of their bytes.
    live: BTreeMap<(CrateName, CrateVersion), (Checksum, u64)>,
}

/// Walks the chain of a registry's journal; checks that every entry continues the one before and
/// that none stands beyond a gap.
///
/// # Errors
/// When the store does not answer.
pub async fn walk(
    journal: &Journal,
    registry: &str,
    progress: impl FnMut(u64, u64),
) -> Result<Walk> {
    walk_and(journal, registry, None, progress).await
}

/// The same, and rebuilds the state from the entries, to compare it with what claims to be it.
///
/// # Errors
/// When the store does not answer, or the state cannot be rebuilt.
pub async fn walk_and_rebuild(
    journal: &Journal,
    registry: &str,
    rebuild: Rebuild,
    progress: impl FnMut(u64, u64),
) -> Result<Walk> {
    walk_and(journal, registry, Some(rebuild), progress).await
}

async fn walk_and(
    journal: &Journal,
    registry: &str,
    mut rebuild: Option<Rebuild>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Walk> {
    let newest = journal.newest_hint(0).await.map_err(Error::store)?;
    let hash = Checksum::of(registry.as_bytes());
    let mut walk = Walk { head: 0, hash, wrong: Vec::new(), live: BTreeMap::new() };
    while let Some(entries) = next_entries(journal, &mut walk).await? {
        entries.iter().for_each(|(entry, _)| note_versions(entry, &mut walk.live));
        if let Some(rebuild) = &mut rebuild {
            rebuild.apply(entries).await?;
        }
        progress(walk.head, newest.max(walk.head));
    }
    if walk.wrong.is_empty() && newest > walk.head {
        walk.wrong.push(format!(
            "journal entry {} is missing, but entry {newest} is there: the journal has a gap",
            walk.head + 1
        ));
    }
    if let Some(rebuild) = rebuild {
        walk.wrong.extend(rebuild.finish(walk.head));
    }
    Ok(walk)
}

/// Checks that the bytes of every version that was not removed are there and are what its index
/// line says. What is wrong is added to the walk.
pub async fn check_bytes(blobs: &Blobs, walk: &mut Walk, mut progress: impl FnMut(u64, u64)) {
    let total = walk.live.len() as u64;
    let checks = stream::iter(&walk.live).map(|(what, bytes)| complaint(blobs, what, bytes));
    let mut checks = checks.buffered(BLOBS_AHEAD);
    let mut done = 0;
    while let Some(found) = checks.next().await {
        walk.wrong.extend(found);
        done += 1;
        progress(done, total);
    }
}

/// The next entries that hold; `None` at the end, or where the chain breaks.
async fn next_entries(
    journal: &Journal,
    walk: &mut Walk,
) -> Result<Option<Vec<(Entry, Checksum)>>> {
    if !walk.wrong.is_empty() {
        return Ok(None);
    }
    let from = walk.head + 1;
    let mut reads: FuturesOrdered<_> = (from..from + READ_AHEAD)
        .map(|seq| async move { (seq, journal.read(seq).await) })
        .collect();
    let mut entries = Vec::new();
    while let Some((seq, read)) = reads.next().await {
        let Some(bytes) = read.map_err(Error::store)? else { break };
        match Entry::open(&bytes, seq, &walk.hash) {
            Ok((entry, hash)) => {
                walk.head = seq;
                walk.hash = hash;
                entries.push((entry, hash));
            }
            Err(e) => {
                walk.wrong.push(e.to_string());
                break;
            }
        }
    }
    Ok(Some(entries).filter(|entries| !entries.is_empty()))
}

/// Keeps the list of versions whose bytes must be there.
fn note_versions(entry: &Entry, live: &mut BTreeMap<(CrateName, CrateVersion), (Checksum, u64)>) {
    for event in &entry.events {
        match &event.what {
            Happened::Published(p) => {
                let what = (p.line.name.clone(), p.line.vers.clone());
                live.insert(what, (p.line.cksum, p.size));
            }
            Happened::Removed { krate, version, .. } => {
                live.remove(&(krate.clone(), version.clone()));
            }
            _ => (),
        }
    }
}

async fn complaint(
    blobs: &Blobs,
    (name, version): &(CrateName, CrateVersion),
    (cksum, size): &(Checksum, u64),
) -> Option<String> {
    let complaint = match blobs.get(Origin::Hosted, cksum, |_| *size).await {
        Ok(Blob::Whole(bytes)) if bytes.len() as u64 == *size => return None,
        Ok(Blob::Absent) => "are missing".to_owned(),
        Ok(_) => "are damaged".to_owned(),
        Err(e) => format!("cannot be read: {e}"),
    };
    Some(format!("the bytes of {name}@{version} ({cksum}) {complaint}"))
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use std::sync::Arc;

    use super::*;
    use crate::config::Limits;
    use crate::flows::command::Command;
    use crate::flows::fixture::{House, memory, name, version};
    use crate::flows::open::{blobs_in, journal_in};
    use cratehouse_storage::objects::Objects;

    const REGISTRY: &str = "registry";
    const ENTRIES: u64 = 100;

    fn entry_path(seq: u64) -> Path {
        format!("journal/{seq:020}.json").into()
    }

    /// A store with a hundred entries, of which the 10th publishes `foo`, the 20th `bar` and the
    /// 30th removes `bar`.
    async fn store() -> Arc<dyn ObjectStore> {
        let store = memory();
        let house = House::open(&store, &[], Limits::default()).await;
        for n in 1..=ENTRIES {
            match n {
                10 => house.publish("foo", "1.0.0", b"foo").await,
                20 => house.publish("bar", "1.0.0+x", b"bar").await,
                30 => {
                    let (krate, version) = (name("bar"), version("1.0.0+x"));
                    let reason = "gone".to_owned();
                    house.order(Command::Remove { krate, version, reason }).await;
                }
                n => house.order(Command::CreateUser { login: format!("user{n}") }).await,
            }
        }
        store
    }

    /// What is wrong with a store to which this was done, and how far its chain holds.
    async fn found(store: &Arc<dyn ObjectStore>) -> (u64, Vec<String>) {
        let objects = Objects::same(Arc::clone(store));
        let mut walk = walk(&journal_in(&objects), REGISTRY, |_, _| ()).await.unwrap();
        check_bytes(&blobs_in(&objects), &mut walk, |_, _| ()).await;
        (walk.head, walk.wrong)
    }

    async fn change(store: &Arc<dyn ObjectStore>, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = store.get(path).await.unwrap().bytes().await.unwrap().to_vec();
        change(&mut bytes);
        store.put(path, bytes.into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_journal_that_is_well_has_nothing_wrong() {
        assert_eq!(found(&store().await).await, (ENTRIES, Vec::new()));
    }

    #[tokio::test]
    async fn a_damaged_entry_is_named() {
        let damages: [fn(&mut Vec<u8>); 3] =
            [|bytes| bytes[0] ^= 1, |bytes| bytes.truncate(bytes.len() / 2), Vec::clear];
        for damage in damages {
            let store = store().await;
            change(&store, &entry_path(41), damage).await;
            let (head, wrong) = found(&store).await;
            assert_eq!((head, wrong.len()), (40, 1), "{wrong:?}");
            assert!(wrong[0].contains("entry 41 cannot be read"), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn an_entry_that_was_rewritten_is_named_by_the_one_behind_it() {
        let store = store().await;
        change(&store, &entry_path(41), |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replace("user41", "mallory").into_bytes();
        })
        .await;
        let (head, wrong) = found(&store).await;
        assert_eq!((head, wrong.len()), (41, 1), "{wrong:?}");
        assert!(wrong[0].contains("entry 42 does not continue the entry before it"), "{wrong:?}");
    }

    #[tokio::test]
    async fn an_entry_in_anothers_place_is_named() {
        let store = store().await;
        store.copy(&entry_path(12), &entry_path(41)).await.unwrap();
        let (head, wrong) = found(&store).await;
        assert_eq!((head, wrong.len()), (40, 1), "{wrong:?}");
        assert!(wrong[0].contains("entry 41 says that it is number 12"), "{wrong:?}");
    }

    #[tokio::test]
    async fn a_gap_is_named() {
        for seq in [1, 41, 64, ENTRIES - 1] {
            let store = store().await;
            store.delete(&entry_path(seq)).await.unwrap();
            let (head, wrong) = found(&store).await;
            assert_eq!(head, seq - 1);
            assert!(wrong[0].contains(&format!("entry {seq} is missing")), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn bytes_that_are_missing_or_damaged_are_named_but_not_those_of_removed_versions() {
        let store = store().await;
        let blob = |bytes: &[u8]| {
            let sum = Checksum::of(bytes).to_string();
            Path::from(format!("blobs/hosted/{}/{sum}", &sum[..2]))
        };
        store.delete(&blob(b"bar")).await.unwrap();
        assert_eq!(found(&store).await, (ENTRIES, Vec::new()));
        for bytes in ["fox", "fo", "fooo", ""] {
            store.put(&blob(b"foo"), bytes.into()).await.unwrap();
            let (head, wrong) = found(&store).await;
            assert_eq!((head, wrong.len()), (ENTRIES, 1));
            assert!(wrong[0].contains("foo@1.0.0") && wrong[0].contains("damaged"), "{wrong:?}");
        }
        store.delete(&blob(b"foo")).await.unwrap();
        let wrong = found(&store).await.1;
        assert!(wrong[0].contains("foo@1.0.0") && wrong[0].contains("missing"), "{wrong:?}");
    }
}
