//! Names that are new to the upstreams: when they are asked for, and who is charged for them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;
use crate::config::Limits;
use crate::flows::access::reader::Reader;
use crate::flows::fixture::{Public, TestGateway, limits, memory, name};
use crate::flows::registry::download::Part;
use crate::flows::registry::policy_check::{Allowance, Reach};
use cratehouse_core::error::Kind;
use cratehouse_storage::test_util::{Fault, FaultyStore};

fn client(n: u8) -> ClientKey {
    ClientKey::of([192, 0, 2, n].into())
}

fn reader(nth: u8) -> Reader {
    Reader::Own(client(nth))
}

#[tokio::test]
async fn a_name_that_another_replica_has_just_hosted_is_asked_of_no_upstream() {
    let (store, public) = (memory(), Public::start(b"public").await);
    let one = TestGateway::open(&store, &[&public], limits()).await;
    let other = TestGateway::open(&store, &[&public], limits()).await;
    one.publish("tool", "1.0.0", b"a tool").await;
    assert!(other.gateway.lookup.find(&name("tool")).await.unwrap().is_some());
    one.publish("saw", "1.0.0", b"a saw").await;
    assert!(other.download("saw", "1.0.0").await.0.is_ok());
    one.publish("axe", "1.0.0", b"an axe").await;
    let axe = name("axe");
    let at_first = other.gateway.mirror.chain.mirrored_at(client(1), &axe, 0);
    assert!(at_first.await.unwrap().is_none());
    assert_eq!(public.server.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn an_unheard_of_name_is_not_asked_for_while_the_journal_cannot_be_read() {
    let public = Public::start(b"public").await;
    let faulty =
        Arc::new(FaultyStore::new(Arc::new(InMemory::new()), Box::new(|_, _| Fault::None)));
    let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
    let server = TestGateway::open(&store, &[&public], limits()).await;
    assert!(server.gateway.lookup.find(&name("foo")).await.unwrap().is_some());
    public.server.paths();
    faulty.plan(Box::new(|_, path| match path.as_ref().starts_with("journal") {
        true => Fault::Before,
        false => Fault::None,
    }));
    let refused = server.gateway.lookup.find(&name("tool")).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert_eq!(public.server.paths(), Vec::<String>::new());
    assert!(server.gateway.lookup.find(&name("foo")).await.unwrap().is_some(), "it is held");
    assert_eq!(public.server.paths().len(), 1, "and revalidated");
    faulty.plan(Box::new(|_, _| Fault::None));
    assert!(server.gateway.lookup.find(&name("tool")).await.unwrap().is_none());
}

#[tokio::test]
async fn absent_names_are_charged_to_the_client_that_asked_and_no_others_are() {
    let public = Public::start(b"public").await;
    let limits = Limits { absent_burst: 1000, absent_per_second: 1, ..limits() };
    let server = TestGateway::open(&memory(), &[&public], limits).await;
    let gateway = &server.gateway;
    for _ in 0..100 {
        assert!(
            gateway.lookup.find_for(&reader(1), View::Own, &name("foo")).await.unwrap().is_some()
        );
    }
    assert!(gateway.mirror.chain.credits.left(client(1)) > 999.0);
    for n in 0..500 {
        let absent = name(&format!("none-{n}"));
        assert!(gateway.lookup.find_for(&reader(2), View::Own, &absent).await.unwrap().is_none());
    }
    assert!(
        gateway.mirror.chain.credits.left(client(2)) < 900.0,
        "{}",
        gateway.mirror.chain.credits.left(client(2))
    );
    assert!(gateway.mirror.chain.credits.left(client(1)) > 999.0);
    // What is failing, or hosted, costs nothing.
    server.publish("tool", "1.0.0", b"ours").await;
    for spelling in ["tool", "acme-none"] {
        let _ = gateway.lookup.find_for(&reader(3), View::Own, &name(spelling)).await;
    }
    assert!(gateway.mirror.chain.credits.left(client(3)) > 999.0);
}

/// Where absent names are remembered, as they are by default.
#[tokio::test]
async fn a_download_of_an_absent_name_looks_twice_and_is_charged_once() {
    let public = Public::start(b"public").await;
    let limits = Limits { absent_burst: 1000, absent_per_second: 1, ..Limits::default() };
    let running = super::tests::gateway_with(&[&public.server.url], limits).await;
    let version = "1.0.0".parse().unwrap();
    for n in 0..30 {
        let absent = name(&format!("gone-{n}"));
        let downloads = &running.gateway.downloads;
        let looked = downloads.get_for(&reader(1), &absent, &version, Part::Bytes).await;
        assert_eq!(looked.unwrap_err().kind, Kind::Absent);
    }
    let left = running.gateway.mirror.chain.credits.left(client(1));
    assert!(left > 955.0, "{left}");
    assert_eq!(public.server.paths().len(), 30);
    running.close().await;
}

#[tokio::test]
async fn a_client_without_credit_still_has_what_is_held_and_others_have_everything() {
    let (store, public) = (memory(), Public::start(b"public").await);
    let limits = Limits { absent_burst: 1, absent_per_second: 1, ..limits() };
    let server = TestGateway::open(&store, &[&public], limits).await;
    let gateway = &server.gateway;
    assert!(gateway.lookup.find(&name("foo")).await.unwrap().is_some());
    gateway.mirror.written().await;
    let spend = || {
        while let Some(credit) = gateway.mirror.chain.credits.at_once(client(1)) {
            credit.settle(true);
        }
    };
    spend();
    assert!(gateway.lookup.find_for(&reader(1), View::Own, &name("foo")).await.unwrap().is_some());
    assert_eq!(gateway.metrics.absent_queued.get(), 0);
    let queued = || gateway.metrics.absent_queued.get();
    for n in 0..100 {
        spend(); // some comes back each second
        assert!(
            gateway
                .lookup
                .find_for(&reader(1), View::Own, &name(&format!("none-{n}")))
                .await
                .unwrap()
                .is_none()
        );
        if queued() > 0 {
            break;
        }
    }
    assert_eq!(queued(), 1, "it waited for its turn");
    assert!(
        gateway.lookup.find_for(&reader(2), View::Own, &name("other")).await.unwrap().is_none()
    );
    assert_eq!(queued(), 1);
}

#[tokio::test]
async fn who_joins_what_another_client_waits_for_asks_with_places_of_its_own() {
    let public = Public::start(b"public").await;
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let (gateway, upstream) = (&server.gateway, &server.gateway.mirror.upstreams[0]);
    let _half =
        (upstream.index_place_of(client(1)).await, upstream.index_place_of(client(1)).await);
    let foo = name("foo");
    let look = async |nth| gateway.lookup.find_for(&reader(nth), View::Own, &foo).await;
    let first = look(1);
    let second = async {
        while upstream.index_waiting().is_empty() {
            tokio::task::yield_now().await;
        }
        look(2).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err().kind, Kind::Unavailable);
    assert!(second.unwrap().is_some());
}

#[tokio::test]
async fn a_check_asks_for_names_of_which_something_is_held_and_more_only_where_it_may() {
    let public = Public::start(b"x").await;
    let server = TestGateway::open(&memory(), &[&public], limits()).await;
    let package = |name: &str, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\nsource = \"{source}\"\n")
    };
    let crates_io = format!("registry+{}", cratehouse_package::index::CRATES_IO_IDENTITY);
    let lock = [
        package("Foo", &crates_io),
        package("none", &crates_io),
        package("secret", "sparse+https://partner.example/index/"),
    ]
    .concat();
    let policies = [server.gateway.policy_store.generation()];
    let check = async |reach| {
        let allowance = Allowance::of_client();
        let reports = server.gateway.checks.check(&reach, &lock, &policies, &allowance, |_, _| ());
        let reports = reports.await;
        let counts = reports.unwrap()[0].counts;
        (counts.allow, counts.unknown, counts.outside, public.server.paths())
    };
    let path = |name: &str| name.to_owned();
    assert_eq!(check(Reach::Held(reader(1))).await, (0, 2, 1, Vec::new()));
    let asked = vec![path("/index/3/f/foo"), path("/index/no/ne/none")];
    let (allow, unknown, outside, mut paths) = check(Reach::Upstreams(reader(1))).await;
    paths.sort();
    assert_eq!((allow, unknown, outside, paths), (1, 1, 1, asked));
    server.gateway.mirror.written().await;
    let held = check(Reach::Held(reader(1))).await;
    assert_eq!(held, (1, 1, 1, vec![path("/index/3/f/foo")]), "it is revalidated");
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_its_work_asks_in_vain_and_for_nothing_else() {
    let public = Public::start(b"public").await;
    let limits = Limits { absent_burst: 1000, absent_per_second: 1, ..limits() };
    let server = TestGateway::open(&memory(), &[&public], limits).await;
    let gateway = &server.gateway;
    let left = async |client, krate: &str| {
        assert!(
            gateway
                .lookup
                .find_for(&Reader::Own(client), View::Own, &name(krate))
                .now_or_never()
                .is_none()
        );
        // It is joined, and so over.
        let _ = gateway.lookup.find(&name(krate)).await.unwrap();
        gateway.mirror.chain.credits.left(client)
    };
    assert!(left(client(1), "none").await <= 999.0);
    assert_eq!(left(client(2), "foo").await, 1000.0);
}
