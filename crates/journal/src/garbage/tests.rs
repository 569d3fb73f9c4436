//! Sweeps, alone and against publishes of the same bytes.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::commands::must_put_again;
use crate::principal::{Grant, PrincipalKind, Role, Scope};
use crate::test_util::TestReplica;
use crate::{tokens, users};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_package::test_util::{line, name, version};
use cratehouse_storage::blobs::{Blob, blobs_in};
use cratehouse_storage::objects::Objects;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

const ALL: Plan =
    Plan { stored_before: Timestamp::MAX, dry_run: false, force: false, finish: false };

/// Two replicas over one store: one serves, one sweeps.
struct Street {
    store: Arc<dyn ObjectStore>,
    server: TestReplica,
    sweeper: TestReplica,
    blobs: Blobs,
}

impl Street {
    async fn new() -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let server = TestReplica::open(&store).await;
        let sweeper = TestReplica::open(&store).await;
        let blobs = blobs_in(&Objects::same(Arc::clone(&store)));
        Self { store, server, sweeper, blobs }
    }

    async fn put(&self, bytes: &'static [u8]) -> Checksum {
        let sum = Checksum::of(bytes);
        self.blobs.put(Origin::Hosted, &sum, Bytes::from_static(bytes)).await.unwrap();
        sum
    }

    async fn has(&self, bytes: &'static [u8]) -> bool {
        let blob = self.blobs.get(Origin::Hosted, &Checksum::of(bytes), |_| 1000).await.unwrap();
        blob == Blob::Whole(Bytes::from_static(bytes))
    }

    async fn sweep(&self, plan: Plan) -> Result<Swept> {
        let by = CommandActor::Operator;
        sweep(&self.sweeper.journal, &self.blobs, &by, &plan, |_, _| ControlFlow::Continue(()))
            .await
    }

    async fn head(&self) -> u64 {
        self.sweeper.journal.catch_up().await.unwrap();
        self.sweeper.catalog.head().unwrap().seq
    }
}

fn published(bytes: &'static [u8]) -> Box<Published> {
    let line = line("foo", "1.0.0", bytes);
    Box::new(Published { line, size: bytes.len() as u64, metadata: Metadata::default() })
}

#[tokio::test]
async fn what_nothing_names_is_deleted_and_what_a_version_names_stays() {
    let street = Street::new().await;
    street.server.publish("foo", "1.0.0", b"named").await;
    street.server.publish("foo", "2.0.0", b"removed").await;
    street.server.publish("foo", "3.0.0", b"shared").await;
    street.server.publish("bar", "1.0.0", b"shared").await;
    for vers in ["2.0.0", "3.0.0"] {
        let (krate, version, reason) = (name("foo"), version(vers), "leaked".to_owned());
        street.server.command(Command::Remove { krate, version, reason }).await;
    }
    let orphan = street.put(b"orphan").await;
    let before = street.head().await;

    let dry = street.sweep(Plan { dry_run: true, ..ALL }).await.unwrap();
    let garbage: BTreeSet<_> = dry.garbage.iter().map(|stored| stored.cksum).collect();
    assert_eq!(garbage, [orphan, Checksum::of(b"removed")].into());
    assert_eq!((dry.stored, dry.deleted, street.head().await), (4, 0, before));
    assert!(street.has(b"orphan").await);

    let young = street.sweep(Plan { stored_before: Timestamp::UNIX_EPOCH, ..ALL }).await.unwrap();
    assert_eq!((young.young, young.deleted, street.head().await), (2, 0, before));

    let swept = street.sweep(ALL).await.unwrap();
    assert_eq!((swept.deleted, street.head().await), (2, before + 2));
    assert!(street.has(b"named").await && street.has(b"shared").await);
    assert!(!street.has(b"orphan").await && !street.has(b"removed").await);
    assert_eq!(street.sweep(ALL).await.unwrap().deleted, 0);
}

/// A sweep's steps, and a publish that puts its bytes after some of them and goes to the journal
/// after some more: whatever the order, it succeeds, and its bytes are there.
#[tokio::test]
async fn a_publish_of_the_same_bytes_loses_nothing_wherever_it_meets_the_sweep() {
    for put_after in 0..=3 {
        for append_after in put_after..=3 {
            let street = Street::new().await;
            let orphan = [street.put(b"orphan").await];
            let (server, sweeper) = (&street.server, &street.sweeper);
            let mut condemned = Vec::new();
            let mut publishing = None;
            let mut command = None;
            for step in 0..=3 {
                match step {
                    1 => {
                        condemned = condemn(&sweeper.journal, &CommandActor::Operator, &orphan)
                            .await
                            .unwrap()
                    }
                    2 => delete(&street.blobs, &condemned).await.unwrap(),
                    3 => collect(&sweeper.journal, &CommandActor::Operator, &condemned)
                        .await
                        .unwrap(),
                    _ => (),
                }
                if step == put_after {
                    let bytes = Bytes::from_static(b"orphan");
                    let put =
                        server.versions.put(CommandActor::Operator, published(b"orphan"), bytes);
                    command = Some(put.await.unwrap());
                }
                if step == append_after {
                    let (versions, command) = (server.versions.clone(), command.take().unwrap());
                    let bytes = Bytes::from_static(b"orphan");
                    let enter = async move { versions.append(command, bytes).await };
                    publishing = Some(tokio::spawn(enter));
                    tokio::task::yield_now().await;
                }
            }
            let outcome = publishing.unwrap().await.unwrap();
            let place = format!("put after step {put_after}, appended after {append_after}");
            outcome.unwrap_or_else(|e| panic!("{place}: {e}"));
            assert!(street.has(b"orphan").await, "{place}");
            assert_eq!(street.sweep(ALL).await.unwrap().deleted, 0, "{place}");
        }
    }
}

#[tokio::test]
async fn one_sweep_at_a_time_and_one_that_was_cut_off_is_ended_on_request() {
    let street = Street::new().await;
    let orphan = street.put(b"orphan").await;
    condemn(&street.server.journal, &CommandActor::Operator, &[orphan]).await.unwrap();
    for _ in 0..2 {
        assert!(street.sweep(ALL).await.unwrap_err().message.contains("gc --finish"));
    }
    let other = street.put(b"other").await;
    assert!(condemn(&street.server.journal, &CommandActor::Operator, &[other]).await.is_err());
    assert!(street.has(b"orphan").await);

    let swept = street.sweep(Plan { finish: true, ..ALL }).await.unwrap();
    assert_eq!(swept.deleted, 2);
    assert!(!street.has(b"orphan").await && !street.has(b"other").await);
    let late =
        collect(&street.server.journal, &CommandActor::Operator, &[orphan]).await.unwrap_err();
    assert!(late.message.contains("somebody else"), "{late}");
}

#[tokio::test]
async fn a_delete_without_an_answer_stops_the_sweep_before_it_is_collected() {
    for fault in [Fault::Before, Fault::After] {
        let street = Street::new().await;
        let orphans = BTreeSet::from([street.put(b"orphan").await, street.put(b"other").await]);
        let plan = move |call, _: &Path| match call {
            Call::Delete => fault,
            _ => Fault::None,
        };
        let faulty = FaultyStore::new(Arc::clone(&street.store), Box::new(plan));
        let blobs = blobs_in(&Objects::same(Arc::new(faulty)));
        let sweeper = &street.sweeper;
        let error = sweep(&sweeper.journal, &blobs, &CommandActor::Operator, &ALL, |_, _| {
            ControlFlow::Continue(())
        })
        .await
        .unwrap_err();
        assert!(error.message.contains("gc --finish"), "{error}");
        let pending = sweeper.catalog.view().unwrap().pending().unwrap();
        assert_eq!(BTreeSet::from_iter(pending), orphans, "{fault:?}");
        let command = Command::Publish {
            published: published(b"orphan"),
            put_at: u64::MAX,
            bounds: IndexBounds::default(),
        };
        let refusal = super::append(&street.server.journal, CommandActor::Operator, command)
            .await
            .unwrap_err();
        assert!(must_put_again(&refusal), "{refusal}");

        let swept = street.sweep(Plan { finish: true, ..ALL }).await.unwrap();
        assert_eq!(swept.deleted, 2, "{fault:?}");
        assert!(!street.has(b"orphan").await);
    }
}

#[tokio::test]
async fn anything_unusual_stops_the_sweep() {
    let street = Street::new().await;
    street.put(b"orphan").await;
    let stray = Path::from("blobs/hosted/ab/readme.txt");
    street.store.put_opts(&stray, "x".into(), Default::default()).await.unwrap();
    let error = street.sweep(ALL).await.unwrap_err();
    assert!(error.message.contains("readme.txt is not a crate file"), "{error}");

    let street = Street::new().await;
    street.server.publish("foo", "1.0.0", b"named").await;
    street.put(b"orphan").await;
    street.blobs.delete(Origin::Hosted, &Checksum::of(b"named")).await.unwrap();
    let error = street.sweep(ALL).await.unwrap_err();
    assert!(error.message.contains("journal verify"), "{error}");
    assert!(street.has(b"orphan").await);

    let street = Street::new().await;
    for n in 0..=USUAL_GARBAGE {
        let bytes = Bytes::from(n.to_string());
        street.blobs.put(Origin::Hosted, &Checksum::of(&bytes), bytes).await.unwrap();
    }
    let error = street.sweep(ALL).await.unwrap_err();
    assert!(error.message.contains("--force"), "{error}");
    let swept = street.sweep(Plan { force: true, ..ALL }).await.unwrap();
    assert_eq!(swept.deleted, USUAL_GARBAGE + 1);
}

#[tokio::test]
async fn what_was_begun_with_a_token_is_ended_without_it_and_goes_no_further() {
    let street = Street::new().await;
    let (journal, operator) = (&street.sweeper.journal, CommandActor::Operator);
    users::create(journal, operator.clone(), "root", PrincipalKind::Person).await.unwrap();
    users::set_role(journal, operator.clone(), "root", Some(Role::Admin)).await.unwrap();
    let grant = Grant { scopes: [Scope::Admin].into(), ..Grant::usual() };
    let made = tokens::create(journal, operator.clone(), "root", "ci", grant).await.unwrap();
    let view = street.sweeper.catalog.view().unwrap();
    let (who, _) = view.live_token(made.0, Timestamp::now()).unwrap().unwrap();
    let by = CommandActor::Principal(who);
    let orphan = street.put(b"orphan").await;
    let condemned = condemn(journal, &by, &[orphan]).await.unwrap();
    assert_eq!(condemned, [orphan]);
    tokens::revoke(journal, operator, made.0).await.unwrap();
    delete(&street.blobs, &condemned).await.unwrap();
    let refused = collect(journal, &by, &condemned).await.unwrap_err();
    assert!(matches!(refused.kind, Kind::Forbidden | Kind::Unauthenticated), "{refused}");
    let pending = street.sweeper.catalog.view().unwrap().pending().unwrap();
    assert_eq!(pending, [], "that it is deleted is said all the same");
    assert!(condemn(journal, &by, &[orphan]).await.is_err());
}

#[tokio::test]
async fn a_sweep_that_is_broken_off_leaves_nothing_half_done() {
    let street = Street::new().await;
    for n in 0..=GROUP {
        let bytes = Bytes::from(n.to_string());
        street.blobs.put(Origin::Hosted, &Checksum::of(&bytes), bytes).await.unwrap();
    }
    let journal = &street.sweeper.journal;
    let broken =
        sweep(journal, &street.blobs, &CommandActor::Operator, &ALL, |_, _| ControlFlow::Break(()));
    let why = broken.await.unwrap_err();
    assert!(why.message.contains(&format!("{GROUP} crate files are deleted")), "{why}");
    let pending = street.sweeper.catalog.view().unwrap().pending().unwrap();
    assert_eq!(pending, []);
    assert_eq!(street.sweep(ALL).await.unwrap().deleted, 1);
}
