//! For tests: journals.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use object_store::ObjectStore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::catalog::{Catalog, Head};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::entry::{Actor, Entry, EntryId, Event, EventKind};
use crate::entry_store::journal_in;
use crate::principal::{Grant, PrincipalKind, Role, TeamId, TokenId, UserId};
use crate::publish::VersionWriter;
use crate::subject::Subject;
use crate::writer::{JournalHandle, JournalWriter, Settings};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_package::test_util::{line, published};
use cratehouse_storage::blobs::blobs_in;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;

/// A journal of at least `entries` entries, with everything in it that can happen: each entry,
/// its bytes and its hash.
pub fn history(registry: &str, entries: u64) -> Vec<(Entry, Bytes, Checksum)> {
    let mut prev = Checksum::of(registry.as_bytes());
    let mut seq = 0;
    let mut sealed = |events: Vec<EventKind>| {
        seq += 1;
        let events = events.into_iter().map(|what| Event { by: Actor::Operator, what }).collect();
        let (id, time) = (EntryId::random(), Timestamp::UNIX_EPOCH);
        let entry =
            Entry { seq, id, prev, time, replica: "test".to_owned(), level: Level::FIRST, events };
        let (bytes, hash) = entry.seal().unwrap();
        prev = hash;
        (entry, bytes, hash)
    };
    let krate = || "Foo_bar".parse().unwrap();
    let version = |n: u64| format!("1.0.{n}").parse().unwrap();
    let mut journal: Vec<_> = beginning().into_iter().map(&mut sealed).collect();
    journal.extend((0..entries.max(3)).map(|n| {
        let mut events = vec![EventKind::Published(Box::new(published("Foo_bar", n)))];
        match n {
            1 => events.push(EventKind::Yanked { krate: krate(), version: version(0) }),
            2 => events.push(EventKind::Unyanked { krate: krate(), version: version(0) }),
            n if n % 3 == 0 => {
                events.push(EventKind::Yanked { krate: krate(), version: version(n) })
            }
            _ => (),
        }
        sealed(events)
    }));
    let reason = "leaked".to_owned();
    journal.push(sealed(vec![EventKind::Removed { krate: krate(), version: version(1), reason }]));
    journal
}

fn beginning() -> Vec<Vec<EventKind>> {
    let (alice, bob) = (UserId(1), UserId(2));
    let token = |n: u32| EventKind::TokenCreated {
        token: TokenId(n),
        user: alice,
        name: "laptop".to_owned(),
        hash: Checksum::of(&n.to_be_bytes()),
        grant: Grant::usual(),
    };
    let krate = || "bar".parse().unwrap();
    vec![
        vec![
            EventKind::UserCreated {
                user: alice,
                login: "Alice".to_owned(),
                kind: PrincipalKind::Person,
            },
            token(1),
        ],
        vec![
            EventKind::UserCreated {
                user: bob,
                login: "bob".to_owned(),
                kind: PrincipalKind::Person,
            },
            token(2),
        ],
        vec![EventKind::TokenRevoked { token: TokenId(2) }],
        vec![
            EventKind::Published(Box::new(published("bar", 0))),
            EventKind::OwnerAdded { krate: krate(), user: alice },
            EventKind::OwnerAdded { krate: krate(), user: bob },
        ],
        vec![EventKind::OwnerRemoved { krate: krate(), user: alice }],
        vec![EventKind::UserDisabled { user: bob }],
        vec![EventKind::Condemned { checksums: vec![Checksum::of(b"a"), Checksum::of(b"b")] }],
        vec![EventKind::Collected { checksums: vec![Checksum::of(b"a")] }],
        vec![EventKind::LevelEnabled { level: Level::FIRST }],
        vec![EventKind::PinCorrected {
            upstream: "crates-io".to_owned(),
            krate: "Public".parse().unwrap(),
            version: "1.0.0+b".parse().unwrap(),
            former: Checksum::of(b"a"),
            checksum: Checksum::of(b"b"),
            reason: "why".to_owned(),
        }],
        access(alice, bob),
    ]
}

/// What is about roles, teams and rules.
fn access(alice: UserId, bob: UserId) -> Vec<EventKind> {
    let (core, gone) = (TeamId(1), TeamId(2));
    let pattern = |text: &str| text.parse().unwrap();
    let all = vec![Subject::User(alice), Subject::Team(core)];
    vec![
        EventKind::UserCreated {
            user: UserId(3),
            login: "ci".to_owned(),
            kind: PrincipalKind::Service,
        },
        EventKind::UserEnabled { user: bob },
        EventKind::RoleGranted { user: alice, role: Role::Admin },
        EventKind::RoleGranted { user: bob, role: Role::Auditor },
        EventKind::RoleRevoked { user: bob },
        EventKind::TeamCreated { team: core, name: "Core".to_owned() },
        EventKind::TeamRenamed { team: core, name: "kernel".to_owned() },
        EventKind::TeamCreated { team: gone, name: "gone".to_owned() },
        EventKind::MemberAdded { team: core, user: bob },
        EventKind::MemberAdded { team: core, user: alice },
        EventKind::MemberAdded { team: gone, user: alice },
        EventKind::MemberRemoved { team: core, user: bob },
        EventKind::TeamRemoved { team: gone },
        EventKind::TeamOwnerAdded { krate: "bar".parse().unwrap(), team: core },
        EventKind::TeamOwnerAdded { krate: "bar".parse().unwrap(), team: gone },
        EventKind::TeamOwnerRemoved { krate: "bar".parse().unwrap(), team: gone },
        EventKind::CreatorsAdded { pattern: pattern("acme-*"), creators: all.clone() },
        EventKind::CreatorsAdded { pattern: pattern("other-*"), creators: all.clone() },
        EventKind::CreatorsRemoved { pattern: pattern("other-*"), creators: all.clone() },
        EventKind::CrateRestricted { pattern: pattern("bar"), readers: all.clone() },
        EventKind::CrateRestricted { pattern: pattern("Secret_*"), readers: Vec::new() },
        EventKind::ReadersRemoved { pattern: pattern("BAR"), readers: vec![all[1]] },
        EventKind::CrateRestricted { pattern: pattern("open-*"), readers: all },
        EventKind::CrateOpened { pattern: pattern("open_*") },
        EventKind::TokenEndSet {
            token: TokenId(1),
            expires: "2126-01-31T00:00:00Z".parse().unwrap(),
        },
        EventKind::TokenReported { token: TokenId(2), place: "a log".to_owned() },
    ]
}

impl Catalog {
    /// Every row that a reader could see.
    pub fn rows(&self) -> String {
        let view = self.view().unwrap();
        let crates = view.crates().unwrap();
        let versions: Vec<_> =
            crates.iter().map(|row| view.versions(&row.name.key()).unwrap()).collect();
        // Where the state comes from is no part of it.
        let head = Head { proven: true, ..view.head().unwrap() };
        let (users, tokens) = (view.users().unwrap(), view.tokens().unwrap());
        // Those that are no more, too; a test that gives out the last number of all has few others.
        let teams = 1..view.next_team().map_or(8, |next| next.0);
        let teams: Vec<_> = teams.map(|id| view.team(TeamId(id)).unwrap()).collect();
        let of_users: Vec<_> = users.iter().map(|user| view.teams_of(user.id).unwrap()).collect();
        let rules = (view.creator_rules().unwrap(), view.restrictions().unwrap());
        format!(
            "{head:?}\n{crates:?}\n{versions:?}\n{users:?}\n{tokens:?}\n{teams:?}\n{of_users:?}\n{rules:?}"
        )
    }
}

/// A replica whose catalog is in memory, with its writer at work.
#[derive(Debug)]
pub struct TestReplica {
    /// The journal, applied.
    pub catalog: Catalog,
    /// The way into it.
    pub journal: JournalHandle,
    /// What brings versions in.
    pub versions: VersionWriter,
    /// What it counts.
    pub metrics: Metrics,
    _writer: DropGuard,
}

impl TestReplica {
    /// One over a store.
    pub async fn open(store: &Arc<dyn ObjectStore>) -> Self {
        let objects = Objects::same(Arc::clone(store));
        let metrics = Metrics::new().unwrap();
        let catalog = Catalog::in_memory("registry").unwrap();
        let settings = Settings {
            operator: None,
            replica: "test".to_owned(),
            patience: Duration::from_secs(60),
            queue: 10,
            waits: FairShares::new(100, &PerAddress::default()),
            follow: Duration::from_millis(50),
            founding: Level::KNOWN,
        };
        let on_change = Box::new(|_: &_| ());
        let (mut writer, journal) = JournalWriter::new(
            journal_in(&objects),
            catalog.clone(),
            on_change,
            metrics.clone(),
            settings,
        );
        writer.begin(|_, _| ()).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        let (blobs, bounds) = (blobs_in(&objects), IndexBounds::default());
        let versions = VersionWriter { journal: journal.clone(), blobs, bounds };
        Self { catalog, journal, versions, metrics, _writer: stop.drop_guard() }
    }

    /// Publishes a version of these bytes.
    pub async fn publish(&self, krate: &str, vers: &str, bytes: &'static [u8]) {
        let (line, size) = (line(krate, vers, bytes), bytes.len() as u64);
        let published = Box::new(Published { line, size, metadata: Metadata::default() });
        let bytes = Bytes::from_static(bytes);
        let put = self.versions.put(CommandActor::Operator, published, bytes.clone()).await;
        self.versions.append(put.unwrap(), bytes).await.unwrap();
    }

    /// Does what an operator says.
    pub async fn command(&self, command: Command) {
        let command = ActorCommand { by: CommandActor::Operator, command };
        self.journal.append(command).await.unwrap();
    }

    /// How often an alarm was raised.
    pub fn alarms(&self, alarm: &str) -> u64 {
        self.metrics.alarms.with_label_values(&[alarm]).get()
    }
}
