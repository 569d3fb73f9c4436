//! For tests: journals.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use bytes::Bytes;
use jiff::Timestamp;

use crate::catalog::{Catalog, Head};
use crate::entry::{Actor, Entry, EntryId, Event, EventKind};
use crate::principal::{Grant, TokenId, UserId};
use cratehouse_core::checksum::Checksum;
use cratehouse_package::test_util::published;
use cratehouse_storage::format_level::Level;

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
        vec![EventKind::UserCreated { user: alice, login: "Alice".to_owned() }, token(1)],
        vec![EventKind::UserCreated { user: bob, login: "bob".to_owned() }, token(2)],
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
        format!("{head:?}\n{crates:?}\n{versions:?}\n{users:?}\n{tokens:?}")
    }
}
