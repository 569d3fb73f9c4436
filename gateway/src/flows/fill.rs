//! Bringing a crate file into memory: from the store, else from an upstream. Runs in its own task
//! (see `flights`), so that whoever asked may leave.

use crate::flows::crate_file::{Content, FIRST_ROOM_BYTES, Got, Source};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::flows::pin_cache::Wanted;
use crate::flows::reading::{Found, Reading, Unread};
use crate::flows::{mirroring, pinning};
use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::memory_budget::{MemoryPermit, bytes_holding};
use cratehouse_journal::catalog::VersionRow;
use cratehouse_mirror::upstream::{
    CrateAnswer, CratePlace, Turn, Upstream, UpstreamError, UpstreamErrorKind,
};
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_storage::blobs::{Origin, has_checksum};

/// How long a fill waits for the store, which it can do without.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// Reads a hosted crate file.
///
/// # Errors
/// [`Kind::Internal`] and an alarm when the bytes are lost; that the store does not answer; that
/// there is no room in memory.
pub async fn hosted(gateway: Arc<Gateway>, row: VersionRow) -> Result<Got> {
    let cksum = row.line.cksum;
    let (likely, largest, wait) = (row.size, row.size, gateway.config.limits.fill);
    let origin = Origin::Hosted;
    let reading = Reading { gateway: &gateway, origin, cksum: &cksum, likely, largest, wait };
    let lost = match reading.find().await? {
        Found::File(Content::InStore { size, .. }) if size != row.size => "of another size",
        Found::File(content) => return Ok(Got { content, cksum, source: Source::Store }),
        Found::Nothing => "missing",
        Found::Damaged => "damaged",
        Found::TooLarge { .. } => "of another size",
    };
    gateway.metrics.alarms.with_label_values(&["hosted_blob_missing"]).inc();
    if let Some(suppressed) = gateway.mirror_lines.lost.admit() {
        tracing::error!(krate = %row.line.name, version = %row.line.vers, %cksum, lost, suppressed,
            "the bytes of a hosted version are lost; restore the object from a backup");
    }
    Err(Error::new(
        Kind::Internal,
        format!(
            "the registry has lost the bytes of `{}` {}; its administrators must restore them",
            row.line.name, row.line.vers
        ),
    ))
}

/// Finds a mirrored crate file in the store or fills it from the chain, and pins it.
///
/// # Errors
/// Those of the upstreams; that the bytes are wrong or that nobody has them (502); that the
/// checksum differs from the pin (403); that there is no room in memory. A store that fails is
/// none, but for the pin.
pub async fn mirrored(gateway: Arc<Gateway>, client: ClientKey, wanted: Wanted) -> Result<Got> {
    let (cksum, crates) = (wanted.listed.cksum, &gateway.crates);
    if let Some(content) = stored(&gateway, &wanted).await? {
        return Ok(Got { content, cksum, source: Source::Store });
    }
    pinning::refuse_if_pinned_otherwise(&gateway, &wanted).await?;
    let (bytes, mut room) = from_chain(&gateway, client, &wanted).await?;
    let size = bytes.len() as u64;
    room.fit(size);
    pinning::pin(&gateway, &wanted).await?;
    let content = if crates.takes_whole(size) {
        let shared = crates.share(cksum, bytes.clone(), room);
        store_later(&gateway, wanted, bytes, shared.clone()).await;
        Content::Whole(shared)
    } else if store(&gateway, &wanted, bytes.clone()).await {
        Content::InStore { size, at_hand: Some(bytes_holding(bytes, room)) }
    } else {
        Content::Whole(crates.share(cksum, bytes, room))
    };
    Ok(Got { content, cksum, source: Source::Upstream })
}

/// A mirrored crate file that is in memory or in the store; upstreams are not asked.
///
/// # Errors
/// That there is no room in memory.
pub(super) async fn held(gateway: &Gateway, wanted: &Wanted) -> Result<Option<Got>> {
    let cksum = wanted.listed.cksum;
    if let Some(bytes) = gateway.crates.at_hand(&cksum) {
        return Ok(Some(Got { content: Content::Whole(bytes), cksum, source: Source::Memory }));
    }
    let content = stored(gateway, wanted).await?;
    Ok(content.map(|content| Got { content, cksum, source: Source::Store }))
}

/// Keeps verified bytes while the asker goes on. They take their room, which `shared` holds, until
/// then and no longer: a store in memory keeps what it is given.
async fn store_later(gateway: &Arc<Gateway>, wanted: Wanted, bytes: Bytes, shared: Bytes) {
    let turn = gateway.write_behind.turn(wanted.listed.cksum).await;
    let owned = Arc::clone(gateway);
    gateway.write_behind.follow(turn, async move {
        store(&owned, &wanted, bytes).await;
        drop(shared);
    });
}

/// The store's copy of a mirrored crate file, if it has a good one and says so in time.
async fn stored(gateway: &Gateway, wanted: &Wanted) -> Result<Option<Content>> {
    let cksum = &wanted.listed.cksum;
    if gateway.crates.damaged.contains_key(cksum) {
        return Ok(None);
    }
    let largest = gateway.config.limits.mirrored_crate_bytes as u64;
    let (origin, likely, wait) = (Origin::Mirrored, FIRST_ROOM_BYTES, STORE_WAIT);
    match (Reading { gateway, origin, cksum, likely, largest, wait }).find().await {
        Ok(Found::File(content)) => return Ok(Some(content)),
        Ok(Found::Nothing) => {}
        Ok(Found::Damaged) => {
            gateway.metrics.alarms.with_label_values(&["damaged_blob"]).inc();
            if let Some(suppressed) = gateway.mirror_lines.damaged_copy.admit() {
                tracing::error!(%wanted, %cksum, suppressed,
                    "the store's copy is damaged; it is filled again");
            }
        }
        Ok(Found::TooLarge { bytes }) => {
            tracing::warn!(%wanted, bytes, "the store's copy exceeds limits.mirrored_crate_bytes");
        }
        Err(Unread::NoRoom(error)) => return Err(error),
        Err(Unread::Store(error)) => {
            if let Some(suppressed) = gateway.mirror_lines.store.admit() {
                tracing::warn!(%wanted, error = %error.chain(), suppressed,
                    "the store failed; asking upstream");
            }
        }
    }
    Ok(None)
}

/// Keeps verified bytes, and says whether it did. A store that fails costs the next replica a fill,
/// and nobody a download.
async fn store(gateway: &Gateway, wanted: &Wanted, bytes: Bytes) -> bool {
    let cksum = &wanted.listed.cksum;
    match timeout(STORE_WAIT, gateway.blobs.put(Origin::Mirrored, cksum, bytes)).await {
        Ok(Ok(())) => {
            gateway.crates.damaged.invalidate(cksum);
            return true;
        }
        Ok(Err(error)) => tracing::warn!(%wanted, %error, "a mirrored crate file was not stored"),
        Err(_) => tracing::warn!(%wanted, "a mirrored crate file was not stored in time"),
    }
    false
}

/// The bytes from the upstream that lists the version. One that lists a version without having
/// its bytes (a filtered mirror) passes it on to the next that lists the same bytes.
async fn from_chain(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    wanted: &Wanted,
) -> Result<(Bytes, MemoryPermit)> {
    for (at, upstream) in gateway.upstreams.iter().enumerate().skip(wanted.at) {
        let Some(listed) = listed_by(gateway, client, at, wanted).await? else { continue };
        if let Some(filled) = from_upstream(gateway, client, upstream, &listed).await? {
            return Ok(filled);
        }
        if let Some(suppressed) = gateway.mirror_lines.not_at_dl.admit() {
            let upstream = upstream.name();
            tracing::info!(upstream, %wanted, suppressed, "in its index, but 404 at its `dl`");
        }
    }
    Err(Error::new(
        Kind::BadUpstream,
        format!(
            "{wanted} is in the index of the upstream `{}`, but its crate file is not there, and \
             no other upstream has it; use another version or complete that mirror",
            wanted.upstream(&gateway.upstreams)
        ),
    ))
}

async fn listed_by(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    at: usize,
    wanted: &Wanted,
) -> Result<Option<Listed>> {
    if at == wanted.at {
        return Ok(Some(wanted.listed.clone()));
    }
    let file = mirroring::mirrored_at(gateway, client, &wanted.listed.name, at).await?;
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
    client: ClientKey,
    upstream: &Upstream,
    listed: &Listed,
) -> Result<Option<(Bytes, MemoryPermit)>> {
    let (answer, room) = ask(gateway, client, upstream, listed).await?;
    let CrateAnswer::Found(bytes) = answer else { return Ok(None) };
    if has_checksum(&bytes, &listed.cksum).await {
        return Ok(Some((bytes, room)));
    }
    gateway.metrics.alarms.with_label_values(&["wrong_bytes"]).inc();
    if let Some(suppressed) = gateway.mirror_lines.wrong_bytes.admit() {
        tracing::error!(upstream = upstream.name(), krate = %listed.name,
            version = %listed.version, cksum = %listed.cksum, bytes = bytes.len(), suppressed,
            "an upstream sent wrong bytes; refused");
    }
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
    client: ClientKey,
    upstream: &Upstream,
    listed: &Listed,
) -> Result<(CrateAnswer, MemoryPermit)> {
    let largest = gateway.config.limits.mirrored_crate_bytes as u64;
    let (crates, turn) = (&gateway.crates, Turn { client, held: false });
    // In this order: those that wait for their turn have no memory that others could use.
    let place = upstream.crate_place(turn).await?;
    let mut room = crates.room(largest.min(FIRST_ROOM_BYTES)).await?;
    let trouble = match ask_within(&mut room, largest, upstream, &place, listed).await {
        Ok(answer) => return Ok((answer, room)),
        Err(trouble) => trouble,
    };
    let needed = match trouble.kind {
        UpstreamErrorKind::TooLarge { announced } | UpstreamErrorKind::NoRoom { announced } => {
            announced.unwrap_or(largest)
        }
        _ => return Err(trouble.into()),
    };
    if needed > largest || needed <= room.bytes() {
        return Err(trouble.into());
    }
    // Not held while waiting for more, or two fills could wait for each other.
    drop(room);
    let mut room = crates.room(needed).await?;
    Ok((ask_within(&mut room, largest, upstream, &place, listed).await?, room))
}

/// Asks with the room that there is, and as much as is announced if that is to be had at once.
async fn ask_within(
    room: &mut MemoryPermit,
    largest: u64,
    upstream: &Upstream,
    place: &CratePlace,
    listed: &Listed,
) -> Result<CrateAnswer, UpstreamError> {
    let mut fit = |announced: Option<u64>| match announced {
        Some(bytes) if bytes <= largest => room.fit(bytes),
        _ => room.bytes(),
    };
    upstream.crate_file(place, listed, &mut fit).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::flows::download::{Part, download_for};
    use crate::flows::fixture::{Public, TestGateway, limits, memory, name};
    use cratehouse_core::checksum::Checksum;
    use cratehouse_package::name::CrateName;

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
    async fn a_fill_that_waits_for_its_turn_has_no_memory_yet() {
        let public = Public::start(b"bytes").await;
        let house = TestGateway::open(&memory(), &[&public], limits()).await;
        let upstream = &house.gateway.upstreams[0];
        let mut places = Vec::new();
        for _ in 0..limits().upstream_requests {
            places.push(upstream.crate_place(Turn::OWN).await.unwrap());
        }
        let its_turn_comes = async {
            while upstream.crates_waiting() == 0 {
                tokio::task::yield_now().await;
            }
            let taken = house.taken();
            drop(places);
            taken
        };
        let (answer, taken) = tokio::join!(house.foo(), its_turn_comes);
        assert_eq!((taken, answer.1, answer.0.unwrap().as_ref()), (0, "miss", &b"bytes"[..]));
    }

    #[tokio::test]
    async fn what_another_upstream_lists_is_asked_on_behalf_of_the_client() {
        let (first, second) = (Public::start(b"bytes").await, Public::start(b"bytes").await);
        first.set(|state| state.sent = None);
        let house = TestGateway::open(&memory(), &[&first, &second], limits()).await;
        let upstream = &house.gateway.upstreams[1];
        let mut places = Vec::new();
        for _ in 0..limits().upstream_requests {
            places.push(upstream.index_place().await);
        }
        let client = ClientKey::of([192, 0, 2, 1].into());
        let (name, version) = (name("Foo"), "1.0.0".parse().unwrap());
        let downloading = download_for(&house.gateway, client, &name, &version, Part::Bytes);
        let its_turn_comes = async {
            while upstream.index_waiting().is_empty() {
                tokio::task::yield_now().await;
            }
            let waiting = upstream.index_waiting();
            drop(places);
            waiting
        };
        let (download, waiting) = tokio::join!(downloading, its_turn_comes);
        assert_eq!((waiting, download.unwrap().cksum), (vec![client], Checksum::of(b"bytes")));
    }

    #[tokio::test]
    async fn a_large_crate_file_waits_for_memory_without_an_open_answer() {
        let public = Public::start(&vec![7; 3 << 20]).await;
        let limits = Limits { fill_memory_bytes: 4 << 20, ..limits() };
        let house = TestGateway::open(&memory(), &[&public], limits).await;
        let crates = &house.gateway.crates;
        let others = crates.room(10 * MIB).await.unwrap();
        let waiting = house.foo();
        let freed = async {
            // One who waits has taken what there is.
            while crates.taken() < 12 * MIB {
                tokio::task::yield_now().await;
            }
            drop(others);
        };
        let (answer, ()) = tokio::join!(waiting, freed);
        assert_eq!((answer.1, public.fills()), ("miss", 2));
    }
}
