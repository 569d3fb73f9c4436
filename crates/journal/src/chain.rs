//! Walking the journal from its beginning without a catalog: each entry is checked to continue
//! the one before it.

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};

use crate::entry::Entry;
use crate::entry_store::Journal;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};

/// Entries that are read at once, and held in memory.
const READ_AHEAD: u64 = 64;

/// How far a journal has been walked.
#[derive(Debug)]
pub struct Chain<'a> {
    journal: &'a Journal,
    head: u64,
    hash: Checksum,
}

impl<'a> Chain<'a> {
    /// The beginning of a registry's journal.
    pub fn new(journal: &'a Journal, registry: &str) -> Self {
        Self { journal, head: 0, hash: Checksum::of(registry.as_bytes()) }
    }

    /// The journal behind an entry that is known by its hash.
    pub fn behind(journal: &'a Journal, seq: u64, hash: Checksum) -> Self {
        Self { journal, head: seq, hash }
    }

    /// The number of the last entry that was walked.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The next entries, in order, with their bytes: not beyond number `last`, and none at the
    /// journal's end.
    ///
    /// # Errors
    /// [`Kind::Internal`] where the chain is broken; [`Kind::Unavailable`] when the store does
    /// not answer.
    pub async fn next(&mut self, last: u64) -> Result<Vec<(Entry, Bytes)>> {
        let journal = self.journal;
        let until = last.min(self.head.saturating_add(READ_AHEAD));
        let mut reads: FuturesOrdered<_> =
            (self.head + 1..=until).map(|seq| async move { journal.read(seq).await }).collect();
        let mut entries = Vec::new();
        while let Some(read) = reads.next().await {
            let Some(bytes) = read.map_err(Error::store)? else { break };
            let opened = Entry::open(&bytes, self.head + 1, &self.hash);
            let (entry, hash) = opened.map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
            (self.head, self.hash) = (entry.seq, hash);
            entries.push((entry, bytes));
        }
        Ok(entries)
    }
}
