//! Memory for the request bodies of one kind, counted as bytes arrive.
//!
//! A body asks for room before it grows, and four levels must have it: the budget as a whole, the
//! share of its IPv6 site, that of its client, that of its token. What a body does not hold, nobody pays for; so what a
//! client promises (`Content-Length`) takes nothing.
//!
//! **No deadlock.** Bodies that are half there, each waiting for the others' memory, would wait for
//! ever. So each level keeps room for one body of the largest size, its *finisher*: the first that finds
//! the level otherwise full. It may always go on, and frees all of its room at its end. The finisher of
//! a level passes the levels behind it (whole, site, client, token), so that finishers never wait for each
//! other in a circle. A level of `size` bytes is never exceeded but by a finisher of a level before it.
//!
//! **Small bodies pass large ones.** An eighth of each level is kept for the first
//! [`SMALL_BYTES`] of bodies.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_journal::principal::TokenId;

/// Up to here a body is small, in bytes: most crate files and nearly all lock files.
pub const SMALL_BYTES: usize = 256 * 1024;
/// How long a body waits for room in all. Cargo gives up after 30 s without progress.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);
/// Bodies that wait for room at one time; of one client, its share of that.
const MAX_WAITING: usize = 2048;
/// Of a level, the part that is kept for small bodies: one in so many.
const KEPT_FOR_SMALL: usize = 8;

/// What a budget bounds.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// All bodies together, in bytes.
    pub whole: usize,
    /// One body, in bytes.
    pub largest: usize,
    /// Those of one client, and those of one token, in percent of the whole; `None`: all of it.
    pub share_percent: Option<usize>,
}

/// A budget; clones are the same one.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: &'static str,
    sizes: Sizes,
    ledger: Mutex<Ledger>,
    metrics: Metrics,
    held: IntGauge,
}

/// Who holds what. Clients and tokens stand here for as long as they have a body under way.
#[derive(Debug)]
struct Ledger {
    whole: Level,
    /// Sites, too.
    clients: HashMap<ClientKey, Level>,
    tokens: HashMap<TokenId, Level>,
    next: u64,
}

/// The budget, or somebody's share of it.
#[derive(Debug)]
struct Level {
    size: usize,
    largest: usize,
    most_waiting: usize,
    taken: usize,
    bodies: usize,
    waiting: usize,
    /// The body that may go on although the level is full.
    finisher: Option<u64>,
    /// Heard when something of it was freed.
    freed: Arc<Notify>,
}

/// Whose room a body takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Whose share.
    pub client: ClientKey,
    /// With which token.
    pub token: Option<TokenId>,
}

/// The room of one body, until it is dropped.
#[derive(Debug)]
pub struct BodyPermit {
    budget: Arc<Inner>,
    owner: Owner,
    id: u64,
    bytes: usize,
    /// For how long it may still wait.
    patience: Duration,
}

/// Which bound a body met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Whole,
    Site,
    Client,
    Token,
}

impl BodyBudget {
    /// A budget for bodies of this kind, which is its label in metrics.
    pub fn new(kind: &'static str, sizes: Sizes, metrics: &Metrics) -> Self {
        let sizes = Sizes { whole: sizes.whole.max(sizes.largest.saturating_mul(2)), ..sizes };
        let whole = i64::try_from(sizes.whole).unwrap_or(i64::MAX);
        metrics.body_memory_limit.with_label_values(&[kind]).set(whole);
        let ledger = Ledger {
            whole: Level::new(sizes.whole, sizes.largest, MAX_WAITING),
            clients: HashMap::new(),
            tokens: HashMap::new(),
            next: 0,
        };
        let held = metrics.body_memory.with_label_values(&[kind]);
        let (ledger, metrics) = (Mutex::new(ledger), metrics.clone());
        Self(Arc::new(Inner { kind, sizes, ledger, metrics, held }))
    }

    /// Room for a body that has not begun yet: none.
    pub fn reserve(&self, owner: Owner) -> BodyPermit {
        let (inner, mut ledger) = (&self.0, self.0.lock());
        ledger.next += 1;
        let id = ledger.next;
        ledger.whole.bodies += 1;
        let share = || inner.sizes.share_level();
        if let ClientKey::Network(_) = owner.client {
            ledger.clients.entry(owner.client).or_insert_with(share).bodies += 1;
            if let Some(site) = owner.client.of_site() {
                let half = || inner.sizes.site_level();
                ledger.clients.entry(site).or_insert_with(half).bodies += 1;
            }
        }
        if let Some(token) = owner.token {
            ledger.tokens.entry(token).or_insert_with(share).bodies += 1;
        }
        BodyPermit { budget: Arc::clone(inner), owner, id, bytes: 0, patience: ROOM_WAIT }
    }

    /// How many bytes all bodies hold.
    #[cfg(test)]
    fn taken(&self) -> usize {
        self.0.lock().whole.taken
    }
}

impl Sizes {
    /// What one client, or one token, may take: two of the largest bodies at the least.
    fn share_level(&self) -> Level {
        self.level_of(self.share_percent.unwrap_or(100).min(100))
    }

    /// What one IPv6 site may take: a half, if one client may not take more.
    fn site_level(&self) -> Level {
        self.level_of(self.share_percent.unwrap_or(100).clamp(50, 100))
    }

    fn level_of(&self, percent: usize) -> Level {
        let share = self.whole / 100 * percent + self.whole % 100 * percent / 100;
        let size = share.max(self.largest.saturating_mul(2)).min(self.whole);
        let waiting = (MAX_WAITING * percent / 100).max(1);
        Level::new(size, self.largest, waiting)
    }
}

impl Level {
    fn new(size: usize, largest: usize, most_waiting: usize) -> Self {
        let (taken, bodies, waiting, finisher) = (0, 0, 0, None);
        Self {
            size,
            largest,
            most_waiting,
            taken,
            bodies,
            waiting,
            finisher,
            freed: Arc::default(),
        }
    }

    /// Whether a body may grow by `more` to `grown` bytes; the first that may not becomes the
    /// finisher, and may.
    fn admits(&mut self, id: u64, more: usize, grown: usize) -> bool {
        let beside = self.size.saturating_sub(self.largest);
        let kept = if grown > SMALL_BYTES { beside / KEPT_FOR_SMALL } else { 0 };
        let fits = self.taken.saturating_add(more) <= beside - kept;
        if !fits && self.finisher.is_none() {
            self.finisher = Some(id);
        }
        fits || self.finisher == Some(id)
    }

    fn free(&mut self, id: u64, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
        self.bodies = self.bodies.saturating_sub(1);
        if self.finisher == Some(id) {
            self.finisher = None;
        }
        self.freed.notify_waiters();
    }
}

impl Ledger {
    fn levels(&mut self, owner: Owner) -> [(Bound, Option<&mut Level>); 4] {
        let (site, client) = match owner.client.of_site() {
            Some(site) => {
                let [site, client] = self.clients.get_disjoint_mut([&site, &owner.client]);
                (site, client)
            }
            None => (None, self.clients.get_mut(&owner.client)),
        };
        [
            (Bound::Whole, Some(&mut self.whole)),
            (Bound::Site, site),
            (Bound::Client, client),
            (Bound::Token, owner.token.and_then(|token| self.tokens.get_mut(&token))),
        ]
    }

    /// Takes the bytes where every level has them, or says which has not.
    fn take(&mut self, owner: Owner, id: u64, more: usize, grown: usize) -> Result<(), Bound> {
        for (bound, level) in self.levels(owner) {
            let Some(level) = level else { continue };
            if !level.admits(id, more, grown) {
                return Err(bound);
            }
            if level.finisher == Some(id) {
                break;
            }
        }
        for (_, level) in self.levels(owner) {
            if let Some(level) = level {
                level.taken += more;
            }
        }
        Ok(())
    }

    fn wait(&mut self, owner: Owner, at: Bound) -> Option<Arc<Notify>> {
        let full = |level: &Level| level.waiting >= level.most_waiting;
        if self.levels(owner).into_iter().filter_map(|(_, level)| level).any(|level| full(level)) {
            return None;
        }
        let mut freed = None;
        for (bound, level) in self.levels(owner) {
            let Some(level) = level else { continue };
            level.waiting += 1;
            if bound == at {
                freed = Some(Arc::clone(&level.freed));
            }
        }
        freed
    }

    fn wait_no_more(&mut self, owner: Owner) {
        for (_, level) in self.levels(owner) {
            if let Some(level) = level {
                level.waiting = level.waiting.saturating_sub(1);
            }
        }
    }

    fn free(&mut self, owner: Owner, id: u64, bytes: usize) {
        self.whole.free(id, bytes);
        for client in [owner.client.of_site(), Some(owner.client)].into_iter().flatten() {
            let Entry::Occupied(mut client) = self.clients.entry(client) else { continue };
            client.get_mut().free(id, bytes);
            if client.get().bodies == 0 {
                client.remove();
            }
        }
        let Some(token) = owner.token else { return };
        if let Entry::Occupied(mut token) = self.tokens.entry(token) {
            token.get_mut().free(id, bytes);
            if token.get().bodies == 0 {
                token.remove();
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, ledger: &Ledger) {
        self.held.set(i64::try_from(ledger.whole.taken).unwrap_or(i64::MAX));
    }

    fn refuse(&self, bound: Bound) -> Error {
        let (reason, message) = match bound {
            Bound::Whole => ("memory", "too many request bodies are under way: try again shortly"),
            Bound::Client | Bound::Site => (
                "address",
                "too many request bodies are under way from your address: try again shortly, or \
                 have an administrator exempt its network (`limits.exempt_networks`)",
            ),
            Bound::Token => (
                "token",
                "too many request bodies are under way with this token: try again shortly",
            ),
        };
        self.metrics.body_refusals.with_label_values(&[self.kind, reason]).inc();
        Error::unavailable(message)
    }
}

impl BodyPermit {
    /// Waits for `more` bytes, all its waits together at most [`ROOM_WAIT`]. Gives the time that it
    /// has waited.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Unavailable`], when others hold the memory.
    pub async fn grow(&mut self, more: usize) -> Result<Duration> {
        let begun = Instant::now();
        if let Err(bound) = self.take(more) {
            self.wait(more, bound).await?;
        }
        self.bytes = self.bytes.saturating_add(more);
        self.patience = self.patience.saturating_sub(begun.elapsed());
        Ok(begun.elapsed())
    }

    async fn wait(&self, more: usize, mut bound: Bound) -> Result<()> {
        let until = Instant::now() + deadline::at_most(self.patience);
        loop {
            let Some(freed) = self.budget.lock().wait(self.owner, bound) else {
                return Err(self.budget.refuse(bound));
            };
            let _waiting = Waiting(self);
            let heard = freed.notified();
            tokio::pin!(heard);
            heard.as_mut().enable(); // what is freed from here on is heard
            match self.take(more) {
                Ok(()) => return Ok(()),
                Err(other) if other != bound => {
                    bound = other;
                    continue;
                }
                Err(_) => {}
            }
            let late = timeout_at(until, heard).await.is_err();
            match self.take(more) {
                Ok(()) => return Ok(()),
                Err(bound) if late => return Err(self.budget.refuse(bound)),
                Err(other) => bound = other,
            }
        }
    }

    /// Counts a body that came too slowly.
    pub fn note_slow(&self) {
        self.budget.metrics.body_refusals.with_label_values(&[self.budget.kind, "slow"]).inc();
    }

    fn take(&self, more: usize) -> Result<(), Bound> {
        let mut ledger = self.budget.lock();
        ledger.take(self.owner, self.id, more, self.bytes.saturating_add(more))?;
        self.budget.show(&ledger);
        Ok(())
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        let mut ledger = self.budget.lock();
        ledger.free(self.owner, self.id, self.bytes);
        self.budget.show(&ledger);
    }
}

/// Counted as waiting until it is dropped, also by a client that leaves.
struct Waiting<'r>(&'r BodyPermit);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.budget.lock().wait_no_more(self.0.owner);
    }
}

#[cfg(test)]
mod tests;
