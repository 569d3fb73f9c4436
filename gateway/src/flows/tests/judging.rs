//! What the policy makes of index files and of versions that changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use crate::flows::access::reader::Reader;
use crate::flows::fixture::{Public, State, TestGateway, memory, name, version};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind};
use cratehouse_mirror::index::cache::CachedLookup;

async fn is_yanked(server: &TestGateway) -> bool {
    let file = server.gateway.lookup.find(&name("foo")).await.unwrap().unwrap();
    file.version(&version("1.0.0")).unwrap().yanked
}

fn change(public: &Public, bytes: &[u8]) {
    let bytes = Some(bytes.to_vec());
    public.set(|state| *state = State { listed: bytes.clone(), sent: bytes, chunked: false });
}

/// A registry whose upstream has changed the bytes of a version that was served.
async fn betrayed(policy: &str, clock: fn() -> Timestamp) -> (Public, TestGateway) {
    let (store, public) = (memory(), Public::start(b"x").await);
    let server = TestGateway::ruled_at(&store, &[&public], policy, clock).await;
    assert!(server.foo().await.0.is_ok());
    change(&public, b"y");
    (public, server)
}

#[tokio::test]
async fn a_checksum_that_changed_is_what_the_policy_makes_of_it_and_always_an_alarm() {
    let says = |words: &str| format!("[integrity]\n{words}");
    for (policy, yanked, served) in [
        (String::new(), true, false),
        ("mode = \"observe\"".to_owned(), true, false),
        (says("checksum_changed = \"deny\""), true, false),
        (says("checksum_changed = \"hold\""), true, true),
        (says("checksum_changed = \"allow\""), false, true),
        (says("mode = \"observe\""), false, true),
    ] {
        let (_public, server) = betrayed(&policy, Timestamp::now).await;
        assert_eq!(is_yanked(&server).await, yanked, "{policy}");
        match server.foo().await.0 {
            Ok(bytes) => assert!(served && bytes == "y", "{policy}"),
            Err(refused) => {
                assert!(!served && refused.message.contains("another checksum"), "{policy}");
            }
        }
        assert_eq!(server.alarms("checksum_changed"), 1, "{policy}");
    }
}

#[tokio::test]
async fn what_is_listed_as_it_was_is_believed_again() {
    let (public, server) = betrayed("", Timestamp::now).await;
    assert!(is_yanked(&server).await);
    change(&public, b"x");
    assert!(!is_yanked(&server).await);
    assert_eq!(server.foo().await.0.unwrap(), "x");
}

#[tokio::test]
async fn a_waiver_lets_a_changed_version_through_until_it_ends() {
    const LAST_DAY: i64 = 1_900_000_000 / 86_400 * 86_400;
    static NOW: AtomicI64 = AtomicI64::new(LAST_DAY);
    fn clock() -> Timestamp {
        Timestamp::from_second(NOW.load(Ordering::SeqCst)).unwrap()
    }
    let day = clock().strftime("%Y-%m-%d");
    let waiver = format!(
        "[[waiver]]\nname = \"foo\"\nversion = \"=1.0.0\"\nuntil = {day}\nreason = \"r\"\nwho = \"w\""
    );
    let (_public, server) = betrayed(&waiver, clock).await;
    assert!(!is_yanked(&server).await);
    assert_eq!(server.foo().await.0.unwrap(), "y");
    NOW.fetch_add(86_400, Ordering::SeqCst);
    assert!(is_yanked(&server).await);
    assert_eq!(server.foo().await.0.unwrap_err().kind, Kind::Forbidden);
}

/// Without the copy nothing tells the index file that a version changed, but its pin does.
#[tokio::test]
async fn a_change_that_only_the_pin_tells_is_judged_by_the_policy_too() {
    for (policy, served) in [("", false), ("[integrity]\nchecksum_changed = \"hold\"", true)] {
        let (_public, server) = betrayed(policy, Timestamp::now).await;
        server.gateway.mirror.store.delete_index("up1", &name("foo")).await.unwrap();
        assert_eq!(server.foo().await.0.is_ok(), served, "{policy}");
        assert_eq!(server.alarms("checksum_changed"), 1, "{policy}");
    }
}

#[tokio::test]
async fn a_file_is_judged_to_the_end_when_its_client_leaves_and_not_for_the_next_one_again() {
    let (store, public) = (memory(), Public::start(b"x").await);
    let policy = "[[ban]]\nname = \"foo\"\nreason = \"r\"";
    let server = TestGateway::ruled(&store, &[&public], policy).await;
    let (gateway, foo) = (&server.gateway, name("foo"));
    let known = gateway.lookup.known(&Reader::Own(ClientKey::Exempt), &foo).await.unwrap().known;
    let file = known.answer.clone().unwrap().unwrap();
    let is_judged = || known.judging.shown(gateway.policy_store.in_force().stamp()).is_some();
    // The work may not have begun when its client leaves, and is not done then.
    for tries in 0..1000 {
        drop(
            timeout(Duration::from_millis(tries), gateway.mirror.judge.shown(&foo, &known, &file))
                .await,
        );
        drop(known.judging.turn.lock().await); // it is over
        if is_judged() {
            break;
        }
    }
    assert!(is_judged());
    let first = known.judging.shown(gateway.policy_store.in_force().stamp()).unwrap();
    let again = gateway.mirror.judge.shown(&foo, &known, &file).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &again));
}

/// Series exist from the start, at zero, of every rule that there is.
#[test]
fn the_metric_of_findings_knows_every_rule() {
    let findings = cratehouse_core::metrics::DESCRIBED
        .iter()
        .find(|it| it.name == "cratehouse_policy_findings_total")
        .unwrap();
    let rules: Vec<_> = cratehouse_policy::Rule::ALL.iter().map(|rule| rule.label()).collect();
    let label = findings.labels.iter().find(|label| label.name == "rule").unwrap();
    assert_eq!(label.values, rules);
}

/// An index file that could not be made says nothing for a version.
#[tokio::test]
async fn a_version_that_cannot_be_judged_is_not_let_through() {
    let policy = "[[ban]]\nname = \"tool\"\nreason = \"r\"";
    let server = TestGateway::ruled(&memory(), &[], policy).await;
    server.publish("tool", "1.0.0", b"banned").await;
    assert_eq!(server.download("tool", "1.0.0").await.0.unwrap_err().kind, Kind::Forbidden);
    let failed = CachedLookup::failed(Error::unavailable("no memory"), Duration::ZERO);
    let judge = &server.gateway.mirror.judge;
    let refused = judge.admit(&name("tool"), &version("1.0.0"), &failed).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
}
