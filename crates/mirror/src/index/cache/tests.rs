//! What memory knows of index files, and what of it counts.

use super::*;
use bytes::Bytes;

fn name(text: &str) -> CrateName {
    text.parse().unwrap()
}

fn file(outcome: Outcome, seconds: u64) -> CachedLookup {
    CachedLookup {
        answer: Ok(Some(Arc::new(IndexFile::new(Bytes::from_static(b"{}\n"), Vec::new())))),
        outcome,
        until: Some(Instant::now() + Duration::from_secs(seconds)),
        body: None,
        judging: Arc::default(),
        read_from: None,
    }
}

fn absent(seconds: u64) -> CachedLookup {
    CachedLookup::absent(Some(Instant::now() + Duration::from_secs(seconds)))
}

fn put(cache: &IndexCache, generation: Option<u64>, text: &str, at: Place, known: CachedLookup) {
    let name = name(text);
    cache.put(&name.key(), generation, (&name, at), known, || Ok(generation));
}

fn outcome(cache: &IndexCache, text: &str, chain: usize) -> Option<Outcome> {
    let name = name(text);
    cache.answer(&name.key(), &name, chain).map(|answer| answer.known.outcome)
}

#[test]
fn an_answer_is_known_only_when_the_whole_chain_before_it_is() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    assert_eq!(outcome(&cache, "foo", 2), None);
    put(&cache, None, "foo", Place::Upstream(1), file(Outcome::Miss, 60));
    assert_eq!(outcome(&cache, "foo", 2), None);
    put(&cache, None, "foo", Place::Upstream(0), absent(60));
    assert_eq!(outcome(&cache, "foo", 2), Some(Outcome::Hit));
    assert_eq!(outcome(&cache, "foo", 1), Some(Outcome::Negative));
    put(&cache, None, "foo", Place::Upstream(0), absent(0));
    assert_eq!(outcome(&cache, "foo", 2), None);
}

#[test]
fn a_failure_of_the_first_upstream_hides_the_second() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    put(&cache, None, "foo", Place::Upstream(1), file(Outcome::Miss, 60));
    let failed = CachedLookup::failed(Error::unavailable("down"), Duration::from_secs(60));
    put(&cache, None, "foo", Place::Upstream(0), failed);
    assert_eq!(outcome(&cache, "foo", 2), Some(Outcome::Error));
    put(&cache, None, "foo", Place::Upstream(0), file(Outcome::Stale, 60));
    assert_eq!(outcome(&cache, "foo", 2), Some(Outcome::Stale));
}

#[test]
fn forgetting_a_name_forgets_all_its_spellings() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    for spelling in ["foo-bar", "foo_bar"] {
        put(&cache, None, spelling, Place::Upstream(0), absent(60));
        assert_eq!(outcome(&cache, spelling, 1), Some(Outcome::Negative));
    }
    cache.forget(&name("Foo_Bar").key());
    for spelling in ["foo-bar", "foo_bar"] {
        assert_eq!(outcome(&cache, spelling, 1), None);
    }
}

#[test]
fn nothing_of_another_generation_stays() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    put(&cache, None, "foo-bar", Place::Upstream(0), absent(60));
    put(&cache, Some(7), "foo_bar", Place::Hosted, file(Outcome::Miss, 60));
    assert_eq!(outcome(&cache, "foo-bar", 1), None);
    assert_eq!(outcome(&cache, "foo_bar", 1), Some(Outcome::Hit));
    put(&cache, Some(8), "foo-bar", Place::Hosted, CachedLookup::absent(None));
    assert_eq!(outcome(&cache, "foo_bar", 1), None);
    assert_eq!(outcome(&cache, "foo-bar", 1), Some(Outcome::Negative));
}

#[test]
fn what_is_overtaken_is_never_seen() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    let (foo, place) = (name("foo"), Place::Hosted);
    put(&cache, Some(7), "foo", place, file(Outcome::Miss, 60));
    let look = || outcome(&cache, "foo", 1);
    assert_eq!(look(), Some(Outcome::Hit));
    for now in [Ok(Some(8)), Ok(None), Err(Error::unavailable("the catalog"))] {
        let read = || {
            // It stands in memory, and was not compared yet.
            assert_eq!(look(), None);
            now
        };
        cache.put(&foo.key(), Some(7), (&foo, place), file(Outcome::Miss, 60), read);
        assert_eq!(look(), None);
        assert!(cache.remember(&foo.key(), &foo, place).is_none());
    }
}

#[test]
fn a_shelf_is_bounded_and_loses_the_oldest() {
    let mut shelf = None;
    for at in 0..2 * MAX_SLOTS {
        let slot = Slot { name: name("foo"), place: Place::Upstream(at), known: absent(60) };
        shelf = Some(Shelf::with(shelf.as_ref(), None, slot));
    }
    let places: Vec<_> = shelf.unwrap().slots.iter().map(|slot| slot.place).collect();
    assert_eq!(places.len(), MAX_SLOTS);
    assert_eq!(places.last(), Some(&Place::Upstream(2 * MAX_SLOTS - 1)));
}

#[test]
fn names_that_nobody_has_push_out_no_index_file() {
    let cache = IndexCache::new(64 << 10, 1 << 20);
    let files = ["a", "b", "c"];
    for file_name in files {
        put(&cache, None, file_name, Place::Upstream(0), file(Outcome::Miss, 60));
        assert_eq!(outcome(&cache, file_name, 1), Some(Outcome::Hit));
    }
    for n in 0..10_000 {
        put(&cache, None, &format!("none-{n}"), Place::Upstream(0), absent(60));
    }
    // What is too much is given up bit by bit.
    for _ in 0..1000 {
        cache.absent();
    }
    let (names, bytes) = cache.absent();
    assert!(names > 0 && bytes <= (64 << 10) / ABSENT_SHARE, "{names} names, {bytes} bytes");
    assert!(bytes >= names * 890, "{bytes} bytes for {names} names");
    for file_name in files {
        assert_eq!(outcome(&cache, file_name, 1), Some(Outcome::Hit));
    }
}

#[test]
fn names_that_nobody_has_are_gone_when_their_time_is_over() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    put(&cache, None, "kept", Place::Upstream(0), absent(3600));
    for n in 0..100 {
        put(&cache, None, &format!("none-{n}"), Place::Upstream(0), absent(0));
    }
    let patience = Instant::now() + Duration::from_secs(30);
    while cache.absent().0 > 1 && Instant::now() < patience {
        std::thread::yield_now();
    }
    assert_eq!(cache.absent().0, 1);
    assert_eq!(outcome(&cache, "kept", 1), Some(Outcome::Negative));
}

#[test]
fn what_was_absent_at_other_places_is_known_when_a_file_comes() {
    let cache = IndexCache::new(1 << 20, 1 << 20);
    put(&cache, None, "foo-bar", Place::Upstream(0), absent(60));
    put(&cache, None, "foo_bar", Place::Upstream(0), absent(60));
    assert_eq!(cache.absent().0, 1);
    put(&cache, None, "foo-bar", Place::Upstream(1), file(Outcome::Miss, 60));
    assert_eq!(outcome(&cache, "foo-bar", 2), Some(Outcome::Hit));
    assert_eq!(outcome(&cache, "foo_bar", 1), Some(Outcome::Negative));
    assert_eq!(cache.absent().0, 0);
}

/// Puts a file of so many bytes, and gives what an answer would send of it.
fn put_counted(cache: &IndexCache, text: &str, bytes: usize) -> Bytes {
    let made = cache.counted(IndexFile::new(Bytes::from(vec![b'x'; bytes]), Vec::new()));
    let sent = made.identity.bytes.clone();
    let known = CachedLookup { answer: Ok(Some(made)), ..file(Outcome::Miss, 60) };
    put(cache, None, text, Place::Upstream(0), known);
    sent
}

#[tokio::test]
async fn files_that_are_only_kept_make_room_for_others() {
    let cache = IndexCache::new(64 << 10, 0);
    for text in ["a", "b", "c"] {
        drop(put_counted(&cache, text, 20 << 10));
    }
    assert!(cache.taken() > 60 << 10);
    drop(put_counted(&cache, "d", 4 << 10));
    assert!(cache.tally.excess() > 0);
    cache.admit(Duration::from_secs(60)).await.unwrap();
    assert_eq!(cache.tally.excess(), 0);
}

#[tokio::test]
async fn answers_under_way_count_until_they_are_sent() {
    let cache = IndexCache::new(0, 64 << 10);
    let sent = put_counted(&cache, "a", 70 << 10);
    cache.forget(&name("a").key());
    let refused = cache.admit(Duration::ZERO).await.unwrap_err();
    assert!(refused.retry_after.is_some());
    let (admitted, ()) = tokio::join!(cache.admit(Duration::from_secs(60)), async {
        tokio::task::yield_now().await;
        drop(sent);
    });
    admitted.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_part_of_what_is_kept_is_known_while_there_is_no_memory() {
    let cache = IndexCache::new(64 << 10, 64 << 10);
    for text in ["a", "b", "c", "d"] {
        drop(put_counted(&cache, text, 8 << 10));
    }
    let unread = cache.tally.count(Bytes::from(vec![0; 128 << 10]));
    assert!(cache.admit(Duration::from_secs(5)).await.is_err());
    let known = |text| cache.remember(&name(text).key(), &name(text), Place::Upstream(0)).is_some();
    assert!(["a", "b", "c", "d"].into_iter().any(known), "some go on being served");
    assert!(!["a", "b", "c", "d"].into_iter().all(known));
    drop(unread);
    cache.admit(Duration::ZERO).await.unwrap();
}

#[test]
fn what_arrives_counts_and_takes_the_place_of_what_is_only_kept() {
    let cache = IndexCache::new(64 << 10, 0);
    for text in ["a", "b", "c"] {
        drop(put_counted(&cache, text, 18 << 10));
    }
    let mut arriving = cache.arriving();
    assert!(arriving.takes(40 << 10) && arriving.takes(20 << 10));
    let kept = |text| cache.remember(&name(text).key(), &name(text), Place::Upstream(0)).is_some();
    assert!(!["a", "b", "c"].into_iter().all(kept));
    assert!(cache.taken() >= 60 << 10);
    assert!(!arriving.takes(200 << 10), "more than there ever was");
}

#[test]
fn what_arrives_is_refused_while_answers_take_all_memory() {
    let cache = IndexCache::new(0, 64 << 10);
    let sent = put_counted(&cache, "a", 60 << 10);
    assert!(!cache.arriving().takes(100 << 10));
    drop(sent);
}
