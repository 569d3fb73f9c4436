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

use crate::config::{Config, MirrorMax};
use crate::gateway::Gateway;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::progress::grouped;
use cratehouse_core::threads::aside;
use cratehouse_mirror::uses::{Bounds, Kept, LastUses, day_of, victims};
use cratehouse_mirror::uses_store::UsesStore;
use cratehouse_storage::blobs::Origin;
use cratehouse_storage::disk::Disk;
use cratehouse_storage::url::StoreUrl;

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

/// What a start says of the bound that nobody has set; nothing where there is none, or one is set.
pub fn bound_line(config: &Config) -> Option<String> {
    let disk = disk_of(config)?;
    let mib = |bytes: u64| grouped(bytes >> 20);
    Some(format!(
        "mirrored crate files are kept as long as {} MiB of the store's disk ({} MiB) stay free; `mirror.max_mib` sets another bound",
        mib(disk.reserved()),
        mib(disk.total)
    ))
}

/// The disk that bounds the mirror, where it does. Blocks, as a look at a folder does.
fn disk_of(config: &Config) -> Option<Disk> {
    match (config.mirror.max, &config.store.url) {
        (MirrorMax::Disk, StoreUrl::Folder(folder)) => Disk::below(folder).ok(),
        _ => None,
    }
}

/// The bounds of a sweep that finds so many bytes.
fn bounds_now(config: &Config, disk: Option<Disk>, found: u64) -> Bounds {
    let bytes = match config.mirror.max {
        MirrorMax::Disk => disk.map(|disk| disk.mirror_bound(found)),
        MirrorMax::Unbounded => None,
        MirrorMax::Bytes(most) => Some(most),
    };
    Bounds { bytes, age_days: config.mirror.max_age_days }
}

/// Sweeps as configured.
async fn sweep_as_configured(gateway: &Gateway) -> Result<Swept> {
    let config = Arc::clone(&gateway.config);
    let disk = aside(move || disk_of(&config)).await?;
    let bounds = |found| bounds_now(&gateway.config, disk, found);
    sweep_within(gateway, bounds, Timestamp::now()).await
}

/// Whether the disk is so full that a sweep should not wait for its turn.
async fn is_short_of_room(gateway: &Gateway) -> bool {
    let config = Arc::clone(&gateway.config);
    let disk = aside(move || disk_of(&config)).await;
    disk.ok().flatten().is_some_and(|disk| disk.free < disk.reserved() / 2)
}

/// Notes uses and sweeps, each at its interval, until told to stop; earlier where the disk fills up.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let sweep_every = gateway.config.mirror.sweep;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut swept_at = None::<tokio::time::Instant>;
    let mut note = tokio::time::interval(NOTE_EVERY.min(sweep_every));
    // Replicas that start together do not sweep together.
    let spread = sweep_every.mul_f64(rand::rng().random::<f64>() / 4.0);
    let mut sweep_at = tokio::time::Instant::now() + spread;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = note.tick() => write_uses(&gateway).await,
            () = tokio::time::sleep_until(sweep_at) => {
                write_uses(&gateway).await;
                match sweep_as_configured(&gateway).await {
                    Ok(Swept { bytes, blobs, evicted }) => {
                        info!(bytes, blobs, evicted, "the mirror was swept");
                    }
                    Err(e) => warn!(error = %e.chain(), "the mirror could not be swept"),
                }
                sweep_at = tokio::time::Instant::now() + sweep_every;
                swept_at = Some(tokio::time::Instant::now());
            }
            _ = look.tick(), if swept_at.is_none_or(|at| at.elapsed() > LEAST_PAUSE) => {
                if is_short_of_room(&gateway).await {
                    sweep_at = tokio::time::Instant::now();
                }
            }
        }
    }
    write_uses(&gateway).await;
}

async fn write_uses(gateway: &Gateway) {
    if let Err(e) = gateway.uses.write(day_of(Timestamp::now())).await {
        warn!(error = %e.chain(), "what was used could not be written down");
    }
}

/// Measures the mirror, and gives up what is beyond the bounds.
///
/// # Errors
/// When the store does not answer; then less was given up than should have been.
pub async fn sweep(gateway: &Gateway, bounds: Bounds, now: Timestamp) -> Result<Swept> {
    sweep_within(gateway, |_| bounds, now).await
}

/// The same, where the bounds depend on how many bytes there are.
async fn sweep_within(
    gateway: &Gateway,
    bounds: impl FnOnce(u64) -> Bounds,
    now: Timestamp,
) -> Result<Swept> {
    let kept = kept(gateway).await?;
    let (mut bytes, mut blobs) = (kept.iter().map(|one| one.bytes).sum::<u64>(), kept.len() as u64);
    let bounds = bounds(bytes);
    let mut evicted = 0;
    if bounds.bytes.is_some() || bounds.age_days.is_some() {
        let uses = last_uses(&gateway.uses.store, bounds.age_days, now).await?;
        let victims = victims(kept, &uses, bounds, now);
        let deletions: Vec<_> = victims
            .iter()
            .map(|one| async move {
                let deleted = gateway.blobs.delete(Origin::Mirrored, &one.cksum).await;
                deleted.map(|()| one.bytes).map_err(Error::store)
            })
            .collect();
        let mut deletions = stream::iter(deletions).buffer_unordered(AT_ONCE);
        while let Some(freed) = deletions.next().await {
            bytes -= freed?;
            blobs -= 1;
            evicted += 1;
            gateway.metrics.mirror_evictions.inc();
        }
    }
    gateway.metrics.mirror_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    gateway.metrics.mirror_blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
    Ok(Swept { bytes, blobs, evicted })
}

/// All mirrored crate files. What else stands among them is passed over.
async fn kept(gateway: &Gateway) -> Result<Vec<Kept>> {
    let listed = gateway.blobs.all(Origin::Mirrored).try_filter_map(|found| async move {
        Ok(found.ok().map(|one| Kept { cksum: one.cksum, bytes: one.size, stored: one.modified }))
    });
    listed.try_collect().await.map_err(Error::store)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::ToSpan;

    use super::*;
    use crate::flows::fixture::{Public, TestGateway, limits, memory};
    use cratehouse_core::checksum::Checksum;

    const ALL: Bounds = Bounds { bytes: Some(0), age_days: None };
    const MONTH: Bounds = Bounds { bytes: None, age_days: Some(30) };

    fn in_days(days: i64) -> Timestamp {
        Timestamp::now() + (days * 24).hours()
    }

    #[tokio::test]
    async fn what_is_given_up_is_filled_again_and_its_pin_stays() {
        let public = Public::start(b"x").await;
        let store = memory();
        let house = TestGateway::open(&store, &[&public], limits()).await;
        assert_eq!((house.foo().await.1, public.fills()), ("miss", 1));
        let own = Checksum::of(b"y");
        house.gateway.blobs.put(Origin::Hosted, &own, "y".into()).await.unwrap();
        let unbounded = Bounds { bytes: None, age_days: None };
        let found = sweep(&house.gateway, unbounded, in_days(0)).await.unwrap();
        assert_eq!(found, Swept { bytes: 1, blobs: 1, evicted: 0 });
        let swept = sweep(&house.gateway, ALL, in_days(0)).await.unwrap();
        assert_eq!(swept, Swept { bytes: 0, blobs: 0, evicted: 1 });
        assert_eq!(house.gateway.metrics.mirror_evictions.get(), 1);
        let other = TestGateway::open(&store, &[&public], limits()).await;
        assert_eq!((other.foo().await.1, public.fills()), ("miss", 1));
        let kept = other.gateway.blobs.get(Origin::Hosted, &own, |_| 9).await.unwrap();
        assert_eq!(kept, cratehouse_storage::blobs::Blob::Whole("y".into()));
        public.set(|s| (s.listed, s.sent) = (Some(b"z".to_vec()), Some(b"z".to_vec())));
        let changed = TestGateway::open(&store, &[&public], limits()).await;
        assert!(changed.foo().await.0.is_err(), "the pin stays");
    }

    #[tokio::test]
    async fn what_another_replica_uses_is_not_too_old() {
        let public = Public::start(b"x").await;
        let store = memory();
        let house = TestGateway::open(&store, &[&public], limits()).await;
        let other = TestGateway::open(&store, &[&public], limits()).await;
        assert_eq!(house.foo().await.1, "miss");
        assert_eq!(other.foo().await.1, "store");
        other.gateway.uses.write(day_of(in_days(20))).await.unwrap();
        assert_eq!(sweep(&house.gateway, MONTH, in_days(40)).await.unwrap().evicted, 0);
        assert_eq!(sweep(&house.gateway, MONTH, in_days(60)).await.unwrap().evicted, 1);
        assert_eq!(house.gateway.uses.store.lists().await.unwrap(), [], "nor is its list kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_runs_by_itself_and_a_stop_writes_down_what_was_used() {
        let public = Public::start(b"x").await;
        let house = TestGateway::open(&memory(), &[&public], limits()).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(Arc::clone(&house.gateway), stop.clone()));
        assert_eq!(house.foo().await.1, "miss");
        let measured = async {
            while house.gateway.metrics.mirror_blobs.get() != 1 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1000), measured).await.unwrap();
        stop.cancel();
        running.await.unwrap();
        assert_eq!(house.gateway.uses.store.lists().await.unwrap().len(), 1);
    }
}
