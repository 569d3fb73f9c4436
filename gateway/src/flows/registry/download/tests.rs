//! Downloads through a gateway in memory, with upstreams on the loopback interface.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use object_store::ObjectStore;
use object_store::path::Path;

use super::*;
use crate::config::Limits;
use crate::flows::fixture::{Public, State, TestGateway, limits, line, memory, name, version};
use cratehouse_journal::commands::Command;
use cratehouse_package::index::{IndexLine, Listed};
use cratehouse_package::published::Metadata;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

fn row(krate: &str, vers: &str, removed: bool) -> VersionRow {
    let line = IndexLine { yanked: true, ..line(krate, vers, b"x") };
    VersionRow { line, size: 1, metadata: Metadata::default(), removed }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> (Kind, String) {
    let error = answer.unwrap_err();
    (error.kind, error.message)
}

// Decisions.

#[test]
fn a_hosted_version_must_be_spelled_as_it_was_published() {
    let find = |asked: &str, vers: &str, removed| {
        let row = row("Foo-Bar", "1.2.3+b.1", removed);
        hosted_version(&name("Foo-Bar"), Some(row), &name(asked), &version(vers))
    };
    assert!(find("Foo-Bar", "1.2.3+b.1", false).is_ok(), "yanked ones are downloadable");
    for variant in ["foo-bar", "Foo_Bar"] {
        let (kind, message) = refusal(find(variant, "1.2.3+b.1", false));
        assert_eq!(kind, Kind::Absent);
        assert!(message.contains("`Foo-Bar`"), "{message}");
    }
    for other in ["1.2.3", "1.2.3+b.2"] {
        assert_eq!(refusal(find("Foo-Bar", other, false)).0, Kind::Absent);
    }
    let (kind, message) = refusal(find("Foo-Bar", "1.2.3+b.1", true));
    assert_eq!(kind, Kind::Absent);
    assert!(message.contains("removed by an administrator"), "{message}");
    let none = hosted_version(&name("foo"), None, &name("foo"), &version("1.0.0"));
    assert_eq!(refusal(none).0, Kind::Absent);
}

#[test]
fn a_mirrored_version_must_be_spelled_as_it_is_listed() {
    let (name_listed, cksum) = (name("Foo-Bar"), Checksum::of(b"x"));
    let listed = Listed {
        name: name_listed,
        version: version("1.2.3+b.1"),
        cksum,
        yanked: true,
        pubtime: None,
    };
    let file = IndexFile::new(Bytes::new(), vec![listed]);
    let find = |asked: &str, vers: &str| mirrored_version(2, &file, &name(asked), &version(vers));
    assert_eq!(find("Foo-Bar", "1.2.3+b.1").unwrap().at, 2);
    for (asked, vers) in [("foo-bar", "1.2.3+b.1"), ("Foo_Bar", "1.2.3+b.1"), ("Foo-Bar", "1.2.3")]
    {
        assert_eq!(refusal(find(asked, vers)).0, Kind::Absent);
    }
}

#[test]
fn each_answer_has_one_outcome() {
    assert_eq!(outcome(Ok(Source::Memory)), "hit");
    assert_eq!(outcome(Ok(Source::Store)), "store");
    assert_eq!(outcome(Ok(Source::Upstream)), "miss");
    assert_eq!(outcome(Err(&Error::absent("no"))), "negative");
    assert_eq!(outcome(Err(&Error::forbidden("no"))), "error");
    assert_eq!(outcome(Err(&on_its_way(&name("x"), &version("1.0.0")))), "error");
}

// The whole.

fn broken_for(folder: &'static str, calls: &'static [Call]) -> Arc<dyn ObjectStore> {
    let plan =
        move |call, path: &Path| match calls.contains(&call) && path.as_ref().starts_with(folder) {
            true => Fault::Before,
            false => Fault::None,
        };
    Arc::new(FaultyStore::new(memory(), Box::new(plan)))
}

#[tokio::test]
async fn hosted_bytes_come_from_the_store_then_from_memory_and_no_upstream_hears_of_them() {
    let public = Public::start(b"theirs").await;
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    server.publish("Foo", "1.0.0", b"ours").await;
    let (answer, outcome) = server.foo().await;
    assert_eq!((answer.unwrap().as_ref(), outcome), (&b"ours"[..], "store"));
    let (answer, outcome) = server.foo().await;
    assert_eq!((answer.unwrap().as_ref(), outcome), (&b"ours"[..], "hit"));
    for (krate, vers) in [("foo", "1.0.0"), ("Foo", "1.0.1"), ("acme-x", "1.0.0")] {
        let (answer, outcome) = server.download(krate, vers).await;
        assert_eq!((refusal(answer).0, outcome), (Kind::Absent, "negative"));
    }
    let (krate, version) = (name("Foo"), version("1.0.0"));
    server.command(Command::Remove { krate, version, reason: "leak".to_owned() }).await;
    let (answer, outcome) = server.foo().await;
    assert_eq!((refusal(answer).0, outcome), (Kind::Absent, "negative"), "memory or not");
    assert!(public.server.paths().is_empty());
}

#[tokio::test]
async fn a_version_that_another_replica_published_a_moment_ago_is_found() {
    let store = memory();
    let one = TestGateway::open(&store, &[], limits()).await;
    let two = TestGateway::open(&store, &[], limits()).await;
    one.publish("new", "1.0.0", b"x").await;
    assert_eq!(two.download("new", "1.0.0").await.1, "store");
}

#[tokio::test]
async fn a_crate_that_another_replica_published_a_moment_ago_has_an_index_file() {
    let store = memory();
    for krate in ["new", "acme-new"] {
        let one = TestGateway::open(&store, &[], limits()).await;
        let two = TestGateway::open(&store, &[], limits()).await;
        let asked = name(krate);
        assert!(two.gateway.lookup.find(&asked).await.unwrap().is_none());
        one.publish(krate, "1.0.0", b"x").await;
        assert!(two.gateway.lookup.find(&asked).await.unwrap().is_some(), "{krate}");
    }
}

#[tokio::test]
async fn hosted_bytes_that_are_lost_raise_an_alarm() {
    let server = TestGateway::open(&memory(), &[], limits()).await;
    server.publish("foo", "1.0.0", b"x").await;
    server.gateway.mirror.files.blobs.delete(Origin::Hosted, &Checksum::of(b"x")).await.unwrap();
    let (answer, outcome) = server.download("foo", "1.0.0").await;
    assert_eq!((refusal(answer).0, outcome), (Kind::Internal, "error"));
    assert_eq!(server.alarms("hosted_blob_missing"), 1);
}

#[tokio::test]
async fn many_askers_cost_one_fill_and_other_replicas_none() {
    let (store, public) = (memory(), Public::start(b"x").await);
    let server = TestGateway::open(&store, &[&public], limits()).await;
    let (krate, vers) = (name("Foo"), version("1.0.0"));
    let asks = (0..20).map(|_| server.gateway.downloads.get(&krate, &vers, Part::Bytes));
    for answer in join_all(asks).await {
        assert_eq!(answer.unwrap().file.read().await.unwrap(), "x");
    }
    assert_eq!((server.foo().await.1, public.fills()), ("hit", 1));

    public.set(|state| state.sent = None);
    let other = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!((other.foo().await.1, public.fills()), ("store", 0));
}

#[tokio::test]
async fn wrong_bytes_are_neither_served_nor_stored() {
    let public = Public::start(b"x").await;
    public.set(|state| state.sent = Some(b"evil".to_vec()));
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let (answer, outcome) = server.foo().await;
    let (kind, message) = refusal(answer);
    assert_eq!((kind, outcome, server.alarms("wrong_bytes")), (Kind::BadUpstream, "error", 1));
    assert!(message.contains("`up1`"), "{message}");

    public.set(|state| state.sent = Some(b"x".to_vec()));
    assert_eq!(server.foo().await.1, "miss", "nothing was kept");
}

#[tokio::test]
async fn a_checksum_that_changed_is_refused_without_asking_for_its_bytes() {
    let (store, public) = (memory(), Public::start(b"x").await);
    let server = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!((server.foo().await.1, public.fills()), ("miss", 1));
    public.set(|state| {
        *state = State { listed: Some(b"y".into()), sent: Some(b"y".into()), chunked: false }
    });
    // Also by a replica that remembers nothing.
    let other = TestGateway::open(&store, &[&public], limits()).await;
    let (answer, _) = other.foo().await;
    let (kind, message) = refusal(answer);
    assert_eq!((kind, public.fills()), (Kind::Forbidden, 0), "{message}");
    assert_eq!(refusal(other.foo().await.0).0, Kind::Forbidden);
    assert_eq!(other.alarms("checksum_changed"), 1, "one change, one alarm");
}

#[tokio::test]
async fn a_version_is_pinned_when_its_bytes_have_been_seen_and_not_before() {
    let public = Public::start(b"x").await;
    public.set(|state| state.sent = Some(b"evil".to_vec()));
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let (krate, vers) = (name("Foo"), version("1.0.0"));
    let pinned = || server.gateway.mirror.store.pinned("up1", &krate, &vers);
    assert_eq!(refusal(server.foo().await.0).0, Kind::BadUpstream);
    assert!(pinned().await.unwrap().is_none());
    public.set(|state| state.sent = Some(b"x".to_vec()));
    assert_eq!(server.foo().await.1, "miss");
    assert_eq!(pinned().await.unwrap().unwrap().cksum, Checksum::of(b"x"));
}

#[tokio::test]
async fn listed_bytes_that_are_not_there_come_from_the_next_upstream_that_lists_the_same() {
    let (filtered, full) = (Public::start(b"x").await, Public::start(b"x").await);
    filtered.set(|state| state.sent = None);
    let server = TestGateway::open(&memory(), &[&filtered, &full], limits()).await;
    assert_eq!(server.foo().await.1, "miss");
    assert_eq!((filtered.fills(), full.fills()), (1, 1));

    full.set(|state| state.listed = Some(b"other".to_vec()));
    let server = TestGateway::open(&memory(), &[&filtered, &full], limits()).await;
    let (kind, message) = refusal(server.foo().await.0);
    assert_eq!((kind, full.fills()), (Kind::BadUpstream, 0));
    assert!(message.contains("`up1`") && message.contains("no other"), "{message}");
}

#[tokio::test]
async fn the_first_upstream_that_has_a_crate_answers_for_all_its_versions() {
    let (first, second) = (Public::start(b"x").await, Public::start(b"x").await);
    let server = TestGateway::open(&memory(), &[&first, &second], limits()).await;
    assert_eq!(server.download("Foo", "9.0.0").await.1, "negative");
    assert!(second.server.paths().is_empty());
    first.set(|state| state.listed = None);
    let server = TestGateway::open(&memory(), &[&first, &second], limits()).await;
    assert_eq!((server.foo().await.1, first.fills(), second.fills()), ("miss", 0, 1));
}

#[tokio::test]
async fn a_large_crate_file_is_asked_for_once_where_its_length_is_announced() {
    let store = memory();
    for (chunked, requests) in [(false, 1), (true, 2)] {
        let public = Public::start(&vec![7; 3 << 20]).await;
        public.set(|state| state.chunked = chunked);
        let large = Limits { mirrored_crate_bytes: 4 << 20, ..limits() };
        let server = TestGateway::open(&memory(), &[&public], large).await;
        assert_eq!((server.foo().await.1, public.fills()), ("miss", requests));
        assert_eq!(server.foo().await.1, "store", "larger than memory keeps");

        let small = Limits { mirrored_crate_bytes: 2 << 20, ..limits() };
        let server = TestGateway::open(&store, &[&public], small).await;
        let (kind, message) = refusal(server.foo().await.0);
        assert_eq!((kind, public.fills()), (Kind::BadUpstream, requests));
        assert!(message.contains("larger"), "{message}");
    }
}

#[tokio::test]
async fn a_crate_file_that_fits_into_memory_is_read_from_the_store_once() {
    let public = Public::start(&vec![7; 2 << 20]).await;
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let plan = move |call, path: &Path| {
        let blob = call == Call::Get && path.as_ref().starts_with("blobs/mirror/");
        counted.fetch_add(usize::from(blob), Ordering::SeqCst);
        Fault::None
    };
    let store: Arc<dyn ObjectStore> = Arc::new(FaultyStore::new(memory(), Box::new(plan)));
    let server = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!(server.foo().await.1, "miss");
    reads.store(0, Ordering::SeqCst);
    assert_eq!((server.foo().await.1, reads.load(Ordering::SeqCst)), ("store", 1));
}

#[tokio::test]
async fn a_store_that_loses_or_damages_mirrored_bytes_fails_no_download() {
    let public = Public::start(b"x").await;
    for calls in [&[Call::Put][..], &[Call::Get], &[Call::Put, Call::Get]] {
        let store = broken_for("blobs/mirror/", calls);
        let server = TestGateway::open(&store, &[&public], limits()).await;
        assert_eq!((server.foo().await.1, public.fills()), ("miss", 1));
        assert_eq!(server.foo().await.1, "hit");
    }
    let store = memory();
    let server = TestGateway::open(&store, &[&public], limits()).await;
    let (cksum, damaged) = (Checksum::of(b"x"), Bytes::from_static(b"?"));
    server.gateway.mirror.files.blobs.put(Origin::Mirrored, &cksum, damaged).await.unwrap();
    assert_eq!((server.foo().await.1, server.alarms("damaged_blob")), ("miss", 1));
    let other = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!(other.foo().await.1, "store", "the damage was mended");
}

#[tokio::test]
async fn what_cannot_be_pinned_is_not_served() {
    let public = Public::start(b"x").await;
    let store = broken_for("mirror/up1/pins/", &[Call::Put, Call::Get]);
    let server = TestGateway::open(&store, &[&public], limits()).await;
    assert_eq!(refusal(server.foo().await.0).0, Kind::Unavailable);
}
