//! Checkpoints: when one is written, and which one a replica trusts when it starts.
//!
//! Any replica writes one when enough has happened since the newest that it knows of. Two at once
//! do no harm: what is the same has the same name. None is ever needed: the journal alone is the
//! truth, so whatever is wrong with a checkpoint makes a start slower, and nothing else.
//!
//! From format level 2 on one counts only when an entry of the journal names its hash, behind the last
//! entry that is in it: see `trust`. So it is put first, and named then.

mod trust;

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::catalog::{Catalog, Head, SCHEMA};
use crate::checkpoint_format::{Name, Reader};
use crate::checkpoint_store::{Checkpoints, FOLDER};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::entry_store::Journal;
use crate::writer::{JournalHandle, Seen};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::console::LogFormat;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::progress::{Progress, grouped};
use cratehouse_storage::format_level::Level;

/// A catalog this many entries behind a checkpoint loads it instead of reading them.
const FAR_BEHIND: u64 = 2_000;
/// Checkpoints that are tried, the newest first, before the journal is read from its beginning.
const MOST_TRIED: usize = 8;
/// Checkpoints of one entry that are compared with each other.
const MOST_TWINS: usize = 8;
/// With anything new, one is written after this time, however little it is.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the time is looked at, and how long a failure keeps the next one away.
const LOOK: Duration = Duration::from_secs(60);

/// Writes and loads the checkpoints of one registry.
#[derive(Debug, Clone)]
pub struct Checkpointer {
    /// The registry's id.
    pub registry: String,
    /// What is written and loaded into.
    pub catalog: Catalog,
    /// What it has to agree with.
    pub journal: Journal,
    /// Where they are.
    pub checkpoints: Checkpoints,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// What names checkpoints; `None` before there is anything.
    pub namer: Option<Namer>,
}

/// How the journal comes to name checkpoints.
#[derive(Debug, Clone)]
pub struct Namer {
    /// The way into it.
    pub journal: JournalHandle,
    /// What is known of its end.
    pub heads: watch::Receiver<Seen>,
}

impl Namer {
    /// The checkpoint that was named last, when nothing has changed since.
    fn unchanged(&self) -> Option<Name> {
        let seen = *self.heads.borrow();
        seen.named.filter(|named| seen.changed <= named.seq)
    }
}

/// What is known of the checkpoints that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// The entry of the newest one that may be trusted.
    good: u64,
    /// The entry of the newest one that was seen at all.
    seen: u64,
}

/// When the next one is due. Decides without a store.
#[derive(Debug)]
struct Cadence {
    known: Known,
    entries: u64,
    since: Instant,
}

impl Cadence {
    /// One that waits for `entries` entries and up to a tenth more: then replicas seldom come
    /// to the same thought at the same time.
    fn new(known: Known, entries: u64) -> Self {
        let entries = entries + rand::rng().random_range(0..=entries / 10);
        Self { known, entries, since: Instant::now() }
    }

    /// `changed` is the last entry that changed hosted state: the one that names a checkpoint is no
    /// reason for the next checkpoint.
    fn is_due(&self, changed: u64) -> bool {
        let new = changed.saturating_sub(self.known.good);
        new >= self.entries || (new > 0 && self.since.elapsed() >= EVERY)
    }

    fn note(&mut self, seq: u64) {
        let seen = self.known.seen.max(seq);
        self.known = Known { good: seq, seen };
        self.since = Instant::now();
    }
}

impl Checkpointer {
    /// Loads the newest checkpoint that can be trusted, where the catalog is empty or far behind
    /// it. With a `voice`, says what it does. Whatever goes wrong is logged, and the journal
    /// serves as well.
    pub async fn load(&self, voice: Option<LogFormat>) -> Known {
        match self.try_load(voice).await {
            Ok(known) => known,
            Err(e) => {
                warn!(error = %e.chain(), "the checkpoints could not be looked at; the journal is read instead");
                Known::default()
            }
        }
    }

    async fn try_load(&self, voice: Option<LogFormat>) -> Result<Known> {
        let head = self.catalog.head()?;
        let names = self.checkpoints.newest(0..=u64::MAX, MOST_TRIED).await;
        let names = names.map_err(Error::store)?;
        // Where a checkpoint must be named, one that claims to be ahead keeps nobody from writing.
        let believed = |name: &&Name| !is_strict(head.level) || name.seq <= head.seq;
        let seen = names.iter().find(believed).map_or(0, |name| name.seq);
        let newest = names.first().map_or(0, |name| name.seq);
        let least = if head.seq == 0 { 1 } else { head.seq.saturating_add(FAR_BEHIND) };
        if newest < least {
            return Ok(Known { good: seen, seen });
        }
        // A catalog that is not of this journal is for the operator, not to be papered over.
        if head.seq > 0 && !self.is_in_the_journal(head.seq, &head.hash).await? {
            return Ok(Known { good: 0, seen });
        }
        for twins in names.chunk_by(|a, b| a.seq == b.seq) {
            let Some(name) = twins.first().filter(|name| name.seq >= least) else { break };
            if let Some(name) = self.only_sound_one(name, twins).await
                && let Some(good) = self.load_one(name, voice).await
            {
                return Ok(Known { good, seen });
            }
        }
        Ok(Known { good: 0, seen })
    }

    /// Of several checkpoints of one entry, the one that may be trusted. One alone is judged
    /// while it is loaded.
    async fn only_sound_one(&self, first: &Name, twins: &[Name]) -> Option<Name> {
        if twins.len() == 1 {
            return Some(*first);
        }
        let mut sound = Vec::new();
        for name in twins {
            match self.verify(*name).await {
                Ok(()) => sound.push(*name),
                Err(e) => self.pass_over(name, &e),
            }
        }
        if sound.len() > 1 {
            self.alarm(&sound);
        }
        sound.pop().filter(|_| sound.is_empty())
    }

    async fn load_one(&self, name: Name, voice: Option<LogFormat>) -> Option<u64> {
        let progress =
            voice.map(|v| Progress::begin(format!("loading checkpoint {}", name.seq), v));
        match self.try_load_one(name, progress).await {
            Ok(seq) => {
                self.count("loaded");
                self.metrics.checkpoint_seq.set(gauge(seq));
                Some(seq)
            }
            Err(e) => {
                self.pass_over(&name, &e);
                None
            }
        }
    }

    async fn try_load_one(&self, name: Name, progress: Option<Progress>) -> Result<u64> {
        let (mut reader, named) = self.open(name).await?;
        let loading = self.catalog.work(move |catalog| {
            let tick = |done, total| {
                if let Some(progress) = &progress {
                    progress.tick(done, Some(total));
                }
            };
            let seq = catalog.restore(&mut reader, named, tick)?.seq;
            let versions = grouped(reader.header().versions);
            if let Some(progress) = progress {
                progress.end(&format!("checkpoint {seq} loaded ({versions} versions)"));
            }
            Ok(seq)
        });
        loading.await
    }

    /// Checks that the journal holds a checkpoint's last entry and, where that is needed, names it; then
    /// fetches it and checks whose it is. Says whether it is named. Its rows are not read yet.
    async fn open(&self, name: Name) -> Result<(Reader, bool)> {
        let last = self.check_trust(&name).await?;
        let reader = self.fetch(name).await?;
        let header = reader.header();
        header.check(&self.registry, SCHEMA).map_err(untrusted)?;
        last.check(header)?;
        Ok((reader, last.names_it))
    }

    async fn fetch(&self, name: Name) -> Result<Reader> {
        let bytes = self.checkpoints.get(&name).await.map_err(Error::store)?;
        Reader::open(name, bytes).map_err(untrusted)
    }

    async fn verify(&self, name: Name) -> Result<()> {
        let (reader, _) = self.open(name).await?;
        self.catalog.work(move |_| reader.verify().map(drop).map_err(untrusted)).await
    }

    async fn is_in_the_journal(&self, seq: u64, hash: &Checksum) -> Result<bool> {
        let entry = self.journal.read(seq).await.map_err(Error::store)?;
        Ok(entry.is_some_and(|bytes| Checksum::of(&bytes) == *hash))
    }

    fn pass_over(&self, name: &Name, why: &Error) {
        self.count("passed_over");
        warn!(checkpoint = %name, why = %why.chain(), "a checkpoint is passed over");
    }

    /// Two replicas made different things of the same entries: one of them is wrong, and nobody
    /// can tell which.
    fn alarm(&self, twins: &[Name]) {
        let names: Vec<_> = twins.iter().map(Name::to_string).collect();
        error!(checkpoints = ?names, "different checkpoints of one journal entry; none of them is trusted. Delete the catalogs, compare what is built from the journal alone, and report this");
        self.metrics.alarms.with_label_values(&["checkpoint_conflict"]).inc();
    }

    fn count(&self, event: &str) {
        self.metrics.checkpoints.with_label_values(&[event]).inc();
    }

    /// Writes a checkpoint of the catalog as it is now, and returns its name; that of the last one, when
    /// nothing has changed since.
    ///
    /// # Errors
    /// When nothing has happened yet, or it is not known to be in the store.
    pub async fn write(&self) -> Result<Name> {
        let unchanged = self.namer.as_ref().and_then(Namer::unchanged);
        if let Some(name) = unchanged
            && self.check_bytes(name).await.is_ok()
        {
            return Ok(name);
        }
        self.check_may_name()?;
        let (name, bytes) = self.catalog.work(Catalog::dump).await?;
        if name.seq == 0 {
            return Err(Error::invalid(
                "nothing was published or changed yet: there is nothing to put into a checkpoint",
            ));
        }
        let size = bytes.len();
        let new = self.checkpoints.put(&name, bytes).await.map_err(Error::store)?;
        match new {
            true => {
                self.count("written");
                info!(checkpoint = %name, bytes = size, "a checkpoint is written");
            }
            false => self.check_bytes(name).await?,
        }
        if is_strict(self.catalog.head()?.level) {
            self.check_may_name()?; // the level may have come meanwhile
            self.name(name).await?;
        }
        self.metrics.checkpoint_seq.set(gauge(name.seq));
        if let Err(e) = self.compare(name).await {
            warn!(checkpoint = %name, error = %e.chain(), "a checkpoint could not be compared with others of its entry");
        }
        Ok(name)
    }

    /// Something of this name is there already: what it holds must be what the name says, or a start
    /// would pass it over for ever.
    async fn check_bytes(&self, name: Name) -> Result<()> {
        let read = async {
            let reader = self.fetch(name).await?;
            self.catalog.work(move |_| reader.verify().map(drop).map_err(untrusted)).await
        };
        read.await.map_err(|e| {
            let text = "the store holds something else under this checkpoint's name: delete it";
            Error::new(e.kind, format!("{text} ({FOLDER}/{name})")).because(e)
        })
    }

    /// Has the journal say that it may be believed.
    async fn name(&self, name: Name) -> Result<()> {
        let unable = || Error::new(Kind::Internal, "nothing is there to name a checkpoint");
        let namer = self.namer.as_ref().ok_or_else(unable)?;
        let command =
            ActorCommand { by: CommandActor::Replica, command: Command::NameCheckpoint(name) };
        namer.journal.append(command).await?;
        info!(checkpoint = %name, "the journal names the checkpoint");
        Ok(())
    }

    /// Looks for sound checkpoints of the same entry that are not the same.
    async fn compare(&self, ours: Name) -> Result<()> {
        let listed = self.checkpoints.newest(ours.seq..=ours.seq, MOST_TWINS).await;
        for theirs in listed.map_err(Error::store)?.into_iter().filter(|name| *name != ours) {
            match self.verify(theirs).await {
                Ok(()) => self.alarm(&[ours, theirs]),
                Err(e) => self.pass_over(&theirs, &e),
            }
        }
        Ok(())
    }

    /// Writes a checkpoint after every so many `entries`, or a day, until told to stop. `heads`
    /// tells of the journal's end.
    pub async fn run(
        self,
        known: Known,
        entries: u64,
        mut heads: watch::Receiver<Seen>,
        stop: CancellationToken,
    ) {
        let mut cadence = Cadence::new(known, entries);
        let mut is_told = false;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                tokio::select! {
                    changed = heads.changed() => if changed.is_err() { return },
                    _ = look.tick() => (),
                }
                let seen = *heads.borrow_and_update();
                if let Some(named) = seen.named.filter(|named| named.seq > cadence.known.good) {
                    self.metrics.checkpoint_seq.set(gauge(named.seq));
                    cadence.note(named.seq);
                }
                if let Err(why) = self.check_may_name() {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(%why, "this replica writes no checkpoints until it is started again");
                    }
                    continue;
                }
                if !cadence.is_due(seen.changed) {
                    continue;
                }
                match self.write_unless_another_did(&cadence).await {
                    Ok(seq) => cadence.note(seq),
                    Err(e) => {
                        self.count("failed");
                        warn!(error = %e.chain(), "a checkpoint could not be written; it is tried again in a minute");
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
        };
        // Cut off at a stop, it leaves nothing behind, or a whole checkpoint.
        tokio::select! {
            () = stop.cancelled() => (),
            () = work => (),
        }
    }

    /// The entry of the newest checkpoint: of one that another replica has written meanwhile,
    /// or of our own.
    async fn write_unless_another_did(&self, cadence: &Cadence) -> Result<u64> {
        if is_strict(self.catalog.head()?.level) {
            return self.write().await.map(|name| name.seq); // the journal tells of others'
        }
        let newer = cadence.known.seen.saturating_add(1)..=u64::MAX;
        let newer = self.checkpoints.newest(newer, 1).await.map_err(Error::store)?;
        match newer.first() {
            Some(theirs) => {
                self.metrics.checkpoint_seq.set(gauge(theirs.seq));
                Ok(theirs.seq)
            }
            None => self.write().await.map(|name| name.seq),
        }
    }
}

/// Whether checkpoints must be named where this level is enabled.
fn is_strict(level: Level) -> bool {
    level >= Level::NAMED_CHECKPOINTS
}

fn untrusted(why: impl fmt::Display) -> Error {
    Error::new(Kind::Internal, why.to_string())
}

fn gauge(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
