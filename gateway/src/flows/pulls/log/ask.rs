//! Who pulled a version: the batches of all replicas, read in the order of time.

use std::ops::ControlFlow;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use jiff::civil::Date;

use crate::flows::store::show::Since;
use crate::model::pull::{Found, Pull, Selection};
use crate::stores::download_log::{BatchName, DownloadLogStore};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::entry::Entry;
use cratehouse_journal::entry_store::Journal;
use cratehouse_mirror::files::uses::day_of;

/// Batches that are read at one time.
const BATCHES_AT_ONCE: usize = 16;

/// What an answer rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first day of which anything is recorded.
    pub first: Option<Date>,
    /// Lines that could not be read: without them the answer may not be whole.
    pub unreadable: u64,
}

/// Shows what is selected to `heard`, in the order of time, until that breaks off. Memory grows with
/// the number of batches that overlap, which is that of replicas, and not with that of pulls.
///
/// # Errors
/// When the store does not answer, or a batch cannot be one of ours.
pub async fn ask(
    store: &DownloadLogStore,
    selection: &Selection,
    mut heard: impl FnMut(Pull) -> ControlFlow<()>,
) -> Result<Answer> {
    let days = store.days().await.map_err(Error::store)?;
    let mut answer = Answer { first: days.first().copied(), unreadable: 0 };
    let (start, mut batches) = (selection.since.map(day_of), 0);
    for day in days.into_iter().filter(|day| start.is_none_or(|start| *day >= start)) {
        if ask_day(store, selection, day, &mut answer, &mut batches, &mut heard).await?.is_break() {
            break;
        }
    }
    Ok(answer)
}

/// Shows what is selected of a day: a batch has pulls of one day alone. `batches_read` counts.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_day(
    store: &DownloadLogStore,
    selection: &Selection,
    day: Date,
    answer: &mut Answer,
    batches_read: &mut usize,
    mut heard: impl FnMut(Pull) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    let batches = store.batches(day).await.map_err(Error::store)?;
    let reads: Vec<_> = batches.iter().map(|batch| read(store, selection, batch)).collect();
    let mut reads = stream::iter(reads).buffered(BATCHES_AT_ONCE);
    let mut later = batches.iter().skip(1).map(|batch| batch.begins);
    let mut held: Vec<Pull> = Vec::new();
    while let Some(found) = reads.next().await.transpose()? {
        *batches_read += 1;
        answer.unreadable += found.unreadable;
        held.extend(found.pulls);
        held.sort_by_key(|pull| pull.time);
        for pull in settled(&mut held, later.next()) {
            if heard(pull).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Takes those that nothing can precede any more, where all that is unread begins at `next`.
fn settled(held: &mut Vec<Pull>, next: Option<Timestamp>) -> Vec<Pull> {
    let count = next.map_or(held.len(), |next| held.partition_point(|pull| pull.time < next));
    held.drain(..count).collect()
}

async fn read(store: &DownloadLogStore, selection: &Selection, batch: &BatchName) -> Result<Found> {
    let lines = store.read(batch).await.map_err(Error::store)?;
    Ok(lines.map(|lines| selection.among(&lines)).unwrap_or_default())
}

/// The time from which on pulls are meant: that of a journal entry, where one is named.
///
/// # Errors
/// When there is no such entry, or the store does not answer.
pub async fn start(journal: &Journal, since: Since) -> Result<Timestamp> {
    let seq = match since {
        Since::Time(time) => return Ok(time),
        Since::Seq(seq) => seq,
    };
    let bytes = journal.read(seq).await.map_err(Error::store)?;
    let bytes = bytes.ok_or_else(|| Error::absent(format!("the journal has no entry {seq}")))?;
    let entry: Entry = serde_json::from_slice(&bytes).map_err(Error::internal)?;
    Ok(entry.time)
}
