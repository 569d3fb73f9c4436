//! Folders that refuse what is written or read: a full disk, another user's files.

use std::sync::Arc;

use super::tests::{nobody, replica, settings};
use super::*;
use crate::commands::Command;
use cratehouse_core::error::Kind;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore, Plan};
use object_store::memory::InMemory;

/// A command that waits for an operator to make room would never end.
#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_a_change_at_once_and_for_certain_and_takes_the_next_when_there_is_room()
 {
    let full = || -> Plan {
        Box::new(|call, _| if call == Call::Put { Fault::Full } else { Fault::None })
    };
    let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new()), full()));
    let objects = Objects::same(Arc::clone(&store) as _);
    let replica = replica(&objects).await;
    let alice = || Command::create_user("alice".to_owned());
    let began = Instant::now();
    let refusal = replica.append(alice()).await.unwrap_err();
    assert!(refusal.message.contains("disk") && refusal.message.contains("full"), "{refusal}");
    assert_eq!(refusal.kind, Kind::Unavailable);
    assert!(began.elapsed() < settings().patience, "it waited for what does not come");
    store.plan(Box::new(|_, _| Fault::None));
    assert_eq!(replica.append(alice()).await.unwrap().len(), 1, "it was not done before");
    assert_eq!(replica.stop().await.head().unwrap().seq, 1);
}

/// A put whose answer was lost may have landed, or land later: then a full disk proves nothing.
#[tokio::test(start_paused = true)]
async fn behind_a_put_of_which_nothing_is_known_a_full_disk_is_no_refusal() {
    let mut puts = 0;
    let plan = move |call, _: &object_store::path::Path| {
        puts += u32::from(call == Call::Put);
        match (call, puts) {
            (Call::Put, 1) => Fault::Before,
            (Call::Put, 2..4) => Fault::Full,
            _ => Fault::None,
        }
    };
    let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new()), Box::new(plan)));
    let replica = replica(&Objects::same(store as _)).await;
    let done = replica.append(Command::create_user("alice".to_owned())).await.unwrap();
    assert_eq!(done.len(), 1);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_this_user_may_not_read_is_named_until_it_may() {
    let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new()), Box::new(|_, _| Fault::None)));
    let replica = replica(&Objects::same(Arc::clone(&store) as _)).await;
    replica.append(Command::create_user("alice".to_owned())).await.unwrap();
    store.plan(Box::new(|call, _| if call == Call::Get { Fault::Forbidden } else { Fault::None }));
    let error = replica.appender.catch_up().await.unwrap_err();
    assert!(error.message.contains("owner and mode"), "{error}");
    assert_eq!(replica.appender.refusal(), Some(Refusal::Forbidden));
    store.plan(Box::new(|_, _| Fault::None));
    replica.appender.catch_up().await.unwrap();
    assert_eq!(replica.appender.refusal(), None);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_a_full_disk_refuses_write_no_line_each() {
    let plan = |call, _: &object_store::path::Path| match call {
        Call::Put => Fault::Full,
        _ => Fault::None,
    };
    let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new()), Box::new(plan)));
    let replica = replica(&Objects::same(store as _)).await;
    for n in 0..100 {
        replica.append(Command::create_user(format!("user{n}"))).await.unwrap_err();
    }
    let left_out = &replica.metrics.log_lines_suppressed;
    assert!(left_out.with_label_values(&["journal_unreachable"]).get() > 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_lack_of_threads_is_no_broken_catalog() {
    let objects = Objects::same(Arc::new(InMemory::new()));
    let (journal, metrics) = (crate::entry_store::journal_in(&objects), Metrics::new().unwrap());
    let catalog = Catalog::in_memory("registry").unwrap();
    let index = nobody();
    let (writer, appender) =
        JournalWriter::new(journal, catalog, index, metrics.clone(), settings());
    let alarms = || metrics.alarms.with_label_values(&["catalog_unwritable"]).get();
    writer.unwritten(&Error::unavailable("the registry has no thread free for this"));
    assert_eq!((appender.catalog_ready(), alarms()), (Ok(()), 0));
    writer.unwritten(&Error::new(Kind::Internal, "no space left"));
    assert_eq!((appender.catalog_ready().is_err(), alarms()), (true, 1));
}
