//! Keeping the mirror small: its size is measured, and what was used longest ago is given up
//! when it grows too large or too old. Only mirrored crate files: they can be fetched again, and
//! their pins stay. Where nobody has set a bound, a part of the disk of a folder store stays free, so
//! that a mirror of everything never leaves a publish without room. Several replicas may sweep at once;
//! what one has deleted the other finds gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::files::noted_uses::Uses;
use crate::files::uses::{Bounds, Kept, LastUses, day_of, victims};
use crate::files::uses_store::UsesStore;
use crate::settings::{Eviction, MirrorMax};
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::progress::grouped;
use cratehouse_core::threads::aside;
use cratehouse_storage::blobs::{Blobs, Origin, Stored};
use cratehouse_storage::disk::Disk;

/// How often a replica writes down what it has used.
const NOTE_EVERY: Duration = Duration::from_secs(600);
/// How often it is looked whether the disk fills up, and the least time between two sweeps for that.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LEAST_PAUSE: Duration = Duration::from_secs(600);
/// Lists that are read, and files that are deleted, at one time.
const AT_ONCE: usize = 16;
/// Lists older than this say nothing that matters, where no age is configured.
const FORGET_DAYS: u32 = 400;

/// What a sweep found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// The size of the mirrored crate files that stay, in bytes.
    pub bytes: u64,
    /// How many they are.
    pub blobs: u64,
    /// How many were given up.
    pub evicted: u64,
}

/// What keeps the mirror within its bounds.
#[derive(Debug)]
pub struct Evictor {
    settings: Eviction,
    blobs: Blobs,
    uses: Arc<Uses>,
    metrics: Metrics,
}

/// What a start says of the bound that nobody has set; nothing where there is none, or one is set.
pub fn bound_line(settings: &Eviction) -> Option<String> {
    let disk = disk_of(settings)?;
    let mib = |bytes: u64| grouped(bytes >> 20);
    Some(format!(
        "mirrored crate files are kept as long as {} MiB of the store's disk ({} MiB) stay free; `mirror.max_mib` sets another bound",
        mib(disk.reserved()),
        mib(disk.total)
    ))
}

/// The disk that bounds the mirror, where it does. Blocks, as a look at a folder does.
fn disk_of(settings: &Eviction) -> Option<Disk> {
    match (settings.max, &settings.folder) {
        (MirrorMax::Disk, Some(folder)) => Disk::below(folder).ok(),
        _ => None,
    }
}

/// The bounds of a sweep that finds so many bytes.
fn bounds_now(settings: &Eviction, disk: Option<Disk>, found: u64) -> Bounds {
    let bytes = match settings.max {
        MirrorMax::Disk => disk.map(|disk| disk.mirror_bound(found)),
        MirrorMax::Unbounded => None,
        MirrorMax::Bytes(most) => Some(most),
    };
    Bounds { bytes, age_days: settings.max_age_days }
}

impl Evictor {
    /// What evicts from `blobs` the files that `uses` and the notes of other replicas show as used
    /// longest ago.
    pub fn new(settings: Eviction, blobs: Blobs, uses: Arc<Uses>, metrics: Metrics) -> Self {
        Self { settings, blobs, uses, metrics }
    }

    /// Notes uses and sweeps, each at its interval, until told to stop; earlier where the disk fills up.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let sweep_every = self.settings.sweep;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut swept_at = None::<tokio::time::Instant>;
        let mut note = tokio::time::interval(NOTE_EVERY.min(sweep_every));
        // Replicas that start together do not sweep together.
        let spread = sweep_every.mul_f64(rand::rng().random::<f64>() / 4.0);
        let mut sweep_at = tokio::time::Instant::now() + spread;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = note.tick() => self.write_uses().await,
                () = tokio::time::sleep_until(sweep_at) => {
                    self.write_uses().await;
                    match self.sweep_as_configured().await {
                        Ok(Swept { bytes, blobs, evicted }) => {
                            info!(bytes, blobs, evicted, "the mirror was swept");
                        }
                        Err(e) => warn!(error = %e.chain(), "the mirror could not be swept"),
                    }
                    sweep_at = tokio::time::Instant::now() + sweep_every;
                    swept_at = Some(tokio::time::Instant::now());
                }
                _ = look.tick(), if swept_at.is_none_or(|at| at.elapsed() > LEAST_PAUSE) => {
                    if self.is_short_of_space().await {
                        sweep_at = tokio::time::Instant::now();
                    }
                }
            }
        }
        self.write_uses().await;
    }

    /// Measures the mirror, and gives up what is beyond the bounds.
    ///
    /// # Errors
    /// When the store does not answer; then less was given up than should have been.
    pub async fn sweep(&self, bounds: Bounds, now: Timestamp) -> Result<Swept> {
        self.sweep_within(|_| bounds, now).await
    }

    /// Sweeps as configured.
    async fn sweep_as_configured(&self) -> Result<Swept> {
        let disk = self.disk().await?;
        let bounds = |found| bounds_now(&self.settings, disk, found);
        self.sweep_within(bounds, Timestamp::now()).await
    }

    /// Whether the disk is so full that a sweep should not wait for its turn.
    async fn is_short_of_space(&self) -> bool {
        let disk = self.disk().await.ok().flatten();
        disk.is_some_and(|disk| disk.free < disk.reserved() / 2)
    }

    async fn disk(&self) -> Result<Option<Disk>> {
        let settings = self.settings.clone();
        aside(move || disk_of(&settings)).await
    }

    async fn write_uses(&self) {
        if let Err(e) = self.uses.write(day_of(Timestamp::now())).await {
            warn!(error = %e.chain(), "what was used could not be written down");
        }
    }

    /// The same as [`sweep`](Self::sweep), where the bounds depend on how many bytes there are.
    async fn sweep_within(
        &self,
        bounds: impl FnOnce(u64) -> Bounds,
        now: Timestamp,
    ) -> Result<Swept> {
        let kept = self.kept().await?;
        let mut bytes = kept.iter().map(|one| one.bytes).sum::<u64>();
        let mut blobs = kept.len() as u64;
        let bounds = bounds(bytes);
        let mut evicted = 0;
        if bounds.bytes.is_some() || bounds.age_days.is_some() {
            let uses = last_uses(&self.uses.store, bounds.age_days, now).await?;
            let victims = victims(kept, &uses, bounds, now);
            let deletions: Vec<_> = victims
                .iter()
                .map(|one| async move {
                    let deleted = self.blobs.delete(Origin::Mirrored, &one.cksum).await;
                    deleted.map(|()| one.bytes).map_err(Error::store)
                })
                .collect();
            let mut deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
            while let Some(freed) = deletions.next().await {
                bytes -= freed?;
                blobs -= 1;
                evicted += 1;
                self.metrics.mirror_evictions.inc();
            }
        }
        self.metrics.mirror_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.mirror_blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
        Ok(Swept { bytes, blobs, evicted })
    }

    /// All mirrored crate files. What else stands among them is passed over.
    async fn kept(&self) -> Result<Vec<Kept>> {
        let listed = self.blobs.all(Origin::Mirrored).try_filter_map(|found| async move {
            let kept =
                |one: Stored| Kept { cksum: one.cksum, bytes: one.size, stored: one.modified };
            Ok(found.ok().map(kept))
        });
        listed.try_collect().await.map_err(Error::store)
    }
}

/// What all replicas have written down; lists that no longer matter are deleted.
async fn last_uses(
    store: &UsesStore,
    max_age_days: Option<u32>,
    now: Timestamp,
) -> Result<LastUses> {
    let today = day_of(now);
    let days = i64::from(max_age_days.unwrap_or(FORGET_DAYS)) + 1;
    let oldest = today.saturating_sub(jiff::Span::new().days(days.min(100_000)));
    let lists = store.lists().await.map_err(Error::store)?;
    let (current, outdated): (Vec<_>, Vec<_>) =
        lists.into_iter().partition(|list| list.day >= oldest);
    for list in outdated {
        store.delete(&list).await.map_err(Error::store)?;
    }
    let reads: Vec<_> = current
        .iter()
        .map(|list| async move { store.read(list).await.map(|used| (list.day, used)) })
        .collect();
    let read: Vec<_> =
        stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await.map_err(Error::store)?;
    let mut uses = LastUses::default();
    for (day, used) in read {
        used.into_iter().for_each(|cksum| uses.note(cksum, day));
    }
    Ok(uses)
}
