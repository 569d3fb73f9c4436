//! Walking the journal from its beginning, and saying what is wrong and where.

mod rebuild;

use std::collections::BTreeMap;

use futures_util::stream::{FuturesOrdered, StreamExt};

pub use self::rebuild::Rebuild;
use crate::entry::{Entry, EventKind};
use crate::entry_store::Journal;
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
    // By hand: a lazy iterator of futures is not `Send` for every lifetime.
    let (mut waiting, mut checks, mut done) = (walk.live.iter(), FuturesOrdered::new(), 0);
    loop {
        let free = BLOBS_AHEAD.saturating_sub(checks.len());
        for (what, bytes) in waiting.by_ref().take(free) {
            checks.push_back(complaint(blobs, what, bytes));
        }
        let Some(found) = checks.next().await else { return };
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
            EventKind::Published(p) => {
                let what = (p.line.name.clone(), p.line.vers.clone());
                live.insert(what, (p.line.cksum, p.size));
            }
            EventKind::Removed { krate, version, .. } => {
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
mod tests;
