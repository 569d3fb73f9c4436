//! Recording who pulled what. A download leaves a record in memory and waits for nothing; records
//! are written to the store in batches, and deleted by the day when they are old.
//!
//! While the store is away they wait, up to a bound; then new ones are dropped, and counted: what
//! was taken note of first stays. A crash loses those that were not written yet, at most
//! `[pulls] flush_seconds` old while the store answers.

mod ask;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::ask::{Answer, ask, start};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::model::checksum::Checksum;
use crate::model::name::CrateName;
use crate::model::principal::Principal;
use crate::model::pull::{MAX_LINE_BYTES, Pull, encode};
use crate::model::uses::day_of;
use crate::model::version::CrateVersion;
use crate::stores::pulls::{BatchName, MAX_BATCH_BYTES, PullsStore};

/// Pulls in one batch. So many are written before their time.
const MAX_BATCH_PULLS: usize = 10_000;
/// Pulls that wait in memory, some 400 bytes each; beyond a batch they wait for a store that is
/// away.
const MAX_WAITING_PULLS: usize = 100_000;
/// How often old days are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// What a stop may spend on writing down what is left.
const LAST_WRITE: Duration = Duration::from_secs(10);

const _: () = assert!((MAX_BATCH_PULLS * MAX_LINE_BYTES) as u64 <= MAX_BATCH_BYTES);

/// What this replica has recorded and not written yet.
#[derive(Debug)]
pub struct Pulls {
    store: PullsStore,
    replica: String,
    /// Whether anything is recorded at all.
    recording: bool,
    metrics: Metrics,
    waiting: Mutex<Waiting>,
    /// That a whole batch waits.
    full: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    pulls: VecDeque<Pull>,
    /// The oldest ones, once the store did not take them: the same bytes are put again under the
    /// same name, because they may have landed.
    unsent: Option<Batch>,
    /// Dropped since it was last told.
    dropped: u64,
}

#[derive(Debug, Clone)]
struct Batch {
    name: BatchName,
    lines: Bytes,
    pulls: usize,
}

impl Pulls {
    /// Nothing recorded yet.
    pub fn new(store: PullsStore, replica: &str, recording: bool, metrics: Metrics) -> Self {
        let (waiting, full) = (Mutex::default(), Notify::new());
        Self { store, replica: replica.to_owned(), recording, metrics, waiting, full }
    }

    /// Takes note of a download that is answered now. Waits for nothing.
    pub fn record(
        &self,
        krate: &CrateName,
        version: &CrateVersion,
        checksum: Checksum,
        who: Option<&Principal>,
        address: IpAddr,
    ) {
        if self.recording {
            self.note(Pull {
                time: Timestamp::now(),
                krate: krate.clone(),
                version: version.clone(),
                checksum,
                by: who.map(Into::into),
                address,
                replica: self.replica.clone(),
            });
        }
    }

    fn note(&self, pull: Pull) {
        let mut waiting = self.lock();
        if waiting.pulls.len() >= MAX_WAITING_PULLS {
            waiting.dropped += 1;
            self.metrics.pulls_dropped.inc();
            return;
        }
        waiting.pulls.push_back(pull);
        // Not with every one beyond: a store that is away is not asked more often for it.
        if waiting.pulls.len() == MAX_BATCH_PULLS {
            self.full.notify_one();
        }
    }

    /// Writes down all that waits, oldest first.
    ///
    /// # Errors
    /// When the store does not take a batch: it and the later ones wait on.
    async fn write(&self) -> Result<()> {
        while let Some(batch) = self.next_batch()? {
            if let Err(e) = self.store.put(&batch.name, batch.lines.clone()).await {
                self.metrics.pull_batches_failed.inc();
                return Err(Error::store(e));
            }
            self.lock().unsent = None;
            self.metrics.pulls_recorded.inc_by(batch.pulls as u64);
        }
        Ok(())
    }

    /// The batch that is written next, which stays until it was: the one that was not taken, else
    /// one of the oldest pulls.
    fn next_batch(&self) -> Result<Option<Batch>> {
        let mut waiting = self.lock();
        if waiting.unsent.is_none() {
            let pulls = waiting.take_a_day();
            drop(waiting); // while they are encoded, downloads go on
            let batch = batch_of(&pulls, &self.replica).map_err(Error::internal)?;
            waiting = self.lock();
            waiting.unsent = batch;
        }
        Ok(waiting.unsent.clone())
    }

    /// How many wait in memory.
    pub fn left(&self) -> usize {
        let waiting = self.lock();
        waiting.pulls.len() + waiting.unsent.as_ref().map_or(0, |batch| batch.pulls)
    }

    /// How many were dropped since the last call.
    fn dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes the oldest ones, as far as they are of one day and fit into a batch.
    fn take_a_day(&mut self) -> Vec<Pull> {
        let Some(day) = self.pulls.front().map(|pull| day_of(pull.time)) else { return Vec::new() };
        let same = |pull: &&Pull| day_of(pull.time) == day;
        let count = self.pulls.iter().take(MAX_BATCH_PULLS).take_while(same).count();
        self.pulls.drain(..count).collect()
    }
}

/// `None` when there are none.
fn batch_of(pulls: &[Pull], replica: &str) -> serde_json::Result<Option<Batch>> {
    // The clock may have been set back meanwhile.
    let Some(begins) = pulls.iter().map(|pull| pull.time).min() else { return Ok(None) };
    let (name, lines) = (BatchName::new(begins, replica), encode(pulls)?.into());
    Ok(Some(Batch { name, lines, pulls: pulls.len() }))
}

/// Writes batches and deletes old days, each at its interval, until told to stop; then writes what
/// is left. The caller bounds that time.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let config = &gateway.config.pulls;
    if let Some(days) = config.retention_days {
        let pulls = &gateway.pulls;
        tokio::join!(keep_writing(pulls, config.flush, &stop), keep_sweeping(pulls, days, &stop));
    }
}

async fn keep_writing(pulls: &Pulls, every: Duration, stop: &CancellationToken) {
    let mut flush = tokio::time::interval(every);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let writing = async {
        loop {
            tokio::select! {
                _ = flush.tick() => {}
                () = pulls.full.notified() => {}
            }
            write_down(pulls).await;
        }
    };
    // A batch that is under way then is put again, as one whose answer was lost.
    stop.run_until_cancelled(writing).await;
    let _ = tokio::time::timeout(LAST_WRITE, write_down(pulls)).await; // `left` tells
    let left = pulls.left();
    if left > 0 {
        pulls.metrics.pulls_dropped.inc_by(left as u64);
        warn!(left, "pulls are lost: the store did not take them before the stop");
    }
}

async fn write_down(pulls: &Pulls) {
    let (outcome, dropped) = (pulls.write().await, pulls.dropped());
    if let Err(e) = outcome {
        let (error, waiting) = (e.chain(), pulls.left());
        warn!(error, waiting, dropped, "who pulled what could not be written down");
    } else if dropped > 0 {
        warn!(dropped, "pulls were not recorded: too many waited for the store");
    }
}

async fn keep_sweeping(pulls: &Pulls, retention_days: u32, stop: &CancellationToken) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    let sweeping = async {
        loop {
            every.tick().await;
            match sweep(&pulls.store, retention_days, Timestamp::now()).await {
                Ok(0) => {}
                Ok(batches) => info!(batches, "old records of pulls were deleted"),
                Err(e) => warn!(error = %e.chain(), "old records of pulls could not be deleted"),
            }
        }
    };
    stop.run_until_cancelled(sweeping).await;
}

/// Deletes what is older than some whole days, and says how many batches it was. Several replicas
/// may sweep at once: what one has deleted the other finds gone.
///
/// # Errors
/// When the store does not answer; then less was deleted than should have been.
async fn sweep(store: &PullsStore, retention_days: u32, now: Timestamp) -> Result<u64> {
    let oldest = oldest_kept(retention_days, day_of(now));
    let mut deleted = 0;
    for day in store.days().await.map_err(Error::store)? {
        if day < oldest {
            deleted += store.delete(day).await.map_err(Error::store)?;
        }
    }
    Ok(deleted)
}

/// The earliest day of which anything is kept: today's is no whole day yet.
fn oldest_kept(retention_days: u32, today: Date) -> Date {
    today.saturating_sub(i64::from(retention_days).days())
}

#[cfg(test)]
mod tests;
