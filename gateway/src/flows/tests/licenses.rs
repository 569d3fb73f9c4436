//! Licences that are read, kept, and learned from other replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::time::timeout;

use crate::flows::access::reader::Reader;
use crate::flows::fixture::{Public, TestGateway, memory, name, version};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Kind;
use cratehouse_core::log_limit::LineLimit;
use cratehouse_package::test_util::CrateFile;
use cratehouse_policy::LicenseFact;

const DENY: &str = "contact = \"the platform team\"\n[licenses]\nallow = [\"MIT\"]\n";
const HOLD: &str = "[licenses]\nallow = [\"MIT\"]\naction = \"hold\"\n";
const KEPT: &str = "mirror/up1/licenses/3/f/foo";

/// `Foo` 1.0.0 under this licence.
fn under(license: &str) -> Vec<u8> {
    let manifest = format!("[package]\nname = \"Foo\"\nlicense = \"{license}\"\n");
    CrateFile::new("Foo", "1.0.0").file("Cargo.toml", manifest).build()
}

async fn shown(server: &TestGateway) -> (bool, String) {
    let file = server.gateway.lookup.find(&name("foo")).await.unwrap().unwrap();
    let yanked = file.version(&version("1.0.0")).unwrap().yanked;
    (yanked, file.identity.etag.to_string())
}

/// Waits until something is so: what is done beside an answer has no moment of its own.
async fn eventually<F: Future<Output = bool>>(mut look: impl FnMut() -> F) {
    let patience = Duration::from_secs(30);
    let looking = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(patience, looking).await.expect("it never came to be so");
}

async fn is_kept(store: &Arc<dyn ObjectStore>) -> bool {
    store.get_opts(&Path::from(KEPT), Default::default()).await.is_ok()
}

fn read_count(server: &TestGateway) -> u64 {
    let read = &server.gateway.metrics.licenses_read;
    ["stated", "file_only", "missing"].iter().map(|l| read.with_label_values(&[l]).get()).sum()
}

#[tokio::test]
async fn a_licence_that_is_denied_is_found_by_the_first_download_and_kept() {
    let (store, public) = (memory(), Public::start(&under("GPL-3.0-only")).await);
    let server = TestGateway::ruled(&store, &[&public], DENY).await;
    let (yanked, before) = shown(&server).await;
    assert!(!yanked, "nobody has looked yet");
    for outcome in ["error", "error"] {
        let (answer, how) = server.foo().await;
        let refused = answer.unwrap_err();
        assert_eq!((refused.kind, how), (Kind::Forbidden, outcome));
        assert_eq!(
            refused.message,
            "`Foo` 1.0.0 is denied by the policy of this registry, rule `license`: its licence \
             `GPL-3.0-only` is not allowed; no version of it is allowed; ask the platform team"
        );
    }
    assert_eq!(server.gateway.metrics.policy_denials.get(), 2);
    eventually(|| is_kept(&store)).await;

    // Another replica knows it before anybody downloads anything.
    let other = TestGateway::ruled(&store, &[&public], DENY).await;
    let (yanked, after) = shown(&other).await;
    assert!(yanked && before != after);
    public.fills();
    assert_eq!(other.foo().await.0.unwrap_err().kind, Kind::Forbidden);
    assert_eq!((public.fills(), read_count(&other)), (0, 0));
}

#[tokio::test]
async fn a_good_licence_is_read_once_for_all_who_ask() {
    let public = Public::start(&under("MIT")).await;
    let server = TestGateway::ruled(&memory(), &[&public], DENY).await;
    let file = server.gateway.lookup.find(&name("foo")).await.unwrap().unwrap();
    let listed = file.version(&version("1.0.0")).unwrap().clone();
    let (bytes, gateway) = (Bytes::from(under("MIT")), &server.gateway);
    let read = || gateway.mirror.licenses.readers.of(&listed, &bytes, &gateway.metrics);
    let (one, two) = tokio::join!(read(), read());
    assert_eq!(one.unwrap(), LicenseFact::Stated("MIT".to_owned()));
    assert_eq!((two.is_ok(), read_count(&server)), (true, 1));
    assert_eq!(server.foo().await.0.unwrap(), bytes);
}

#[tokio::test]
async fn what_cannot_be_read_states_no_licence() {
    let public = Public::start(b"no crate file").await;
    let server = TestGateway::ruled(&memory(), &[&public], DENY).await;
    let refused = server.foo().await.0.unwrap_err();
    assert!(refused.message.contains("it states no licence"), "{}", refused.message);
}

#[tokio::test]
async fn a_licence_that_is_held_is_read_beside_the_answer() {
    let (store, public) = (memory(), Public::start(&under("ISC")).await);
    let server = TestGateway::ruled(&store, &[&public], HOLD).await;
    assert!(server.foo().await.0.is_ok());
    eventually(|| is_kept(&store)).await;
    eventually(|| async { shown(&server).await.0 }).await;
    assert!(server.foo().await.0.is_ok(), "a lock file that has it still builds");
}

#[tokio::test]
async fn licences_in_the_store_are_a_help_and_no_need() {
    let (store, public) = (memory(), Public::start(&under("GPL-3.0-only")).await);
    store.put_opts(&Path::from(KEPT), "{".into(), Default::default()).await.unwrap();
    let server = TestGateway::ruled(&store, &[&public], DENY).await;
    assert_eq!(server.foo().await.0.unwrap_err().kind, Kind::Forbidden);
    let healed = || async {
        let mirror = &server.gateway.mirror.store;
        let lines = &LineLimit::new("licenses", &server.gateway.metrics);
        let kept = mirror.licenses("up1", &name("foo"), lines).await.unwrap();
        kept.values().eq([&LicenseFact::Stated("GPL-3.0-only".to_owned())])
    };
    eventually(healed).await;
}

#[tokio::test]
async fn what_another_replica_has_read_is_learned_while_the_file_stays_in_memory() {
    let (store, public) = (memory(), Public::start(&under("GPL-3.0-only")).await);
    let server = TestGateway::ruled(&store, &[&public], DENY).await;
    let known = server
        .gateway
        .lookup
        .known(&Reader::Own(ClientKey::Exempt), &name("foo"))
        .await
        .unwrap()
        .known;
    let file = known.answer.clone().unwrap().unwrap();
    let judge = || async {
        let foo = name("foo");
        server.gateway.mirror.judge.shown(&foo, &known, &file).await.unwrap().unwrap()
    };
    let before = judge().await;
    let kept = [(Checksum::of(&under("GPL-3.0-only")), LicenseFact::Missing)].into();
    server.gateway.mirror.store.add_licenses("up1", &name("foo"), &kept).await.unwrap();
    assert!(Arc::ptr_eq(&before, &judge().await), "not before it is time");
    *known.judging.learned.next_look() = Some(Instant::now());
    eventually(|| async { judge().await.file.version(&version("1.0.0")).unwrap().yanked }).await;
}
