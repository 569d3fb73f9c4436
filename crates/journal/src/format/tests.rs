//! Format levels that replicas know, and do not know.

use std::sync::Arc;

use jiff::Timestamp;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::entry::{Actor, Entry, EntryId, Event, EventKind};
use crate::entry_store::journal_in;
use crate::test_util::TestReplica;
use cratehouse_core::error::Kind;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn create_user(login: &str) -> ActorCommand {
    ActorCommand { by: CommandActor::Operator, command: Command::create_user(login.to_owned()) }
}

#[tokio::test]
async fn what_is_enabled_already_is_not_written_again_and_the_unknown_is_refused() {
    let replica = TestReplica::open(&memory()).await;
    assert_eq!(enabled(&replica.journal).unwrap(), Level::FIRST);
    assert!(!enable(&replica.journal, CommandActor::Operator, Level::FIRST).await.unwrap());
    let refusal =
        enable(&replica.journal, CommandActor::Operator, Level::KNOWN.next()).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::Invalid, "{refusal}");
    assert!(refusal.message.contains("this release knows"), "{refusal}");
    assert_eq!(replica.journal.catalog().head().unwrap().seq, 0, "nothing is in the journal");
}

/// As a replica that was forgotten, when all others got a later release.
#[tokio::test]
async fn a_replica_that_does_not_know_the_level_stops_there_with_an_alarm_and_is_not_ready() {
    let store = memory();
    let replica = TestReplica::open(&store).await;
    replica.command(Command::create_user("alice".to_owned())).await;
    let before = replica.journal.catalog().head().unwrap();
    let what = EventKind::LevelEnabled { level: Level::KNOWN.next() };
    let entry = Entry {
        seq: 2,
        id: EntryId::random(),
        prev: before.hash,
        time: Timestamp::now(),
        replica: "of a later release".to_owned(),
        level: Level::FIRST,
        events: vec![Event { by: Actor::Operator, what }],
    };
    let journal = journal_in(&Objects::same(store));
    journal.create(2, entry.seal().unwrap().0).await.unwrap();

    for login in ["bob", "carol"] {
        let refusal = replica.journal.append(create_user(login)).await.unwrap_err();
        assert_eq!(refusal.kind, Kind::Unavailable, "{refusal}");
        assert!(refusal.message.contains("journal entry 2 enables"), "{refusal}");
    }
    let why = replica.journal.ready().unwrap_err();
    assert!(why.contains("upgrade this replica"), "{why}");
    assert_eq!(replica.alarms("release_too_old"), 1);
    assert_eq!(replica.journal.catalog().head().unwrap(), before, "it is not skipped");
    assert_eq!(journal.newest_hint(0).await.unwrap(), 2, "and nothing is put behind it");
}
