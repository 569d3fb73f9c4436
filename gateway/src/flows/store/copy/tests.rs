//! Copies of a small registry with hosted and mirrored bytes, over stores that fail.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::memory::InMemory;

use super::*;
use crate::config;
use crate::flows::fixture::{config, limits, line, name, version};
use crate::flows::open::{Keep, Running};
use crate::flows::registry::download::Part;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_storage::blobs::Origin;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};
use cratehouse_storage::url::StoreUrl;

const HUMAN: LogFormat = LogFormat::Human;

async fn running(folder: &FsPath) -> Running {
    let mut config = config(&[], limits());
    config.store = config::Store { url: StoreUrl::Folder(folder.to_owned()), ..config.store };
    objects(folder).registry().await.unwrap(); // opening it founds none
    Running::open(config.into(), "https://acme.example".to_owned(), Keep::Memory).await.unwrap()
}

async fn publish(running: &Running, vers: &str, bytes: &'static [u8]) {
    let gateway = &running.gateway;
    let (line, bytes) = (line("foo", vers, bytes), Bytes::from_static(bytes));
    let size = bytes.len() as u64;
    gateway.mirror.files.blobs.put(Origin::Hosted, &line.cksum, bytes).await.unwrap();
    let published = Box::new(Published { line, size, metadata: Metadata::default() });
    let command = Command::Publish { published, put_at: 0, bounds: IndexBounds::default() };
    gateway.journal.append(ActorCommand { by: CommandActor::Operator, command }).await.unwrap();
}

/// A folder with a registry: `foo` in two versions, and something of every folder.
async fn registry() -> (tempfile::TempDir, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let server = running(folder.path()).await;
    publish(&server, "1.0.0", b"one").await;
    publish(&server, "2.0.0", b"two").await;
    let mirrored = Bytes::from_static(b"mirrored");
    let sum = Checksum::of(&mirrored);
    server.gateway.mirror.files.blobs.put(Origin::Mirrored, &sum, mirrored).await.unwrap();
    server.close().await;
    let objects = objects(folder.path());
    for path in ["mirror/up/index/ba/r/bar", "mirror/up/pins/bar/1.0.0", "checkpoints/2-x"] {
        objects.durable.put(&path.into(), path.into()).await.unwrap();
    }
    (folder, objects)
}

fn objects(folder: &FsPath) -> Objects {
    let url = StoreUrl::Folder(PathBuf::from(folder));
    let store = config(&[], limits()).store;
    Objects::open(&config::Store { url, ..store }, None).unwrap()
}

/// Every object's path and bytes.
async fn content(objects: &Objects) -> Vec<(String, Bytes)> {
    let listed: Vec<_> = objects.durable.list(None).map(|o| o.unwrap().location).collect().await;
    let mut content = Vec::new();
    for path in listed {
        let bytes = read(&*objects.durable, &path).await.unwrap().unwrap();
        content.push((path.to_string(), bytes));
    }
    content.sort();
    content
}

#[tokio::test]
async fn a_copy_has_every_object_and_serves() {
    let (_from, source) = registry().await;
    let folder = tempfile::tempdir().unwrap();
    let target = objects(folder.path());
    let copied = copy(&source, &target, HUMAN).await.unwrap();
    assert_eq!((copied.head, copied.objects, copied.present), (2, 8, 0));
    assert_eq!((&copied.notes, &copied.wrong), (&vec![], &vec![]));
    assert_eq!(content(&source).await, content(&target).await);

    let server = running(folder.path()).await;
    let got = server.gateway.downloads.get(&name("foo"), &version("2.0.0"), Part::Bytes).await;
    assert_eq!(got.unwrap().file.read().await.unwrap(), "two");
    server.close().await;
}

#[tokio::test]
async fn a_second_copy_brings_what_is_new() {
    let (from, source) = registry().await;
    let target = Objects::in_memory();
    let sights = Path::from("mirror/up/sights/ba/r/bar");
    source.durable.put(&sights, "one".into()).await.unwrap();
    copy(&source, &target, HUMAN).await.unwrap();
    source.durable.put(&sights, "two".into()).await.unwrap();
    let server = running(from.path()).await;
    publish(&server, "3.0.0", b"three").await;
    server.close().await;
    let index = Path::from("mirror/up/index/ba/r/bar");
    source.durable.put(&index, "revalidated".into()).await.unwrap();
    let copied = copy(&source, &target, HUMAN).await.unwrap();
    assert_eq!((copied.head, copied.objects, copied.present), (3, 4, 7));
    assert_eq!(content(&source).await, content(&target).await);
}

/// The list of names is written every few minutes, what was used every day; a list may change and stay
/// as long as it was.
#[tokio::test]
async fn lists_that_are_written_anew_come_along_with_a_second_copy() {
    let (_from, source) = registry().await;
    let target = Objects::in_memory();
    let lists = ["mirror/up/names.txt", "uses/2026-11-22/one-00000001"].map(Path::from);
    for content in ["bar 1.0.0", "bar 1.0.1", "bar 1.0.1\nbaz 1.0.0"] {
        for list in &lists {
            source.durable.put(list, content.into()).await.unwrap();
        }
        let copied = copy(&source, &target, HUMAN).await.unwrap();
        assert_eq!(copied.wrong, Vec::<String>::new());
        assert_eq!(self::content(&source).await, self::content(&target).await);
    }
}

/// Fails with the n-th put, before or after it is done, until it is over with every n.
#[tokio::test]
async fn a_copy_that_was_interrupted_anywhere_is_no_registry_and_goes_on_when_run_again() {
    let (_from, source) = registry().await;
    for fault in [Fault::Before, Fault::After] {
        for n in 0.. {
            let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let puts = AtomicU64::new(0);
            // Cut off: from there on nothing is answered.
            let plan = move |call, _: &Path| {
                let before = match call {
                    Call::Put => puts.fetch_add(1, Ordering::SeqCst),
                    _ => puts.load(Ordering::SeqCst).saturating_sub(1),
                };
                match before.cmp(&n) {
                    std::cmp::Ordering::Less => Fault::None,
                    std::cmp::Ordering::Equal if call == Call::Put => fault,
                    _ if puts.load(Ordering::SeqCst) <= n => Fault::None,
                    _ => Fault::Before,
                }
            };
            let cut = FaultyStore::new(Arc::clone(&inner), Box::new(plan));
            tokio::time::pause();
            let first = copy(&source, &Objects::same(Arc::new(cut)), HUMAN).await;
            tokio::time::resume();
            let target = Objects::same(inner);
            if first.is_err() && target.existing().await.unwrap().is_none() {
                let refusal = match target.durable.head(&"copying.json".into()).await {
                    Ok(_) => Some(target.registry().await.unwrap_err()),
                    Err(_) => None, // cut off before the mark: the store is empty
                };
                assert!(refusal.is_none_or(|e| e.message.contains("unfinished copy")), "{n}");
            }
            let second = copy(&source, &target, HUMAN).await.unwrap();
            assert_eq!(second.wrong, Vec::<String>::new());
            assert_eq!(content(&source).await, content(&target).await, "{fault:?} at put {n}");
            if first.is_ok() {
                assert!(n > 5, "only {n} puts");
                break;
            }
        }
    }
}

#[tokio::test]
async fn damaged_hosted_bytes_are_found_and_make_no_registry_and_mirrored_ones_are_left_out() {
    let (_from, source) = registry().await;
    let damage = |folder: &str, bytes: &[u8]| {
        let hex = Checksum::of(bytes).to_string();
        Path::from(format!("blobs/{folder}/{}/{hex}", &hex[..2]))
    };
    source.durable.put(&damage("mirror", b"mirrored"), "x".into()).await.unwrap();
    let target = Objects::in_memory();
    let copied = copy(&source, &target, HUMAN).await.unwrap();
    assert_eq!(copied.wrong, Vec::<String>::new());
    assert!(copied.notes[0].contains("damaged in FROM"), "{:?}", copied.notes);

    source.durable.put(&damage("hosted", b"two"), "xxx".into()).await.unwrap();
    let target = Objects::in_memory();
    let copied = copy(&source, &target, HUMAN).await.unwrap();
    assert!(copied.wrong[0].contains("the bytes of foo@2.0.0"), "{:?}", copied.wrong);
    assert_eq!(target.existing().await.unwrap(), None);
}

#[tokio::test]
async fn a_target_that_is_something_else_is_refused() {
    let (_from, source) = registry().await;
    let refused = async |target: &Objects| {
        let before = content(target).await;
        let refusal = copy(&source, target, HUMAN).await.unwrap_err();
        assert_eq!(content(target).await.len(), before.len(), "{refusal}");
        refusal.message
    };
    let other = Objects::in_memory();
    other.registry().await.unwrap();
    assert!(refused(&other).await.contains("another registry"));
    let unfinished = Objects::in_memory();
    unfinished.begin_copy(RegistryId::random()).await.unwrap();
    assert!(refused(&unfinished).await.contains("another registry"));

    let ahead = Objects::in_memory();
    copy(&source, &ahead, HUMAN).await.unwrap();
    journal_in(&ahead).create(3, Bytes::from_static(b"{}")).await.unwrap();
    assert!(refused(&ahead).await.contains("beyond FROM's entry 2"));

    let different = Objects::in_memory();
    copy(&source, &different, HUMAN).await.unwrap();
    different.durable.put(&"mirror/up/pins/bar/1.0.0".into(), "other".into()).await.unwrap();
    assert!(refused(&different).await.contains("mirror/up/pins/bar/1.0.0"));
    assert_eq!(copy(&Objects::in_memory(), &other, HUMAN).await.unwrap_err().kind, Kind::Absent);
}
