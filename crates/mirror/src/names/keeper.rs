//! Keeps the names in memory and the store the same: read at the start, read again when another replica
//! has written them, written when something was learned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::log_lines::MirrorLines;
use crate::names::known::{Lists, MirroredNames};
use crate::names::table::Names;
use crate::store::{MirrorStore, NamesList};
use crate::upstream::Upstream;
use cratehouse_core::error::Result;
use cratehouse_core::render_pool::RenderPool;
use cratehouse_core::threads::aside;
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;
use cratehouse_package::newest::newest;

/// How often the lists are read, and written.
const EVERY: Duration = Duration::from_secs(300);
/// How long the first search waits until the mirrored names were read; it goes on without them.
const LOAD_WAIT: Duration = Duration::from_secs(5);
/// How long after a failure searches do not have the lists read again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What a stop may spend on the last write.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// What keeps the names.
#[derive(Debug)]
pub struct NameKeeper {
    /// The names.
    pub names: Arc<MirroredNames>,
    pub(crate) store: MirrorStore,
    pub(crate) upstreams: Arc<[Arc<Upstream>]>,
    pub(crate) renderers: RenderPool,
    pub(crate) lines: Arc<MirrorLines>,
    /// The one task that looks up versions that are not known yet.
    pub(crate) learning: Arc<Semaphore>,
}

impl NameKeeper {
    /// Has the lists read for a search, if they never were, and waits for that for a while. However
    /// many search, they are read once at one time, and not again soon after they could not be.
    pub async fn load(self: &Arc<Self>) {
        let syncing = &self.names.syncing;
        if syncing.is_loaded.load(Ordering::Acquire) {
            return;
        }
        if let Ok(mut lists) = Arc::clone(&syncing.lists).try_lock_owned() {
            if lists.failed.is_some_and(|failed| failed.elapsed() < AGAIN_AFTER) {
                return;
            }
            let owned = Arc::clone(self);
            // It goes on without the search, for the next one.
            tokio::spawn(async move { owned.sync_all(&mut lists).await });
        }
        let _ = timeout(LOAD_WAIT, syncing.lists.lock()).await; // that of the task that reads them
    }

    /// Whether the lists could not be read a short time ago.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn has_failed(&self) -> bool {
        self.names.syncing.lists.lock().await.failed.is_some()
    }

    /// Forgets that the lists could not be read.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn forget_failure(&self) {
        self.names.syncing.lists.lock().await.failed = None;
    }

    /// Whether the lists were read.
    #[cfg(any(test, feature = "test-util"))]
    pub fn is_loaded(&self) -> bool {
        self.names.syncing.is_loaded.load(Ordering::Acquire)
    }

    /// Keeps names and store the same until told to stop, and then once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let syncing = async {
            loop {
                every.tick().await;
                self.sync().await;
            }
        };
        stop.run_until_cancelled(syncing).await;
        let _ = timeout(LAST_WRITE, self.sync()).await; // a cache
    }

    /// Reads the copies of crates of which nothing but the name is known, one after the other and after
    /// the answer, for the next search: a store of release 0.1 has no more. If some are just being read,
    /// these wait for another search.
    pub fn learn(self: &Arc<Self>, unknown: Vec<(usize, CrateName)>) {
        let turn = Arc::clone(&self.learning).try_acquire_owned();
        let (Ok(turn), false) = (turn, unknown.is_empty()) else { return };
        let owned = Arc::clone(self);
        tokio::spawn(async move {
            for (at, name) in unknown {
                if let Err(error) = owned.learn_one(at, &name).await {
                    let error = error.chain();
                    tracing::debug!(krate = %name, error, "its newest version is unknown");
                }
            }
            drop(turn);
        });
    }

    async fn learn_one(&self, at: usize, name: &CrateName) -> Result<()> {
        let Some(upstream) = self.upstreams.get(at) else { return Ok(()) };
        let Some(kept) = self.store.index(upstream.name(), name).await? else {
            self.names.forget(at, name);
            return Ok(());
        };
        let (names, owned) = (Arc::clone(&self.names.table), name.clone());
        let read = move || {
            let read = mirrored::read(&kept.body, &owned, &OwnRegistries::default());
            let versions = read.map(|read| read.versions).unwrap_or_default();
            match newest(versions.iter()) {
                Some(best) => names.note_version(at, best),
                None => names.forget(at, &owned.key()),
            }
        };
        self.renderers.make(read).await
    }

    /// Makes names and store the same. Where that fails, a search is poorer, not wrong.
    pub async fn sync(&self) {
        let mut lists = Arc::clone(&self.names.syncing.lists).lock_owned().await;
        self.sync_all(&mut lists).await;
    }

    async fn sync_all(&self, lists: &mut Lists) {
        lists.etags.resize(self.upstreams.len(), None);
        let mut is_loaded = true;
        for (at, etag) in lists.etags.iter_mut().enumerate() {
            if let Err(error) = self.sync_one(at, etag).await {
                is_loaded = false;
                let upstream = self.upstreams.get(at).map_or("", |upstream| upstream.name());
                let Some(suppressed) = self.lines.names.admit() else { continue };
                let error = error.chain();
                warn!(
                    upstream,
                    suppressed, error, "the names of mirrored crates are not up to date"
                );
            }
        }
        lists.failed = (!is_loaded).then(Instant::now);
        self.names.syncing.is_loaded.fetch_or(is_loaded, Ordering::AcqRel);
    }

    async fn sync_one(&self, at: usize, etag: &mut Option<String>) -> Result<()> {
        let Some(upstream) = self.upstreams.get(at) else { return Ok(()) };
        let names = || Arc::clone(&self.names.table);
        match self.store.names_list(upstream.name(), etag.as_deref(), &self.lines.names).await? {
            NamesList::Same => {}
            NamesList::Absent => self.list(upstream.name(), at, &names()).await?,
            NamesList::Found { lines, etag: new } => {
                let names = names();
                aside(move || names.take_up(at, &lines)).await?;
                *etag = new;
            }
        }
        let writing = Writing { names: names(), at, is_done: false };
        let unsaved = names();
        let Some(text) = aside(move || unsaved.unsaved(at)).await? else { return writing.done() };
        *etag = self.store.put_names_list(upstream.name(), text.into()).await?;
        writing.done()
    }

    /// There is no list yet: a store of release 0.1, or one that lost it. Only the names are known then.
    async fn list(&self, upstream: &str, at: usize, names: &Names) -> Result<()> {
        for name in self.store.names(upstream).await? {
            names.note_name(at, name);
        }
        Ok(())
    }
}

/// A list that is being written: one that fails or is broken off is still to be written.
struct Writing {
    names: Arc<Names>,
    at: usize,
    is_done: bool,
}

impl Writing {
    #[allow(clippy::unnecessary_wraps, reason = "the end of what may fail")]
    fn done(mut self) -> Result<()> {
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.names.saved(self.at, self.is_done);
    }
}
