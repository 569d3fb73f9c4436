//! The catalog may be deleted, and is when anything is wrong with it; and whatever stands in the
//! journal can be applied.

use std::path::PathBuf;

use jiff::Timestamp;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::entry::{Actor, EntryId, Event, EventKind};
use crate::principal::{Grant, Role, TeamId, TokenId, UserId};
use crate::subject::Subject;
use cratehouse_package::index::IndexLine;
use cratehouse_package::published::{Metadata, Published};
use cratehouse_storage::format_level::Level;

const REGISTRY: &str = "registry";
const CACHE_BYTES: usize = 1 << 20;

fn published(name: &str, version: &str, description: Option<&str>) -> EventKind {
    let line = IndexLine {
        name: name.parse().unwrap(),
        vers: version.parse().unwrap(),
        deps: Vec::new(),
        cksum: Checksum::of(version.as_bytes()),
        features: Default::default(),
        features2: None,
        yanked: false,
        links: None,
        rust_version: None,
        pubtime: Some("2026-01-01T00:00:00Z".to_owned()),
        v: None,
    };
    let metadata = Metadata { description: description.map(str::to_owned), ..Metadata::default() };
    EventKind::Published(Box::new(Published { line, size: 1, metadata }))
}

/// A chain of entries, one for each list of events.
fn entries(events: Vec<Vec<EventKind>>) -> Vec<(Entry, Checksum)> {
    let mut prev = Checksum::of(REGISTRY.as_bytes());
    (1..)
        .zip(events)
        .map(|(seq, events)| {
            let event = |what| Event { by: Actor::Operator, what };
            let entry = Entry {
                seq,
                id: EntryId::random(),
                prev,
                time: Timestamp::UNIX_EPOCH,
                replica: "one".to_owned(),
                level: Level::FIRST,
                events: events.into_iter().map(event).collect(),
            };
            prev = entry.seal().unwrap().1;
            (entry, prev)
        })
        .collect()
}

fn catalog_of(events: Vec<Vec<EventKind>>) -> Catalog {
    let catalog = Catalog::in_memory(REGISTRY).unwrap();
    catalog.apply(&entries(events)).unwrap();
    catalog
}

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
    rows: String,
}

/// A catalog file with a thousand versions, well closed.
fn file() -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    let (catalog, opened) = Catalog::open(&path, CACHE_BYTES, REGISTRY).unwrap();
    assert_eq!(opened, Opened::Created);
    let versions = (0..1000).map(|n| vec![published("foo", &format!("1.0.{n}"), Some("text"))]);
    catalog.apply(&entries(versions.collect())).unwrap();
    catalog.flush().unwrap();
    let rows = catalog.rows();
    File { _folder: folder, path, rows }
}

#[test]
fn a_catalog_file_is_used_again() {
    let file = file();
    let (catalog, opened) = Catalog::open(&file.path, CACHE_BYTES, REGISTRY).unwrap();
    assert_eq!((opened, catalog.rows()), (Opened::Reused, file.rows));
    let second = Catalog::open(&file.path, CACHE_BYTES, REGISTRY).unwrap_err();
    assert!(second.message.contains("another server runs on this data folder"), "{second}");
}

#[test]
fn a_catalog_of_another_registry_is_refused_and_stays() {
    let file = file();
    let refused = Catalog::open(&file.path, CACHE_BYTES, "another").unwrap_err();
    assert!(refused.message.contains("of registry registry up to entry"), "{refused}");
    let (catalog, opened) = Catalog::open(&file.path, CACHE_BYTES, REGISTRY).unwrap();
    assert_eq!((opened, catalog.rows()), (Opened::Reused, file.rows));
}

#[test]
fn an_empty_catalog_of_another_registry_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    drop(Catalog::open(&path, CACHE_BYTES, REGISTRY).unwrap());
    let (catalog, opened) = Catalog::open(&path, CACHE_BYTES, "another").unwrap();
    assert_eq!(opened, Opened::Replaced);
    assert_eq!(catalog.head().unwrap().seq, 0);
    assert_eq!(catalog.head().unwrap().hash, Checksum::of(b"another"));
}

/// As when a replica goes back to an earlier release: the journal then says why it must not.
#[test]
fn a_catalog_with_a_format_level_that_this_release_does_not_know_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.redb");
    for (level, wanted) in [(Level::KNOWN, Opened::Reused), (Level::KNOWN.next(), Opened::Replaced)]
    {
        let (catalog, _) = Catalog::open(&path, CACHE_BYTES, REGISTRY).unwrap();
        let seq = catalog.head().unwrap().seq;
        let next =
            entries(vec![vec![EventKind::LevelEnabled { level }]; 2]).split_off(seq as usize);
        catalog.apply(&next[..1]).unwrap();
        assert_eq!(catalog.head().unwrap().level, level);
        drop(catalog);
        let (catalog, opened) = Catalog::open(&path, CACHE_BYTES, REGISTRY).unwrap();
        assert_eq!(opened, wanted);
        assert!(catalog.head().unwrap().level <= Level::KNOWN);
    }
}

/// However the file is damaged: either it says what it said, or it is begun anew.
#[test]
fn a_damaged_catalog_never_lies_and_never_stops_the_start() {
    let file = file();
    let whole = std::fs::read(&file.path).unwrap();
    let mut replaced = 0;
    for seed in 0..120 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = whole.clone();
        let at = rng.random_range(0..bytes.len());
        match seed % 6 {
            0 => bytes[at] ^= 1 << (seed % 8),
            1 => bytes.truncate(at),
            2 => rng.fill_bytes(&mut bytes),
            3 => {
                let end = (at + 4096).min(bytes.len());
                rng.fill_bytes(&mut bytes[at..end]);
            }
            4 => {
                let page = at / 4096 * 4096;
                bytes[page..page + 4096].fill(0);
            }
            _ => {
                // The header alone.
                let at = at % 512;
                bytes[at] ^= 0xff;
            }
        }
        std::fs::write(&file.path, bytes).unwrap();
        let (catalog, opened) = Catalog::open(&file.path, CACHE_BYTES, REGISTRY).unwrap();
        match opened {
            Opened::Reused if catalog.head().unwrap().seq > 0 => {
                assert_eq!(catalog.rows(), file.rows, "seed {seed}");
            }
            _ => {
                replaced += 1;
                assert_eq!(catalog.head().unwrap().seq, 0, "seed {seed}");
                assert!(catalog.names().unwrap().is_empty(), "seed {seed}");
            }
        }
    }
    assert!(replaced > 40, "only {replaced} of the damages were noticed");
}

#[test]
fn a_folder_in_the_catalogs_place_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let error = Catalog::open(folder.path(), CACHE_BYTES, REGISTRY).unwrap_err();
    assert!(error.message.contains("cannot be used"), "{error}");
    assert!(folder.path().is_dir());
}

fn any_name() -> impl Strategy<Value = CrateName> {
    prop::sample::select(vec!["foo", "Foo", "foo-bar", "foo_bar", "unheard-of"])
        .prop_map(|name| name.parse().unwrap())
}

fn any_version() -> impl Strategy<Value = CrateVersion> {
    prop::sample::select(vec!["1.0.0", "1.0.0+build", "2.0.0-rc.1", "0.0.0"])
        .prop_map(|version| version.parse().unwrap())
}

fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![0..4u32, Just(u32::MAX)]
}

fn any_event() -> impl Strategy<Value = EventKind> {
    let description = prop::option::of("[a-z]{0,5}");
    let krate_version = || (any_name(), any_version());
    let krate_user = || (any_name(), any_number().prop_map(UserId));
    prop_oneof![
        (krate_version(), description).prop_map(|((krate, version), description)| published(
            krate.as_str(),
            &version.to_string(),
            description.as_deref()
        )),
        krate_version().prop_map(|(krate, version)| EventKind::Yanked { krate, version }),
        krate_version().prop_map(|(krate, version)| EventKind::Unyanked { krate, version }),
        krate_version().prop_map(|(krate, version)| EventKind::Removed {
            krate,
            version,
            reason: String::new()
        }),
        krate_user().prop_map(|(krate, user)| EventKind::OwnerAdded { krate, user }),
        krate_user().prop_map(|(krate, user)| EventKind::OwnerRemoved { krate, user }),
        (any_number(), "[abAB]").prop_map(|(user, login)| EventKind::UserCreated {
            user: UserId(user),
            login,
            kind: crate::principal::PrincipalKind::Person
        }),
        any_number().prop_map(|user| EventKind::UserDisabled { user: UserId(user) }),
        (any_number(), any_number(), any::<u8>()).prop_map(|(token, user, secret)| {
            EventKind::TokenCreated {
                token: TokenId(token),
                user: UserId(user),
                name: String::new(),
                hash: Checksum::of(&[secret]),
                grant: Grant::usual(),
            }
        }),
        any_number().prop_map(|token| EventKind::TokenRevoked { token: TokenId(token) }),
        any_access_event(),
    ]
}

fn any_access_event() -> impl Strategy<Value = EventKind> {
    let user = || any_number().prop_map(UserId);
    let team = || any_number().prop_map(TeamId);
    let pattern = || {
        prop::sample::select(vec!["a*", "A*", "a-b", "a_b", "*"])
            .prop_map(|text| text.parse().unwrap())
    };
    let subjects = || {
        let one = prop_oneof![user().prop_map(Subject::User), team().prop_map(Subject::Team)];
        prop::collection::vec(one, 0..3)
    };
    prop_oneof![
        user().prop_map(|user| EventKind::UserEnabled { user }),
        user().prop_map(|user| EventKind::RoleGranted { user, role: Role::Admin }),
        user().prop_map(|user| EventKind::RoleRevoked { user }),
        (team(), "[abAB]").prop_map(|(team, name)| EventKind::TeamCreated { team, name }),
        (team(), "[abAB]").prop_map(|(team, name)| EventKind::TeamRenamed { team, name }),
        team().prop_map(|team| EventKind::TeamRemoved { team }),
        (team(), user()).prop_map(|(team, user)| EventKind::MemberAdded { team, user }),
        (team(), user()).prop_map(|(team, user)| EventKind::MemberRemoved { team, user }),
        (any_name(), team()).prop_map(|(krate, team)| EventKind::TeamOwnerAdded { krate, team }),
        (any_name(), team()).prop_map(|(krate, team)| EventKind::TeamOwnerRemoved { krate, team }),
        (pattern(), subjects())
            .prop_map(|(pattern, creators)| EventKind::CreatorsAdded { pattern, creators }),
        (pattern(), subjects())
            .prop_map(|(pattern, creators)| EventKind::CreatorsRemoved { pattern, creators }),
        (pattern(), subjects())
            .prop_map(|(pattern, readers)| EventKind::CrateRestricted { pattern, readers }),
        (pattern(), subjects())
            .prop_map(|(pattern, readers)| EventKind::ReadersRemoved { pattern, readers }),
        pattern().prop_map(|pattern| EventKind::CrateOpened { pattern }),
        any_number().prop_map(|token| EventKind::TokenReported {
            token: TokenId(token),
            place: "a log".to_owned()
        }),
        any_number().prop_map(|token| EventKind::TokenEndSet {
            token: TokenId(token),
            expires: Timestamp::UNIX_EPOCH
        }),
    ]
}

proptest! {
    /// Whatever stands in the journal is applied, in batches of whatever size, to the same state.
    #[test]
    fn every_sequence_of_events_is_applied_and_replays_to_the_same_state(
        events in prop::collection::vec(prop::collection::vec(any_event(), 0..4), 0..20),
        batch in 1..7usize,
    ) {
        let entries = entries(events);
        let at_once = Catalog::in_memory(REGISTRY).unwrap();
        at_once.apply(&entries).unwrap();
        let in_batches = Catalog::in_memory(REGISTRY).unwrap();
        for some in entries.chunks(batch) {
            in_batches.apply(some).unwrap();
        }
        prop_assert_eq!(at_once.head().unwrap().seq, entries.len() as u64);
        prop_assert_eq!(at_once.rows(), in_batches.rows());
        // And it can be asked.
        let view = at_once.view().unwrap();
        for secret in 0..=u8::MAX {
            view.principal(&Checksum::of(&[secret]), Timestamp::UNIX_EPOCH).unwrap();
        }
        for row in view.crates().unwrap() {
            view.owners(&row).unwrap();
        }
    }
}

#[test]
fn what_is_removed_is_not_described_any_more() {
    let removed = |version: &str| EventKind::Removed {
        krate: "foo".parse().unwrap(),
        version: version.parse().unwrap(),
        reason: "a secret".to_owned(),
    };
    let mut events = vec![
        vec![published("foo", "1.0.0", Some("old")), published("foo", "1.1.0", Some("secret"))],
        vec![published("foo", "1.2.0", None)],
    ];
    let key = "foo".parse::<CrateName>().unwrap().key();
    let described = |events: &[Vec<EventKind>]| {
        let row = catalog_of(events.to_vec()).krate(&key).unwrap().unwrap();
        (row.description, row.versions, row.shown)
    };
    assert_eq!(described(&events), (Some("secret".to_owned()), 3, 3));
    events.push(vec![removed("1.1.0")]);
    assert_eq!(described(&events), (Some("old".to_owned()), 3, 2));
    events.push(vec![removed("1.1.0"), removed("1.0.0"), removed("1.2.0"), removed("9.0.0")]);
    assert_eq!(described(&events), (None, 3, 0));
    events.push(vec![published("foo", "2.0.0", Some("new"))]);
    assert_eq!(described(&events), (Some("new".to_owned()), 4, 1));
}

#[test]
fn only_tokens_that_still_count_are_counted() {
    let token = |token, user, expires: Option<&str>| EventKind::TokenCreated {
        token: TokenId(token),
        user: UserId(user),
        name: String::new(),
        hash: Checksum::of(&token.to_le_bytes()),
        grant: Grant { expires: expires.map(|end| end.parse().unwrap()), ..Grant::usual() },
    };
    let ended = Some("2025-01-01T00:00:00Z");
    let lasting = Some("2027-01-01T00:00:00Z");
    let catalog = catalog_of(vec![
        vec![token(1, 1, None), token(2, 1, ended), token(3, 1, lasting), token(4, 2, None)],
        vec![token(5, 1, None), EventKind::TokenRevoked { token: TokenId(5) }],
    ]);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let view = catalog.view().unwrap();
    let counts = [1, 2, 3].map(|user| view.live_tokens(UserId(user), now).unwrap());
    assert_eq!(counts, [2, 1, 0]);
}
