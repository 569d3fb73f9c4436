//! What the simulation has found in the journal, in the fewest steps that show it.

use std::sync::Arc;

use jiff::Timestamp;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use cratehouse_core::checksum::Checksum;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor, judge};
use cratehouse_journal::entry::EventKind;
use cratehouse_journal::principal::{Grant, UserId};
use cratehouse_journal::subject::{Subject, SubjectName};
use cratehouse_journal::test_util::TestReplica;
use cratehouse_package::name::NamePattern;

fn alice() -> String {
    "alice".to_owned()
}

fn pattern() -> NamePattern {
    "acme-*".parse().unwrap()
}

fn named() -> Vec<SubjectName> {
    vec![SubjectName::User(alice())]
}

/// A registry with Alice, whom one rule lets read and another lets create.
async fn registry() -> TestReplica {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let replica = TestReplica::open(&store).await;
    for command in [
        Command::create_user(alice()),
        Command::create_user("bob".to_owned()),
        Command::Restrict { pattern: pattern(), readers: named() },
        Command::AddCreators { pattern: pattern(), creators: named() },
        Command::AddCreators {
            pattern: pattern(),
            creators: vec![SubjectName::User("bob".to_owned())],
        },
    ] {
        replica.command(command).await;
    }
    replica
}

fn events(replica: &TestReplica, command: Command) -> Vec<EventKind> {
    let command = ActorCommand { by: CommandActor::Operator, command };
    judge(&replica.catalog.view().unwrap(), &command, Timestamp::now()).unwrap()
}

/// Or else they may read again when they are enabled, and nobody could prevent it before.
#[tokio::test]
async fn who_is_disabled_can_be_taken_from_a_rule() {
    let replica = registry().await;
    replica.command(Command::DisableUser { login: alice() }).await;
    let (pattern, readers) = (pattern(), named());
    assert_eq!(events(&replica, Command::RemoveReaders { pattern, readers }).len(), 1);
    let (pattern, creators) = (self::pattern(), named());
    assert_eq!(events(&replica, Command::RemoveCreators { pattern, creators }).len(), 1);
}

#[tokio::test]
async fn who_is_named_twice_is_taken_from_a_rule_once() {
    let readers = [named(), named()].concat();
    let events = events(&registry().await, Command::RemoveReaders { pattern: pattern(), readers });
    let readers = vec![Subject::User(UserId(1))];
    assert_eq!(events, [EventKind::ReadersRemoved { pattern: pattern(), readers }]);
}

/// Who was disabled may have been enabled by an entry that this replica has not read yet.
#[tokio::test]
async fn that_a_token_does_not_count_may_be_lag() {
    let replica = registry().await;
    let (hash, grant) = (Checksum::of(b"t"), Grant::usual());
    replica
        .command(Command::CreateToken { login: alice(), name: "t".to_owned(), hash, grant })
        .await;
    let who = replica.catalog.principal(&hash).unwrap().unwrap();
    replica.command(Command::DisableUser { login: alice() }).await;
    let (krate, version) = ("foo".parse().unwrap(), "1.0.0".parse().unwrap());
    let command = Command::Yank { krate, version, yanked: true };
    let command = ActorCommand { by: CommandActor::Principal(who), command };
    let view = replica.catalog.view().unwrap();
    let refusal = judge(&view, &command, Timestamp::now()).unwrap_err();
    assert!(refusal.lag_could_explain, "{}", refusal.error);
}
