//! Recording who pulled what. A download leaves a record in memory, or one more in the count of a
//! record that is there, and waits for nothing; records are written to the store in batches, and
//! deleted by the day when they are old.
//!
//! While the store is away they wait, up to a bound; then what would be a new record is dropped, and
//! counted: what was taken note of first stays. A crash loses those that were not written yet, at
//! most `[pulls] flush_seconds` old while the store answers.

mod ask;
pub mod page;
mod tallying;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::ask::{Answer, ask, start};
use self::tallying::{Batch, Download, Tallying};
use crate::config;
use crate::model::pull::MAX_LINE_BYTES;
use crate::stores::download_log::{DownloadLogStore, MAX_BATCH_BYTES};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_journal::principal::Principal;
use cratehouse_mirror::files::uses::day_of;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Records in one batch. So many are written before their time.
const MAX_BATCH_RECORDS: usize = 10_000;
/// Records that wait in memory, some 400 bytes each; beyond a batch they wait for a store that is
/// away.
const MAX_WAITING_RECORDS: usize = 100_000;
/// How often old days are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// What a stop may spend on writing down what is left.
const LAST_WRITE: Duration = Duration::from_secs(10);

const _: () = assert!((MAX_BATCH_RECORDS * MAX_LINE_BYTES) as u64 <= MAX_BATCH_BYTES);

/// What this replica has recorded and not written yet.
#[derive(Debug)]
pub struct DownloadLog {
    store: DownloadLogStore,
    replica: String,
    /// Whether anything is recorded at all.
    recording: bool,
    metrics: Metrics,
    waiting: Mutex<Tallying>,
    /// That a whole batch waits.
    full: Notify,
}

impl DownloadLog {
    /// Nothing recorded yet.
    pub fn new(store: DownloadLogStore, replica: &str, recording: bool, metrics: Metrics) -> Self {
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
            let what = (krate.clone(), version.clone(), checksum);
            self.note(Download::new(what, who, address), Timestamp::now());
        }
    }

    fn note(&self, download: Download, at: Timestamp) {
        let mut waiting = self.lock();
        let records = waiting.note(download, at);
        drop(waiting);
        match records {
            None => self.metrics.pulls_dropped.inc(),
            // Not with every one beyond: a store that is away is not asked more often for it.
            Some(MAX_BATCH_RECORDS) => self.full.notify_one(),
            Some(_) => {}
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
            self.metrics.pulls_recorded.inc_by(batch.downloads);
            self.metrics.pull_records.inc_by(batch.records as u64);
        }
        Ok(())
    }

    /// The batch that is written next, which stays until it was: the one that was not taken, else
    /// one of the oldest pulls.
    fn next_batch(&self) -> Result<Option<Batch>> {
        let mut waiting = self.lock();
        if waiting.unsent.is_some() {
            return Ok(waiting.unsent.clone());
        }
        if waiting.is_settled() {
            let tallied = waiting.take();
            drop(waiting); // while they are put in order, downloads go on
            let records = tallying::records(tallied, &self.replica);
            waiting = self.lock();
            waiting.settle(records);
        }
        let records = waiting.take_a_day();
        drop(waiting); // likewise, while they are encoded
        let batch = Batch::of(&records, &self.replica).map_err(Error::internal)?;
        let mut waiting = self.lock();
        waiting.put(batch);
        Ok(waiting.unsent.clone())
    }

    /// How many downloads wait in memory to be written down.
    pub fn left(&self) -> u64 {
        self.lock().downloads()
    }

    /// How many records they are.
    pub fn records(&self) -> usize {
        self.lock().records()
    }

    /// How many were dropped since the last call.
    fn dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Tallying> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes batches and deletes old days, each at its interval, until told to stop; then writes what
/// is left. The caller bounds that time.
pub async fn run(pulls: &DownloadLog, config: &config::Pulls, stop: CancellationToken) {
    if let Some(days) = config.retention_days {
        tokio::join!(keep_writing(pulls, config.flush, &stop), keep_sweeping(pulls, days, &stop));
    }
}

async fn keep_writing(pulls: &DownloadLog, every: Duration, stop: &CancellationToken) {
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
        pulls.metrics.pulls_dropped.inc_by(left);
        warn!(left, "pulls are lost: the store did not take them before the stop");
    }
}

async fn write_down(pulls: &DownloadLog) {
    let (outcome, dropped) = (pulls.write().await, pulls.dropped());
    if let Err(e) = outcome {
        let (error, waiting) = (e.chain(), pulls.left());
        warn!(error, waiting, dropped, "who pulled what could not be written down");
    } else if dropped > 0 {
        warn!(dropped, "pulls were not recorded: too many waited for the store");
    }
}

async fn keep_sweeping(pulls: &DownloadLog, retention_days: u32, stop: &CancellationToken) {
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
async fn sweep(store: &DownloadLogStore, retention_days: u32, now: Timestamp) -> Result<u64> {
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
