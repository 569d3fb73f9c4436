//! Licences of mirrored versions. What a crate file states is read when its bytes are at hand, noted
//! where its index file is judged, and kept in the store for the other replicas.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::index::cache::CachedLookup;
use crate::index::judged::Judging;
use crate::licenses::facts::Readers;
use crate::log_lines::MirrorLines;
use crate::store::MirrorStore;
use cratehouse_core::error::Result;
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::metrics::Metrics;
use cratehouse_package::index::{IndexFile, Listed};

/// How long a judgement waits for the licences in the store, which it can do without.
const STORE_WAIT: Duration = Duration::from_secs(2);
/// How long bringing the licences of a crate to the store, or looking for them there, may take, with
/// what is done for the same crate before it.
const BACKGROUND_WAIT: Duration = Duration::from_secs(30);

/// What reads licences, and keeps what was read.
#[derive(Debug)]
pub struct LicenseReader {
    /// What inflates and parses.
    pub readers: Readers,
    pub(crate) store: MirrorStore,
    pub(crate) metrics: Metrics,
    pub(crate) lines: Arc<MirrorLines>,
}

impl LicenseReader {
    /// Asks the store, once, for licences that other replicas have read. Where it fails they are not
    /// known yet.
    pub async fn begin(&self, judging: &Judging, file: &IndexFile) {
        let Some(upstream) = judging.upstream().filter(|_| judging.learned.begins()) else {
            return;
        };
        let lines = &self.lines.licenses;
        let fetching = judging.learned.fetch((&self.store, lines), upstream, file);
        let fetched = timeout(STORE_WAIT, fetching).await;
        log_failure(lines, upstream, fetched, "could not be read from the store");
    }

    /// Asks the store again where it is time to, in the background: where there is news, the index file
    /// is judged anew for its next asker.
    pub(crate) fn look_again(&self, judging: &Arc<Judging>, file: &Arc<IndexFile>) {
        if judging.upstream().is_none() || !judging.learned.is_due() {
            return;
        }
        let (store, lines) = (self.store.clone(), Arc::clone(&self.lines.licenses));
        let (judging, file) = (Arc::clone(judging), Arc::clone(file));
        self.in_background(async move {
            let upstream = judging.upstream().unwrap_or_default();
            let fetching = judging.learned.fetch((&store, &lines), upstream, &file);
            let fetched = timeout(BACKGROUND_WAIT, fetching).await;
            log_failure(&lines, upstream, fetched, "could not be read from the store");
        });
    }

    /// Reads the licence of a version whose verified bytes are at hand, and notes it; the store learns
    /// of it in the background. All who ask at the same time share the reading.
    ///
    /// # Errors
    /// When reading crashed, which is our own fault.
    pub async fn read(
        self: &Arc<Self>,
        known: &CachedLookup,
        version: &Listed,
        bytes: &Bytes,
    ) -> Result<()> {
        self.note(known, version, bytes).await?;
        let (owned, known) = (Arc::clone(self), known.clone());
        self.in_background(async move { owned.keep(&known).await });
        Ok(())
    }

    /// The same; the store learns of it when [`keep`](Self::keep) is called.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn note(&self, known: &CachedLookup, version: &Listed, bytes: &Bytes) -> Result<()> {
        let fact = self.readers.of(version, bytes, &self.metrics).await?;
        tracing::debug!(krate = %version.name, version = %version.version,
            fact = excerpt(&format!("{fact:?}")), "a licence was read");
        let learned = &known.judging.learned;
        learned.add([(version.cksum, fact)]);
        learned.unsaved.store(true, Ordering::Release); // not earlier: who saves reads it first
        Ok(())
    }

    /// Brings to the store what was noted and is not there yet; waits also for others who do so.
    pub async fn keep(&self, known: &CachedLookup) {
        let Ok(Some(file)) = known.answer.clone() else { return };
        let Some(upstream) = known.judging.upstream() else { return };
        let lines = &self.lines.licenses;
        let saving = known.judging.learned.save((&self.store, lines), upstream, &file);
        let saved = timeout(BACKGROUND_WAIT, saving).await;
        log_failure(lines, upstream, saved, "could not be kept in the store, and are read again");
    }

    /// Reads a licence after the download was answered, unless too many wait for that already.
    pub(crate) fn read_aside(
        self: &Arc<Self>,
        known: &CachedLookup,
        version: &Listed,
        bytes: &Bytes,
    ) {
        let Ok(place) = Arc::clone(&self.readers.aside).try_acquire_owned() else { return };
        let (owned, known) = (Arc::clone(self), known.clone());
        let (version, bytes) = (version.clone(), bytes.clone());
        let work = async move {
            let _place: OwnedSemaphorePermit = place;
            if let Err(error) = owned.read(&known, &version, &bytes).await {
                tracing::error!(error = %error.chain(), "a licence could not be read");
            }
        };
        tokio::spawn(work.in_current_span());
    }

    /// Runs in the background, unless too much does already: then the next occasion is taken.
    fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(place) = Arc::clone(&self.readers.background).try_acquire_owned() else { return };
        let work = async move {
            task.await;
            drop(place);
        };
        tokio::spawn(work.in_current_span());
    }
}

fn log_failure(lines: &LineLimit, upstream: &str, done: Result<Result<()>, Elapsed>, what: &str) {
    let why = match done {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.chain(),
        Err(_) => "the store did not answer in time".to_owned(),
    };
    if let Some(suppressed) = lines.admit() {
        tracing::warn!(upstream, %why, suppressed, "licences {what}");
    }
}
