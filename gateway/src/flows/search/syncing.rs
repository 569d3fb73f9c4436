//! The names that a search knows, and the store: read at the start, read again when another replica
//! has written them, written when something was learned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::names::Names;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::stores::mirror::NamesList;
use crate::threads::aside;

/// How often the lists are read, and written.
const EVERY: Duration = Duration::from_secs(300);
/// What a stop may spend on the last write.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// How far memory and store are the same.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    /// Of the list of each upstream that was last read or written.
    etags: Mutex<Vec<Option<String>>>,
    /// Whether the lists were read once.
    pub(super) is_loaded: AtomicBool,
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
    let syncing = &gateway.mirrored_names.syncing;
    let mut etags = syncing.etags.lock().await;
    etags.resize(gateway.upstreams.len(), None);
    let mut is_loaded = true;
    for (at, etag) in etags.iter_mut().enumerate() {
        if let Err(error) = sync_one(gateway, at, etag).await {
            is_loaded = false;
            let upstream = gateway.upstreams.get(at).map_or("", |upstream| upstream.name());
            warn!(
                upstream,
                error = error.chain(),
                "the names of mirrored crates are not up to date"
            );
        }
    }
    syncing.is_loaded.fetch_or(is_loaded, Ordering::AcqRel);
}

async fn sync_one(gateway: &Arc<Gateway>, at: usize, etag: &mut Option<String>) -> Result<()> {
    let Some(upstream) = gateway.upstreams.get(at) else { return Ok(()) };
    let names = || Arc::clone(&gateway.mirrored_names.names);
    match gateway.mirror.names_list(upstream.name(), etag.as_deref()).await? {
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
