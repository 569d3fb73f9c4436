//! The memory for crate files: what is kept, what is counted, and who waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::upstream::{UpstreamError, UpstreamErrorKind};

const LONG: Duration = Duration::from_secs(60);

fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> (Kind, String) {
    let error = answer.unwrap_err();
    (error.kind, error.message)
}

fn cache(crates_bytes: u64) -> CrateCache {
    CrateCache::new(
        Memory::new(crates_bytes, 1 << 20, LONG, Metrics::new().unwrap()),
        SingleFlight::default(),
    )
}

async fn filled(bytes: Bytes) -> Result<Got> {
    tokio::task::yield_now().await;
    let cksum = Checksum::of(&bytes);
    Ok(Got { content: Content::Whole(bytes), cksum, source: Source::Upstream })
}

async fn never() -> Result<Got> {
    panic!("loaded again")
}

#[tokio::test]
async fn askers_at_the_same_time_share_one_fill_and_later_ones_hit() {
    let cache = cache(1 << 20);
    let key = (Origin::Mirrored, Checksum::of(b"x"));
    let fills = AtomicUsize::new(0);
    let ask = || {
        cache.obtain(ClientKey::Exempt, key, LONG, || {
            fills.fetch_add(1, Ordering::SeqCst);
            filled(Bytes::from_static(b"x"))
        })
    };
    let (a, b) = tokio::join!(ask(), ask());
    assert_eq!((a.unwrap().source, b.unwrap().source), (Source::Upstream, Source::Upstream));
    assert_eq!(ask().await.unwrap().source, Source::Memory);
    assert_eq!(fills.load(Ordering::SeqCst), 1);

    cache.forget(&key.1);
    assert_eq!(ask().await.unwrap().source, Source::Upstream);
}

#[tokio::test]
async fn a_fill_outlives_its_asker_and_lands_in_memory() {
    let cache = cache(1 << 20);
    let key = (Origin::Mirrored, Checksum::of(b"x"));
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let slow = Mutex::new(Some(Box::pin(async move {
        wait.await.unwrap();
        filled(Bytes::from_static(b"x")).await
    })));
    let asker = cache.obtain(ClientKey::Exempt, key, LONG, || {
        let slow = slow.lock().unwrap().take();
        async move { slow.expect("one load").await }
    });
    assert!(timeout(Duration::from_millis(1), asker).await.is_err());
    go.send(()).unwrap();
    let got = cache.obtain(ClientKey::Exempt, key, LONG, never).await.unwrap();
    assert_eq!(got.content, Content::Whole("x".into()));
    assert_eq!(
        cache.obtain(ClientKey::Exempt, key, LONG, never).await.unwrap().source,
        Source::Memory
    );
}

#[tokio::test]
async fn a_fill_has_its_own_deadline_and_a_broken_one_is_an_error() {
    let cache = cache(1 << 20);
    let key = (Origin::Mirrored, Checksum::of(b"x"));
    let stuck =
        cache.obtain(ClientKey::Exempt, key, Duration::from_millis(1), std::future::pending).await;
    assert_eq!(refusal(stuck).0, Kind::UpstreamTimeout);
    assert_eq!(refusal(cache.obtain(ClientKey::Exempt, key, LONG, never).await).0, Kind::Internal);
}

#[tokio::test]
async fn a_crate_file_that_would_crowd_out_the_others_is_not_kept() {
    let cache = cache(8 << 10);
    for (size, kept) in [(1 << 10, true), ((1 << 10) + 1, false)] {
        let bytes = Bytes::from(vec![0; size]);
        let key = (Origin::Hosted, Checksum::of(&bytes));
        cache.obtain(ClientKey::Exempt, key, LONG, || filled(bytes.clone())).await.unwrap();
        let again =
            cache.obtain(ClientKey::Exempt, key, LONG, || filled(bytes.clone())).await.unwrap();
        assert_eq!(again.source == Source::Memory, kept, "{size}");
    }
}

const KIB: u64 = 1 << 10;

/// A cache of `keeps` KiB in a budget of 64 KiB, where waiting is given up at once.
fn small(keeps: u64) -> CrateCache {
    let (capacity, more) = (keeps * KIB, (64 - keeps) * KIB);
    CrateCache::new(
        Memory::new(capacity, more, Duration::ZERO, Metrics::new().unwrap()),
        SingleFlight::default(),
    )
}

/// Brings a file of so many KiB into memory, as a fill does.
async fn bring(cache: &CrateCache, fill: u8, kib: u64) -> Result<Bytes> {
    let bytes = Bytes::from(vec![fill; (kib * KIB) as usize]);
    let cksum = Checksum::of(&bytes);
    let permit = cache.reserve(kib * KIB).await?;
    let content = Content::Whole(cache.share(cksum, bytes, permit));
    let load = || {
        let content = content.clone();
        async move { Ok(Got { content, cksum, source: Source::Store }) }
    };
    let got = cache.obtain(ClientKey::Exempt, (Origin::Hosted, cksum), LONG, load).await?;
    Ok(got.content.at_hand().unwrap().clone())
}

async fn until_taken(cache: &CrateCache, kib: u64) {
    let settled = async {
        while cache.taken() != kib * KIB {
            cache.memory.files.run_pending_tasks();
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, settled).await.unwrap();
}

#[tokio::test]
async fn bytes_are_counted_until_neither_the_cache_nor_an_answer_has_them() {
    let cache = small(48);
    let bytes = bring(&cache, 1, 3).await.unwrap();
    let part = bytes.slice(..10);
    drop(bytes);
    cache.forget(&Checksum::of(&vec![1; 3 << 10]));
    until_taken(&cache, 3).await;
    assert_eq!(part, vec![1; 10]);
    drop(part);
    until_taken(&cache, 0).await;
}

#[tokio::test]
async fn what_is_only_kept_makes_room_and_what_is_being_sent_does_not() {
    let cache = small(64);
    let sent = bring(&cache, 0, 8).await.unwrap();
    for fill in 1..8 {
        bring(&cache, fill, 8).await.unwrap();
    }
    assert!(cache.taken() > 56 * KIB, "{}", cache.taken());
    let permit = async {
        loop {
            match cache.try_reserve(56 * KIB) {
                Some(permit) => return permit,
                None => tokio::task::yield_now().await, // the cache lets go a little later
            }
        }
    };
    let permit = timeout(LONG, permit).await.unwrap();
    assert_eq!((sent.len(), cache.taken()), (8 << 10, 64 * KIB));
    let (kind, _) = refusal(cache.reserve(KIB).await);
    assert_eq!((kind, cache.memory.metrics.crate_memory_refusals.get()), (Kind::Unavailable, 1));
    drop(sent);
    assert!(cache.reserve(KIB).await.is_ok());
    drop(permit);
}

#[tokio::test]
async fn one_who_waits_gets_what_an_answer_gives_back() {
    let cache = CrateCache::new(
        Memory::new(0, 64 * KIB, LONG, Metrics::new().unwrap()),
        SingleFlight::default(),
    );
    let sent = bring(&cache, 1, 60).await.unwrap();
    let waiting = cache.reserve(8 * KIB);
    let sending = async {
        tokio::task::yield_now().await;
        drop(sent);
    };
    let (permit, ()) = tokio::join!(waiting, sending);
    assert_eq!(permit.unwrap().bytes(), 8 * KIB);
}

#[tokio::test]
async fn a_file_that_was_given_up_while_it_is_sent_is_found_again_instead_of_read_again() {
    let cache = small(48);
    let sent = bring(&cache, 1, 3).await.unwrap();
    let key = (Origin::Hosted, Checksum::of(&sent));
    cache.forget(&key.1);
    assert!(cache.memory.get(&key.1).is_none());
    let again = cache.obtain(ClientKey::Exempt, key, LONG, never).await.unwrap();
    assert_eq!(again.content.at_hand().unwrap().as_ptr(), sent.as_ptr());
    assert_eq!(cache.taken(), 3 * KIB);
    drop(again);
    assert!(cache.memory.get(&key.1).is_some(), "it is kept again");
    cache.forget(&key.1);
    drop(sent);
    until_taken(&cache, 0).await;
    assert!(cache.memory.shares.all().is_empty());
}

#[tokio::test]
async fn a_request_that_waited_in_the_line_of_another_client_loads_by_itself() {
    let cache = cache(1 << 20);
    let key = (Origin::Mirrored, Checksum::of(b"x"));
    let client = |n: u8| ClientKey::of([192, 0, 2, n].into());
    let loads = AtomicUsize::new(0);
    let crowded = || {
        loads.fetch_add(1, Ordering::SeqCst);
        async { Err(UpstreamError::new("up", UpstreamErrorKind::Crowded, "").into()) }
    };
    let good = || {
        loads.fetch_add(1, Ordering::SeqCst);
        filled(Bytes::from_static(b"x"))
    };
    let first = cache.obtain(client(1), key, LONG, crowded);
    let second = cache.obtain(client(2), key, LONG, good);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().kind, Kind::Unavailable, "it began that load itself");
    assert!(matches!(second.unwrap().content, Content::Whole(bytes) if bytes == "x"));
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_an_upstream_refused_is_not_asked_again_by_those_who_waited_with_another() {
    let cache = cache(1 << 20);
    let key = (Origin::Mirrored, Checksum::of(b"x"));
    let loads = AtomicUsize::new(0);
    let busy = || {
        loads.fetch_add(1, Ordering::SeqCst);
        async { Err(UpstreamError::new("up", UpstreamErrorKind::Busy, "503").into()) }
    };
    let asks = (0..8).map(|n| cache.obtain(ClientKey::of([192, 0, 2, n].into()), key, LONG, busy));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(e) if e.kind == Kind::Unavailable)));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}
