//! The one way into the journal, and the way along it.
//!
//! A single task, the *scribe*, owns both: it appends the commands that wait, as one entry
//! (group commit), and reads what others have appended. So a command is judged, put and applied
//! without anything coming between, and nobody who disconnects can cancel it half way.

mod group;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt};
use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::group::{Drafted, Sealed, Stage, Waiting, answer, refuse_late};
use crate::error::{Error, Kind, Result};
use crate::flows::command::Order;
use crate::flows::lookup::IndexCache;
use crate::metrics::Metrics;
use crate::model::checksum::Checksum;
use crate::model::entry::{Entry, Happened};
use crate::stores::catalog::Catalog;
use crate::stores::journal::Journal;

/// Commands in one entry at the most.
const MAX_GROUP: usize = 256;
/// Entries that are read at once, far behind.
const READ_AHEAD: u64 = 64;
/// The least time between two reads that somebody waits for.
const READ_GAP: Duration = Duration::from_millis(20);
/// How often the catalog is put on disk, when something has changed.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Waits between two puts of the same entry.
const PUT_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// For how long a lost race counts as contention, and what a winner then waits at the most.
const CONTENTION: Duration = Duration::from_secs(10);
const WINNER_PAUSE_MS: u64 = 30;
/// How much longer than its deadline a command's answer is waited for.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// The way to the scribe.
#[derive(Debug, Clone)]
pub struct Appender {
    asks: mpsc::Sender<Ask>,
    status: Arc<Mutex<Status>>,
    patience: Duration,
}

/// What the scribe needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name under which entries are written.
    pub replica: String,
    /// How long a command waits to be put.
    pub patience: Duration,
    /// How many commands wait.
    pub queue: usize,
    /// How often the journal is read.
    pub follow: Duration,
}

/// The task that owns the journal; see [`Scribe::run`].
pub struct Scribe {
    journal: Journal,
    catalog: Catalog,
    index: IndexCache,
    metrics: Metrics,
    settings: Settings,
    asks: mpsc::Receiver<Ask>,
    status: Arc<Mutex<Status>>,
    /// The number of the last applied entry, for who writes checkpoints.
    heads: watch::Sender<u64>,
    /// Commands that did not fit into the last entry.
    backlog: VecDeque<Waiting>,
    /// Those who wait for a read that begins from now on.
    readers: Vec<oneshot::Sender<Result<()>>>,
    last_read: Option<Instant>,
    unflushed_since: Option<Instant>,
    contended_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Status {
    caught_up: bool,
    /// For ever: nothing is skipped.
    broken: Option<String>,
    /// For now.
    trouble: Option<String>,
    last_read: Option<Instant>,
}

#[derive(Debug)]
enum Ask {
    Append(Box<Waiting>),
    CatchUp(oneshot::Sender<Result<()>>),
}

impl Appender {
    /// Has an order done: the events that it became, none when all was so already.
    ///
    /// # Errors
    /// The refusal; or [`Kind::Unavailable`], which says whether the order is certainly not
    /// done or its outcome is not known yet.
    pub async fn append(&self, order: Order) -> Result<Vec<Happened>> {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.patience;
        let stage = Arc::new(Stage::default());
        let waiting = Waiting { order, deadline, stage: Arc::clone(&stage), answer };
        self.asks.try_send(Ask::Append(Box::new(waiting))).map_err(|_| {
            Error::unavailable(
                "too many changes wait for the journal; nothing was changed: try again shortly",
            )
        })?;
        match tokio::time::timeout_at(deadline + ANSWER_GRACE, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) if stage.withdraw() => Err(not_done()),
            Ok(Err(_)) | Err(_) => Err(Error::unavailable(
                "the registry's object store is slow: whether this change is done is not known yet; look again in a minute before you repeat it",
            )
            .retry_after(Duration::from_secs(30))),
        }
    }

    /// Waits for a read of the journal to its end that begins after this call. Such reads are
    /// shared by all who wait, and limited in rate.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the journal cannot be read.
    pub async fn catch_up(&self) -> Result<()> {
        let cannot =
            || Error::unavailable("the registry cannot read its journal now; try again shortly");
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask::CatchUp(answer)).map_err(|_| cannot())?;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(cannot()),
        }
    }

    /// Whether this replica has caught up once and is well.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn ready(&self) -> Result<(), String> {
        let status = lock(&self.status);
        match (&status.broken, &status.trouble) {
            (Some(why), _) | (None, Some(why)) => Err(why.clone()),
            (None, None) if !status.caught_up => Err("the journal is being read".to_owned()),
            (None, None) => Ok(()),
        }
    }

    /// How long ago the journal was last read to its end; `None` before the first time.
    pub fn read_age(&self) -> Option<Duration> {
        lock(&self.status).last_read.map(|at| at.elapsed())
    }
}

fn not_done() -> Error {
    Error::unavailable(
        "the registry's journal cannot be written now; nothing was changed: try again shortly",
    )
}

fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scribe {
    /// A scribe, and the way to it. Nothing is read before [`Scribe::begin`].
    pub fn new(
        journal: Journal,
        catalog: Catalog,
        index: IndexCache,
        metrics: Metrics,
        settings: Settings,
    ) -> (Self, Appender) {
        let (send, asks) = mpsc::channel(settings.queue);
        let status = Arc::<Mutex<Status>>::default();
        let patience = settings.patience;
        let appender = Appender { asks: send, status: Arc::clone(&status), patience };
        let scribe = Self {
            journal,
            catalog,
            index,
            metrics,
            settings,
            asks,
            status,
            heads: watch::Sender::new(0),
            backlog: VecDeque::new(),
            readers: Vec::new(),
            last_read: None,
            unflushed_since: None,
            contended_until: None,
        };
        (scribe, appender)
    }

    /// Hears the number of the last applied entry, each time that the journal was read.
    pub fn heads(&self) -> watch::Receiver<u64> {
        self.heads.subscribe()
    }

    /// Checks that the journal is the one that the catalog comes from, and reads it to its end;
    /// `progress` hears the numbers of the last applied and of the newest known entry.
    ///
    /// # Errors
    /// When the store does not answer, the chain is broken, or the journal is not the catalog's.
    pub async fn begin(&mut self, mut progress: impl FnMut(u64, u64)) -> Result<()> {
        self.recognise().await?;
        let head = self.catalog.head()?.seq;
        let newest = self.journal.newest_hint(head).await.map_err(Error::store)?;
        let lag = self.metrics.journal_lag.clone();
        self.follow(|seq| {
            lag.set(i64::try_from(newest.saturating_sub(seq)).unwrap_or(i64::MAX));
            progress(seq, newest.max(seq));
        })
        .await?;
        self.flush().await;
        Ok(())
    }

    /// Appends and follows until told to stop; what waits then is still answered.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let due = self.read_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask).await,
                    None => break,
                },
                () = tokio::time::sleep_until(due) => self.read().await,
            }
            self.append_backlog().await;
        }
        self.asks.close();
        while let Ok(ask) = self.asks.try_recv() {
            self.take(ask).await;
            self.append_backlog().await;
        }
        self.flush().await;
    }

    fn read_due(&self) -> Instant {
        let Some(last) = self.last_read else { return Instant::now() };
        match self.readers.is_empty() {
            true => last + self.settings.follow + jitter(self.settings.follow / 5),
            false => last + READ_GAP,
        }
    }

    /// Takes an ask and all that wait behind it.
    async fn take(&mut self, first: Ask) {
        let mut next = Some(first);
        while let Some(ask) = next {
            match ask {
                Ask::Append(waiting) => self.backlog.push_back(*waiting),
                Ask::CatchUp(answer) => self.readers.push(answer),
            }
            next = match self.backlog.len() < MAX_GROUP {
                true => self.asks.try_recv().ok(),
                false => None,
            };
        }
        if !self.readers.is_empty() && self.read_due() <= Instant::now() {
            self.read().await;
        }
    }

    /// Reads the journal to its end for all who wait for that, and as a matter of routine.
    async fn read(&mut self) {
        let readers = std::mem::take(&mut self.readers);
        let outcome = self.follow(|_| ()).await.map(drop);
        if let Err(e) = &outcome {
            warn!(error = %e.chain(), "the journal could not be read");
        }
        for reader in readers {
            let _ = reader.send(outcome.clone()); // an asker may have left
        }
        if self.unflushed_since.is_some_and(|since| since.elapsed() > FLUSH_EVERY) {
            self.flush().await;
        }
    }

    async fn append_backlog(&mut self) {
        while !self.backlog.is_empty() {
            let group = self.backlog.len().min(MAX_GROUP);
            let group = self.backlog.drain(..group).collect();
            self.append(group).await;
        }
    }

    /// Appends a group of commands: judges them, puts one entry, until that is resolved.
    async fn append(&mut self, mut group: Vec<Waiting>) {
        let mut current = false;
        while !group.is_empty() {
            if let Some(why) = lock(&self.status).broken.clone() {
                let refusal = Error::unavailable(format!("the registry accepts no changes: {why}"));
                group.drain(..).for_each(|w| answer(w, Err(refusal.clone())));
                return;
            }
            self.pause_after_winning().await;
            group = refuse_late(group);
            let drafted = match self.draft(group).await {
                Ok(drafted) => drafted,
                Err(e) => {
                    return error!(error = %e.chain(), "a group of commands could not be judged");
                }
            };
            if !current && drafted.doubtful() {
                current = true;
                group = match self.follow(|_| ()).await {
                    Ok(_) => drafted.into_group(),
                    Err(e) => drafted.refuse_doubtful(&e),
                };
                continue;
            }
            group = match drafted.settle(&mut self.backlog) {
                None => return,
                Some(sealed) => self.commit(sealed).await,
            };
        }
    }

    /// Judges a group against the catalog plus what those before would change.
    async fn draft(&self, group: Vec<Waiting>) -> Result<Drafted> {
        let catalog = self.catalog.clone();
        let replica = self.settings.replica.clone();
        tokio::task::spawn_blocking(move || Drafted::judge(&catalog, replica, group))
            .await
            .map_err(Error::internal)?
    }

    /// Puts an entry until it is known what stands at its number. Gives back the commands that
    /// must be judged again, because somebody else's entry stands there.
    async fn commit(&mut self, sealed: Sealed) -> Vec<Waiting> {
        let (seq, id) = (sealed.entry.seq, sealed.entry.id);
        let mut pause = PUT_PAUSES.0;
        loop {
            let put = self.journal.create(seq, sealed.bytes.clone()).await;
            let Err(unknown) = put else { return self.won(sealed).await };
            self.metrics.append_retries.inc();
            match self.journal.read(seq).await {
                Ok(Some(found)) => match Entry::open(&found, seq, &sealed.entry.prev) {
                    Ok((entry, _)) if entry.id == id => return self.won(sealed).await,
                    Ok(theirs) => return self.overtaken(theirs, sealed).await,
                    Err(e) => {
                        self.break_off(&e);
                        return sealed.commands.into_iter().map(|(w, _)| w).collect();
                    }
                },
                Ok(None) => {
                    info!(seq, error = %unknown, "an entry was not put; the same is put again")
                }
                Err(e) => {
                    warn!(seq, put = %unknown, read = %e, "what became of an entry is not known; the same is put again")
                }
            }
            tokio::time::sleep(pause + jitter(pause)).await;
            pause = (pause * 2).min(PUT_PAUSES.1);
        }
    }

    async fn won(&mut self, sealed: Sealed) -> Vec<Waiting> {
        self.metrics.appends.inc();
        self.apply(vec![(sealed.entry, sealed.hash)]).await;
        for (waiting, events) in sealed.commands {
            answer(waiting, Ok(events));
        }
        Vec::new()
    }

    async fn overtaken(&mut self, theirs: (Entry, Checksum), sealed: Sealed) -> Vec<Waiting> {
        self.contended_until = Some(Instant::now() + CONTENTION);
        self.apply(vec![theirs]).await;
        sealed.commands.into_iter().map(|(waiting, _)| waiting).collect()
    }

    /// While others compete, who has just won lets them go first.
    async fn pause_after_winning(&mut self) {
        let Some(until) = self.contended_until else { return };
        match Instant::now() < until {
            true => tokio::time::sleep(jitter(Duration::from_millis(WINNER_PAUSE_MS))).await,
            false => self.contended_until = None,
        }
    }

    /// The entry that the catalog stands at must stand in the journal: a store that was
    /// restored from a backup may be behind.
    async fn recognise(&mut self) -> Result<()> {
        let head = self.catalog.head()?;
        if head.seq == 0 {
            return Ok(());
        }
        let found = self.journal.read(head.seq).await.map_err(Error::store)?;
        if found.is_some_and(|bytes| Checksum::of(&bytes) == head.hash) {
            return Ok(());
        }
        let why = format!(
            "the journal does not hold the entry {} that this replica's catalog stands at: the store was set back, or is another one. To accept the store as it is, delete the catalog file and start again",
            head.seq
        );
        self.alarm(why.clone());
        Err(Error::new(Kind::Internal, why))
    }

    /// Reads and applies entries until one is absent; `heard` is told each applied number.
    /// Returns how many there were.
    async fn follow(&mut self, mut heard: impl FnMut(u64)) -> Result<u64> {
        self.last_read = Some(Instant::now());
        let mut total = 0;
        let mut ahead = 1;
        loop {
            let entries = self.read_entries(ahead).await?;
            let found = entries.len() as u64;
            total += found;
            if found > 0 && !self.apply(entries).await {
                return Err(Error::unavailable("the registry's catalog cannot be written"));
            }
            let head = self.catalog.head()?.seq;
            heard(head);
            self.heads.send_if_modified(|told| std::mem::replace(told, head) != head);
            if found < ahead {
                break;
            }
            ahead = (ahead * 8).min(READ_AHEAD);
        }
        self.metrics.journal_lag.set(0);
        let mut status = lock(&self.status);
        status.caught_up = true;
        status.last_read = Some(Instant::now());
        Ok(total)
    }

    /// The entries behind the head, up to the first that is absent.
    async fn read_entries(&mut self, count: u64) -> Result<Vec<(Entry, Checksum)>> {
        if let Some(why) = lock(&self.status).broken.clone() {
            return Err(Error::unavailable(why));
        }
        let head = self.catalog.head()?;
        let journal = &self.journal;
        let mut reads: FuturesOrdered<_> = (head.seq + 1..=head.seq + count)
            .map(|seq| async move { (seq, journal.read(seq).await) })
            .collect();
        let (mut entries, mut prev) = (Vec::new(), head.hash);
        while let Some((seq, read)) = reads.next().await {
            let Some(bytes) = read.map_err(Error::store)? else { break };
            match Entry::open(&bytes, seq, &prev) {
                Ok((entry, hash)) => {
                    prev = hash;
                    entries.push((entry, hash));
                }
                Err(e) => {
                    drop(reads);
                    return Err(self.break_off(&e));
                }
            }
        }
        Ok(entries)
    }

    /// Applies entries to the catalog, then drops from memory what they touch. When that fails,
    /// the catalog stays where it is, and the next read tries again.
    async fn apply(&mut self, entries: Vec<(Entry, Checksum)>) -> bool {
        let catalog = self.catalog.clone();
        let applied = tokio::task::spawn_blocking(move || catalog.apply(&entries)).await;
        let touched = match applied.map_err(Error::internal).and_then(|applied| applied) {
            Ok(touched) => touched,
            Err(e) => {
                error!(error = %e.chain(), "the catalog could not be written");
                lock(&self.status).trouble = Some("the catalog cannot be written".to_owned());
                return false;
            }
        };
        for key in &touched {
            self.index.forget(key).await;
        }
        self.unflushed_since.get_or_insert_with(Instant::now);
        lock(&self.status).trouble = None;
        if let Ok(head) = self.catalog.head() {
            self.metrics.journal_head.set(i64::try_from(head.seq).unwrap_or(i64::MAX));
        }
        true
    }

    async fn flush(&mut self) {
        let catalog = self.catalog.clone();
        let flushed = tokio::task::spawn_blocking(move || catalog.flush()).await;
        match flushed.map_err(Error::internal).and_then(|flushed| flushed) {
            Ok(()) => self.unflushed_since = None,
            Err(e) => warn!(error = %e.chain(), "the catalog could not be put on disk"),
        }
    }

    fn break_off(&self, why: &dyn fmt::Display) -> Error {
        self.alarm(why.to_string());
        Error::unavailable(why)
    }

    fn alarm(&self, why: String) {
        let mut status = lock(&self.status);
        if status.broken.is_none() {
            error!(%why, "the journal is broken; nothing is appended or followed until an operator has looked");
            self.metrics.alarms.with_label_values(&["journal_broken"]).inc();
            status.broken = Some(why);
        }
    }
}

fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random::<f64>())
}

#[cfg(test)]
mod tests;
