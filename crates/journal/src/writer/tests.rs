//! Writers that compete for one journal over stores that fail.

use std::collections::BTreeMap;

use jiff::Timestamp;
use object_store::ObjectStoreExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::commands::{Command, CommandActor};
use crate::entry::{Actor, Entry, EntryId};
use crate::entry_store::journal_in;
use crate::principal::Grant;
use crate::token_secret::{TokenKind, TokenSecret};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Kind;
use cratehouse_core::per_address::PerAddress;
use cratehouse_package::index::IndexLine;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::name::CrateName;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_storage::objects::Objects;
use cratehouse_storage::test_util::{Call, Fault, FaultyStore};

mod begins;

const REGISTRY: &str = "registry";

pub(super) fn nobody() -> OnChange {
    Box::new(|_| ())
}

pub(super) struct Replica {
    catalog: Catalog,
    pub(super) metrics: Metrics,
    pub(super) appender: JournalHandle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

pub(super) fn settings() -> Settings {
    Settings {
        operator: None,
        replica: "test".to_owned(),
        patience: Duration::from_secs(20),
        queue: 1024,
        waits: FairShares::new(100, &PerAddress::default()),
        follow: Duration::from_millis(500),
        founding: Level::KNOWN,
    }
}

pub(super) async fn replica(objects: &Objects) -> Replica {
    replica_with(objects, Catalog::in_memory(REGISTRY).unwrap()).await
}

async fn replica_with(objects: &Objects, catalog: Catalog) -> Replica {
    replica_of(objects, catalog, settings()).await
}

async fn replica_of(objects: &Objects, catalog: Catalog, settings: Settings) -> Replica {
    let metrics = Metrics::new().unwrap();
    let (mut writer, appender) = JournalWriter::new(
        journal_in(objects),
        catalog.clone(),
        nobody(),
        metrics.clone(),
        settings,
    );
    writer.begin(|_, _| ()).await.unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(writer.run(stop.clone()));
    Replica { catalog, metrics, appender, stop, task }
}

impl Replica {
    pub(super) async fn append(&self, command: Command) -> Result<Vec<EventKind>> {
        self.appender.append(ActorCommand { by: CommandActor::Operator, command }).await
    }

    pub(super) async fn stop(self) -> Catalog {
        self.appender.catch_up().await.unwrap();
        self.stop.cancel();
        self.task.await.unwrap();
        self.catalog
    }
}

fn publish(name: &str, version: &str) -> Command {
    let line = IndexLine {
        name: CrateName::parse(name).unwrap(),
        vers: version.parse().unwrap(),
        deps: Vec::new(),
        cksum: Checksum::of(name.as_bytes()),
        features: BTreeMap::new(),
        features2: None,
        yanked: false,
        links: None,
        rust_version: None,
        pubtime: None,
        v: None,
    };
    let published = Box::new(Published { line, size: 1, metadata: Metadata::default() });
    Command::Publish { published, put_at: 0, bounds: IndexBounds::default() }
}

/// A store that fails as planned, and what it stands before.
fn faulty(objects: &Objects) -> Arc<FaultyStore> {
    let fine = Box::new(|_: Call, _: &object_store::path::Path| Fault::None);
    Arc::new(FaultyStore::new(Arc::clone(&objects.durable), fine))
}

fn yank(name: &str, version: &str) -> Command {
    let (krate, version) = (CrateName::parse(name).unwrap(), version.parse().unwrap());
    Command::Yank { krate, version, yanked: true }
}

fn entry_path(seq: u64) -> object_store::path::Path {
    format!("journal/{seq:020}.json").into()
}

fn create_user(login: &str) -> Command {
    Command::create_user(login.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_is_in_the_journal_and_in_every_catalog() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    let two = replica(&objects).await;
    one.append(create_user("alice")).await.unwrap();
    one.append(publish("foo", "1.0.0")).await.unwrap();
    // The other replica has not followed yet, and must not say so.
    let grant = Grant::usual();
    let hash = TokenSecret::random(TokenKind::Person).hash();
    let (login, name) = ("alice".to_owned(), "laptop".to_owned());
    two.append(Command::CreateToken { login, name, hash, grant }).await.unwrap();
    assert!(two.append(publish("Foo", "1.0.1")).await.unwrap_err().message.contains("one name"));
    let again = two.append(publish("foo", "1.0.0+build")).await.unwrap_err();
    assert!(again.message.contains("already uploaded"), "{again}");
    assert_eq!(one.stop().await.rows(), two.stop().await.rows());
}

#[tokio::test(start_paused = true)]
async fn a_catalog_is_rebuilt_from_the_journal_alone() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    for n in 0..300 {
        one.append(publish("foo", &format!("1.0.{n}"))).await.unwrap();
    }
    let rebuilt = replica(&objects).await;
    assert_eq!(one.stop().await.rows(), rebuilt.stop().await.rows());
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_share_an_entry_and_one_refusal_fails_no_other() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    let commands = (0..100).map(|n| one.append(create_user(&format!("user{}", n % 50))));
    let outcomes = futures_util::future::join_all(commands).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 50);
    let head = one.stop().await.head().unwrap().seq;
    assert!(head < 10, "50 users took {head} entries");
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_was_lost_is_recognised() {
    for fault in [Fault::After, Fault::Before, Fault::Conflict] {
        let objects = Objects::in_memory();
        let mut faults = vec![fault, fault];
        let plan = move |call, path: &object_store::path::Path| match call {
            Call::Put if path.as_ref().starts_with("journal/") => {
                faults.pop().unwrap_or(Fault::None)
            }
            _ => Fault::None,
        };
        let faulty = FaultyStore::new(Arc::clone(&objects.durable), Box::new(plan));
        let one = replica(&Objects::same(Arc::new(faulty))).await;
        one.append(publish("foo", "1.0.0")).await.unwrap();
        one.append(create_user("alice")).await.unwrap();
        assert_eq!(one.stop().await.head().unwrap().seq, 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_gives_an_honest_503_and_loses_nothing() {
    let objects = Objects::in_memory();
    let faulty = Arc::new(FaultyStore::new(
        Arc::clone(&objects.durable),
        Box::new(|_, _: &object_store::path::Path| Fault::None),
    ));
    let one = replica(&Objects::same(Arc::clone(&faulty) as Arc<_>)).await;
    faulty.plan(Box::new(|_, _| Fault::Before));
    let (first, second) = tokio::join!(one.append(create_user("alice")), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        one.append(create_user("bob")).await
    });
    let (first, second) = (first.unwrap_err(), second.unwrap_err());
    assert!(first.message.contains("not known yet"), "{first}");
    assert!(second.message.contains("nothing was changed"), "{second}");
    faulty.plan(Box::new(|_, _| Fault::None));
    tokio::time::sleep(Duration::from_secs(5)).await;
    one.append(create_user("carol")).await.unwrap();
    let users = one.stop().await.view().unwrap().users().unwrap();
    let logins: Vec<_> = users.into_iter().map(|user| user.login).collect();
    assert_eq!(logins, ["alice", "carol"]);
}

#[test]
fn what_reads_on_time_is_not_behind_and_what_is_overdue_may_be() {
    let (second, follow) = (Duration::from_secs(1), Duration::from_millis(500));
    assert_eq!(super::lag(second, true, follow), Duration::ZERO);
    assert_eq!(super::lag(second, false, follow), second);
    assert_eq!(super::lag(second * 6, true, follow), second * 6);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_read_the_journal_does_not_know_how_far_it_is_behind() {
    let objects = Objects::in_memory();
    let store = faulty(&objects);
    let one = replica(&Objects::same(Arc::clone(&store) as Arc<_>)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(one.appender.lag(), Some(Duration::ZERO), "nothing happens, and that is known");
    store.plan(Box::new(|_, _| Fault::Before));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let lag = one.appender.lag().unwrap();
    assert!(lag > Duration::from_secs(28) && lag < Duration::from_secs(31), "{lag:?}");
    store.plan(Box::new(|_, _| Fault::None));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(one.appender.lag(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_broken_chain_stops_appending_and_following() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    one.append(create_user("alice")).await.unwrap();
    let journal = journal_in(&objects);
    let entry = Entry {
        seq: 2,
        id: EntryId::random(),
        prev: Checksum::of(b"something else"),
        time: Timestamp::now(),
        replica: "forger".to_owned(),
        level: Level::FIRST,
        events: Vec::new(),
    };
    journal.create(2, entry.seal().unwrap().0).await.unwrap();
    let refusal = one.append(create_user("bob")).await.unwrap_err();
    assert!(refusal.message.contains("chain of hashes is broken"), "{refusal}");
    assert!(one.appender.ready().unwrap_err().contains("journal entry 2"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_set_back_is_recognised() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    one.append(create_user("alice")).await.unwrap();
    let catalog = one.stop().await;
    let (mut writer, appender) = JournalWriter::new(
        journal_in(&Objects::in_memory()),
        catalog,
        nobody(),
        Metrics::new().unwrap(),
        settings(),
    );
    let refusal = writer.begin(|_, _| ()).await.unwrap_err();
    assert!(refusal.message.contains("delete the catalog"), "{refusal}");
    assert!(appender.ready().is_err());
}

/// Three replicas race for the same versions over a store that loses one call in five. Whatever
/// happens: one winner a version, every answered publish in the journal, equal catalogs.
#[tokio::test(start_paused = true)]
async fn replicas_that_compete_over_a_failing_store_agree() {
    for seed in 0..8 {
        let objects = Objects::in_memory();
        let mut replicas = Vec::new();
        let mut stores = Vec::new();
        for n in 0..3 {
            let mut rng = StdRng::seed_from_u64(seed * 10 + n);
            let plan = move |_: Call, _: &object_store::path::Path| match rng.next_u32() % 15 {
                0 => Fault::Before,
                1 => Fault::After,
                2 => Fault::Conflict,
                _ => Fault::None,
            };
            let faulty = FaultyStore::new(
                Arc::clone(&objects.durable),
                Box::new(|_, _: &object_store::path::Path| Fault::None),
            );
            let faulty = Arc::new(faulty);
            replicas.push(replica(&Objects::same(Arc::clone(&faulty) as Arc<_>)).await);
            faulty.plan(Box::new(plan));
            stores.push(faulty);
        }
        let commands = (0..90).map(|n| {
            let replica = &replicas[n % 3];
            async move {
                tokio::time::sleep(Duration::from_millis(n as u64 * 7 % 40)).await;
                (n / 3, replica.append(publish("foo", &format!("1.0.{}", n / 3))).await)
            }
        });
        let outcomes = futures_util::future::join_all(commands).await;
        for store in &stores {
            store.plan(Box::new(|_, _| Fault::None));
        }
        let mut catalogs = Vec::new();
        for replica in replicas {
            catalogs.push(replica.stop().await);
        }
        assert_eq!(catalogs[0].rows(), catalogs[1].rows(), "seed {seed}");
        assert_eq!(catalogs[0].rows(), catalogs[2].rows(), "seed {seed}");
        for version in 0..30 {
            let won = outcomes.iter().filter(|(v, o)| *v == version && o.is_ok()).count();
            let unsure = outcomes.iter().filter(|(v, o)| {
                *v == version && o.as_ref().is_err_and(|e| e.message.contains("not known"))
            });
            assert!(won == 1 || unsure.count() > 0, "seed {seed}: 1.0.{version} won {won} times");
        }
    }
}

/// "It is yanked already" and "it is uploaded already" are as true as the entry that makes them so.
#[tokio::test(start_paused = true)]
async fn what_is_judged_behind_an_event_is_answered_when_that_has_happened() {
    let objects = Objects::in_memory();
    let store = faulty(&objects);
    let one = replica(&Objects::same(Arc::clone(&store) as Arc<_>)).await;
    one.append(publish("foo", "1.0.0")).await.unwrap();
    store.plan(Box::new(|call, _| if call == Call::Put { Fault::Before } else { Fault::None }));
    let commands = [yank("foo", "1.0.0"), yank("foo", "1.0.0"), publish("bar", "1.0.0")];
    let commands = commands.into_iter().chain([publish("bar", "1.0.0")]);
    let outcomes = futures_util::future::join_all(commands.map(|one_of| one.append(one_of))).await;
    for outcome in outcomes {
        let refusal = outcome.expect_err("nothing was put yet");
        assert_eq!(refusal.kind, Kind::Unavailable, "{refusal}");
    }
    store.plan(Box::new(|_, _| Fault::None));
    one.append(publish("foo", "1.1.0")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_set_back_meanwhile_is_recognised_before_a_gap_is_made() {
    for outage in [false, true] {
        let objects = Objects::in_memory();
        let store = faulty(&objects);
        let one = replica(&Objects::same(Arc::clone(&store) as Arc<_>)).await;
        for login in ["alice", "bob", "carol"] {
            one.append(create_user(login)).await.unwrap();
        }
        if outage {
            store.plan(Box::new(|_, _| Fault::Before));
        }
        let late = match outage {
            true => Some(one.append(create_user("dave")).await.unwrap_err()),
            false => None,
        };
        for seq in [2, 3] {
            objects.durable.delete(&entry_path(seq)).await.unwrap();
        }
        store.plan(Box::new(|_, _| Fault::None));
        let wait = if outage { Duration::from_secs(3) } else { RECOGNISE_EVERY * 2 };
        tokio::time::sleep(wait).await;
        let refusal = one.append(create_user("erin")).await.unwrap_err();
        assert!(refusal.message.contains("set back"), "{refusal} {late:?}");
        assert!(one.appender.ready().unwrap_err().contains("delete the catalog"));
        let journal = journal_in(&objects);
        assert_eq!(journal.newest_hint(0).await.unwrap(), 1, "outage: {outage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_catalog_whose_disk_is_full_refuses_what_it_cannot_judge_and_is_not_ready() {
    let objects = Objects::in_memory();
    let (catalog, full) = Catalog::on_a_small_disk(REGISTRY);
    let one = replica_with(&objects, catalog).await;
    let two = replica(&objects).await;
    one.append(create_user("alice")).await.unwrap();
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    // Big enough for any buffer to overflow.
    for n in 0..200 {
        two.append(create_user(&format!("user{n}"))).await.unwrap();
    }
    let outcome = tokio::time::timeout(Duration::from_secs(60), one.append(create_user("bob")));
    let refusal = outcome.await.unwrap().unwrap_err();
    assert_eq!(refusal.kind, Kind::Unavailable, "{refusal}");
    assert!(one.appender.ready().unwrap_err().contains("catalog"));
    one.stop.cancel();
    one.task.await.unwrap();
    two.append(create_user("bob")).await.unwrap();
    let rebuilt = replica(&objects).await;
    assert_eq!(two.stop().await.rows(), rebuilt.stop().await.rows());
}

/// Two replicas that always have something to append, one of them perhaps nearer to the store.
#[tokio::test(start_paused = true)]
async fn a_replica_that_wins_lets_the_others_go_first() {
    for round_trips in [[20, 20], [20, 30]] {
        let objects = Objects::in_memory();
        let mut replicas = Vec::new();
        for millis in round_trips {
            let store = faulty(&objects);
            replicas.push(replica(&Objects::same(Arc::clone(&store) as Arc<_>)).await);
            store.plan(Box::new(move |_, _| Fault::Late(Duration::from_millis(millis))));
        }
        let busy = |n: usize| {
            let replica = &replicas[n];
            async move {
                let (began, mut done, mut longest) = (Instant::now(), 0, Duration::ZERO);
                while began.elapsed() < Duration::from_secs(30) {
                    let asked = Instant::now();
                    replica.append(create_user(&format!("user-{n}-{done}"))).await.unwrap();
                    longest = longest.max(asked.elapsed());
                    done += 1;
                }
                (done, longest)
            }
        };
        let ((near, _), (far, longest)) = tokio::join!(busy(0), busy(1));
        println!("{round_trips:?}: {near} and {far} entries, {longest:?} at the most");
        assert!(far * 4 > near, "{round_trips:?}: {near} entries against {far}");
        assert!(longest < Duration::from_secs(3), "{round_trips:?}: one waited {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_listed_is_followed_all_the_same() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    for n in 0..200 {
        one.append(create_user(&format!("user{n}"))).await.unwrap();
    }
    let store = faulty(&objects);
    store.plan(Box::new(|call, _| if call == Call::List { Fault::Before } else { Fault::None }));
    let two = replica(&Objects::same(store as Arc<_>)).await;
    assert_eq!(one.stop().await.rows(), two.stop().await.rows());
}

#[tokio::test(start_paused = true)]
async fn what_holds_before_a_broken_entry_is_applied() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    for n in 0..30 {
        one.append(create_user(&format!("user{n}"))).await.unwrap();
    }
    objects.durable.put(&entry_path(25), "{}".into()).await.unwrap();
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    let metrics = Metrics::new().unwrap();
    let journal = journal_in(&objects);
    let index = nobody();
    let (mut writer, _) = JournalWriter::new(journal, catalog.clone(), index, metrics, settings());
    let refusal = writer.begin(|_, _| ()).await.unwrap_err();
    assert!(refusal.message.contains("journal entry 25"), "{refusal}");
    assert_eq!(catalog.head().unwrap().seq, 24);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_nobody_would_read_is_never_put() {
    let objects = Objects::in_memory();
    let one = replica(&objects).await;
    let Command::Publish { mut published, put_at, bounds } = publish("foo", "1.0.0") else {
        unreachable!()
    };
    published.metadata.description = Some("x".repeat(70 << 20));
    let refusal = one.append(Command::Publish { published, put_at, bounds }).await.unwrap_err();
    assert_eq!(refusal.kind, Kind::TooLarge, "{refusal}");
    one.append(publish("foo", "1.0.0")).await.unwrap();
    let two = replica(&objects).await;
    assert_eq!(one.stop().await.rows(), two.stop().await.rows());
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_scribe_has_ended_is_not_ready() {
    let one = replica(&Objects::in_memory()).await;
    one.appender.ready().unwrap();
    one.stop.cancel();
    one.task.await.unwrap();
    assert!(one.appender.ready().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_no_longer_than_its_request_has_left() {
    let (catalog, index) = (Catalog::in_memory(REGISTRY).unwrap(), nobody());
    let metrics = Metrics::new().unwrap();
    let (_scribe, appender) =
        JournalWriter::new(journal_in(&Objects::in_memory()), catalog, index, metrics, settings());
    let began = Instant::now();
    let refused = deadline::of_request(began, async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let command = ActorCommand { by: CommandActor::Operator, command: create_user("alice") };
        appender.append(command).await.unwrap_err()
    });
    assert_eq!(refused.await.kind, Kind::Unavailable);
    assert_eq!(began.elapsed().as_secs(), deadline::ALL_WAITS.as_secs());
}

#[tokio::test(start_paused = true)]
async fn questions_take_no_place_from_changes() {
    let objects = Objects::in_memory();
    let metrics = Metrics::new().unwrap();
    let settings = Settings { queue: 64, ..settings() };
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    let index = nobody();
    let (mut writer, appender) =
        JournalWriter::new(journal_in(&objects), catalog, index, metrics.clone(), settings);
    writer.begin(|_, _| ()).await.unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(writer.run(stop));
    for _ in 0..256 {
        let appender = appender.clone();
        tokio::spawn(async move {
            loop {
                let _ = appender.catch_up_for(Waiter::Unauthenticated(ClientKey::Exempt)).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(metrics.journal_waits_refused.get() > 0, "256 are too many, and have 503");
    let command = |n: u32| ActorCommand {
        by: CommandActor::Operator,
        command: create_user(&format!("user{n}")),
    };
    let done = futures_util::future::join_all((0..16).map(|n| appender.append(command(n)))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    appender.catch_up().await.unwrap();
}
