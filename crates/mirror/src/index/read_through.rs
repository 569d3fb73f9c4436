//! One upstream's index file of a crate: from the store's copy while that is fresh, else asked
//! for, else from the copy all the same.

mod noticed;
mod pinned;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::freshness;
use crate::index::cache::{CachedLookup, IndexCache, Outcome};
use crate::index::judged::{Facts, Judging};
use crate::log_lines::MirrorLines;
use crate::pins::pinner::Pinner;
use crate::store::{KeptHead, KeptIndex, MirrorStore, Seen};
use crate::upstream::{
    Answer, Body, REST, Turn, Upstream, UpstreamError, UpstreamErrorKind, Validators,
};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::write_behind::WriteBehind;
use cratehouse_package::index::IndexFile;
use cratehouse_package::mirrored::{self, OwnRegistries, Skipped, Unreadable};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// How long a lookup waits for the store's copy. It is a cache: without it the upstream is asked.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// One upstream, read through the store.
#[derive(Debug)]
pub(crate) struct ReadThrough<'a> {
    /// The upstream's place in the chain.
    pub(crate) at: usize,
    pub(crate) upstream: &'a Upstream,
    /// Where new files count.
    pub(crate) index: &'a IndexCache,
    pub(crate) store: &'a MirrorStore,
    /// Where an answer need not wait for it.
    pub(crate) write_behind: &'a WriteBehind,
    pub(crate) pinner: &'a Pinner,
    pub(crate) metrics: &'a Metrics,
    pub(crate) lines: &'a MirrorLines,
    /// The registries that become null in its lines.
    pub(crate) own: Arc<OwnRegistries>,
}

/// An upstream's body, rendered.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    pub(crate) file: Arc<IndexFile>,
    /// SHA-256 of the body.
    pub(crate) body: Checksum,
    /// What the policy makes of it: as long as the body stays, so does this.
    pub(crate) judging: Arc<Judging>,
    /// Its lines that are not passed on. Of what memory knows they are not asked.
    skipped: Skipped,
}

/// The store's copy.
struct Copy {
    kept: KeptIndex,
    rendered: Rendered,
}

impl Copy {
    /// Where the body is that of the file, as it mostly is, it takes no memory of its own.
    fn of(mut kept: KeptIndex, rendered: Rendered) -> Self {
        let body = &rendered.file.identity.bytes;
        if *body == kept.body {
            kept.body = body.clone();
        }
        Self { kept, rendered }
    }

    /// What its body takes beside its file, in bytes.
    fn own_bytes(&self) -> u64 {
        let (own, of_file) = (&self.kept.body, &self.rendered.file.identity.bytes);
        let same = own.as_ptr() == of_file.as_ptr() && own.len() == of_file.len();
        if same { 0 } else { own.len() as u64 }
    }
}

/// What came of looking at what is held.
pub(crate) enum Begun {
    /// That is the answer.
    Known(CachedLookup),
    /// The upstream is to be asked.
    Ask(Box<Question>),
}

/// What an upstream is to be asked, and what is held of it.
pub(crate) struct Question {
    copy: Option<Copy>,
    /// What stood in the copy's place.
    seen: Seen,
    last: Option<Rendered>,
    now: Timestamp,
}

/// What stood in the store when the upstream was asked, and when that was.
struct Place {
    copy: Option<Copy>,
    seen: Seen,
    now: Timestamp,
}

/// What is to be kept of an answer.
struct Copied {
    bytes: Bytes,
    validators: Validators,
    /// In place of what it is kept.
    seen: Seen,
    now: Timestamp,
    /// Whether the first sights of its versions are noted.
    noted: bool,
}

impl Question {
    /// Whether nothing is held of the crate: its name would be new to the upstream, as far as this
    /// replica knows.
    pub(crate) fn is_first(&self) -> bool {
        self.last.is_none()
    }
}

/// Why a body is no index file.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    /// It cannot be unpacked.
    #[error(transparent)]
    Packed(#[from] io::Error),
    /// It is something else.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Rendered {
    /// What memory knows.
    pub(crate) fn remembered(known: &CachedLookup) -> Option<Self> {
        let file = known.answer.as_ref().ok()?.as_ref()?;
        let judging = Arc::clone(&known.judging);
        let skipped = Skipped::default();
        Some(Self { file: Arc::clone(file), body: known.body?, judging, skipped })
    }

    /// The same with other facts.
    fn noticing(self, facts: Facts) -> Self {
        Self { judging: Arc::new(Judging::new(facts)), ..self }
    }

    fn known(self, outcome: Outcome, fresh: Duration) -> CachedLookup {
        let until = Instant::now().checked_add(fresh);
        let (body, judging) = (Some(self.body), self.judging);
        CachedLookup { answer: Ok(Some(self.file)), outcome, until, body, judging, read_from: None }
    }
}

impl ReadThrough<'_> {
    /// The index file of a crate, as far as it is held. With `force` the upstream is to be asked even
    /// though the copy is fresh. `remembered` is what memory has of it, however old.
    pub(crate) async fn begin(
        &self,
        client: ClientKey,
        name: &CrateName,
        remembered: Option<Rendered>,
        force: bool,
    ) -> Begun {
        let now = Timestamp::now();
        let (copy, seen) = self.copy(name, remembered.as_ref()).await;
        let fresh_for = copy.as_ref().filter(|_| !force).and_then(|c| self.fresh_for(c, now));
        if let (Some(copy), Some(left)) = (&copy, fresh_for) {
            return Begun::Known(copy.rendered.clone().known(Outcome::Store, left));
        }
        let last = copy.as_ref().map(|copy| copy.rendered.clone()).or(remembered);
        if let (Some(last), Some(_), false) = (&last, self.upstream.resting(), force) {
            return Begun::Known(last.clone().known(Outcome::Stale, REST));
        }
        if let (Some(last), true, false) = (&last, self.upstream.is_crowded_for(client), force) {
            // Of no other client, and not for long.
            return Begun::Known(last.clone().known(Outcome::Stale, Duration::ZERO));
        }
        Begun::Ask(Box::new(Question { copy, seen, last, now }))
    }

    /// Asks the upstream.
    pub(crate) async fn ask(
        &self,
        name: &CrateName,
        turn: Turn,
        question: Question,
    ) -> CachedLookup {
        let Question { copy, seen, last, now } = question;
        let validators = copy.as_ref().and_then(|copy| self.validators(&copy.kept.head));
        let mut arriving = self.index.arriving();
        // It is held for as long as the upstream takes.
        if !arriving.takes(copy.as_ref().map_or(0, Copy::own_bytes)) {
            let error = self.no_memory(name);
            return self.without_answer(name, error.into(), last, Duration::ZERO);
        }
        let mut more = |bytes| arriving.takes(bytes);
        let asking = self.upstream.index_file(turn, name, validators.as_ref(), &mut more);
        let (settled, rest) = match asking.await {
            Ok(answer) => {
                let place = Place { copy, seen, now };
                (self.settle(name, answer, place, last.as_ref()).await, REST)
            }
            // The next to ask may have more luck with us.
            Err(error) if error.is_ours() => (Err(error.into()), Duration::ZERO),
            Err(error) => (Err(error.into()), REST),
        };
        settled.unwrap_or_else(|error| self.without_answer(name, error, last, rest))
    }

    /// What an answer means, beside what was known: the copy follows it, and a version that
    /// changed its checksum or vanished is pinned to its former one before the new state is seen
    /// by anybody.
    async fn settle(
        &self,
        name: &CrateName,
        answer: Answer,
        place: Place,
        last: Option<&Rendered>,
    ) -> Result<CachedLookup> {
        let Place { copy, seen, now } = place;
        let noted = copy.as_ref().is_some_and(|copy| copy.kept.head.sights_noted);
        let fresh = self.upstream.config().fresh;
        let (body, validators, unchanged) = match (answer, copy) {
            (Answer::NotFound, copy) => {
                self.pin_lost(name, last, None, now).await?;
                return Ok(self.gone(name, copy.is_some(), now).await);
            }
            (Answer::Found { body, validators }, _) => (body, validators, None),
            (Answer::NotModified, Some(copy)) => {
                let validators = validators_of(&copy.kept.head);
                (copy.kept.body.into(), validators, Some(copy.rendered))
            }
            (Answer::NotModified, None) => {
                return Err(self.nonsense("it answered 304 to a plain request").into());
            }
        };
        let (bytes, rendered) = match unchanged {
            Some(rendered) => (body.unpack().map_err(Error::internal)?, rendered),
            None => {
                let new = self.render(body, None, name, last).await?;
                let (bytes, rendered) = new.map_err(|unfit| match unfit {
                    Unfit::Packed(e) => self.upstream.misfit(&e),
                    Unfit::Unreadable(e) => self.nonsense(e.to_string()),
                })?;
                self.note_skipped(name, &rendered.skipped);
                (bytes, rendered)
            }
        };
        let known_before = last.filter(|last| last.body == rendered.body).is_some();
        let rendered = match last.filter(|_| !known_before) {
            Some(former) => self.follow(name, former, rendered, now).await?,
            None if last.is_none() => self.recall(name, rendered, now).await?,
            None => rendered,
        };
        let copied = Copied { bytes, validators, seen, now, noted: noted && known_before };
        self.keep(name, copied, &rendered).await;
        let outcome = if known_before { Outcome::Revalidated } else { Outcome::Miss };
        Ok(rendered.known(outcome, fresh))
    }

    /// Lines that cargo would skip are not passed on.
    fn note_skipped(&self, name: &CrateName, skipped: &Skipped) {
        let Some(first) = &skipped.first else { return };
        let (upstream, lines) = (self.upstream.name(), skipped.lines);
        self.metrics.index_lines_skipped.with_label_values(&[upstream]).inc_by(lines);
        if let Some(suppressed) = self.lines.skipped.admit() {
            tracing::warn!(upstream, krate = %name, lines, %first, suppressed,
                "lines of an upstream's index file cannot be read; they are left out");
        }
    }

    /// A file with what it tells beside its former state.
    async fn follow(
        &self,
        name: &CrateName,
        former: &Rendered,
        new: Rendered,
        now: Timestamp,
    ) -> Result<Rendered> {
        let facts = former.judging.facts();
        let mut changed = noticed::still_changed(&facts.changed, &new.file);
        changed.extend(self.pin_lost(name, Some(former), Some(&new.file), now).await?);
        let changed = self.standing(name, changed, &new.file)?;
        let mut seen = noticed::first_sights(&former.file, &facts.first_seen, &new.file, now);
        let unreadable = new.skipped.lines;
        if unreadable > 0 {
            let before = &facts.first_seen;
            noticed::keep_sights(&former.file, before, &new.file, unreadable, &mut seen);
        }
        Ok(new.noticing(self.facts(seen, changed)))
    }

    /// A file with what was noted of its versions without a date, though nothing else is known of it
    /// any more: its copy may have been lost.
    async fn recall(&self, name: &CrateName, new: Rendered, now: Timestamp) -> Result<Rendered> {
        let changed = self.standing(name, BTreeMap::new(), &new.file)?;
        let noted = match new.file.versions().all(|listed| listed.pubtime.is_some()) {
            true => None,
            false => in_time(self.store.sights(self.upstream.name(), name)).await?,
        };
        let seen = noted.map(|noted| noticed::recalled(&noted, &new.file, now));
        Ok(new.noticing(self.facts(seen.unwrap_or_default(), changed)))
    }

    fn facts(
        &self,
        seen: BTreeMap<CrateVersion, Timestamp>,
        changed: BTreeMap<CrateVersion, Checksum>,
    ) -> Facts {
        Facts {
            upstream: Some(self.upstream.name().to_owned()),
            first_seen: Arc::new(seen),
            changed: Arc::new(changed),
            ..Facts::default()
        }
    }

    /// The last known file when no answer could be had, else that error; either for `rest`, so that
    /// not every asker waits again.
    fn without_answer(
        &self,
        name: &CrateName,
        error: Error,
        last: Option<Rendered>,
        rest: Duration,
    ) -> CachedLookup {
        let upstream = self.upstream.name();
        match last {
            Some(last) => {
                if let Some(suppressed) = self.lines.no_answer.admit() {
                    tracing::warn!(upstream, krate = %name, error = %error.chain(), suppressed,
                        "no answer from an upstream; the last known index file is served");
                }
                last.known(Outcome::Stale, rest)
            }
            None => {
                if let Some(suppressed) = self.lines.no_answer.admit() {
                    tracing::warn!(upstream, krate = %name, error = %error.chain(), suppressed,
                        "no answer from an upstream, and nothing is known from before");
                }
                CachedLookup::failed(error, rest)
            }
        }
    }

    /// The upstream does not have the crate, perhaps no longer.
    async fn gone(&self, name: &CrateName, had_copy: bool, now: Timestamp) -> CachedLookup {
        let upstream = self.upstream.name();
        if had_copy {
            if let Some(suppressed) = self.lines.gone.admit() {
                tracing::info!(upstream, krate = %name, suppressed,
                    "a crate is no longer at its upstream");
            }
            let _turn = self.write_behind.turn((upstream, name)).await;
            let deleted = self.store.delete_index_as_of(upstream, name, now);
            if let Err(e) = in_time(deleted).await
                && let Some(suppressed) = self.lines.store.admit()
            {
                tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                    "a mirrored index file could not be deleted");
            }
        }
        CachedLookup::absent(Instant::now().checked_add(self.upstream.config().negative))
    }

    /// The store's copy, if it can be had and read, and what stands in its place.
    async fn copy(&self, name: &CrateName, remembered: Option<&Rendered>) -> (Option<Copy>, Seen) {
        let upstream = self.upstream.name();
        match in_time(self.store.index_seen(upstream, name)).await {
            Ok((Some(kept), seen)) => (self.read(name, kept, remembered).await, seen),
            Ok((None, seen)) => {
                if matches!(seen, Seen::Version(_))
                    && let Some(suppressed) = self.lines.damaged_copy.admit()
                {
                    tracing::warn!(upstream, krate = %name, suppressed,
                        "a mirrored index file in the store is damaged and not used");
                }
                (None, seen)
            }
            Err(e) => {
                if let Some(suppressed) = self.lines.store.admit() {
                    tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                        "a mirrored index file could not be read from the store");
                }
                (None, Seen::Absent)
            }
        }
    }

    async fn read(
        &self,
        name: &CrateName,
        kept: KeptIndex,
        remembered: Option<&Rendered>,
    ) -> Option<Copy> {
        let upstream = self.upstream.name();
        // The store compared the checksum just now: it is not worked out again.
        if let Some(rendered) = remembered.filter(|known| known.body == kept.head.sha256) {
            return Some(Copy::of(kept, rendered.clone()));
        }
        let sum = Some(kept.head.sha256);
        match self.render(kept.body.clone().into(), sum, name, None).await {
            Ok(Ok((_, rendered))) => {
                let changed = kept.head.changed.clone();
                let changed = self.standing(name, changed, &rendered.file).unwrap_or_else(|e| {
                    if let Some(suppressed) = self.lines.store.admit() {
                        tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                            "whether its pins were corrected is not known");
                    }
                    kept.head.changed.clone()
                });
                self.alarm(&rendered.file, &changed).await;
                let facts = self.facts(kept.head.seen.clone(), changed);
                Some(Copy::of(kept, rendered.noticing(facts)))
            }
            Ok(Err(unreadable)) => {
                if let Some(suppressed) = self.lines.damaged_copy.admit() {
                    tracing::warn!(upstream, krate = %name, error = %unreadable, suppressed,
                        "a mirrored index file in the store is not used");
                }
                None
            }
            Err(e) => {
                if let Some(suppressed) = self.lines.store.admit() {
                    tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                        "a mirrored index file could not be rendered");
                }
                None
            }
        }
    }

    fn fresh_for(&self, copy: &Copy, now: Timestamp) -> Option<Duration> {
        let here = self.is_from_here(&copy.kept.head);
        let left = freshness::left(copy.kept.head.checked, now, self.upstream.config().fresh);
        left.filter(|_| here)
    }

    fn validators(&self, head: &KeptHead) -> Option<Validators> {
        self.is_from_here(head).then(|| validators_of(head))
    }

    /// Whether a copy comes from where the upstream is configured now.
    fn is_from_here(&self, head: &KeptHead) -> bool {
        head.from == self.upstream.config().index.as_str()
    }

    /// Overwrites the copy, while the asker goes on. It is a cache: failing is logged. First sights are
    /// noted before it, because they must outlive it.
    async fn keep(&self, name: &CrateName, copied: Copied, rendered: &Rendered) {
        let Copied { bytes: body, validators, seen: place, now: checked, noted } = copied;
        let Validators { etag, last_modified } = validators;
        let from = self.upstream.config().index.to_string();
        let (sha256, facts) = (rendered.body, rendered.judging.facts());
        let (seen, changed) = ((*facts.first_seen).clone(), (*facts.changed).clone());
        let sights = noticed::to_note(&rendered.file, &seen);
        let sights_noted = noted || sights.is_empty();
        let head =
            KeptHead { etag, last_modified, checked, from, sha256, seen, sights_noted, changed };
        let mut kept = KeptIndex { head, body };
        let (upstream, name) = (self.upstream.name().to_owned(), name.clone());
        let (store, served) = (self.store.clone(), Arc::clone(&rendered.file));
        let lines = Arc::clone(&self.lines.store);
        let turn = self.write_behind.turn((&upstream, &name)).await;
        self.write_behind.follow(turn, async move {
            if !kept.head.sights_noted {
                match in_time(store.add_sights(&upstream, &name, &sights)).await {
                    Ok(()) => kept.head.sights_noted = true,
                    Err(e) => {
                        if let Some(suppressed) = lines.admit() {
                            tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                                "first sights could not be noted in the store");
                        }
                    }
                }
            }
            if let Err(e) = in_time(store.put_index(&upstream, &name, kept, place)).await
                && let Some(suppressed) = lines.admit()
            {
                tracing::warn!(upstream, krate = %name, error = %e.chain(), suppressed,
                    "a mirrored index file could not be kept in the store");
            }
            drop(served); // its bytes are counted until then
        });
    }

    /// Unpacks a body, whose checksum may be known, and renders it, unless it is that of a file that
    /// is rendered already.
    async fn render(
        &self,
        body: Body,
        sum: Option<Checksum>,
        name: &CrateName,
        known: Option<&Rendered>,
    ) -> Result<Result<(Bytes, Rendered), Unfit>> {
        let (own, name, known) = (Arc::clone(&self.own), name.clone(), known.cloned());
        let facts = self.facts(BTreeMap::new(), BTreeMap::new());
        let index = self.index.clone();
        let work = move || {
            let body = body.unpack()?;
            let sum = sum.unwrap_or_else(|| Checksum::of(&body));
            if let Some(known) = known.filter(|known| known.body == sum) {
                return Ok((body, known));
            }
            let read = mirrored::read(&body, &name, &own)?;
            let skipped = read.skipped.clone();
            let file = index.counted(read.render(&body, &sum));
            let judging = Arc::new(Judging::new(facts));
            Ok((body, Rendered { file, body: sum, judging, skipped }))
        };
        self.index.renderers.make(work).await
    }

    fn no_memory(&self, name: &CrateName) -> UpstreamError {
        let detail = format!("no memory for the copy of `{name}` while it is asked");
        UpstreamError::new(self.upstream.name(), UpstreamErrorKind::NoMemory, detail)
    }

    fn nonsense(&self, detail: impl Into<String>) -> UpstreamError {
        UpstreamError::new(self.upstream.name(), UpstreamErrorKind::Nonsense, detail)
    }
}

fn validators_of(head: &KeptHead) -> Validators {
    Validators { etag: head.etag.clone(), last_modified: head.last_modified.clone() }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::unavailable("the registry's object store does not answer in time");
    timeout(STORE_WAIT, work).await.map_err(late)?
}

#[cfg(test)]
mod overwriting;
#[cfg(test)]
mod tests;
