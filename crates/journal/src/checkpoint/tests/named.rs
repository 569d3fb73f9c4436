//! Format level 2: a checkpoint counts only when an entry of the journal names it.

use super::*;

/// A journal of level 2 whose first entries were written before it was enabled, and where that is.
fn strict_journal() -> (Journaled, u64) {
    let mut journal = history(REGISTRY, 10);
    let enabled = journal.len() as u64 + 1;
    for level in [Level::FIRST, Level::NAMED_CHECKPOINTS, Level::NAMED_CHECKPOINTS] {
        let (last, _, prev) = journal.last().unwrap();
        let what = match level == Level::FIRST {
            true => EventKind::LevelEnabled { level: Level::NAMED_CHECKPOINTS },
            false => EventKind::UserCreated {
                user: UserId(last.seq as u32),
                login: "x".to_owned(),
                kind: crate::principal::PrincipalKind::Person,
            },
        };
        let events = vec![Event { by: Actor::Operator, what }];
        let (seq, prev) = (last.seq + 1, *prev);
        let entry = Entry { seq, prev, level, events, id: EntryId::random(), ..last.clone() };
        let (bytes, hash) = entry.seal().unwrap();
        journal.push((entry, bytes, hash));
    }
    (journal, enabled)
}

/// A replica that has read the journal and can append to it.
async fn running(objects: &Objects) -> (Checkpointer, watch::Receiver<Seen>, CancellationToken) {
    running_on(objects, empty(objects)).await
}

/// The same, with what is on its disk.
async fn running_on(
    objects: &Objects,
    mut replica: Checkpointer,
) -> (Checkpointer, watch::Receiver<Seen>, CancellationToken) {
    let (index, metrics) = (nobody(), replica.metrics.clone());
    let settings = Settings { patience: Duration::from_secs(10), ..settings() };
    let catalog = replica.catalog.clone();
    let (mut writer, namer) =
        JournalWriter::new(journal_in(objects), catalog, index, metrics, settings);
    replica.begin(&mut writer, Known::default(), None, |_, _| ()).await.unwrap();
    replica.namer = Some(Namer { journal: namer, heads: writer.heads() });
    let (heads, stop) = (writer.heads(), CancellationToken::new());
    tokio::spawn(writer.run(stop.clone()));
    (replica, heads, stop)
}

#[tokio::test]
async fn a_checkpoint_that_no_entry_names_is_not_believed_whatever_it_says_of_itself() {
    let (journal, enabled) = strict_journal();
    let last = journal.len();
    for (what, upto, level) in [
        ("of the last entry", last, Level::NAMED_CHECKPOINTS),
        ("that claims another level", last, Level::FIRST),
        ("of an entry before", last - 1, Level::NAMED_CHECKPOINTS),
        ("of the entry that enables the level", enabled as usize, Level::NAMED_CHECKPOINTS),
        ("from before the level", enabled as usize - 1, Level::FIRST),
        ("from long before the level", 4, Level::FIRST),
    ] {
        let objects = store(&journal).await;
        let mut forged = journal[..upto].to_vec();
        if let EventKind::UserCreated { login, .. } = &mut forged[0].0.events[0].what {
            *login = "mallory".to_owned();
        }
        let (name, bytes) = at(&objects, &forged).catalog.dump().unwrap();
        let mut reader = Reader::open(name, bytes).unwrap();
        let header = crate::checkpoint_format::Header { level, ..reader.header().clone() };
        let mut writer = Writer::begin(&header).unwrap();
        while let Some(row) = reader.next_row().unwrap() {
            let key = row.key::<serde_json::Value>().unwrap();
            writer.row(row.table(), &key, row.value().as_bytes()).unwrap();
        }
        let (name, bytes) = writer.finish().unwrap();
        overwrite(&objects, &name, bytes).await;
        let new = empty(&objects);
        new.load(None).await;
        assert_eq!((new.head(), new.counted("passed_over")), (0, 1), "{what}");
        new.follow(&objects).await.unwrap();
        assert_eq!(state(&new), state(&at(&objects, &journal)), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_named_when_it_is_written_and_then_believed() {
    let (journal, _) = strict_journal();
    let objects = store(&journal).await;
    let (replica, ..) = running(&objects).await;
    let before = state(&replica);
    let name = replica.write().await.unwrap();
    assert_eq!((name, replica.head()), (before, journal.len() as u64 + 1));
    assert_eq!((replica.write().await.unwrap(), replica.head()), (name, name.seq + 1));
    let new = empty(&objects);
    assert_eq!(new.load(None).await, Known { good: name.seq, seen: name.seq });
    assert_eq!((state(&new), new.counted("loaded")), (name, 1));
    // A forged one beside it is passed over, and raises no alarm: it was never named.
    let mut forged = journal.clone();
    if let EventKind::UserCreated { login, .. } = &mut forged[0].0.events[0].what {
        *login = "mallory".to_owned();
    }
    let (twin, bytes) = at(&objects, &forged).catalog.dump().unwrap();
    overwrite(&objects, &twin, bytes).await;
    let new = empty(&objects);
    new.load(None).await;
    assert_eq!((state(&new), new.counted("passed_over"), new.alarms()), (name, 1, 0));
    // Without a way into the journal nothing is written that nobody would believe.
    let refusal = at(&objects, &journal).write().await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Internal);
}

#[tokio::test(start_paused = true)]
async fn what_another_put_under_a_checkpoints_name_is_not_named() {
    let (journal, _) = strict_journal();
    let objects = store(&journal).await;
    let (replica, ..) = running(&objects).await;
    overwrite(&objects, &state(&replica), "squatted").await;
    let refusal = replica.write().await.unwrap_err();
    assert!(refusal.message.contains("delete it"), "{refusal}");
    assert_eq!(replica.head(), journal.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn naming_a_checkpoint_is_no_reason_for_the_next_one() {
    let (journal, _) = strict_journal();
    let objects = store(&journal).await;
    let (replica, heads, _stop) = running(&objects).await;
    let stop = CancellationToken::new();
    tokio::spawn(replica.clone().run(Known::default(), 1, heads, stop.clone()));
    until_there_are(&objects, 1).await;
    tokio::time::sleep(EVERY * 3).await;
    assert_eq!((names(&objects).await.len(), replica.head()), (1, journal.len() as u64 + 1));
    let command = ActorCommand {
        by: CommandActor::Operator,
        command: Command::create_user("carol".to_owned()),
    };
    replica.namer.as_ref().unwrap().journal.append(command).await.unwrap();
    until_there_are(&objects, 2).await;
    stop.cancel();
}

/// A checkpoint of these entries that says something else of the first.
fn forged(objects: &Objects, journal: &[(Entry, Bytes, Checksum)]) -> (Name, Bytes) {
    let mut forged = journal.to_vec();
    if let EventKind::UserCreated { login, .. } = &mut forged[0].0.events[0].what {
        *login = "mallory".to_owned();
    }
    at(objects, &forged).catalog.dump().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_believed_before_the_level_is_never_named_and_is_built_anew_at_the_next_start() {
    let journal = history(REGISTRY, 10);
    let objects = store(&journal).await;
    let (name, bytes) = forged(&objects, &journal);
    overwrite(&objects, &name, bytes).await;
    let replica = empty(&objects);
    assert_eq!(replica.load(None).await.good, name.seq);
    let (replica, heads, stop) = running_on(&objects, replica).await;
    let checkpointing = CancellationToken::new();
    tokio::spawn(replica.clone().run(Known::default(), 1, heads, checkpointing.clone()));
    let command = Command::EnableLevel { level: Level::NAMED_CHECKPOINTS };
    let command = ActorCommand { by: CommandActor::Operator, command };
    replica.namer.as_ref().unwrap().journal.append(command).await.unwrap();
    let refusal = replica.write().await.unwrap_err();
    assert!(refusal.message.contains("built anew"), "{refusal}");
    tokio::time::sleep(EVERY * 2).await;
    let last = journal.len() as u64 + 1;
    assert_eq!((names(&objects).await, replica.head()), (vec![name], last));
    checkpointing.cancel();
    stop.cancel();

    // And when the level was crossed long ago: its disk is what a killed process, or 0.1, has left.
    let again = checkpointer(&objects, &replica.catalog);
    let (again, ..) = running_on(&objects, again).await;
    let whole = empty(&objects);
    whole.follow(&objects).await.unwrap();
    assert_eq!(state(&again), state(&whole));
    let written = again.write().await.unwrap();
    assert_eq!(written.seq, last);
    assert!(again.head() > last, "it is named, perhaps by two");
    let new = empty(&objects);
    assert_eq!(new.load(None).await.good, written.seq);
    assert!(new.catalog.head().unwrap().proven, "a named one needs no such care");
}

#[test]
fn a_catalog_of_before_says_nothing_of_where_it_comes_from() {
    let head = Catalog::in_memory(REGISTRY).unwrap().head().unwrap();
    let mut row = serde_json::to_value(head).unwrap();
    row.as_object_mut().unwrap().remove("proven").unwrap();
    assert!(head.proven && !serde_json::from_value::<Head>(row).unwrap().proven);
}

#[tokio::test]
async fn a_checkpoint_that_must_be_named_and_is_not_is_not_so_much_as_fetched() {
    let (journal, _) = strict_journal();
    let objects = store(&journal).await;
    for upto in [4, journal.len()] {
        let (name, bytes) = forged(&objects, &journal[..upto]);
        overwrite(&objects, &name, bytes).await;
    }
    let fetched = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&fetched);
    let store = failing(&objects, move |call, path| {
        if call == Call::Get && path.as_ref().starts_with(FOLDER) {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Fault::None
    });
    let new = empty(&store);
    new.load(None).await;
    assert_eq!((new.head(), new.counted("passed_over")), (0, 2));
    assert_eq!(fetched.load(std::sync::atomic::Ordering::Relaxed), 0);
}
