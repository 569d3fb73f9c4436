//! Index files in memory: what is known of every spelling of a name, at every place of the chain.
//! Names of which nothing but absence is known stand apart, under a bound of their own: they push out
//! no index file, and are gone when their time is over.

use cratehouse_core::error::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::time::{sleep, timeout};

use crate::index::judged::Judging;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::memory_tally::MemoryInUse;
use cratehouse_core::render_pool::RenderPool;
use cratehouse_core::single_flight::SingleFlight;
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::{CrateName, NameKey};

/// The most that is remembered of one name: its spellings times the places of the chain.
const MAX_SLOTS: usize = 32;
/// What a slot takes beside its file, in bytes.
const SLOT_BYTES: usize = 300;
/// What a slot without a file takes, the cache's own tables included, in bytes: measured as resident
/// memory with 200,000 of them, and rounded up.
const ABSENT_BYTES: usize = 900;
/// The share of the memory for index files that absent names have where nothing else is said.
const ABSENT_SHARE: u64 = 8;
/// What an index file takes beside that and what it says itself, in bytes: the cache's own tables,
/// what is known for the policy, and what malloc adds to many small pieces. As was measured: a file
/// of one version has 4.5 kB resident (`bench/`, growth).
const FILE_BYTES: usize = 1500;
/// Of what may be kept, the part that is not given up for what comes.
const STAYS: u64 = 4;
/// Memory is scarce when less than this part of it is free.
const SCARCE_BELOW: u64 = 8;
/// How often a wait for memory looks for something to give up.
const GIVE_UP_EVERY: Duration = Duration::from_millis(50);

/// Rendered index files in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IndexCache {
    /// All spellings of a name stand on one shelf, so that forgetting a name forgets them all.
    shelves: Cache<NameKey, Arc<Shelf>>,
    /// The shelves of names that no place is known to have.
    absent: Cache<NameKey, Arc<Shelf>>,
    /// Index files that are being made.
    pub single_flight: Arc<SingleFlight<LookupKey, CachedLookup>>,
    /// Who unpacks, reads and compresses them.
    pub(crate) renderers: RenderPool,
    /// The bodies of index files that anybody has.
    tally: Arc<MemoryInUse>,
}

/// What is made once for all who ask for it at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookupKey {
    /// As it is spelled in the index path.
    pub name: CrateName,
    /// Where the file comes from.
    pub place: Place,
    /// Hosted: the generation, so that nobody who asks after a change joins what was begun before.
    pub generation: Option<u64>,
    /// Mirrored: whether the upstream is asked even though the copy is fresh.
    pub force: bool,
}

/// Where an index file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The catalog.
    Hosted,
    /// An upstream, by its place in the chain.
    Upstream(usize),
}

/// What is known of one spelling at one place, and how it came to be known.
#[derive(Debug, Clone)]
pub struct CachedLookup {
    /// The file; that there is none; or what just prevented an answer.
    pub answer: Result<Option<Arc<IndexFile>>>,
    /// How it came to be known.
    pub outcome: Outcome,
    /// Until when it may be served from memory; `None`: until it is forgotten.
    pub until: Option<Instant>,
    /// SHA-256 of the upstream's body that the file was made from.
    pub body: Option<Checksum>,
    /// What the policy makes of the file.
    pub judging: Arc<Judging>,
    /// When a read of the journal began, to its end, that did not have the name; `None`: there was
    /// no need for one.
    pub read_from: Option<Instant>,
}

/// How a lookup was answered: the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From memory.
    Hit,
    /// From a fresh copy in the store.
    Store,
    /// Made anew: from the catalog, or from what an upstream sent.
    Miss,
    /// From a copy whose upstream did not answer.
    Stale,
    /// From a copy that the upstream says is current.
    Revalidated,
    /// There is no such crate.
    Negative,
    /// Not at all.
    Error,
}

impl Outcome {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Store => "store",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Negative => "negative",
            Self::Error => "error",
        }
    }
}

impl CachedLookup {
    /// There is no such crate, as far as this moment tells.
    pub fn absent(until: Option<Instant>) -> Self {
        let judging = Judging::of_nothing();
        let outcome = Outcome::Negative;
        Self { answer: Ok(None), outcome, until, body: None, judging, read_from: None }
    }

    /// No answer could be had; for `rest` nobody tries again.
    pub fn failed(error: Error, rest: Duration) -> Self {
        let until = Some(Instant::now() + rest);
        let judging = Judging::of_nothing();
        let outcome = Outcome::Error;
        Self { answer: Err(error), outcome, until, body: None, judging, read_from: None }
    }

    /// Whether this place definitely does not have the crate, so that the next one is asked.
    pub fn is_absent(&self) -> bool {
        matches!(self.answer, Ok(None))
    }

    /// Whether it may still be served from memory.
    pub fn is_current(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// The same from memory.
    fn recalled(&self) -> Self {
        let outcome = match self.outcome {
            Outcome::Store | Outcome::Miss | Outcome::Revalidated => Outcome::Hit,
            other => other,
        };
        Self { outcome, ..self.clone() }
    }
}

/// A body that an upstream sends: it counts until this is dropped, when what was made of it counts.
#[derive(Debug)]
pub struct Arriving {
    index: IndexCache,
    bytes: u64,
    /// What was given up for it counts as free: its memory comes back a moment later, or when its
    /// last answer is sent.
    given_up: u64,
}

impl Arriving {
    /// Counts so many more bytes, and gives up files that are kept for them; says whether there is
    /// room for them all.
    pub fn takes(&mut self, bytes: u64) -> bool {
        let tally = &self.index.tally;
        tally.add(bytes);
        self.bytes += bytes;
        let missing = tally.excess().saturating_sub(self.given_up);
        if missing > 0 {
            self.given_up += self.index.give_up(missing);
        }
        tally.excess() <= self.given_up
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.index.tally.sub(self.bytes);
    }
}

/// What is known of a name, and of which place.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What is known.
    pub known: CachedLookup,
    /// Of which place.
    pub from: Place,
}

impl Answered {
    /// No place has it.
    pub fn nowhere(known: CachedLookup) -> Self {
        Self { known, from: Place::Hosted }
    }
}

/// What is known of all spellings of one name.
#[derive(Debug, Default)]
struct Shelf {
    /// The journal entry that last touched the name when this was made; `None`: not hosted.
    generation: Option<u64>,
    slots: Vec<Slot>,
    /// Whether the generation was still that of the catalog after the shelf stood in memory: only
    /// then are lookups answered from it, see [`IndexCache::put`].
    checked: AtomicBool,
}

#[derive(Debug, Clone)]
struct Slot {
    name: CrateName,
    place: Place,
    known: CachedLookup,
}

impl Shelf {
    /// The former shelf with one slot replaced; nothing of it when its generation is another.
    fn with(former: Option<&Self>, generation: Option<u64>, slot: Slot) -> Self {
        let other = |s: &&Slot| !(s.place == slot.place && s.name == slot.name);
        let current = former.filter(|shelf| shelf.generation == generation);
        let mut slots: Vec<Slot> =
            current.iter().flat_map(|shelf| shelf.slots.iter().filter(other)).cloned().collect();
        slots.drain(..(slots.len() + 1).saturating_sub(MAX_SLOTS));
        slots.reserve_exact(1); // most names have one spelling and one place
        slots.push(slot);
        Self { generation, slots, checked: AtomicBool::new(false) }
    }

    fn at(&self, name: &CrateName, place: Place) -> Option<&CachedLookup> {
        let slot = self.slots.iter().find(|slot| slot.place == place && slot.name == *name);
        slot.map(|slot| &slot.known)
    }

    /// The answer that a whole lookup would give now, if it is known, and whose it is: a hosted
    /// crate's, else that of the first upstream which does not say that there is none.
    fn answer(&self, name: &CrateName, chain: usize, now: Instant) -> Option<Answered> {
        if self.generation.is_some() {
            let known = self.current(name, Place::Hosted, now)?.recalled();
            return Some(Answered { known, from: Place::Hosted });
        }
        Some(match self.first_upstream(name, chain, now)? {
            Some((at, known)) => Answered { known: known.recalled(), from: Place::Upstream(at) },
            None => Answered::nowhere(CachedLookup::absent(None)),
        })
    }

    /// The first upstream that does not say that there is no such crate, if there is one; `None`
    /// when that is not known now.
    fn first_upstream(
        &self,
        name: &CrateName,
        chain: usize,
        now: Instant,
    ) -> Option<Option<(usize, &CachedLookup)>> {
        for at in 0..chain {
            let known = self.current(name, Place::Upstream(at), now)?;
            if !known.is_absent() {
                return Some(Some((at, known)));
            }
        }
        Some(None)
    }

    fn current(&self, name: &CrateName, place: Place, now: Instant) -> Option<&CachedLookup> {
        self.at(name, place).filter(|known| known.is_current(now))
    }

    fn weight(&self) -> u32 {
        let slot = |slot: &Slot| match &slot.known.answer {
            Ok(Some(file)) => {
                SLOT_BYTES + FILE_BYTES + file.weight() + slot.known.judging.weight(file)
            }
            _ => ABSENT_BYTES,
        };
        let bytes: usize = self.slots.iter().map(slot).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// When nothing that stands here is current any more; `None`: never, by itself.
    fn ends(&self) -> Option<Instant> {
        let untils: Option<Vec<Instant>> = self.slots.iter().map(|slot| slot.known.until).collect();
        untils?.into_iter().max()
    }
}

/// Shelves without a file are dropped when nothing on them is current.
struct WhileCurrent;

impl Expiry<NameKey, Arc<Shelf>> for WhileCurrent {
    fn expire_after_create(
        &self,
        _: &NameKey,
        shelf: &Arc<Shelf>,
        at: Instant,
    ) -> Option<Duration> {
        shelf.ends().map(|end| end.saturating_duration_since(at))
    }

    fn expire_after_update(
        &self,
        _: &NameKey,
        shelf: &Arc<Shelf>,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        shelf.ends().map(|end| end.saturating_duration_since(at))
    }
}

impl IndexCache {
    /// `capacity` bytes for index files that are kept, an eighth of that for absent names, and `more`
    /// for answers under way with files that are not kept.
    pub fn new(capacity: u64, more: u64) -> Self {
        Self::bounded(capacity, capacity / ABSENT_SHARE, more)
    }

    /// `capacity` bytes for index files that are kept, `absent` for names that nobody has, and `more`
    /// for answers under way with files that are not kept.
    pub fn bounded(capacity: u64, absent: u64, more: u64) -> Self {
        let weigh = |_: &NameKey, shelf: &Arc<Shelf>| shelf.weight();
        let shelves = Cache::builder().max_capacity(capacity).weigher(weigh).build();
        let absent = Cache::builder().max_capacity(absent).weigher(weigh);
        let absent = absent.expire_after(WhileCurrent).build();
        let tally = Arc::new(MemoryInUse::new(capacity.saturating_add(more)));
        Self {
            shelves,
            absent,
            single_flight: Arc::default(),
            renderers: RenderPool::default(),
            tally,
        }
    }

    /// The same, where so many files are made at one time. For the one that lookups ask.
    pub fn with_flights(self, bound: FairShares) -> Self {
        Self { single_flight: Arc::new(SingleFlight::bounded(bound)), ..self }
    }

    /// The memory that the bodies of index files take now, in bytes.
    pub fn taken(&self) -> u64 {
        self.tally.taken()
    }

    /// What they may take, in bytes, before no more are made; they may go beyond it by what is made
    /// at the same time.
    pub fn limit(&self) -> u64 {
        self.tally.total()
    }

    /// Whether what is being sent takes so much that little is left for others.
    pub fn is_scarce(&self) -> bool {
        self.taken() > self.limit() - self.limit() / SCARCE_BELOW
    }

    /// How many names that nobody has are remembered, and the memory that they take, in bytes.
    pub fn absent(&self) -> (u64, u64) {
        self.absent.run_pending_tasks();
        (self.absent.entry_count(), self.absent.weighted_size())
    }

    /// A file whose bodies count until nobody has them: a hit costs nothing for it.
    pub fn counted(&self, mut file: IndexFile) -> Arc<IndexFile> {
        for body in std::iter::once(&mut file.identity).chain(&mut file.gzip) {
            body.bytes = self.tally.count(std::mem::take(&mut body.bytes));
        }
        Arc::new(file)
    }

    /// What an upstream is about to send.
    pub fn arriving(&self) -> Arriving {
        Arriving { index: self.clone(), bytes: 0, given_up: 0 }
    }

    /// Waits until one more file may be made, while others are given up for it.
    ///
    /// # Errors
    /// Unavailable, when answers under way leave no memory for so long.
    pub async fn admit(&self, wait: Duration) -> Result<()> {
        if self.tally.excess() == 0 {
            return Ok(());
        }
        let easing = async {
            while self.tally.excess() > 0 {
                self.give_up(self.tally.excess());
                if self.tally.excess() > 0 {
                    sleep(GIVE_UP_EVERY).await;
                }
            }
        };
        timeout(wait, easing).await.map_err(|_| {
            Error::unavailable(
                "the registry is sending more index files than its memory is configured for; try \
                 again in a few seconds",
            )
        })
    }

    /// Gives up shelves of about so many bytes, in no order, and says of how many. What is being sent
    /// frees its memory later. A part of all stays, and goes on being served while answers that nobody
    /// reads take all memory.
    fn give_up(&self, missing: u64) -> u64 {
        self.shelves.run_pending_tasks();
        let stays = self.shelves.policy().max_capacity().unwrap_or_default() / STAYS;
        let missing = missing.min(self.shelves.weighted_size().saturating_sub(stays));
        let (mut victims, mut given_up) = (Vec::new(), 0);
        for (key, shelf) in &self.shelves {
            if given_up >= missing {
                break;
            }
            given_up += u64::from(shelf.weight());
            victims.push(key);
        }
        for key in victims {
            self.shelves.invalidate(&*key);
        }
        // Until then the cache itself holds what it no longer has.
        self.shelves.run_pending_tasks();
        given_up
    }

    /// Drops whatever is cached for any spelling of a name: called after a journal entry that
    /// touches it was applied to the catalog, and by administrators. See [`IndexCache::put`].
    pub fn forget(&self, key: &NameKey) {
        self.shelves.invalidate(key);
        self.absent.invalidate(key);
    }

    fn shelf(&self, key: &NameKey) -> Option<Arc<Shelf>> {
        self.shelves.get(key).or_else(|| self.absent.get(key))
    }

    /// The answer to a lookup through a chain of upstreams of this length, if it is in memory.
    pub fn answer(&self, key: &NameKey, name: &CrateName, chain: usize) -> Option<Answered> {
        self.checked(key)?.answer(name, chain, Instant::now())
    }

    /// What is known of a mirrored crate, with its file, and the upstream in the chain that it is
    /// from, if a lookup would be answered with it from memory.
    pub fn mirrored(
        &self,
        key: &NameKey,
        name: &CrateName,
        chain: usize,
    ) -> Option<(usize, CachedLookup)> {
        let shelf = self.checked(key).filter(|shelf| shelf.generation.is_none())?;
        let (at, known) = shelf.first_upstream(name, chain, Instant::now())??;
        matches!(known.answer, Ok(Some(_))).then(|| (at, known.clone()))
    }

    /// What is known of a crate, with its file, and the upstream in the chain that it is from
    /// (`None`: it is hosted), if a lookup would be answered with it from memory.
    pub fn found(
        &self,
        key: &NameKey,
        name: &CrateName,
        chain: usize,
    ) -> Option<(Option<usize>, CachedLookup)> {
        let (shelf, now) = (self.checked(key)?, Instant::now());
        let (at, known) = match shelf.generation {
            Some(_) => (None, shelf.current(name, Place::Hosted, now)?),
            None => shelf.first_upstream(name, chain, now)?.map(|(at, it)| (Some(at), it))?,
        };
        matches!(known.answer, Ok(Some(_))).then(|| (at, known.clone()))
    }

    fn checked(&self, key: &NameKey) -> Option<Arc<Shelf>> {
        self.shelf(key).filter(|shelf| shelf.checked.load(Ordering::Acquire))
    }

    /// What stands on a shelf has become lighter or heavier.
    pub fn weigh_again(&self, key: &NameKey) {
        let same = |shelf: Option<moka::Entry<NameKey, Arc<Shelf>>>| {
            shelf.map_or(Op::Nop, |shelf| Op::Put(shelf.into_value()))
        };
        self.shelves.entry_by_ref(key).and_compute_with(same);
    }

    /// What is known of one spelling at one place, if it is in memory and current.
    pub fn recall(&self, key: &NameKey, name: &CrateName, place: Place) -> Option<CachedLookup> {
        let shelf = self.shelf(key)?;
        shelf.current(name, place, Instant::now()).map(CachedLookup::recalled)
    }

    /// The same, however old it is.
    pub fn remember(&self, key: &NameKey, name: &CrateName, place: Place) -> Option<CachedLookup> {
        self.shelf(key)?.at(name, place).cloned()
    }

    /// Takes note of what is known of a name in the state `generation`; `generation_now` reads the
    /// catalog.
    ///
    /// A change is applied to the catalog and then forgotten here, while this stands in memory
    /// first and reads the catalog then, and lookups see it only after that. So nothing outdated
    /// is ever seen, whichever comes first.
    pub fn put(
        &self,
        key: &NameKey,
        generation: Option<u64>,
        (name, place): (&CrateName, Place),
        known: CachedLookup,
        generation_now: impl FnOnce() -> Result<Option<u64>>,
    ) {
        let is_absent = generation.is_none()
            && !matches!(known.answer, Ok(Some(_)))
            && !self.shelves.contains_key(key);
        let slot = Slot { name: name.clone(), place, known };
        let shelves = if is_absent { &self.absent } else { &self.shelves };
        let added = shelves.entry_by_ref(key).and_upsert_with(|former| {
            let former = former.map(|entry| entry.into_value());
            // What was absent until now is known of other spellings and places, too.
            let former = match former {
                None if !is_absent => self.absent.get(key),
                former => former,
            };
            Arc::new(Shelf::with(former.as_deref(), generation, slot))
        });
        if !is_absent {
            self.absent.invalidate(key);
        }
        let shelf = added.into_value();
        match generation_now() {
            Ok(now) if now == generation => shelf.checked.store(true, Ordering::Release),
            _ => self.forget(key),
        }
    }
}

/// The result of a lookup that others may share; one that crashed is our own fault.
pub fn landed(result: Option<CachedLookup>) -> CachedLookup {
    let crashed = || {
        let message = "something went wrong inside the registry while it made an index file";
        CachedLookup::failed(Error::new(Kind::Internal, message), Duration::ZERO)
    };
    result.unwrap_or_else(crashed)
}

#[cfg(test)]
mod tests;
