//! How a journal begins, where it ends, and whose hand an entry shows.

use super::*;

/// The names of level 2 stand in no entry of level 1, which older releases read.
#[tokio::test(start_paused = true)]
async fn from_level_2_on_an_operators_entry_names_the_account_and_the_machine() {
    let account = Account { user: "alice".to_owned(), host: "build-1".to_owned() };
    for (founding, wanted) in
        [(Level::FIRST, Actor::Operator), (Level::SECOND, Actor::CommandLine(account.clone()))]
    {
        let objects = Objects::in_memory();
        let settings = Settings { operator: Some(account.clone()), founding, ..settings() };
        let one = replica_of(&objects, Catalog::in_memory(REGISTRY).unwrap(), settings).await;
        one.append(create_user("bob")).await.unwrap();
        one.append(create_user("carol")).await.unwrap();
        let second = one.catalog.head().unwrap();
        assert_eq!(second.level, founding);
        let bytes = journal_in(&objects).read(second.seq).await.unwrap().unwrap();
        let entry: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(entry.events[0].by, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_begins_at_the_newest_level_by_its_first_entry() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    let happened = one.append(create_user("alice")).await.unwrap();
    assert_eq!(happened.len(), 1, "who asks hears of no more than was asked for");
    assert_eq!(one.catalog.head().unwrap().level, Level::KNOWN);
    let read = async |seq| {
        let bytes = journal_in(&objects).read(seq).await.unwrap().unwrap();
        serde_json::from_slice::<Entry>(&bytes).unwrap()
    };
    let first = read(1).await;
    assert_eq!((first.level, first.enables(), first.seq), (Level::FIRST, Some(Level::KNOWN), 1));
    one.append(create_user("bob")).await.unwrap();
    let second = read(2).await;
    assert_eq!((second.level, second.enables()), (Level::KNOWN, None));
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_found_at_a_start_and_before_the_first_append() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    for n in 0..11 {
        one.append(create_user(&format!("user{n}"))).await.unwrap();
    }
    one.stop().await;
    let (metrics, catalog) = (Metrics::new().unwrap(), Catalog::in_memory(REGISTRY).unwrap());
    let index = nobody();
    let (mut writer, appender) =
        JournalWriter::new(journal_in(&objects), catalog, index, metrics.clone(), settings());
    objects.durable.delete(&entry_path(5)).await.unwrap();
    let refusal = writer.begin(|_, _| ()).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Internal, "waiting does not mend it");
    assert!(refusal.message.contains("entry 5 is missing, but entry 11 is there"), "{refusal}");
    assert_eq!(metrics.alarms.with_label_values(&["journal_broken"]).get(), 1);
    tokio::spawn(writer.run(CancellationToken::new()));
    let command = ActorCommand { by: CommandActor::Operator, command: create_user("fork") };
    let refusal = appender.append(command).await.unwrap_err();
    assert!(refusal.message.contains("the journal has a gap"), "{refusal}");
    assert_eq!(journal_in(&objects).read(5).await.unwrap(), None, "nothing is put into it");
}

#[tokio::test(start_paused = true)]
async fn an_entry_by_an_actor_that_no_entry_made_raises_an_alarm_and_counts() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    one.append(create_user("alice")).await.unwrap();
    let (metrics, catalog) = (Metrics::new().unwrap(), Catalog::in_memory(REGISTRY).unwrap());
    let head = one.stop().await.head().unwrap();
    let by = crate::entry::Actor::User {
        user: crate::principal::UserId(1),
        token: crate::principal::TokenId(7),
    };
    let what = EventKind::UserDisabled { user: crate::principal::UserId(1) };
    let entry = Entry {
        seq: 2,
        id: EntryId::random(),
        prev: head.hash,
        time: Timestamp::now(),
        replica: "forger".to_owned(),
        level: Level::KNOWN,
        events: vec![crate::entry::Event { by, what }],
    };
    journal_in(&objects).create(2, entry.seal().unwrap().0).await.unwrap();
    let index = nobody();
    let (mut writer, _) = JournalWriter::new(
        journal_in(&objects),
        catalog.clone(),
        index,
        metrics.clone(),
        settings(),
    );
    writer.begin(|_, _| ()).await.unwrap();
    assert_eq!(metrics.alarms.with_label_values(&["unknown_actor"]).get(), 1);
    assert_eq!(catalog.head().unwrap().seq, 2);
}
