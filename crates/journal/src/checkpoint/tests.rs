//! Replicas that write and load checkpoints over stores that fail.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::checkpoint_format::Writer;
use crate::checkpoint_store::{FOLDER, checkpoints_in};
use crate::entry::{Actor, Entry, EntryId, Event, EventKind};
use crate::entry_store::journal_in;
use crate::principal::UserId;
use crate::test_util::history;
use crate::writer::{JournalWriter, OnChange, Settings};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::per_address::PerAddress;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

mod named;

const REGISTRY: &str = "registry";

/// Nobody hears of changes.
fn nobody() -> OnChange {
    Box::new(|_| ())
}

type Journaled = Vec<(Entry, Bytes, Checksum)>;

/// A store that holds this journal.
async fn store(journal: &[(Entry, Bytes, Checksum)]) -> Objects {
    let objects = Objects::in_memory();
    for (entry, bytes, _) in journal {
        journal_in(&objects).create(entry.seq, bytes.clone()).await.unwrap();
    }
    objects
}

fn checkpointer(objects: &Objects, catalog: &Catalog) -> Checkpointer {
    Checkpointer {
        registry: REGISTRY.to_owned(),
        catalog: catalog.clone(),
        journal: journal_in(objects),
        checkpoints: checkpoints_in(objects),
        metrics: Metrics::new().unwrap(),
        namer: None,
    }
}

fn settings() -> Settings {
    Settings {
        operator: None,
        replica: "test".to_owned(),
        patience: EVERY,
        queue: 10,
        waits: FairShares::new(1, &PerAddress::default()),
        follow: LOOK,
        founding: Level::FIRST,
    }
}

/// A replica whose catalog has applied these entries.
fn at(objects: &Objects, journal: &[(Entry, Bytes, Checksum)]) -> Checkpointer {
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    let entries: Vec<_> = journal.iter().map(|(entry, _, hash)| (entry.clone(), *hash)).collect();
    catalog.apply(&entries).unwrap();
    checkpointer(objects, &catalog)
}

fn empty(objects: &Objects) -> Checkpointer {
    at(objects, &[])
}

impl Checkpointer {
    fn head(&self) -> u64 {
        self.catalog.head().unwrap().seq
    }

    fn counted(&self, event: &str) -> u64 {
        self.metrics.checkpoints.with_label_values(&[event]).get()
    }

    fn alarms(&self) -> u64 {
        self.metrics.alarms.with_label_values(&["checkpoint_conflict"]).get()
    }

    /// Reads the journal to its end, as a start does.
    async fn follow(&self, objects: &Objects) -> Result<()> {
        let settings = settings();
        let (index, metrics) = (nobody(), self.metrics.clone());
        let catalog = self.catalog.clone();
        let (mut writer, _) =
            JournalWriter::new(journal_in(objects), catalog, index, metrics, settings);
        writer.begin(|_, _| ()).await
    }
}

/// Every row of every table, and the head.
fn state(replica: &Checkpointer) -> Name {
    replica.catalog.dump().unwrap().0
}

fn path(name: &Name) -> Path {
    Path::from(format!("{FOLDER}/{name}"))
}

async fn overwrite(objects: &Objects, name: &Name, bytes: impl Into<Bytes>) {
    objects.durable.put(&path(name), bytes.into().into()).await.unwrap();
}

async fn names(objects: &Objects) -> Vec<Name> {
    checkpoints_in(objects).newest(0..=u64::MAX, 100).await.unwrap()
}

#[tokio::test]
async fn a_start_from_a_checkpoint_is_a_start_from_the_whole_journal() {
    let journal = history(REGISTRY, 40);
    let objects = store(&journal).await;
    let whole = at(&objects, &journal);
    for written_at in [1, 7, 30, journal.len()] {
        let name = at(&objects, &journal[..written_at]).write().await.unwrap();
        assert_eq!(name.seq, written_at as u64);
        let new = empty(&objects);
        let known = new.load(None).await;
        assert_eq!(known, Known { good: name.seq, seen: name.seq });
        assert_eq!((new.head(), new.counted("loaded")), (name.seq, 1));
        assert_eq!(new.metrics.checkpoint_seq.get(), written_at as i64);
        new.follow(&objects).await.unwrap();
        assert_eq!(state(&new), state(&whole));
    }
    let replayed = empty(&objects);
    replayed.follow(&objects).await.unwrap();
    assert_eq!(state(&replayed), state(&whole));
}

#[tokio::test]
async fn what_cannot_be_trusted_is_passed_over_and_the_next_older_one_tried() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let good = at(&objects, &journal[..4]).write().await.unwrap();
    let newer = at(&objects, &journal[..9]);
    let (name, bytes) = newer.catalog.dump().unwrap();
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1;
    let header = Reader::open(name, bytes.clone()).unwrap().header().clone();
    let foreign = |change: &dyn Fn(&mut crate::checkpoint_format::Header)| {
        let mut header = crate::checkpoint_format::Header { rows: 0, ..header.clone() };
        change(&mut header);
        Writer::begin(&header).unwrap().finish().unwrap()
    };
    let other_branch = Checksum::of(b"another history");
    for (what, (name, bytes)) in [
        ("flipped", (name, flipped.into())),
        ("truncated", (name, bytes.slice(..bytes.len() / 2))),
        ("empty", (name, Bytes::new())),
        ("text", (name, Bytes::from_static(b"hello"))),
        ("registry", foreign(&|header| header.registry = "theirs".to_owned())),
        ("newer", foreign(&|header| header.schema = SCHEMA + 1)),
        ("older", foreign(&|header| header.schema = 0)),
        ("branch", foreign(&|header| header.hash = other_branch)),
        ("ahead of the journal", foreign(&|header| header.seq = 1_000_000)),
    ] {
        overwrite(&objects, &name, bytes).await;
        let new = empty(&objects);
        let known = new.load(None).await;
        assert_eq!(known, Known { good: good.seq, seen: name.seq }, "{what}");
        assert_eq!(state(&new), good, "{what}");
        assert_eq!((new.counted("passed_over"), new.alarms()), (1, 0), "{what}");
        new.follow(&objects).await.unwrap();
        assert_eq!(new.head(), journal.len() as u64, "{what}");
        objects.durable.delete(&path(&name)).await.unwrap();
    }
    overwrite(&objects, &good, "damaged").await;
    let new = empty(&objects);
    assert_eq!(new.load(None).await, Known { good: 0, seen: good.seq });
    new.follow(&objects).await.unwrap();
    assert_eq!(state(&new), state(&at(&objects, &journal)));
}

#[tokio::test]
async fn two_who_write_at_once_write_the_same() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let (one, two) = (at(&objects, &journal), empty(&objects));
    two.follow(&objects).await.unwrap();
    let (first, second) = tokio::join!(one.write(), two.write());
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(names(&objects).await.len(), 1);
    assert_eq!(one.counted("written") + two.counted("written"), 1);
    assert_eq!(one.alarms() + two.alarms(), 0);
}

/// A checkpoint that a replica with a fault would write: the right head, one row wrong.
fn faulty_twin(objects: &Objects, journal: &Journaled) -> Checkpointer {
    let mut wrong = journal.clone();
    if let EventKind::UserCreated { login, .. } = &mut wrong[0].0.events[0].what {
        *login = "mallory".to_owned();
    }
    at(objects, &wrong)
}

#[tokio::test]
async fn different_checkpoints_of_one_entry_raise_an_alarm_and_neither_is_trusted() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let older = at(&objects, &journal[..4]).write().await.unwrap();
    let one = at(&objects, &journal);
    let two = faulty_twin(&objects, &journal);
    one.write().await.unwrap();
    let theirs = two.write().await.unwrap();
    assert_eq!((one.alarms(), two.alarms()), (0, 1));
    one.write().await.unwrap();
    assert_eq!(one.alarms(), 1, "whoever looks again sees it");

    let new = empty(&objects);
    assert_eq!(new.load(None).await, Known { good: older.seq, seen: theirs.seq });
    assert_eq!((state(&new), new.alarms()), (older, 1));

    // One of the two that is merely damaged is no reason to doubt the other.
    overwrite(&objects, &theirs, "damaged").await;
    let new = empty(&objects);
    new.load(None).await;
    assert_eq!((state(&new), new.alarms()), (state(&one), 0));
    assert_eq!(one.alarms(), 1);
    one.write().await.unwrap();
    assert_eq!(one.alarms(), 1);
}

#[tokio::test]
async fn a_catalog_that_is_not_far_behind_reads_the_journal_instead() {
    let journal = history(REGISTRY, FAR_BEHIND + 10);
    let objects = store(&journal).await;
    let newest = at(&objects, &journal).write().await.unwrap();
    let near = at(&objects, &journal[..30]);
    near.load(None).await;
    assert_eq!(near.head(), 30);
    let far = at(&objects, &journal[..2]);
    far.load(None).await;
    assert_eq!(state(&far), newest);
    let at_the_head = at(&objects, &journal);
    assert_eq!(at_the_head.load(None).await, Known { good: newest.seq, seen: newest.seq });
    assert_eq!(at_the_head.counted("loaded"), 0);
}

#[tokio::test]
async fn a_catalog_of_another_history_is_not_papered_over() {
    let journal = history(REGISTRY, FAR_BEHIND + 10);
    let objects = store(&journal).await;
    at(&objects, &journal).write().await.unwrap();
    let stray = at(&objects, &history(REGISTRY, 5)[..2]);
    let before = state(&stray);
    stray.load(None).await;
    assert_eq!(state(&stray), before);
    let refusal = stray.follow(&objects).await.unwrap_err();
    assert!(refusal.message.contains("delete the catalog"), "{refusal}");
}

/// The same objects behind calls that fail as the plan says.
fn failing(objects: &Objects, plan: impl FnMut(Call, &Path) -> Fault + Send + 'static) -> Objects {
    Objects::same(Arc::new(FaultyStore::new(Arc::clone(&objects.durable), Box::new(plan))))
}

/// Fails the call of this number, and no other.
fn only(nth: usize, fault: Fault) -> impl FnMut(Call, &Path) -> Fault + Send + 'static {
    let mut calls = 0;
    move |_, _| {
        calls += 1;
        if calls == nth { fault } else { Fault::None }
    }
}

#[tokio::test]
async fn whichever_call_fails_a_start_ends_with_the_same_catalog() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let whole = state(&at(&objects, &journal));
    at(&objects, &journal[..4]).write().await.unwrap();
    at(&objects, &journal[..9]).write().await.unwrap();
    let mut heads = Vec::new();
    for nth in 1..=8 {
        let new = empty(&failing(&objects, only(nth, Fault::Before)));
        new.load(None).await;
        heads.push(new.head());
        new.follow(&objects).await.unwrap();
        assert_eq!(state(&new), whole, "call {nth}");
    }
    // The listing; the newest one's journal entry; the journal's newest entry, listed and read, for the
    // level that it tells; the checkpoint; and after that there are no more calls.
    assert_eq!(heads, [0, 4, 4, 4, 4, 9, 9, 9]);
}

#[tokio::test]
async fn whichever_call_fails_a_write_leaves_a_whole_checkpoint_or_none() {
    let journal = history(REGISTRY, 10);
    for nth in 1..=4 {
        for fault in [Fault::Before, Fault::After, Fault::Conflict] {
            let objects = store(&journal).await;
            let replica = at(&failing(&objects, only(nth, fault)), &journal);
            let expected = state(&replica);
            if let Ok(name) = replica.write().await {
                assert_eq!((name, names(&objects).await), (expected, vec![expected]));
            }
            let after = empty(&objects);
            after.load(None).await;
            assert!([0, expected.seq].contains(&after.head()), "call {nth}, {fault:?}");
            // And the next try does what is left.
            let again = at(&objects, &journal);
            assert_eq!(again.write().await.unwrap(), expected, "call {nth}, {fault:?}");
            assert_eq!(names(&objects).await, [expected]);
            assert_eq!(replica.alarms() + again.alarms(), 0);
        }
    }
}

#[tokio::test]
async fn an_empty_registry_has_no_checkpoint() {
    let objects = store(&[]).await;
    let replica = empty(&objects);
    assert!(replica.write().await.unwrap_err().message.contains("nothing"));
    assert_eq!(replica.load(None).await, Known::default());
    assert_eq!(names(&objects).await, []);
}

#[tokio::test(start_paused = true)]
async fn one_is_due_after_so_many_entries_or_a_day_with_any() {
    let cadence = Cadence::new(Known { good: 10, seen: 12 }, 5);
    assert_eq!(
        [9, 10, 14, 15, 16].map(|head| cadence.is_due(head)),
        [false, false, false, true, true]
    );
    tokio::time::advance(EVERY).await;
    assert_eq!([10, 11].map(|head| cadence.is_due(head)), [false, true]);
    let spread: std::collections::BTreeSet<_> =
        (0..100).map(|_| Cadence::new(Known::default(), 1000).entries).collect();
    assert!(spread.len() > 10 && spread.iter().all(|n| (1000..=1100).contains(n)), "{spread:?}");
}

struct Served {
    heads: watch::Sender<Seen>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn seen(head: u64) -> Seen {
    Seen { head, changed: head, named: None }
}

fn serve(replica: &Checkpointer, known: Known, entries: u64) -> Served {
    let (heads, hears) = watch::channel(Seen::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(replica.clone().run(known, entries, hears, stop.clone()));
    Served { heads, stop, task }
}

/// Waits, in a paused clock, until there are so many checkpoints; says how long that took.
async fn until_there_are(objects: &Objects, count: usize) -> Duration {
    let begun = Instant::now();
    while names(objects).await.len() < count {
        assert!(begun.elapsed() < EVERY * 3, "there are never {count} checkpoints");
        tokio::time::sleep(LOOK).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_replica_writes_after_so_many_entries_and_else_once_a_day() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let replica = at(&objects, &journal[..4]);
    let served = serve(&replica, Known::default(), 4);
    served.heads.send_replace(seen(3));
    served.heads.send_replace(seen(4));
    until_there_are(&objects, 1).await;
    replica.follow(&objects).await.unwrap();
    served.heads.send_replace(seen(6)); // two more: a matter of time
    assert!(until_there_are(&objects, 2).await > EVERY / 2);
    assert_eq!(replica.counted("written"), 2);
    tokio::time::sleep(EVERY * 3).await;
    assert_eq!(names(&objects).await.len(), 2, "without anything new there is nothing to write");
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replica_leaves_alone_what_another_has_done_and_tries_again_what_failed() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let theirs = at(&objects, &journal[..9]).write().await.unwrap();
    let mut down = 3;
    let store = failing(&objects, move |call, _| match (call, down) {
        (Call::Put, 1..) => {
            down -= 1;
            Fault::Before
        }
        _ => Fault::None,
    });
    let replica = at(&store, &journal[..9]);
    let served = serve(&replica, Known::default(), 4);
    served.heads.send_replace(seen(9));
    while replica.metrics.checkpoint_seq.get() != theirs.seq as i64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(replica.counted("written"), 0);
    replica.follow(&objects).await.unwrap();
    served.heads.send_replace(seen(journal.len() as u64));
    until_there_are(&objects, 2).await;
    assert_eq!((replica.counted("failed"), replica.counted("written")), (3, 1));
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_scribe_tells_how_far_it_is() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let settings = settings();
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    let (index, metrics) = (nobody(), Metrics::new().unwrap());
    let (mut writer, _) =
        JournalWriter::new(journal_in(&objects), catalog, index, metrics, settings);
    let heads = writer.heads();
    writer.begin(|_, _| ()).await.unwrap();
    assert_eq!(*heads.borrow(), seen(journal.len() as u64));
}
