//! Bringing a crate file into memory: from the store, else from an upstream. Runs in its own task
//! (see `flights`), so that whoever asked may leave.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::flows::mirroring;
use crate::flows::pinning::{self, Wanted};
use crate::gateway::Gateway;
use crate::model::checksum::Checksum;
use crate::model::index::{IndexFile, Listed};
use crate::stores::blobs::{Blob, Origin, has_checksum};
use crate::stores::catalog::VersionRow;
use crate::stores::upstream::{CrateAnswer, Trouble, TroubleKind, Upstream};

/// The memory that a crate file of unknown size is given at first. Nine in ten are smaller. What
/// is announced to be larger gets more on the spot; it is asked for a second time only when
/// there is no memory just then, or when nothing was announced.
const FIRST_ROOM_BYTES: u64 = 1 << 20;

/// How long a fill waits for the store, which it can do without.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// Bytes whose checksum was compared, and where they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The crate file.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub cksum: Checksum,
    /// Where it was found.
    pub source: Source,
}

/// Where a crate file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In memory.
    Memory,
    /// In the object store.
    Store,
    /// At an upstream.
    Upstream,
}

/// Reads a hosted crate file.
///
/// # Errors
/// [`Kind::Internal`] and an alarm when the bytes are lost; that the store does not answer.
pub async fn hosted(gateway: Arc<Gateway>, row: VersionRow) -> Result<Got> {
    let cksum = row.line.cksum;
    let reading = read(&gateway, Origin::Hosted, &cksum, row.size, row.size);
    let lost = match reading.await.map_err(Error::store)? {
        Blob::Whole(bytes) => return Ok(Got { bytes, cksum, source: Source::Store }),
        Blob::Absent => "missing",
        Blob::Damaged => "damaged",
        Blob::Larger { .. } => "of another size",
    };
    gateway.metrics.alarms.with_label_values(&["hosted_blob_missing"]).inc();
    tracing::error!(krate = %row.line.name, version = %row.line.vers, %cksum, lost,
        "the bytes of a hosted version are lost; restore the object from a backup");
    Err(Error::new(
        Kind::Internal,
        format!(
            "the registry has lost the bytes of `{}` {}; its administrators must restore them",
            row.line.name, row.line.vers
        ),
    ))
}

/// Reads a mirrored crate file from the store or fills it from the chain, and pins it.
///
/// # Errors
/// Those of the upstreams; that the bytes are wrong or that nobody has them (502); that the
/// checksum differs from the pin (403). A store that fails is none, but for the pin.
pub async fn mirrored(gateway: Arc<Gateway>, wanted: Wanted) -> Result<Got> {
    if let Some(bytes) = stored(&gateway, &wanted).await {
        return Ok(Got { bytes, cksum: wanted.listed.cksum, source: Source::Store });
    }
    pinning::refuse_if_pinned_otherwise(&gateway, &wanted).await?;
    let (bytes, _room) = from_chain(&gateway, &wanted).await?;
    pinning::pin(&gateway, &wanted).await?;
    store(&gateway, &wanted, bytes.clone()).await;
    Ok(Got { bytes, cksum: wanted.listed.cksum, source: Source::Upstream })
}

/// The store's copy of a mirrored crate file, if it has a good one and says so in time.
async fn stored(gateway: &Gateway, wanted: &Wanted) -> Option<Bytes> {
    let cksum = &wanted.listed.cksum;
    let largest = gateway.config.limits.mirrored_crate_bytes as u64;
    let reading = read(gateway, Origin::Mirrored, cksum, FIRST_ROOM_BYTES, largest);
    match timeout(STORE_WAIT, reading).await {
        Ok(Ok(Blob::Whole(bytes))) => return Some(bytes),
        Ok(Ok(Blob::Absent)) => {}
        Ok(Ok(Blob::Damaged)) => {
            gateway.metrics.alarms.with_label_values(&["damaged_blob"]).inc();
            tracing::error!(%wanted, %cksum, "the store's copy is damaged; it is filled again");
        }
        Ok(Ok(Blob::Larger { bytes })) => {
            tracing::warn!(%wanted, bytes, "the store's copy exceeds limits.mirrored_crate_bytes");
        }
        Ok(Err(error)) => tracing::warn!(%wanted, %error, "the store failed; asking upstream"),
        Err(_) => tracing::warn!(%wanted, "the store did not answer; asking upstream"),
    }
    None
}

/// Keeps verified bytes. A store that fails costs the next replica a fill, and nobody a download.
async fn store(gateway: &Gateway, wanted: &Wanted, bytes: Bytes) {
    let putting = gateway.blobs.put(Origin::Mirrored, &wanted.listed.cksum, bytes);
    match timeout(STORE_WAIT, putting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%wanted, %error, "a mirrored crate file was not stored"),
        Err(_) => tracing::warn!(%wanted, "a mirrored crate file was not stored in time"),
    }
}

/// Reads a blob that has about `likely` bytes and at most `largest`, with room reserved for what
/// it really has.
async fn read(
    gateway: &Gateway,
    origin: Origin,
    cksum: &Checksum,
    likely: u64,
    largest: u64,
) -> Result<Blob, object_store::Error> {
    let budget = &gateway.crates.budget;
    let mut room = budget.reserve(likely.min(largest)).await;
    loop {
        let fit = |size| if size <= largest { room.fit(size) } else { room.bytes };
        match gateway.blobs.get(origin, cksum, fit).await? {
            Blob::Larger { bytes } if room.bytes < bytes && bytes <= largest => {
                drop(room); // not held while waiting for more
                room = budget.reserve(bytes).await;
            }
            blob => return Ok(blob),
        }
    }
}

/// The bytes from the upstream that lists the version. One that lists a version without having
/// its bytes (a filtered mirror) passes it on to the next that lists the same bytes.
async fn from_chain(gateway: &Arc<Gateway>, wanted: &Wanted) -> Result<(Bytes, Room)> {
    for (at, upstream) in gateway.upstreams.iter().enumerate().skip(wanted.at) {
        let Some(listed) = listed_by(gateway, at, wanted).await? else { continue };
        if let Some(filled) = from_upstream(gateway, upstream, &listed).await? {
            return Ok(filled);
        }
        tracing::info!(upstream = upstream.name(), %wanted, "in its index, but 404 at its `dl`");
    }
    Err(Error::new(
        Kind::BadUpstream,
        format!(
            "{wanted} is in the index of the upstream `{}`, but its crate file is not there, and \
             no other upstream has it; use another version or complete that mirror",
            wanted.upstream(gateway)
        ),
    ))
}

async fn listed_by(gateway: &Arc<Gateway>, at: usize, wanted: &Wanted) -> Result<Option<Listed>> {
    if at == wanted.at {
        return Ok(Some(wanted.listed.clone()));
    }
    let file = mirroring::mirrored_at(gateway, &wanted.listed.name, at).await?;
    Ok(file.and_then(|file| same_bytes(&file, &wanted.listed).cloned()))
}

/// How another upstream's file lists the very bytes that are wanted, if it does.
fn same_bytes<'a>(file: &'a IndexFile, wanted: &Listed) -> Option<&'a Listed> {
    file.version(&wanted.version).filter(|listed| listed.cksum == wanted.cksum)
}

/// Verified bytes, and the room that they take while they are stored; `None` when this upstream
/// definitely does not have them.
async fn from_upstream(
    gateway: &Gateway,
    upstream: &Upstream,
    listed: &Listed,
) -> Result<Option<(Bytes, Room)>> {
    let (answer, mut room) = ask(gateway, upstream, listed).await?;
    let CrateAnswer::Found(bytes) = answer else { return Ok(None) };
    if has_checksum(&bytes, &listed.cksum).await {
        room.fit(bytes.len() as u64);
        return Ok(Some((bytes, room)));
    }
    gateway.metrics.alarms.with_label_values(&["wrong_bytes"]).inc();
    tracing::error!(upstream = upstream.name(), krate = %listed.name, version = %listed.version,
        cksum = %listed.cksum, bytes = bytes.len(), "an upstream sent wrong bytes; refused");
    Err(Error::new(
        Kind::BadUpstream,
        format!(
            "the upstream `{}` sent bytes for `{}` {} that do not match the checksum in its \
             index; they were refused. Try again, and tell the registry's administrators if it \
             stays so",
            upstream.name(),
            listed.name,
            listed.version
        ),
    ))
}

async fn ask(
    gateway: &Gateway,
    upstream: &Upstream,
    listed: &Listed,
) -> Result<(CrateAnswer, Room)> {
    let largest = gateway.config.limits.mirrored_crate_bytes as u64;
    let budget = &gateway.crates.budget;
    let mut room = budget.reserve(largest.min(FIRST_ROOM_BYTES)).await;
    let trouble = match ask_within(&mut room, largest, upstream, listed).await {
        Ok(answer) => return Ok((answer, room)),
        Err(trouble) => trouble,
    };
    let needed = match trouble.kind {
        TroubleKind::TooLarge { announced } => announced.unwrap_or(largest),
        _ => return Err(trouble.into()),
    };
    if needed > largest || needed <= room.bytes {
        return Err(trouble.into());
    }
    // Not held while waiting for more, or two fills could wait for each other.
    drop(room);
    let mut room = budget.reserve(needed).await;
    Ok((ask_within(&mut room, largest, upstream, listed).await?, room))
}

/// Asks with the room that there is, and as much as is announced if that is to be had at once.
async fn ask_within(
    room: &mut Room,
    largest: u64,
    upstream: &Upstream,
    listed: &Listed,
) -> Result<CrateAnswer, Trouble> {
    let mut fit = |announced: Option<u64>| match announced {
        Some(bytes) if bytes <= largest => room.fit(bytes),
        _ => room.bytes,
    };
    upstream.crate_file(listed, &mut fit).await
}

/// Memory for crate files on their way, so that a burst of large ones waits instead of ending
/// the process. First come, first served; every wait is under a fill's deadline.
#[derive(Debug, Clone)]
pub struct Budget {
    steps: Arc<Semaphore>,
    total: u32,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
struct Room {
    held: Option<OwnedSemaphorePermit>,
    budget: Budget,
    /// What there is room for.
    bytes: u64,
}

const STEP_BYTES: u64 = 64 << 10;

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let total = steps(bytes as u64);
        Self { steps: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits for room for `bytes`; for the whole budget when they are more than that.
    async fn reserve(&self, bytes: u64) -> Room {
        let permits = Arc::clone(&self.steps).acquire_many_owned(self.steps_for(bytes));
        // The semaphore is never closed.
        Room { held: permits.await.ok(), budget: self.clone(), bytes }
    }

    fn steps_for(&self, bytes: u64) -> u32 {
        self.total.min(steps(bytes))
    }
}

impl Room {
    /// Makes this room for `bytes`: gives back what is more, and takes what is missing if that
    /// is to be had at once. Says what there is room for now.
    fn fit(&mut self, bytes: u64) -> u64 {
        let Some(held) = &mut self.held else { return self.bytes };
        let (has, needs) = (held.num_permits(), self.budget.steps_for(bytes) as usize);
        match needs.checked_sub(has).and_then(|missing| u32::try_from(missing).ok()) {
            None => drop(held.split(has - needs)),
            Some(missing) => match Arc::clone(&self.budget.steps).try_acquire_many_owned(missing) {
                Ok(more) => held.merge(more),
                Err(_) => return self.bytes,
            },
        }
        self.bytes = bytes;
        bytes
    }
}

fn steps(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::flows::fixture::{House, Public, memory};
    use crate::model::name::CrateName;
    use crate::stores::upstream::fixture::limits;
    use futures_util::FutureExt;

    const MIB: u64 = 1 << 20;

    #[test]
    fn another_upstream_may_help_out_with_the_same_bytes_only() {
        let listed = |version: &str, bytes: &[u8]| Listed {
            name: CrateName::parse("foo").unwrap(),
            version: version.parse().unwrap(),
            cksum: Checksum::of(bytes),
            yanked: false,
            pubtime: None,
        };
        let file = IndexFile::new(Bytes::new(), vec![listed("1.0.0", b"x")]);
        let yanked_there = Listed { yanked: true, ..listed("1.0.0", b"x") };
        assert!(same_bytes(&file, &yanked_there).is_some());
        assert!(same_bytes(&file, &listed("1.0.0", b"y")).is_none());
        assert!(same_bytes(&file, &listed("1.0.1", b"x")).is_none());
    }

    #[tokio::test]
    async fn two_hundred_small_fills_fit_where_a_few_large_ones_do() {
        let budget = Budget::new(256 << 20);
        let mut small = Vec::new();
        for _ in 0..200 {
            let room = budget.reserve(FIRST_ROOM_BYTES);
            small.push(timeout(Duration::from_secs(5), room).await.unwrap());
        }
        assert!(budget.reserve(100 * MIB).now_or_never().is_none());
        small.truncate(100);
        assert!(budget.reserve(100 * MIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn more_than_the_budget_takes_the_whole_of_it() {
        let budget = Budget::new(10 << 20);
        let all = budget.reserve(50 * MIB).now_or_never().unwrap();
        assert!(budget.reserve(1).now_or_never().is_none());
        drop(all);
        assert!(budget.reserve(u64::MAX).now_or_never().is_some());
    }

    #[tokio::test]
    async fn room_is_given_back_or_taken_when_the_size_is_known() {
        let budget = Budget::new(10 << 20);
        let mut room = budget.reserve(10 * MIB).await;
        assert_eq!(room.fit(100), 100);
        let other = budget.reserve(5 * MIB).now_or_never().unwrap();
        assert!(budget.reserve(10 * MIB).now_or_never().is_none());
        assert_eq!(room.fit(4 * MIB), 4 * MIB);
        assert_eq!(room.fit(6 * MIB), 4 * MIB, "there is no more");
        drop(other);
        assert_eq!(room.fit(20 * MIB), 20 * MIB, "as far as the whole goes");
        assert!(budget.reserve(1).now_or_never().is_none());
        drop(room);
        assert!(budget.reserve(10 * MIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_large_crate_file_waits_for_memory_without_an_open_answer() {
        let public = Public::start(&vec![7; 3 << 20]).await;
        let limits = Limits { fill_memory_bytes: 4 << 20, ..limits() };
        let house = House::open(&memory(), &[&public], limits).await;
        let budget = &house.gateway.crates.budget;
        let others = budget.reserve(2 * MIB).await;
        let waiting = house.foo();
        let freed = async {
            // One who waits has taken what there is.
            while budget.steps.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            drop(others);
        };
        let (answer, ()) = tokio::join!(waiting, freed);
        assert_eq!((answer.1, public.fills()), ("miss", 2));
    }
}
