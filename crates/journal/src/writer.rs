//! The one way into the journal, and the way along it.
//!
//! A single task, the *writer*, owns both: it appends the commands that wait, as one entry
//! (group commit), and reads what others have appended. So a command is judged, put and applied
//! without anything coming between, and nobody who disconnects can cancel it half way.

#[cfg(any(test, feature = "test-util"))]
pub mod bugs;
mod commit;
mod follow;
mod group;
mod reads;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::group::{Drafted, Hand, Judge, Stage, Waiting, refuse, refuse_late};
pub use self::reads::CATCH_UP;
pub use self::reads::Waiter;
use self::reads::{Reads, Waits};
use crate::catalog::Catalog;
use crate::checkpoint_format::Name;
use crate::commands::{self, ActorCommand};
use crate::entry::{Account, ChainError, Entry, EventKind};
use crate::entry_store::Journal;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Refusal, Result};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::metrics::Metrics;
use cratehouse_package::name::NameKey;
use cratehouse_storage::format_level::Level;

/// Commands in one entry at the most.
const MAX_GROUP: usize = 256;
/// Entries that are read at once, far behind.
const READ_AHEAD: u64 = 64;
/// The least time between two reads that somebody waits for.
const READ_GAP: Duration = Duration::from_millis(20);
/// How often the catalog is put on disk, when something has changed.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether the store still has the entry that the catalog stands at.
const RECOGNISE_EVERY: Duration = Duration::from_secs(60);
/// How much longer than its deadline a command's answer is waited for.
pub const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// Called with each crate that applied entries touch, once the catalog has them.
pub type OnChange = Box<dyn Fn(&NameKey) + Send + Sync>;

/// The way to the writer.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    catalog: Catalog,
    asks: mpsc::Sender<Box<Waiting>>,
    waits: Waits,
    status: Arc<Mutex<Status>>,
    patience: Duration,
    follow: Duration,
}

/// What the writer needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name under which entries are written.
    pub replica: String,
    /// Who gives the commands of an operator, where this is the command line.
    pub operator: Option<Account>,
    /// How long a command waits to be put.
    pub patience: Duration,
    /// How many commands wait.
    pub queue: usize,
    /// How many without a token that counts wait for a read.
    pub waits: FairShares,
    /// How often the journal is read.
    pub follow: Duration,
    /// The format level of a registry that begins.
    pub founding: Level,
}

/// What is known of the journal's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number of the last applied entry.
    pub head: u64,
    /// The last entry, of those that were applied here, that changed hosted state.
    pub changed: u64,
    /// The newest checkpoint that one of those named.
    pub named: Option<Name>,
}

impl Seen {
    fn and(self, entry: &Entry) -> Self {
        let named = entry.checkpoints().map(Some).fold(self.named, Option::max);
        let changed = if entry.changes_state() { entry.seq } else { self.changed };
        Self { head: entry.seq, changed, named }
    }
}

/// The task that owns the journal; see [`JournalWriter::run`].
pub struct JournalWriter {
    journal: Journal,
    catalog: Catalog,
    changed: OnChange,
    metrics: Metrics,
    settings: Settings,
    asks: mpsc::Receiver<Box<Waiting>>,
    reads: Reads,
    status: Arc<Mutex<Status>>,
    /// For who writes checkpoints.
    heads: watch::Sender<Seen>,
    seen: Seen,
    /// Whether it was looked for what lies behind a gap of the journal, since this process began.
    looked_behind: bool,
    /// Commands that did not fit into the last entry.
    backlog: VecDeque<Waiting>,
    last_read: Option<Instant>,
    unflushed_since: Option<Instant>,
    /// When the journal was last seen to hold the entry that the catalog stands at; `None`: not
    /// since there was a failure of the store.
    recognised: Option<Instant>,
    /// When another replica was last seen to append.
    contended_at: Option<Instant>,
    /// When the last put won, unless one has lost since.
    won_at: Option<Instant>,
    /// How many have won without a break.
    wins: u32,
    put_took: Duration,
    /// Lines of a store that does not answer.
    lines: LineLimit,
    stranger_lines: LineLimit,
    /// For jitter alone.
    rng: StdRng,
    #[cfg(any(test, feature = "test-util"))]
    bug: Option<bugs::Bug>,
}

#[derive(Debug, Default)]
struct Status {
    caught_up: bool,
    /// For ever: nothing is skipped.
    broken: Option<String>,
    /// For now.
    failure: Option<String>,
    /// Why the store did not let the journal be read the last time, where waiting does not mend it.
    refusal: Option<Refusal>,
    /// When the journal was last read to its end.
    last_read: Option<Instant>,
    /// Whether the last read reached it, or, of one that goes on, may yet.
    at_end: bool,
}

impl JournalHandle {
    /// What the journal said so far, as far as this replica has applied it.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Has a command done: the events that it became, none when all was so already.
    ///
    /// # Errors
    /// The refusal; or [`cratehouse_core::error::Kind::Unavailable`], which says whether the order is certainly not
    /// done or its outcome is not known yet.
    pub async fn append(&self, command: ActorCommand) -> Result<Vec<EventKind>> {
        let (answer, answered) = oneshot::channel();
        let patience = deadline::at_most(self.patience + ANSWER_GRACE);
        let deadline = Instant::now() + patience.saturating_sub(ANSWER_GRACE);
        let stage = Arc::new(Stage::default());
        let waiting = Waiting { command, deadline, stage: Arc::clone(&stage), answer };
        self.asks.try_send(Box::new(waiting)).map_err(|_| {
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
    /// [`cratehouse_core::error::Kind::Unavailable`] when the journal cannot be read.
    pub async fn catch_up(&self) -> Result<()> {
        self.catch_up_for(Waiter::Authenticated).await
    }

    /// The same, by who waits: those without a token that counts are bounded.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Unavailable`] when the journal cannot be read, or too many such wait already.
    pub async fn catch_up_for(&self, waiter: Waiter) -> Result<()> {
        self.waits.wait(waiter).await
    }

    /// Whether this replica has caught up once and is well.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn ready(&self) -> Result<(), String> {
        self.journal_ready().and_then(|()| self.catalog_ready())
    }

    /// Whether the journal was read to its end once, and can be followed. A store that does not
    /// answer for a while changes nothing.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn journal_ready(&self) -> Result<(), String> {
        if self.asks.is_closed() {
            return Err("the journal is no longer followed".to_owned());
        }
        let status = lock(&self.status);
        match &status.broken {
            Some(why) => Err(why.clone()),
            None if !status.caught_up => Err("the journal is being read".to_owned()),
            None => Ok(()),
        }
    }

    /// Whether the catalog takes what is written to it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn catalog_ready(&self) -> Result<(), String> {
        lock(&self.status).failure.clone().map_or(Ok(()), Err)
    }

    /// Why the journal cannot be followed until an operator has looked, where the store says so: an entry
    /// that another user wrote, say. What is known can be served.
    pub fn refusal(&self) -> Option<Refusal> {
        lock(&self.status).refusal
    }

    /// How long ago the journal was last read to its end; `None` before the first time.
    pub fn read_age(&self) -> Option<Duration> {
        lock(&self.status).last_read.map(|at| at.elapsed())
    }

    /// How many ask for an append, and are not heard yet.
    pub fn waiting(&self) -> usize {
        self.asks.max_capacity() - self.asks.capacity()
    }

    /// By how much time the catalog may be behind the journal: since the last read to the end,
    /// unless all is well; then nothing. `None` before the first time.
    pub fn lag(&self) -> Option<Duration> {
        let at_end = lock(&self.status).at_end;
        self.read_age().map(|age| lag(age, at_end, self.follow))
    }
}

/// What a read's `age` says while reads follow each other within `follow`, and the next may take
/// as long as somebody would wait for it.
fn lag(age: Duration, at_end: bool, follow: Duration) -> Duration {
    let overdue = age > follow * 2 + CATCH_UP;
    if at_end && !overdue { Duration::ZERO } else { age }
}

fn not_done() -> Error {
    Error::unavailable(
        "the registry's journal cannot be written now; nothing was changed: try again shortly",
    )
}

fn unwritable() -> Error {
    Error::unavailable(
        "the registry's catalog cannot be written now; nothing was changed: try again later",
    )
}

fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JournalWriter {
    /// A writer, and the way to it. Nothing is read before [`JournalWriter::begin`].
    pub fn new(
        journal: Journal,
        catalog: Catalog,
        changed: OnChange,
        metrics: Metrics,
        settings: Settings,
    ) -> (Self, JournalHandle) {
        let (send, asks) = mpsc::channel(settings.queue);
        let status = Arc::<Mutex<Status>>::default();
        let (patience, follow) = (settings.patience, settings.follow);
        let (reads, waits) = reads::reads(settings.waits.clone(), &metrics);
        let appender = JournalHandle {
            catalog: catalog.clone(),
            asks: send,
            waits,
            status: Arc::clone(&status),
            patience,
            follow,
        };
        let lines = LineLimit::new("journal_unreachable", &metrics);
        let stranger_lines = LineLimit::new("unknown_actor", &metrics);
        let writer = Self {
            journal,
            catalog,
            changed,
            metrics,
            settings,
            asks,
            reads,
            status,
            heads: watch::Sender::default(),
            seen: Seen::default(),
            looked_behind: false,
            backlog: VecDeque::new(),
            last_read: None,
            unflushed_since: None,
            recognised: None,
            contended_at: None,
            won_at: None,
            wins: 0,
            put_took: Duration::ZERO,
            lines,
            stranger_lines,
            rng: StdRng::from_rng(&mut rand::rng()),
            #[cfg(any(test, feature = "test-util"))]
            bug: None,
        };
        (writer, appender)
    }

    /// Hears of the journal's end, each time that it was read.
    pub fn heads(&self) -> watch::Receiver<Seen> {
        self.heads.subscribe()
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
                () = self.reads.wanted() => (), // it is due sooner
                () = tokio::time::sleep_until(due) => drop(self.read().await), // it is logged
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

    fn read_due(&mut self) -> Instant {
        let Some(last) = self.last_read else { return Instant::now() };
        match self.reads.is_wanted() {
            true => last + READ_GAP,
            false => last + self.settings.follow + self.jitter(self.settings.follow / 5),
        }
    }

    /// Takes an ask and all that wait behind it.
    async fn take(&mut self, first: Box<Waiting>) {
        let mut next = Some(first);
        while let Some(waiting) = next {
            self.backlog.push_back(*waiting);
            next = match self.backlog.len() < MAX_GROUP {
                true => self.asks.try_recv().ok(),
                false => None,
            };
        }
        // Due also when asks never end.
        if self.read_due() <= Instant::now() {
            let _ = self.read().await; // it is logged
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
        #[cfg(any(test, feature = "test-util"))]
        if self.has(Bug::RefusesOutOfLag) {
            current = true;
        }
        while !group.is_empty() {
            if let Some(why) = lock(&self.status).broken.clone() {
                let refusal = Error::unavailable(format!("the registry accepts no changes: {why}"));
                return refuse(group, &refusal);
            }
            self.let_others_go_first().await;
            if !current {
                self.join(&mut group);
            }
            group = refuse_late(group);
            if let Err(e) = self.may_append().await {
                if let Some(suppressed) = self.lines.admit() {
                    warn!(error = %e.chain(), suppressed, "changes wait: the journal cannot be read");
                }
                tokio::time::sleep(READ_GAP + self.jitter(READ_GAP)).await;
                continue;
            }
            let drafted = match self.draft(group).await {
                Ok(drafted) => drafted,
                Err(e) => {
                    return error!(error = %e.chain(), "a group of commands could not be judged");
                }
            };
            if !current && drafted.doubtful() {
                current = true;
                group = match self.read_soon().await {
                    Ok(()) => drafted.into_group(),
                    Err(e) => drafted.refuse_doubtful(&e),
                };
                continue;
            }
            group = match drafted.settle(&mut self.backlog) {
                None => return,
                Some(sealed) => {
                    let _time = self.metrics.append_seconds.start_timer();
                    self.commit(sealed).await
                }
            };
        }
    }

    /// Whoever has come meanwhile joins: an entry that is put late should at least be full. Not
    /// after the read for refusals that lag could explain: it was not begun for who comes later.
    fn join(&mut self, group: &mut Vec<Waiting>) {
        while self.backlog.len() + group.len() < MAX_GROUP {
            match self.asks.try_recv() {
                Ok(waiting) => self.backlog.push_back(*waiting),
                Err(_) => break,
            }
        }
        let room = MAX_GROUP.saturating_sub(group.len()).min(self.backlog.len());
        group.extend(self.backlog.drain(..room));
    }

    /// Judges a group against the catalog plus what those before would change.
    async fn draft(&self, group: Vec<Waiting>) -> Result<Drafted> {
        let Settings { replica, operator, founding, .. } = &self.settings;
        let (replica, operator) = (replica.clone(), operator.clone());
        let hand = Hand { replica, operator, founding: *founding };
        let judge = self.judge();
        self.catalog.work(move |catalog| Drafted::judge(catalog, hand, judge, group)).await
    }

    fn judge(&self) -> Judge {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(mistaken) = self.mistaken_judge() {
            return mistaken;
        }
        commands::judge
    }

    fn break_off(&self, why: &ChainError) -> Error {
        let alarm = match why {
            ChainError::Newer { .. } => "release_too_old",
            _ => "journal_broken",
        };
        self.alarm(alarm, why.to_string());
        Error::unavailable(why)
    }

    fn alarm(&self, alarm: &str, why: String) {
        let mut status = lock(&self.status);
        if status.broken.is_none() {
            error!(alarm, %why, "the journal cannot be used from here on; nothing is appended or followed until an operator has looked");
            self.metrics.alarms.with_label_values(&[alarm]).inc();
            status.broken = Some(why);
        }
    }
}

#[cfg(any(test, feature = "test-util"))]
use bugs::Bug;

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
