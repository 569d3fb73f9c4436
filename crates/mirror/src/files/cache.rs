//! Crate files in memory: those that are kept, those on their way there, and those that are still
//! being sent after they were given up. All of them hold their share of one budget for as long as
//! anybody has their bytes, so that memory stays bounded whatever the number of clients.

use crate::files::crate_file::STREAM_BYTES;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::files::crate_file::{Content, FIRST_PERMIT_BYTES, Got, Source};
use crate::settings::CrateMemory;
use crate::upstream::is_crowded;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::memory_budget::{MemoryBudget, MemoryPermit, bytes_holding};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::single_flight::SingleFlight;
use cratehouse_storage::blobs::Origin;

/// A crate file is kept in memory when it takes at most this part of it.
const LARGEST_SHARE: u64 = 8;
/// What each cached crate file takes beside its bytes.
const ENTRY_BYTES: u64 = 200;
/// Room is scarce when less than this part of it is free.
const SCARCE_BELOW: u64 = 8;
/// How often a wait for room looks for something to give up.
const GIVE_UP_EVERY: Duration = Duration::from_millis(50);
/// Checksums that are remembered for a mark that they got; a forgotten one costs a request.
const REMEMBERED: u64 = 10_000;

/// Large files that are read again for their licence, after their download was answered, at one
/// time; one more is read at its next download.
const LARGE_ASIDE: usize = 1;

/// See the module.
#[derive(Debug)]
pub struct CrateCache {
    memory: Memory,
    single_flight: SingleFlight<(Origin, Checksum), Result<Got>>,
    /// Whole copies of what is otherwise only streamed, for what must read them whole.
    pub(crate) wholes: SingleFlight<Checksum, Result<Bytes>>,
    pub(crate) large_aside: Arc<Semaphore>,
    /// Mirrored files that turned out to be damaged while they were sent: filled again.
    pub(crate) damaged: Cache<Checksum, ()>,
    /// Mirrored files that are known to be too large for memory.
    pub(crate) large: Cache<Checksum, ()>,
    /// Where the store is asked and bytes are hashed: see [`SingleFlight`].
    pub(crate) runtime: Handle,
}

impl CrateCache {
    /// Nothing in memory yet.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn of(limits: &CrateMemory, metrics: Metrics) -> Self {
        let memory = Memory::new(limits.kept_bytes, limits.more_bytes, limits.wait, metrics);
        // No more than there is memory for at first; so a client's share of them is its share of that.
        let most = (memory.budget.total() / FIRST_PERMIT_BYTES).clamp(1, limits.requests as u64);
        let most = usize::try_from(most).unwrap_or(limits.requests);
        let turns = || FairShares::new(most, &limits.per_address);
        let wholes = SingleFlight::bounded(turns());
        Self { wholes, ..Self::new(memory, SingleFlight::bounded(turns())) }
    }

    fn new(memory: Memory, single_flight: SingleFlight<(Origin, Checksum), Result<Got>>) -> Self {
        Self {
            memory,
            single_flight,
            wholes: SingleFlight::default(),
            large_aside: Arc::new(Semaphore::new(LARGE_ASIDE)),
            damaged: Cache::new(REMEMBERED),
            large: Cache::new(REMEMBERED),
            runtime: Handle::current(),
        }
    }

    /// Drops a crate file from memory, whatever its origin.
    pub fn forget(&self, cksum: &Checksum) {
        self.memory.files.invalidate(cksum);
    }

    /// The bytes of a crate file that is kept in memory.
    pub fn at_hand(&self, cksum: &Checksum) -> Option<Bytes> {
        self.memory.files.get(cksum)
    }

    /// The memory that crate files take now, in bytes.
    pub fn taken(&self) -> u64 {
        self.memory.budget.taken()
    }

    /// What they may take at the most, in bytes.
    pub fn limit(&self) -> u64 {
        self.memory.budget.total()
    }

    /// Whether what is being sent takes so much that little is left for others: files that are only
    /// kept are given up before.
    pub fn is_scarce(&self) -> bool {
        let budget = &self.memory.budget;
        budget.free() < budget.total() / SCARCE_BELOW
    }

    /// Room for `bytes`, for which others are given up, or waited for.
    ///
    /// # Errors
    /// Unavailable, when there is none in time.
    pub async fn reserve(&self, bytes: u64) -> Result<MemoryPermit> {
        self.memory.reserve(bytes).await
    }

    /// The same, if others need only be given up for it.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<MemoryPermit> {
        self.memory.try_reserve(bytes)
    }

    /// Whether a file of so many bytes is brought into memory as a whole.
    pub(crate) fn takes_whole(&self, bytes: u64) -> bool {
        bytes <= self.memory.largest.max(STREAM_BYTES)
    }

    /// Verified bytes that hold their room, found again for as long as anybody has them.
    pub(crate) fn share(&self, cksum: Checksum, bytes: Bytes, mut permit: MemoryPermit) -> Bytes {
        permit.fit(bytes.len() as u64);
        self.memory.shares.add(cksum, bytes, permit)
    }

    /// A crate file from memory, else what `load` brings within `bound`: one `load` for all who
    /// ask at the same time, which goes on when they leave. A request that another client's load leaves
    /// without an answer, because that client's places were taken, loads by itself.
    ///
    /// # Errors
    /// Those of `load`; that it takes too long; unavailable, when too many are under way, in all or for
    /// this client.
    pub(crate) async fn obtain<F, W>(
        &self,
        client: ClientKey,
        key: (Origin, Checksum),
        bound: Duration,
        load: F,
    ) -> Result<Got>
    where
        F: Fn() -> W,
        W: Future<Output = Result<Got>> + Send + 'static,
    {
        if let Some(got) = self.memory.get(&key.1) {
            return Ok(got);
        }
        match self.load_once(client, key, bound, &load).await {
            (Err(error), Beginner::Another) if is_crowded(&error) => {
                self.load_once(client, key, bound, &load).await.0
            }
            (answer, _) => answer,
        }
    }

    async fn load_once<F, W>(
        &self,
        client: ClientKey,
        key: (Origin, Checksum),
        bound: Duration,
        load: &F,
    ) -> (Result<Got>, Beginner)
    where
        F: Fn() -> W,
        W: Future<Output = Result<Got>> + Send + 'static,
    {
        let (memory, cksum) = (self.memory.clone(), key.1);
        let mut beginner = Beginner::Another;
        let start = || {
            beginner = Beginner::This;
            let loading = load();
            async move {
                // Another request may have brought it since we looked, and what was given up may
                // still be on its way to a client.
                if let Some(got) = memory.find(&cksum) {
                    return Ok(got);
                }
                let got = timeout(bound, loading).await.unwrap_or_else(|_| Err(too_slow(bound)))?;
                memory.keep(&got);
                Ok(got)
            }
        };
        match self.single_flight.join_for(client, key, start).await {
            Ok(loaded) => (loaded.unwrap_or_else(|| Err(broke_off())), beginner),
            Err(crowded) => {
                self.memory.metrics.requests_refused.inc();
                (Err(crowded), Beginner::This)
            }
        }
    }
}

/// Which request began what was waited for.
enum Beginner {
    This,
    Another,
}

fn too_slow(bound: Duration) -> Error {
    let seconds = bound.as_secs();
    Error::new(
        Kind::UpstreamTimeout,
        format!("the crate file did not arrive within {seconds} s; try again"),
    )
    .retry_after(Duration::from_secs(5))
}

/// A load that crashed.
pub(crate) fn broke_off() -> Error {
    Error::new(Kind::Internal, "fetching the crate file broke off; the registry's log knows more")
}

/// The cache itself, which its single flight shares.
#[derive(Debug, Clone)]
struct Memory {
    files: Cache<Checksum, Bytes>,
    largest: u64,
    budget: MemoryBudget,
    shares: Arc<LiveFiles>,
    wait: Duration,
    metrics: Metrics,
    no_memory: Arc<LineLimit>,
}

impl Memory {
    fn new(capacity: u64, more: u64, wait: Duration, metrics: Metrics) -> Self {
        let weigh = |_: &Checksum, bytes: &Bytes| {
            let weight = MemoryBudget::weight(bytes.len() as u64) + ENTRY_BYTES;
            u32::try_from(weight).unwrap_or(u32::MAX)
        };
        let files = Cache::builder().max_capacity(capacity).weigher(weigh).build();
        let budget = MemoryBudget::new(capacity.saturating_add(more));
        let shares = Arc::default();
        let no_memory = Arc::new(LineLimit::new("no_crate_memory", &metrics));
        Self { files, largest: capacity / LARGEST_SHARE, budget, shares, wait, metrics, no_memory }
    }

    fn get(&self, cksum: &Checksum) -> Option<Got> {
        self.files.get(cksum).map(|bytes| in_memory(*cksum, bytes))
    }

    fn find(&self, cksum: &Checksum) -> Option<Got> {
        if let Some(got) = self.get(cksum) {
            return Some(got);
        }
        let got = in_memory(*cksum, self.shares.find(cksum)?);
        self.keep(&got);
        Some(got)
    }

    fn keep(&self, got: &Got) {
        match &got.content {
            Content::Whole(bytes) if bytes.len() as u64 <= self.largest => {
                self.files.insert(got.cksum, bytes.clone());
            }
            _ => {}
        }
    }

    async fn reserve(&self, bytes: u64) -> Result<MemoryPermit> {
        if let Some(permit) = self.budget.try_reserve(bytes) {
            return Ok(permit);
        }
        let waiting = async {
            let mut reserving = pin!(self.budget.reserve(bytes));
            loop {
                // In the queue first, so that what is given up comes to the first in the queue.
                if let Some(permit) = reserving.as_mut().now_or_never() {
                    return permit;
                }
                self.give_up(bytes);
                if let Ok(permit) = timeout(GIVE_UP_EVERY, reserving.as_mut()).await {
                    return permit;
                }
            }
        };
        timeout(self.wait, waiting).await.map_err(|_| self.no_room(bytes))
    }

    fn try_reserve(&self, bytes: u64) -> Option<MemoryPermit> {
        if let Some(permit) = self.budget.try_reserve(bytes) {
            return Some(permit);
        }
        self.give_up(bytes);
        self.budget.try_reserve(bytes)
    }

    /// Gives up files that take about as much as is missing, in no order: the cache's own knows
    /// only its own bound. One that is being sent frees its room later, and is found again among
    /// the shares until then.
    fn give_up(&self, bytes: u64) {
        let mut missing = bytes.saturating_sub(self.budget.free());
        let mut victims = Vec::new();
        for (cksum, file) in &self.files {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(MemoryBudget::weight(file.len() as u64));
            victims.push(cksum);
        }
        for cksum in victims {
            self.files.invalidate(&*cksum);
        }
        // Until then the cache itself holds what it no longer has.
        self.files.run_pending_tasks();
    }

    fn no_room(&self, bytes: u64) -> Error {
        self.metrics.crate_memory_refusals.inc();
        let (taken, waited) = (self.budget.taken(), self.wait.as_secs());
        if let Some(suppressed) = self.no_memory.admit() {
            tracing::warn!(bytes, taken, waited, suppressed, "no room in memory for a crate file");
        }
        Error::unavailable(
            "the registry is sending more crate files than its memory is configured for; try \
             again in a few seconds",
        )
    }
}

fn in_memory(cksum: Checksum, bytes: Bytes) -> Got {
    Got { content: Content::Whole(bytes), cksum, source: Source::Memory }
}

/// Every whole file that anybody has: no file is brought into memory a second time while its first
/// copy is still being sent.
#[derive(Debug, Default)]
struct LiveFiles(Mutex<HashMap<Checksum, Weak<Share>>>);

/// The bytes of one file, and the room that they take.
#[derive(Debug)]
struct Share {
    bytes: Bytes,
    cksum: Checksum,
    among: Arc<LiveFiles>,
    _permit: MemoryPermit,
}

impl LiveFiles {
    fn all(&self) -> MutexGuard<'_, HashMap<Checksum, Weak<Share>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, cksum: Checksum, bytes: Bytes, permit: MemoryPermit) -> Bytes {
        let share = Arc::new(Share { bytes, cksum, among: Arc::clone(self), _permit: permit });
        self.all().insert(cksum, Arc::downgrade(&share));
        share.into_bytes()
    }

    fn find(&self, cksum: &Checksum) -> Option<Bytes> {
        let share = self.all().get(cksum)?.upgrade();
        share.map(Share::into_bytes)
    }
}

impl Share {
    fn into_bytes(self: Arc<Self>) -> Bytes {
        bytes_holding(self.bytes.clone(), self)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.among.all();
        // A later copy may stand there already.
        if all.get(&self.cksum).is_some_and(|share| share.strong_count() == 0) {
            all.remove(&self.cksum);
        }
    }
}

#[cfg(test)]
mod tests;
