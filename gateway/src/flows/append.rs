//! The one way into the journal, and the way along it.
//!
//! A single task, the *scribe*, owns both: it appends the commands that wait, as one entry
//! (group commit), and reads what others have appended. So a command is judged, put and applied
//! without anything coming between, and nobody who disconnects can cancel it half way.

#[cfg(test)]
pub(super) mod bugs;
mod follow;
mod group;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::group::{Drafted, Sealed, Stage, Waiting, refuse, refuse_late};
use crate::error::{Error, Result};
use crate::flows::command::Order;
use crate::flows::lookup::IndexCache;
use crate::metrics::Metrics;
use crate::model::entry::{ChainError, Happened};
use crate::stores::catalog::Catalog;
use crate::stores::journal::Journal;

/// Commands in one entry at the most.
const MAX_GROUP: usize = 256;
/// Entries that are read at once, far behind.
const READ_AHEAD: u64 = 64;
/// Entries that are read at once after a lost race: who lost is behind by more than one when
/// another never stops, and would stay so.
const LOSERS_READ: u64 = 8;
/// The least time between two reads that somebody waits for.
const READ_GAP: Duration = Duration::from_millis(20);
/// How often the catalog is put on disk, when something has changed.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// Waits between two puts of the same entry.
const PUT_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// How often it is looked whether the store still has the entry that the catalog stands at.
const RECOGNISE_EVERY: Duration = Duration::from_secs(60);
/// For how long a lost race counts as contention, and by how much a winner's pause then varies,
/// beside the time that a put takes.
const CONTENTION: Duration = Duration::from_secs(10);
const WINNER_PAUSE: Duration = Duration::from_millis(30);
/// Puts that win without a break, after which there is one, whoever competes.
const MAX_WINS: u32 = 10;
/// How much longer than its deadline a command's answer is waited for.
pub(super) const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// How long a read of the journal is waited for. Short: what is done with the answer takes its
/// own time, and cargo waits 30 s for it all.
const CATCH_UP: Duration = Duration::from_secs(4);

/// The way to the scribe.
#[derive(Debug, Clone)]
pub struct Appender {
    asks: mpsc::Sender<Ask>,
    status: Arc<Mutex<Status>>,
    patience: Duration,
    follow: Duration,
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
    /// When the journal was last seen to hold the entry that the catalog stands at; `None`: not
    /// since there was trouble with the store.
    recognised: Option<Instant>,
    /// When another replica was last seen to append.
    contended_at: Option<Instant>,
    /// When the last put won, unless one has lost since.
    won_at: Option<Instant>,
    /// How many have won without a break.
    wins: u32,
    put_took: Duration,
    /// For jitter alone.
    rng: StdRng,
    #[cfg(test)]
    bug: Option<bugs::Bug>,
}

#[derive(Debug, Default)]
struct Status {
    caught_up: bool,
    /// For ever: nothing is skipped.
    broken: Option<String>,
    /// For now.
    trouble: Option<String>,
    /// When the journal was last read to its end.
    last_read: Option<Instant>,
    /// Whether the last read reached it, or, of one that goes on, may yet.
    at_end: bool,
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
        match tokio::time::timeout(CATCH_UP, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(cannot()),
        }
    }

    /// Whether this replica has caught up once and is well.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn ready(&self) -> Result<(), String> {
        if self.asks.is_closed() {
            return Err("the journal is no longer followed".to_owned());
        }
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
        let (patience, follow) = (settings.patience, settings.follow);
        let appender = Appender { asks: send, status: Arc::clone(&status), patience, follow };
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
            recognised: None,
            contended_at: None,
            won_at: None,
            wins: 0,
            put_took: Duration::ZERO,
            rng: StdRng::from_rng(&mut rand::rng()),
            #[cfg(test)]
            bug: None,
        };
        (scribe, appender)
    }

    /// Hears the number of the last applied entry, each time that the journal was read.
    pub fn heads(&self) -> watch::Receiver<u64> {
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
        match self.readers.is_empty() {
            true => last + self.settings.follow + self.jitter(self.settings.follow / 5),
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
        #[cfg(test)]
        if self.has(Bug::RefusesOutOfLag) {
            current = true;
        }
        while !group.is_empty() {
            if let Some(why) = lock(&self.status).broken.clone() {
                let refusal = Error::unavailable(format!("the registry accepts no changes: {why}"));
                return refuse(group, &refusal);
            }
            self.let_others_go_first().await;
            group = refuse_late(group);
            if let Err(e) = self.recognise().await {
                warn!(error = %e.chain(), "changes wait: the journal cannot be read");
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
                Some(sealed) => self.commit(sealed).await,
            };
        }
    }

    /// Judges a group against the catalog plus what those before would change.
    async fn draft(&self, group: Vec<Waiting>) -> Result<Drafted> {
        let replica = self.settings.replica.clone();
        self.catalog.work(move |catalog| Drafted::judge(catalog, replica, group)).await
    }

    /// Puts an entry until it is known what stands at its number. Gives back the commands that
    /// must be judged again, because somebody else's entry stands there.
    async fn commit(&mut self, sealed: Sealed) -> Vec<Waiting> {
        let (seq, id) = (sealed.entry.seq, sealed.entry.id);
        let mut pause = PUT_PAUSES.0;
        loop {
            let began = Instant::now();
            let put = self.journal.create(seq, sealed.bytes.clone()).await;
            self.put_took = began.elapsed();
            let Err(unknown) = put else {
                // Where the catalog cannot be written the entry stands all the same.
                self.apply(vec![(sealed.entry.clone(), sealed.hash)]).await;
                return self.won(sealed);
            };
            self.metrics.append_retries.inc();
            #[cfg(test)]
            if self.has(Bug::BelievesAnError) {
                return self.lost(sealed, true);
            }
            #[cfg(test)]
            if self.has(Bug::AnswersUnproven) {
                return self.won(sealed);
            }
            match self.read_entries(LOSERS_READ).await {
                Ok((entries, broken)) => match entries.first().map(|(first, _)| first.id == id) {
                    Some(ours) => {
                        let applied = self.apply(entries).await;
                        broken.inspect(|why| drop(self.break_off(why)));
                        return if ours { self.won(sealed) } else { self.lost(sealed, applied) };
                    }
                    None => match broken {
                        Some(why) => {
                            self.break_off(&why);
                            return sealed.into_group();
                        }
                        #[cfg(test)]
                        None if self.has(Bug::MovesOn) => return self.lost(sealed, true),
                        None => {
                            info!(seq, error = %unknown, "an entry was not put; the same is put again");
                        }
                    },
                },
                Err(e) => {
                    warn!(seq, put = %unknown, read = %e.chain(), "what became of an entry is not known; the same is put again");
                }
            }
            tokio::time::sleep(pause + self.jitter(pause)).await;
            pause = (pause * 2).min(PUT_PAUSES.1);
            // The trouble may have been a store that was set back: then there is a gap before
            // this number, and nothing may be put behind it.
            self.recognised = None;
            if self.recognise().await.is_err() && lock(&self.status).broken.is_some() {
                return sealed.into_group();
            }
        }
    }

    fn won(&mut self, sealed: Sealed) -> Vec<Waiting> {
        self.metrics.appends.inc();
        self.won_at = Some(Instant::now());
        self.wins += 1;
        sealed.answer();
        Vec::new()
    }

    fn lost(&mut self, sealed: Sealed, applied: bool) -> Vec<Waiting> {
        (self.won_at, self.wins) = (None, 0);
        self.contended_at = Some(Instant::now());
        let group = sealed.release();
        match applied {
            true => group,
            false => {
                refuse(group, &unwritable());
                Vec::new()
            }
        }
    }

    /// While others compete, who has just won lets them go first; who has lost does not wait, so
    /// that nobody starves. Whoever always wins cannot see others lose: after so many wins
    /// without a break it makes room for them too, and if there are any, it then sees them.
    async fn let_others_go_first(&mut self) {
        let Some(won) = self.won_at else { return };
        let contended = self.contended_at.is_some_and(|at| at.elapsed() < CONTENTION);
        // Others learn that they lost, read, and put again: two or three round trips.
        let room = self.put_took * 2;
        let until = won + room + self.jitter(room + WINNER_PAUSE);
        if contended || self.wins >= MAX_WINS {
            tokio::time::sleep_until(until).await;
        }
        if contended || won.elapsed() > room {
            self.wins = 0;
        }
    }

    fn jitter(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random::<f64>())
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

#[cfg(test)]
use bugs::Bug;

#[cfg(test)]
mod tests;
