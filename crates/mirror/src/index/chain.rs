//! The chain of upstreams: what it has of a crate.

mod held;
mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::memory::{admit, remembered_file, unbegun};
use crate::hosting::HostedNames;
use crate::index::cache::{CachedLookup, IndexCache, LookupKey, Outcome, Place, landed};
use crate::index::credit::{Credit, Credits};
use crate::index::read_through::{Begun, ReadThrough, Rendered};
use crate::index::taken;
use crate::log_lines::MirrorLines;
use crate::names::known::MirroredNames;
use crate::pins::pinner::Pinner;
use crate::store::MirrorStore;
use crate::upstream::{Turn, Upstream, is_crowded};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::write_behind::WriteBehind;
use cratehouse_package::index::IndexFile;
use cratehouse_package::mirrored::OwnRegistries;
use cratehouse_package::name::{CrateName, NameKey};

/// For how long a file is served as it was when there was no memory to make it anew.
const NO_MEMORY_REST: Duration = Duration::from_secs(2);

/// The upstreams in their order, and all that asking them for index files takes.
#[derive(Debug)]
pub struct Chain {
    /// The upstreams.
    pub upstreams: Arc<[Arc<Upstream>]>,
    /// Index files in memory.
    pub index: IndexCache,
    /// Index files in the store.
    pub store: MirrorStore,
    /// What clients may ask for in vain.
    pub credits: Credits,
    /// The names that search finds.
    pub names: Arc<MirroredNames>,
    pub(crate) write_behind: Arc<WriteBehind>,
    pub(crate) pinner: Arc<Pinner>,
    pub(crate) hosted: Arc<dyn HostedNames>,
    /// By upstream: the index URLs that become null in its lines.
    pub(crate) own: Vec<Arc<OwnRegistries>>,
    /// How long a new file waits for memory.
    pub(crate) memory_wait: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) lines: Arc<MirrorLines>,
}

/// Who has a crate looked up, and how.
#[derive(Debug, Clone)]
struct Asked {
    client: ClientKey,
    /// What the client pays with if no upstream has the crate; `None`: something is held of it.
    credit: Option<Arc<Credit>>,
    /// Whether upstreams are asked even though the copy is fresh.
    force: bool,
}

/// Which client began what was waited for.
enum Beginner {
    This,
    Another,
}

impl Chain {
    /// How many upstreams there are.
    pub fn len(&self) -> usize {
        self.upstreams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    /// Whether a name is hosted or reserved here, so that it is asked of no upstream.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_ours(&self, key: &NameKey) -> Result<bool> {
        Ok(self.hosted.generation(key)?.is_some() || self.hosted.is_reserved(key))
    }

    /// What is known of a mirrored crate, and the upstream in the chain that it is from, if memory
    /// knows both: a hit needs neither the journal nor the store.
    pub fn in_memory(&self, name: &CrateName) -> Option<(usize, CachedLookup)> {
        self.index.mirrored(&name.key(), &lowered(name), self.len())
    }

    /// The index file of a crate at one upstream of the chain, by the rules of every lookup; `None`
    /// when that upstream definitely does not have it, and for every name that is hosted or reserved.
    ///
    /// # Errors
    /// When the upstream did not answer and nothing is known from before.
    pub async fn mirrored_at(
        self: &Arc<Self>,
        client: ClientKey,
        name: &CrateName,
        at: usize,
    ) -> Result<Option<Arc<IndexFile>>> {
        if self.is_ours(&name.key())? {
            return Ok(None);
        }
        let asked = Asked { client, credit: None, force: false };
        self.at_upstream(&lowered(name), at, &asked).await.answer
    }

    /// Which upstream has a crate of any spelling of this name: `Some((upstream, spelling))`, `None`
    /// when every upstream definitely answered not-found for every spelling. Always asks.
    ///
    /// # Errors
    /// Unavailable when one did not answer and none has it; invalid when there are too many
    /// spellings to ask for.
    pub async fn taken(&self, name: &CrateName) -> Result<Option<(String, CrateName)>> {
        taken::taken(&self.index.renderers, &self.upstreams, name).await
    }

    /// Asks the first upstreams of the chain, so many, for a crate, and says which one answered; their
    /// number when none has it. Only a definite not-found passes it on to the next upstream. A name
    /// that none has is charged to the client, and waits in the client's own queue when it has no
    /// credit left.
    pub async fn find(
        self: &Arc<Self>,
        client: ClientKey,
        name: &CrateName,
        chain: usize,
    ) -> (CachedLookup, usize) {
        if chain == 0 {
            return (CachedLookup::absent(None), 0);
        }
        let remembered = self.index.answer(&name.key(), name, chain).map(|answer| answer.known);
        if let Some(absent) = remembered.filter(CachedLookup::is_absent) {
            return (absent, chain); // it was charged, if at all, when it was asked for
        }
        let credit = match self.credit(client, name).await {
            Ok(credit) => credit.map(Arc::new),
            Err(error) => return (CachedLookup::failed(error, Duration::ZERO), 0),
        };
        let asked = Asked { client, credit, force: false };
        let (known, at) = self.walk(name, chain, &asked).await;
        asked.settle(self, name, &known);
        (known, at)
    }

    /// Asks all upstreams, though copies are fresh.
    pub(crate) async fn ask_anew(self: &Arc<Self>, name: &CrateName) -> (CachedLookup, usize) {
        let asked = Asked { client: ClientKey::OWN, credit: None, force: true };
        self.walk(&lowered(name), self.len(), &asked).await
    }

    /// What the client pays with; `None`: nothing, because something is held of the crate.
    async fn credit(&self, client: ClientKey, name: &CrateName) -> Result<Option<Credit>> {
        if self.is_remembered(name) {
            return Ok(None);
        }
        match self.credits.at_once(client) {
            Some(credit) => Ok(Some(credit)),
            None if self.is_kept(name).await => Ok(None),
            None => self.credits.wait(client).await.map(Some),
        }
    }

    async fn walk(
        self: &Arc<Self>,
        name: &CrateName,
        chain: usize,
        asked: &Asked,
    ) -> (CachedLookup, usize) {
        let mut read_from = None;
        for at in 0..chain {
            let known = self.at_upstream(name, at, asked).await;
            if !known.is_absent() {
                return (known, at);
            }
            read_from = read_from.max(known.read_from);
        }
        (CachedLookup { read_from, ..CachedLookup::absent(None) }, chain)
    }

    async fn at_upstream(
        self: &Arc<Self>,
        name: &CrateName,
        at: usize,
        asked: &Asked,
    ) -> CachedLookup {
        let recalled = self.index.recall(&name.key(), name, Place::Upstream(at));
        if let Some(known) = recalled.filter(|_| !asked.force) {
            return known;
        }
        match self.ask_once(name, at, asked).await {
            // It waited among those of the client that began it, where this one may have places left.
            (CachedLookup { answer: Err(error), .. }, Beginner::Another) if is_crowded(&error) => {
                self.ask_once(name, at, asked).await.0
            }
            (known, _) => known,
        }
    }

    /// Asks an upstream, or waits for the answer to the same question of another client.
    async fn ask_once(
        self: &Arc<Self>,
        name: &CrateName,
        at: usize,
        asked: &Asked,
    ) -> (CachedLookup, Beginner) {
        let place = Place::Upstream(at);
        let key = LookupKey { name: name.clone(), place, generation: None, force: asked.force };
        let (owned, krate, asked) = (Arc::clone(self), name.clone(), asked.clone());
        let (client, mut beginner) = (asked.client, Beginner::Another);
        // It may outlive the request: then this settles what the name costs.
        let work = || {
            beginner = Beginner::This;
            async move {
                let known = owned.ask(&krate, at, &asked).await;
                asked.settle(&owned, &krate, &known);
                known
            }
        };
        match self.index.single_flight.join_for(client, key, work).await {
            Ok(result) => (landed(result), beginner),
            Err(crowded) => (unbegun(self, name, place, crowded), Beginner::This),
        }
    }

    /// Reads one upstream through the store, and takes note of what came of it.
    async fn ask(&self, name: &CrateName, at: usize, asked: &Asked) -> CachedLookup {
        let (Some(upstream), Some(own)) = (self.upstreams.get(at), self.own.get(at)) else {
            return CachedLookup::absent(None);
        };
        let (key, place) = (name.key(), Place::Upstream(at));
        let corrections = self.pinner.corrections.count();
        let former = self.index.remember(&key, name, place);
        if let Err(error) = admit(self, former.as_ref()).await {
            let Some(stale) = remembered_file(self, name, place) else {
                return CachedLookup::failed(error, Duration::ZERO);
            };
            // So that not each who asks for it waits again.
            let stale = CachedLookup { until: Instant::now().checked_add(NO_MEMORY_REST), ..stale };
            self.keep(name, place, stale.clone());
            return stale;
        }
        let reader = ReadThrough {
            at,
            index: &self.index,
            upstream,
            store: &self.store,
            write_behind: &self.write_behind,
            pinner: &self.pinner,
            metrics: &self.metrics,
            lines: &self.lines,
            own: Arc::clone(own),
        };
        let remembered = former.as_ref().and_then(Rendered::remembered);
        let turn = |held| Turn { client: asked.client, held };
        let known = match reader.begin(asked.client, name, remembered, asked.force).await {
            Begun::Known(known) => known,
            Begun::Ask(question) if question.is_first() => {
                match self.unheard_of(asked.client, &key).await {
                    Ok(read_from) => {
                        let known = reader.ask(name, turn(false), *question).await;
                        CachedLookup { read_from: Some(read_from), ..known }
                    }
                    Err(answer) => return *answer,
                }
            }
            Begun::Ask(question) => reader.ask(name, turn(true), *question).await,
        };
        self.note_name(name, at, &known);
        // A failure of an early question says nothing against an answer that is good for longer.
        let unanswered = matches!(known.outcome, Outcome::Stale | Outcome::Error);
        if !(unanswered && former.is_some_and(|former| former.is_current(Instant::now()))) {
            self.keep(name, place, known.clone());
        }
        if self.pinner.corrections.count() != corrections {
            self.index.forget(&key); // it may be judged by a pin that was corrected meanwhile
        }
        known
    }

    fn keep(&self, name: &CrateName, place: Place, known: CachedLookup) {
        let key = name.key();
        let now = || self.hosted.generation(&key);
        self.index.put(&key, None, (name, place), known, now);
    }

    fn note_name(&self, name: &CrateName, at: usize, known: &CachedLookup) {
        match &known.answer {
            Ok(Some(file)) if self.pinner.policy.is_silent() => self.names.note(at, file),
            Ok(Some(file)) => self.names.note_unjudged(at, name, file),
            Ok(None) => self.names.forget(at, name),
            Err(_) => {}
        }
    }

    /// A name of which nothing is held goes to an upstream only after a read of the journal, begun by
    /// now, that does not have it: another replica may just have published it. Says when that began.
    ///
    /// # Errors
    /// The answer without asking: the name is hosted, or that cannot be told.
    async fn unheard_of(
        &self,
        client: ClientKey,
        key: &NameKey,
    ) -> Result<Instant, Box<CachedLookup>> {
        let began = Instant::now();
        let unread = |error: Error| {
            let message = "whether this registry hosts that name cannot be told now, so it was not \
                           looked for elsewhere; try again in a few seconds";
            let error = Error::unavailable(message).because(error);
            Box::new(CachedLookup::failed(error, Duration::ZERO))
        };
        self.hosted.catch_up(client).await.map_err(unread)?;
        match self.hosted.generation(key) {
            Ok(None) => Ok(began),
            Ok(Some(_)) => Err(Box::new(CachedLookup::absent(None))),
            Err(error) => Err(Box::new(CachedLookup::failed(error, Duration::ZERO))),
        }
    }
}

impl Asked {
    /// Says what a name costs by what came of it. One that another replica has just hosted was not
    /// asked for.
    fn settle(&self, chain: &Chain, name: &CrateName, known: &CachedLookup) {
        let Some(credit) = &self.credit else { return };
        let nowhere = || matches!(chain.hosted.generation(&name.key()), Ok(None));
        credit.settle(known.is_absent() && nowhere());
    }
}

/// A name as index paths spell it.
pub fn lowered(name: &CrateName) -> CrateName {
    if !name.as_str().bytes().any(|b| b.is_ascii_uppercase()) {
        return name.clone();
    }
    name.lower().parse().unwrap_or_else(|_| name.clone())
}
