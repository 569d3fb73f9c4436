//! Garbage: hosted crate files that no version names any more, or never did (a publish that
//! failed after its put, a removed version).
//!
//! A sweep appends *condemned*, deletes, and appends *collected*; a publish of the same bytes in
//! between puts them again afterwards. It stops on anything unusual, and one at a time is at
//! work: the judge refuses a second one. A sweep that was cut off is ended by whoever knows that
//! it is no longer at work; no clock can tell. Who was let begin lets it end: *collected* is the replica's own, where the
//! token of who condemned counts no more by then.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::commands::{ActorCommand, Command, CommandActor, nothing_pending};
use crate::entry::EventKind;
use crate::writer::JournalHandle;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_storage::blobs::{Blobs, Origin, Stored};
use cratehouse_storage::format_level::Level;

/// Crate files in one pair of entries: a publish of one of them waits while these are deleted.
const GROUP: usize = 200;
/// Deletes under way at one time.
const DELETES_AT_ONCE: usize = 16;
/// More garbage than this, and than a tenth of all crate files, is unusual.
const USUAL_GARBAGE: usize = 1000;
/// How far the store's clock may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a sweep is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What was stored later than this stays.
    pub stored_before: Timestamp,
    /// Nothing is changed.
    pub dry_run: bool,
    /// Unusually much garbage is deleted too.
    pub force: bool,
    /// A sweep that was cut off is ended first.
    pub finish: bool,
}

/// What a sweep found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Crate files in the store.
    pub stored: usize,
    /// Those that nothing names, but too young.
    pub young: usize,
    /// Those that nothing names, sorted by checksum.
    pub garbage: Vec<Stored>,
    /// How many were deleted, those of a sweep that was cut off among them.
    pub deleted: usize,
}

/// Sweeps the hosted crate files. The client behind `blobs` must not retry: a delete whose answer
/// was lost may come into effect late, and must not after *collected*. `progress` may break it off between two groups.
///
/// # Errors
/// Whatever is unusual, by name; what was done until then stays done.
pub async fn sweep(
    journal: &JournalHandle,
    blobs: &Blobs,
    by: &CommandActor,
    plan: &Plan,
    progress: impl Fn(u64, u64) -> ControlFlow<()>,
) -> Result<Swept> {
    journal.catch_up().await?;
    let mut deleted = 0;
    let pending = journal.catalog().view()?.pending()?;
    if plan.finish && !plan.dry_run && !pending.is_empty() {
        delete(blobs, &pending).await?;
        collect(journal, by, &pending).await?;
        deleted = pending.len();
    } else {
        nothing_pending(&pending)?;
    }
    let mut swept = look(journal, blobs, plan).await?;
    swept.deleted = deleted;
    if plan.dry_run {
        return Ok(swept);
    }
    let garbage: Vec<_> = swept.garbage.iter().map(|stored| stored.cksum).collect();
    for group in garbage.chunks(GROUP) {
        let condemned = condemn(journal, by, group).await?;
        delete(blobs, &condemned).await?;
        collect(journal, by, &condemned).await?;
        swept.deleted += condemned.len();
        let goes_on = progress(swept.deleted as u64, garbage.len() as u64);
        if goes_on.is_break() && swept.deleted < garbage.len() {
            return Err(Error::unavailable(format!(
                "the sweep was broken off, and {} crate files are deleted: run it again",
                swept.deleted
            )));
        }
    }
    Ok(swept)
}

/// Lists what is stored, and stops on anything unusual.
async fn look(journal: &JournalHandle, blobs: &Blobs, plan: &Plan) -> Result<Swept> {
    // Before the listing: what is named later is not garbage by the judge's word.
    let named = journal.catalog().view()?.named()?;
    let listed: Vec<_> = blobs.all(Origin::Hosted).try_collect().await.map_err(Error::store)?;
    let (latest, mut swept) = (Timestamp::now() + CLOCK_SKEW, Swept::default());
    let mut missing: BTreeSet<_> = named.iter().copied().collect();
    for object in listed {
        let stored = object.map_err(|path| stop(format!("{path} is not a crate file of ours")))?;
        if stored.modified > latest {
            let (sum, time) = (stored.cksum, stored.modified);
            return Err(stop(format!("{sum} was stored at {time}: a clock is wrong")));
        }
        swept.stored += 1;
        missing.remove(&stored.cksum);
        match (named.contains(&stored.cksum), stored.modified <= plan.stored_before) {
            (true, _) => (),
            (false, false) => swept.young += 1,
            (false, true) => swept.garbage.push(stored),
        }
    }
    if let Some(sum) = missing.first() {
        let count = missing.len();
        return Err(stop(format!(
            "the listing lacks {count} crate files that versions name, such as {sum}: see `cratehouse journal verify`"
        )));
    }
    let usual = USUAL_GARBAGE.max(swept.stored / 10);
    if swept.garbage.len() > usual && !plan.force && !plan.dry_run {
        let (garbage, stored) = (swept.garbage.len(), swept.stored);
        return Err(stop(format!(
            "{garbage} of {stored} crate files are garbage, which is much: look at them with --dry-run, and repeat with --force if they are"
        )));
    }
    swept.garbage.sort_by_key(|stored| stored.cksum);
    Ok(swept)
}

/// Condemns those that no entry names by now, and gives them back.
async fn condemn(
    journal: &JournalHandle,
    by: &CommandActor,
    checksums: &[Checksum],
) -> Result<Vec<Checksum>> {
    let command = Command::Condemn { checksums: checksums.to_vec() };
    let events = append(journal, by.clone(), command).await?;
    let condemned = events.into_iter().filter_map(|event| match event {
        EventKind::Condemned { checksums } => Some(checksums),
        _ => None,
    });
    Ok(condemned.flatten().collect())
}

async fn delete(blobs: &Blobs, checksums: &[Checksum]) -> Result<()> {
    let deletes: Vec<_> = checksums.iter().map(|sum| blobs.delete(Origin::Hosted, sum)).collect();
    let mut deletes = stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE);
    let mut outcome = Ok(());
    while let Some(done) = deletes.next().await {
        // The others are waited for: none must come into effect after this has ended.
        outcome = outcome.and(done);
    }
    outcome.map_err(|e| {
        stop(
            "a delete was not answered: wait a minute, and run `cratehouse gc --finish`".to_owned(),
        )
        .because(e)
    })
}

async fn collect(journal: &JournalHandle, by: &CommandActor, checksums: &[Checksum]) -> Result<()> {
    if checksums.is_empty() {
        return Ok(());
    }
    let command = Command::Collect { checksums: checksums.to_vec() };
    let refused = match append(journal, by.clone(), command.clone()).await {
        Err(e) if matches!(e.kind, Kind::Forbidden | Kind::Unauthenticated) => e,
        outcome => return outcome.map(drop),
    };
    // They are deleted: that has to be said, whatever became of the token meanwhile.
    append(journal, whoever_ends_it(journal)?, command).await.map(drop)?;
    Err(refused)
}

/// Replicas act by themselves from level 2 on.
fn whoever_ends_it(journal: &JournalHandle) -> Result<CommandActor> {
    let level = journal.catalog().head()?.level;
    let knows_replicas = level >= Level::NAMED_CHECKPOINTS;
    Ok(if knows_replicas { CommandActor::Replica } else { CommandActor::Operator })
}

async fn append(
    journal: &JournalHandle,
    by: CommandActor,
    command: Command,
) -> Result<Vec<EventKind>> {
    journal.append(ActorCommand { by, command }).await
}

fn stop(why: String) -> Error {
    Error::new(Kind::Internal, format!("the sweep has stopped: {why}"))
}

#[cfg(test)]
mod tests;
