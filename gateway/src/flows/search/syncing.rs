//! The names that a search knows, and the store: read at the start, read again when another replica
//! has written them, written when something was learned.

use super::known::Lists;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::names::Names;
use crate::gateway::Gateway;
use cratehouse_core::error::Result;
use cratehouse_core::threads::aside;
use cratehouse_mirror::store::NamesList;

/// How often the lists are read, and written.
const EVERY: Duration = Duration::from_secs(300);
/// How long the first search waits until the mirrored names were read; it goes on without them.
const LOAD_WAIT: Duration = Duration::from_secs(5);
/// How long after a failure searches do not have the lists read again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What a stop may spend on the last write.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// Has the lists read for a search, if they never were, and waits for that for a while. However many
/// search, they are read once at one time, and not again soon after they could not be.
pub(super) async fn load(gateway: &Arc<Gateway>) {
    let syncing = &gateway.mirrored_names.syncing;
    if syncing.is_loaded.load(Ordering::Acquire) {
        return;
    }
    if let Ok(mut lists) = Arc::clone(&syncing.lists).try_lock_owned() {
        if lists.failed.is_some_and(|failed| failed.elapsed() < AGAIN_AFTER) {
            return;
        }
        let owned = Arc::clone(gateway);
        // It goes on without the search, for the next one.
        tokio::spawn(async move { sync_all(&owned, &mut lists).await });
    }
    let _ = timeout(LOAD_WAIT, syncing.lists.lock()).await; // that of whoever reads them
}

/// Keeps names and store the same until told to stop, and then once more.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let syncing = async {
        loop {
            every.tick().await;
            sync(&gateway).await;
        }
    };
    stop.run_until_cancelled(syncing).await;
    let _ = timeout(LAST_WRITE, sync(&gateway)).await; // a cache
}

/// Makes names and store the same. Trouble makes a search poorer, not wrong.
pub(super) async fn sync(gateway: &Arc<Gateway>) {
    let mut lists = Arc::clone(&gateway.mirrored_names.syncing.lists).lock_owned().await;
    sync_all(gateway, &mut lists).await;
}

async fn sync_all(gateway: &Arc<Gateway>, lists: &mut OwnedMutexGuard<Lists>) {
    lists.etags.resize(gateway.upstreams.len(), None);
    let mut is_loaded = true;
    for (at, etag) in lists.etags.iter_mut().enumerate() {
        if let Err(error) = sync_one(gateway, at, etag).await {
            is_loaded = false;
            let upstream = gateway.upstreams.get(at).map_or("", |upstream| upstream.name());
            let Some(suppressed) = gateway.mirror_lines.names.admit() else { continue };
            warn!(
                upstream,
                suppressed,
                error = error.chain(),
                "the names of mirrored crates are not up to date"
            );
        }
    }
    lists.failed = (!is_loaded).then(Instant::now);
    gateway.mirrored_names.syncing.is_loaded.fetch_or(is_loaded, Ordering::AcqRel);
}

async fn sync_one(gateway: &Arc<Gateway>, at: usize, etag: &mut Option<String>) -> Result<()> {
    let Some(upstream) = gateway.upstreams.get(at) else { return Ok(()) };
    let names = || Arc::clone(&gateway.mirrored_names.names);
    let lines = &gateway.mirror_lines.names;
    match gateway.mirror.names_list(upstream.name(), etag.as_deref(), lines).await? {
        NamesList::Same => {}
        NamesList::Absent => list(gateway, upstream.name(), at, &names()).await?,
        NamesList::Found { lines, etag: new } => {
            let names = names();
            aside(move || names.take_up(at, &lines)).await?;
            *etag = new;
        }
    }
    let writing = Writing { names: names(), at, is_done: false };
    let unsaved = names();
    let Some(text) = aside(move || unsaved.unsaved(at)).await? else { return writing.done() };
    *etag = gateway.mirror.put_names_list(upstream.name(), text.into()).await?;
    writing.done()
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

/// There is no list yet: a store of release 0.1, or one that lost it. Only the names are known then.
async fn list(gateway: &Gateway, upstream: &str, at: usize, names: &Names) -> Result<()> {
    for name in gateway.mirror.names(upstream).await? {
        names.note_name(at, name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;
    use object_store::ObjectStore;
    use object_store::path::Path;

    use super::*;
    use crate::flows::fixture::{Public, TestGateway, limits, memory};
    use cratehouse_storage::test_util::{Fault, FaultyStore};

    #[tokio::test]
    async fn searches_have_the_names_read_once_and_not_again_soon_after_a_failure() {
        let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
        let shared = Arc::clone(&store) as Arc<dyn ObjectStore>;
        let public = Public::start(b"x").await;
        let house = TestGateway::open(&shared, &[&public], limits()).await;
        let (gateway, calls) = (&house.gateway, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let plan = move |_, path: &Path| {
            let is_mirror = path.as_ref().contains("mirror");
            counted.fetch_add(usize::from(is_mirror), Ordering::SeqCst);
            if is_mirror { Fault::Before } else { Fault::None }
        };
        store.plan(Box::new(plan));
        // Each leaves at once.
        (0..100).for_each(|_| assert!(load(gateway).now_or_never().is_none()));
        let lists = &gateway.mirrored_names.syncing.lists;
        assert!(lists.lock().await.failed.is_some());
        let asked = calls.load(Ordering::SeqCst);
        assert!(asked > 0);
        for _ in 0..100 {
            load(gateway).await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), asked, "the store was asked by one of them");
        store.plan(Box::new(|_, _| Fault::None));
        lists.lock().await.failed = None;
        load(gateway).await;
        assert!(gateway.mirrored_names.syncing.is_loaded.load(Ordering::Acquire));
    }
}
