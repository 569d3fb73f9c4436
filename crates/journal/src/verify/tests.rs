//! Stores that were damaged in every way.

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

use super::*;
use crate::commands::Command;
use crate::entry_store::journal_in;
use crate::test_util::TestReplica;
use cratehouse_core::checksum::Checksum;
use cratehouse_package::test_util::{name, version};
use cratehouse_storage::blobs::blobs_in;
use cratehouse_storage::objects::Objects;

const REGISTRY: &str = "registry";
const ENTRIES: u64 = 100;

fn entry_path(seq: u64) -> Path {
    format!("journal/{seq:020}.json").into()
}

/// A store with a hundred entries, of which the 10th publishes `foo`, the 20th `bar` and the
/// 30th removes `bar`.
async fn store() -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let replica = TestReplica::open(&store).await;
    for n in 1..=ENTRIES {
        match n {
            10 => replica.publish("foo", "1.0.0", b"foo").await,
            20 => replica.publish("bar", "1.0.0+x", b"bar").await,
            30 => {
                let (krate, version) = (name("bar"), version("1.0.0+x"));
                let reason = "gone".to_owned();
                replica.command(Command::Remove { krate, version, reason }).await;
            }
            n => replica.command(Command::create_user(format!("user{n}"))).await,
        }
    }
    store
}

/// What is wrong with a store to which this was done, and how far its chain holds.
async fn found(store: &Arc<dyn ObjectStore>) -> (u64, Vec<String>) {
    let objects = Objects::same(Arc::clone(store));
    let mut walk = walk(&journal_in(&objects), REGISTRY, |_, _| ()).await.unwrap();
    check_bytes(&blobs_in(&objects), &mut walk, |_, _| ()).await;
    (walk.head, walk.wrong)
}

async fn change(store: &Arc<dyn ObjectStore>, path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = store.get(path).await.unwrap().bytes().await.unwrap().to_vec();
    change(&mut bytes);
    store.put(path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_is_well_has_nothing_wrong() {
    assert_eq!(found(&store().await).await, (ENTRIES, Vec::new()));
}

#[tokio::test]
async fn a_damaged_entry_is_named() {
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[0] ^= 1, |bytes| bytes.truncate(bytes.len() / 2), Vec::clear];
    for damage in damages {
        let store = store().await;
        change(&store, &entry_path(41), damage).await;
        let (head, wrong) = found(&store).await;
        assert_eq!((head, wrong.len()), (40, 1), "{wrong:?}");
        assert!(wrong[0].contains("entry 41 cannot be read"), "{wrong:?}");
    }
}

#[tokio::test]
async fn an_entry_that_was_rewritten_is_named_by_the_one_behind_it() {
    let store = store().await;
    change(&store, &entry_path(41), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("user41", "mallory").into_bytes();
    })
    .await;
    let (head, wrong) = found(&store).await;
    assert_eq!((head, wrong.len()), (41, 1), "{wrong:?}");
    assert!(wrong[0].contains("entry 42 does not continue the entry before it"), "{wrong:?}");
}

#[tokio::test]
async fn an_entry_in_anothers_place_is_named() {
    let store = store().await;
    store.copy(&entry_path(12), &entry_path(41)).await.unwrap();
    let (head, wrong) = found(&store).await;
    assert_eq!((head, wrong.len()), (40, 1), "{wrong:?}");
    assert!(wrong[0].contains("entry 41 says that it is number 12"), "{wrong:?}");
}

#[tokio::test]
async fn a_gap_is_named() {
    for seq in [1, 41, 64, ENTRIES - 1] {
        let store = store().await;
        store.delete(&entry_path(seq)).await.unwrap();
        let (head, wrong) = found(&store).await;
        assert_eq!(head, seq - 1);
        assert!(wrong[0].contains(&format!("entry {seq} is missing")), "{wrong:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_missing_or_damaged_are_named_but_not_those_of_removed_versions() {
    let store = store().await;
    let blob = |bytes: &[u8]| {
        let sum = Checksum::of(bytes).to_string();
        Path::from(format!("blobs/hosted/{}/{sum}", &sum[..2]))
    };
    store.delete(&blob(b"bar")).await.unwrap();
    assert_eq!(found(&store).await, (ENTRIES, Vec::new()));
    for bytes in ["fox", "fo", "fooo", ""] {
        store.put(&blob(b"foo"), bytes.into()).await.unwrap();
        let (head, wrong) = found(&store).await;
        assert_eq!((head, wrong.len()), (ENTRIES, 1));
        assert!(wrong[0].contains("foo@1.0.0") && wrong[0].contains("damaged"), "{wrong:?}");
    }
    store.delete(&blob(b"foo")).await.unwrap();
    let wrong = found(&store).await.1;
    assert!(wrong[0].contains("foo@1.0.0") && wrong[0].contains("missing"), "{wrong:?}");
}
