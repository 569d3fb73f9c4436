//! Walking the journal from its beginning, and saying what is wrong and where.

use futures_util::stream::{FuturesOrdered, StreamExt};

use crate::error::{Error, Result};
use crate::model::checksum::Checksum;
use crate::model::entry::{Entry, Happened};
use crate::stores::blobs::{Blob, Blobs, Origin};
use crate::stores::journal::Journal;

/// Entries that are read at once.
const READ_AHEAD: u64 = 64;

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The last entry of the chain that holds.
    pub head: u64,
    /// Its hash.
    pub hash: Checksum,
    /// What is wrong, one sentence each; none when all is well.
    pub wrong: Vec<String>,
}

/// Walks the chain of a registry's journal; checks that every entry continues the one before,
/// that none stands beyond a gap, and that the bytes of every version that was not removed
/// since are there and are what its index line says.
///
/// # Errors
/// When the store does not answer.
pub async fn verify(
    journal: &Journal,
    blobs: &Blobs,
    registry: &str,
    mut progress: impl FnMut(u64, u64),
) -> Result<Walk> {
    let newest = journal.newest_hint(0).await.map_err(Error::store)?;
    let mut walk = Walk { head: 0, hash: Checksum::of(registry.as_bytes()), wrong: Vec::new() };
    let mut live = Vec::new();
    while let Some(entry) = next_entries(journal, &mut walk).await? {
        for one in entry {
            note_versions(&one, &mut live);
        }
        progress(walk.head, newest.max(walk.head));
    }
    if walk.wrong.is_empty() && newest > walk.head {
        walk.wrong.push(format!(
            "journal entry {} is missing, but entry {newest} is there: the journal has a gap",
            walk.head + 1
        ));
    }
    for published in live {
        check_bytes(blobs, &published, &mut walk.wrong).await;
    }
    Ok(walk)
}

/// A version that was not removed: what it is called, and its crate file's checksum and size.
type Live = (String, Checksum, u64);

/// The next entries that hold; `None` at the end, or where the chain breaks.
async fn next_entries(journal: &Journal, walk: &mut Walk) -> Result<Option<Vec<Entry>>> {
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
                entries.push(entry);
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
fn note_versions(entry: &Entry, live: &mut Vec<Live>) {
    for event in &entry.events {
        match &event.what {
            Happened::Published(p) => {
                live.push((format!("{}@{}", p.line.name, p.line.vers), p.line.cksum, p.size));
            }
            Happened::Removed { krate, version, .. } => {
                let gone = format!("{krate}@{version}");
                live.retain(|(name, ..)| *name != gone);
            }
            _ => (),
        }
    }
}

async fn check_bytes(blobs: &Blobs, live: &Live, wrong: &mut Vec<String>) {
    let (name, cksum, size) = live;
    let complaint = match blobs.get(Origin::Hosted, cksum, |_| *size).await {
        Ok(Blob::Whole(_)) => return,
        Ok(Blob::Absent) => "are missing".to_owned(),
        Ok(Blob::Damaged | Blob::Larger { .. }) => "are damaged".to_owned(),
        Err(e) => format!("cannot be read: {e}"),
    };
    wrong.push(format!("the bytes of {name} ({cksum}) {complaint}"));
}
