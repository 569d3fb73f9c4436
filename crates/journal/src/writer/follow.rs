//! The way along the journal: reading on from where the catalog stands, and applying.

use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::time::Instant;
use tracing::{error, warn};

use super::{FLUSH_EVERY, JournalWriter, READ_AHEAD, READ_GAP, RECOGNISE_EVERY, lock};
use crate::catalog::{Catalog, Stranger};
use crate::entry::{ChainError, Entry};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Refusal, Result};

/// Entries that hold, and why the one behind them does not, if there is one.
pub(super) type Found = (Vec<(Entry, Checksum)>, Option<ChainError>);

impl JournalWriter {
    /// Checks that the journal is the one that the catalog comes from, and reads it to its end;
    /// `progress` hears the numbers of the last applied and of the newest known entry.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the store does not answer; [`Kind::Internal`] when the chain is
    /// broken, or the journal is not the catalog's: waiting does not mend it.
    pub async fn begin(&mut self, progress: impl FnMut(u64, u64)) -> Result<()> {
        if let Err(mut e) = self.follow(progress).await {
            if lock(&self.status).broken.is_some() {
                e.kind = Kind::Internal;
            }
            return Err(e);
        }
        self.flush().await;
        match self.look_behind().await {
            Err(mut e) if lock(&self.status).broken.is_some() => {
                e.kind = Kind::Internal;
                Err(e)
            }
            // Reading needs no listing; it is tried again before the first append.
            Err(e) => {
                warn!(error = %e.chain(), "whether the journal has a gap could not be looked up");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reads the journal to its end for all who wait for that, and as a matter of routine.
    pub(super) async fn read(&mut self) -> Result<()> {
        let nth = self.reads.begin();
        let outcome = self.follow(|_, _| ()).await;
        lock(&self.status).refusal = outcome.as_ref().err().and_then(|e| Refusal::of(e));
        if let Err(e) = &outcome
            && let Some(suppressed) = self.lines.admit()
        {
            warn!(error = %e.chain(), suppressed, "the journal could not be read");
        }
        self.reads.end(nth, outcome.clone());
        self.flush_when_due().await;
        outcome
    }

    /// The same, as soon as the rate allows.
    pub(super) async fn read_soon(&mut self) -> Result<()> {
        if let Some(last) = self.last_read {
            tokio::time::sleep_until(last + READ_GAP).await;
        }
        self.read().await
    }

    /// The entry that the catalog stands at must stand in the journal: a store that was
    /// restored from a backup may be behind. Looked at when the catalog is opened, after each
    /// failure of the store, and now and then.
    pub(super) async fn recognise(&mut self) -> Result<()> {
        if let Some(why) = lock(&self.status).broken.clone() {
            return Err(Error::unavailable(why));
        }
        if self.recognised.is_some_and(|at| at.elapsed() < RECOGNISE_EVERY) {
            return Ok(());
        }
        let head = self.catalog.head()?;
        if head.seq > 0 {
            let found = self.journal.read(head.seq).await.map_err(Error::store)?;
            if found.is_none_or(|bytes| Checksum::of(&bytes) != head.hash) {
                let why = format!(
                    "the journal does not hold the entry {} that this replica's catalog stands at: the store was set back, or is another one. To accept the store as it is, delete the catalog file and start again",
                    head.seq
                );
                self.alarm("journal_broken", why.clone());
                return Err(Error::new(Kind::Internal, why));
            }
        }
        self.recognised = Some(Instant::now());
        Ok(())
    }

    /// Nothing may be put into another's journal, nor into a gap.
    pub(super) async fn may_append(&mut self) -> Result<()> {
        self.recognise().await?;
        match self.looked_behind {
            true => Ok(()),
            false => self.look_behind().await,
        }
    }

    /// An entry that is absent is the journal's end, unless there is one behind it: then it is a gap,
    /// and whoever put an entry there would begin another history. A listing is a hint only, so
    /// what it shows is read.
    async fn look_behind(&mut self) -> Result<()> {
        let head = self.catalog.head()?.seq;
        let newest = self.journal.newest_hint(head).await.map_err(Error::store)?;
        if newest > head {
            // Others may just have appended.
            self.follow(|_, _| ()).await?;
            let (head, found) = (self.catalog.head()?.seq, self.journal.read(newest).await);
            if newest > head && found.map_err(Error::store)?.is_some() {
                let why = format!(
                    "journal entry {} is missing, but entry {newest} is there: the journal has a gap, because entries were deleted. Bring them back from a backup",
                    head + 1
                );
                self.alarm("journal_broken", why.clone());
                return Err(Error::unavailable(why));
            }
        }
        self.looked_behind = true;
        Ok(())
    }

    /// Reads and applies entries until one is absent; `heard` is told each applied number, and
    /// the newest that is known of.
    async fn follow(&mut self, heard: impl FnMut(u64, u64)) -> Result<()> {
        self.last_read = Some(Instant::now());
        let outcome = self.follow_to_the_end(heard).await;
        if outcome.is_err() {
            self.recognised = None;
            lock(&self.status).at_end = false;
        }
        outcome
    }

    async fn follow_to_the_end(&mut self, mut heard: impl FnMut(u64, u64)) -> Result<()> {
        self.recognise().await?;
        let (mut ahead, mut newest) = (1, None);
        loop {
            let (entries, broken) = self.read_entries(ahead).await?;
            let found = entries.len() as u64;
            if found > 0 && !self.apply(entries).await {
                return Err(super::unwritable());
            }
            if let Some(why) = broken {
                return Err(self.break_off(&why));
            }
            let head = self.catalog.head()?.seq;
            self.seen.head = head;
            self.tell_heads();
            self.metrics.journal_head.set(i64::try_from(head).unwrap_or(i64::MAX));
            if found == READ_AHEAD && newest.is_none() {
                // Far behind. A listing is for the progress alone: it decides nothing.
                newest = Some(self.journal.newest_hint(head).await.unwrap_or(head));
            }
            let newest = newest.unwrap_or(head).max(head);
            self.metrics.journal_lag.set(i64::try_from(newest - head).unwrap_or(i64::MAX));
            heard(head, newest);
            if found < ahead {
                break;
            }
            lock(&self.status).at_end = false;
            ahead = (ahead * 8).min(READ_AHEAD);
            self.flush_when_due().await;
        }
        self.metrics.journal_lag.set(0);
        let mut status = lock(&self.status);
        status.caught_up = true;
        status.last_read = Some(Instant::now());
        status.at_end = true;
        Ok(())
    }

    /// The entries behind the head, up to the first that is absent.
    pub(super) async fn read_entries(&self, count: u64) -> Result<Found> {
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
                Err(e) => return Ok((entries, Some(e))),
            }
        }
        Ok((entries, None))
    }

    /// Applies entries to the catalog, then drops from memory what they touch. When that fails,
    /// the catalog stays where it is, and the next read tries again.
    pub(super) async fn apply(&mut self, entries: Vec<(Entry, Checksum)>) -> bool {
        #[cfg(any(test, feature = "test-util"))]
        let entries = self.as_read(entries);
        let seen = entries.iter().fold(self.seen, |seen, (entry, _)| seen.and(entry));
        let applied = match self.catalog.work(move |catalog| catalog.apply(&entries)).await {
            Ok(applied) => applied,
            Err(e) => {
                self.unwritten(&e);
                return false;
            }
        };
        for key in &applied.touched {
            (self.changed)(key);
        }
        self.seen = seen;
        self.tell_heads();
        self.mind_strangers(&applied.strangers);
        self.unflushed_since.get_or_insert_with(Instant::now);
        lock(&self.status).failure = None;
        if let Ok(head) = self.catalog.head() {
            self.metrics.journal_head.set(i64::try_from(head.seq).unwrap_or(i64::MAX));
        }
        true
    }

    /// Also behind an entry of our own: what was just named must be known before the next is written.
    fn tell_heads(&self) {
        self.heads.send_if_modified(|told| std::mem::replace(told, self.seen) != self.seen);
    }

    /// What stands in the journal counts; but no judge can have let it pass.
    fn mind_strangers(&self, strangers: &[Stranger]) {
        let alarms = self.metrics.alarms.with_label_values(&["unknown_actor"]);
        alarms.inc_by(strangers.len() as u64);
        for Stranger { seq, by } in strangers {
            if let Some(suppressed) = self.stranger_lines.admit() {
                error!(
                    alarm = "unknown_actor",
                    seq,
                    ?by,
                    suppressed,
                    "an entry of the journal is by an actor that no entry made, or that one ended: whoever wrote it did not come through a replica. Look who can write the store, and run `cratehouse journal verify`"
                );
            }
        }
    }

    pub(super) async fn flush(&mut self) {
        match self.catalog.work(Catalog::flush).await {
            Ok(()) => self.unflushed_since = None,
            Err(e) => self.unwritten(&e),
        }
    }

    async fn flush_when_due(&mut self) {
        if self.unflushed_since.is_some_and(|since| since.elapsed() > FLUSH_EVERY) {
            self.flush().await;
        }
    }

    /// Of a lack of threads, which passes, nothing is told of the catalog.
    pub(super) fn unwritten(&self, why: &Error) {
        if why.kind == Kind::Unavailable {
            if let Some(suppressed) = self.lines.admit() {
                warn!(error = %why.chain(), suppressed, "the catalog was not written now; it is tried again");
            }
            return;
        }
        error!(error = %why.chain(), "the catalog could not be written");
        self.metrics.alarms.with_label_values(&["catalog_unwritable"]).inc();
        let what = "the catalog cannot be written: look at its disk, and start again";
        lock(&self.status).failure = Some(what.to_owned());
    }
}
