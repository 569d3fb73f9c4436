//! The judge: what it allows keeps the rules, whoever asks in whatever order.

use proptest::prelude::*;

use super::create_token::MAX_TOKENS;
use super::*;
use crate::catalog::Catalog;
use crate::entry::{Entry, EntryId, Event};
use crate::principal::CratePattern;
use crate::principal::Scope;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::Metadata;
use cratehouse_package::test_util::{line, name, version};

const NOW: &str = "2026-01-01T00:00:00Z";

/// A journal without a store: what is judged good is applied.
struct Journal {
    catalog: Catalog,
    now: Timestamp,
}

impl Journal {
    fn new() -> Self {
        let catalog = Catalog::in_memory("registry").unwrap();
        Self { catalog, now: NOW.parse().unwrap() }
    }

    fn append(&self, by: CommandActor, command: Command) -> Judged {
        let head = self.catalog.head().unwrap();
        let command = ActorCommand { by, command };
        let events = judge(&self.catalog.view().unwrap(), &command, self.now)?;
        let by = command.by.actor();
        let event = |what: &EventKind| Event { by: by.clone(), what: what.clone() };
        let entry = Entry {
            seq: head.seq + 1,
            id: EntryId::random(),
            prev: head.hash,
            time: self.now,
            replica: "one".to_owned(),
            level: Level::FIRST,
            events: events.iter().map(event).collect(),
        };
        let hash = entry.seal().unwrap().1;
        self.catalog.apply(&[(entry, hash)]).unwrap();
        Ok(events)
    }

    /// A user with a token, as a request would see them now.
    fn user(&self, login: &str, grant: Grant) -> Principal {
        let create = Command::create_user(login.to_owned());
        let _ = self.append(CommandActor::Operator, create); // perhaps there already
        let hash = Checksum::of(&rand::random::<[u8; 16]>());
        let (login, name) = (login.to_owned(), String::new());
        self.append(CommandActor::Operator, Command::CreateToken { login, name, hash, grant })
            .unwrap();
        let view = self.catalog.view().unwrap();
        view.principal(&hash, Timestamp::UNIX_EPOCH).unwrap().unwrap()
    }

    fn refused(&self, who: &Principal, command: Command) -> Error {
        self.append(CommandActor::Principal(who.clone()), command).unwrap_err().error
    }

    fn done(&self, who: &Principal, command: Command) -> Vec<EventKind> {
        self.append(CommandActor::Principal(who.clone()), command).unwrap()
    }
}

fn publish_of(krate: &str, vers: &str) -> Command {
    let line = line(krate, vers, vers.as_bytes());
    let published = Box::new(Published { line, size: 1, metadata: Metadata::default() });
    Command::Publish { published, put_at: 0, bounds: IndexBounds::default() }
}

fn scopes(scopes: &[Scope]) -> Grant {
    Grant { scopes: scopes.iter().copied().collect(), ..Grant::usual() }
}

#[test]
fn whoever_no_longer_counts_when_it_is_committed_changes_nothing() {
    let mut journal = Journal::new();
    let disabled = journal.user("alice", Grant::usual());
    let revoked = journal.user("bob", Grant::usual());
    let end = Some("2026-01-01T00:00:10Z".parse().unwrap());
    let ending = journal.user("carol", Grant { expires: end, ..Grant::usual() });
    for (n, who) in [&disabled, &revoked, &ending].into_iter().enumerate() {
        journal.done(who, publish_of(&format!("crate-{n}"), "1.0.0"));
    }
    journal
        .append(CommandActor::Operator, Command::DisableUser { login: "alice".to_owned() })
        .unwrap();
    journal.append(CommandActor::Operator, Command::RevokeToken { token: revoked.token }).unwrap();
    journal.now = "2026-01-01T00:00:10Z".parse().unwrap();
    for (n, who) in [&disabled, &revoked, &ending].into_iter().enumerate() {
        let refusal = journal.refused(who, publish_of(&format!("crate-{n}"), "1.1.0"));
        assert_eq!(refusal.kind, Kind::Unauthenticated, "{refusal}");
    }
}

/// The crate may have been published between the request and the commit.
#[test]
fn the_first_publish_and_the_next_are_told_apart_when_they_are_committed() {
    let journal = Journal::new();
    let new = journal.user("alice", scopes(&[Scope::PublishNew]));
    let update = journal.user("alice", scopes(&[Scope::PublishUpdate]));
    let stranger = journal.user("bob", Grant::usual());
    assert!(journal.refused(&update, publish_of("foo", "1.0.0")).message.contains("publish-new"));
    let events = journal.done(&new, publish_of("foo", "1.0.0"));
    assert!(matches!(events[..], [EventKind::Published(_), EventKind::OwnerAdded { .. }]));
    assert!(journal.refused(&new, publish_of("foo", "1.1.0")).message.contains("publish-update"));
    assert_eq!(journal.done(&update, publish_of("foo", "1.1.0")).len(), 1);
    assert_eq!(journal.refused(&stranger, publish_of("foo", "2.0.0")).kind, Kind::Forbidden);
    assert_eq!(journal.refused(&stranger, publish_of("Foo", "2.0.0")).kind, Kind::Invalid);
}

#[test]
fn a_token_for_some_crates_takes_no_other_name() {
    let journal = Journal::new();
    let crates = vec!["corp-*".parse::<CratePattern>().unwrap()];
    let alice = journal.user("alice", Grant { crates, ..Grant::usual() });
    journal.done(&alice, publish_of("corp-x", "1.0.0"));
    for other in ["other", "corp_y", "Corp-z"] {
        assert_eq!(journal.refused(&alice, publish_of(other, "1.0.0")).kind, Kind::Forbidden);
    }
}

#[test]
fn a_token_that_administers_is_not_limited_to_crates_in_vain() {
    let journal = Journal::new();
    journal.user("alice", scopes(&[Scope::Admin]));
    let grant = Grant { crates: vec!["a".parse().unwrap()], ..scopes(&[Scope::Admin]) };
    let (login, name, hash) = ("alice".to_owned(), String::new(), Checksum::of(b"x"));
    let refusal =
        journal.append(CommandActor::Operator, Command::CreateToken { login, name, hash, grant });
    assert_eq!(refusal.unwrap_err().error.kind, Kind::Invalid);
}

#[test]
fn tokens_past_their_end_do_not_count_among_the_most_that_one_may_have() {
    let journal = Journal::new();
    let ended = Some("2025-01-01T00:00:00Z".parse().unwrap());
    for _ in 0..=MAX_TOKENS {
        journal.user("alice", Grant { expires: ended, ..Grant::usual() });
    }
    for _ in 0..MAX_TOKENS {
        journal.user("alice", Grant::usual());
    }
    let (login, name, hash) = ("alice".to_owned(), String::new(), Checksum::of(b"x"));
    let create = Command::CreateToken { login, name, hash, grant: Grant::usual() };
    let refusal = journal.append(CommandActor::Operator, create).unwrap_err();
    assert!(refusal.error.message.contains("revoke some first"));
}

#[test]
fn the_time_of_publication_never_runs_backwards() {
    let mut journal = Journal::new();
    let published = |journal: &Journal, vers: &str| {
        let events = journal.append(CommandActor::Operator, publish_of("foo", vers)).unwrap();
        let EventKind::Published(published) = &events[0] else { panic!("{events:?}") };
        published.line.pubtime.clone().unwrap()
    };
    journal.now = "2026-01-01T12:00:00.9Z".parse().unwrap();
    assert_eq!(published(&journal, "1.0.0"), "2026-01-01T12:00:00Z");
    journal.now = "2025-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(published(&journal, "1.1.0"), "2026-01-01T12:00:00Z");
    journal.now = "2026-01-01T12:00:01Z".parse().unwrap();
    assert_eq!(published(&journal, "1.2.0"), "2026-01-01T12:00:01Z");
}

#[test]
fn a_removed_version_is_neither_yanked_nor_removed_nor_published_again() {
    let journal = Journal::new();
    let alice = journal.user("alice", Grant::usual());
    journal.done(&alice, publish_of("foo", "1.0.0+build"));
    let (krate, version) = (name("foo"), version("1.0.0+build"));
    let reason = "a secret".to_owned();
    let remove = Command::Remove { krate: krate.clone(), version: version.clone(), reason };
    journal.append(CommandActor::Operator, remove.clone()).unwrap();
    let again = journal.append(CommandActor::Operator, remove).unwrap_err();
    assert_eq!((again.error.kind, again.lag_could_explain), (Kind::Absent, true));
    for yanked in [true, false] {
        let yank = Command::Yank { krate: krate.clone(), version: version.clone(), yanked };
        assert_eq!(journal.refused(&alice, yank).kind, Kind::Absent);
    }
    for vers in ["1.0.0+build", "1.0.0", "1.0.0+other"] {
        let refusal = journal.refused(&alice, publish_of("foo", vers));
        assert!(refusal.message.contains("stays burned"), "{refusal}");
    }
    journal.done(&alice, publish_of("foo", "1.0.1"));
}

#[test]
fn another_version_of_a_number_is_named_and_never_meant() {
    let journal = Journal::new();
    let alice = journal.user("alice", Grant::usual());
    journal.done(&alice, publish_of("foo", "1.0.0+a"));
    for other in ["1.0.0+b", "1.0.0"] {
        let (krate, version) = (name("foo"), version(other));
        let reason = "a secret".to_owned();
        let remove = Command::Remove { krate: krate.clone(), version: version.clone(), reason };
        let yank = Command::Yank { krate, version, yanked: true };
        for command in [remove, yank] {
            let refusal = journal.append(CommandActor::Operator, command).unwrap_err();
            assert_eq!((refusal.error.kind, refusal.lag_could_explain), (Kind::Absent, false));
            assert!(refusal.error.message.contains("it has 1.0.0+a"), "{refusal:?}");
        }
    }
}

#[test]
fn a_crate_takes_no_more_of_the_index_than_it_may() {
    let journal = Journal::new();
    let alice = journal.user("alice", Grant::usual());
    let bounded = |version: &str, line_bytes, file_bytes| match publish_of("foo", version) {
        Command::Publish { published, put_at, .. } => {
            let bounds = IndexBounds { line_bytes, file_bytes };
            Command::Publish { published, put_at, bounds }
        }
        other => other,
    };
    let line = match publish_of("foo", "1.0.0") {
        Command::Publish { published, bounds, .. } => bounds.line(&published.line).unwrap(),
        other => panic!("{other:?}"),
    };
    let refusal = journal
        .append(CommandActor::Principal(alice.clone()), bounded("1.0.0", line - 1, 1 << 20))
        .unwrap_err();
    assert_eq!((refusal.error.kind, refusal.lag_could_explain), (Kind::TooLarge, false));
    for n in 0..3 {
        journal.done(&alice, bounded(&format!("1.0.{n}"), line, 3 * line));
    }
    let refusal = journal
        .append(CommandActor::Principal(alice.clone()), bounded("1.0.3", line, 3 * line))
        .unwrap_err();
    assert_eq!((refusal.error.kind, refusal.lag_could_explain), (Kind::TooLarge, true));
    let (krate, version, reason) = (name("foo"), version("1.0.0"), "to make room".to_owned());
    journal.append(CommandActor::Operator, Command::Remove { krate, version, reason }).unwrap();
    journal.done(&alice, bounded("1.0.3", line, 3 * line));
}

#[derive(Debug, Clone)]
enum Wish {
    Publish(&'static str, &'static str),
    Yank(&'static str, &'static str, bool),
    Remove(&'static str, &'static str),
    AddOwner(&'static str, &'static str),
    RemoveOwners(&'static str, Vec<&'static str>),
    Disable(&'static str),
    Revoke(u32),
    Enable(&'static str),
    Grant(&'static str, Role),
    RevokeRole(&'static str),
    AddMember(&'static str, &'static str),
    RemoveMember(&'static str, &'static str),
    RemoveTeam(&'static str),
    SetOwners(&'static str, Vec<&'static str>),
    Restrict(&'static str, Vec<&'static str>),
    Open(&'static str),
    AddCreators(&'static str, &'static str),
    RemoveCreators(&'static str),
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let krate = || prop::sample::select(vec!["foo", "Foo", "foo-bar", "foo_bar"]);
    let vers = || prop::sample::select(vec!["1.0.0", "1.0.0+x", "1.1.0", "2.0.0-rc.1"]);
    let login = || prop::sample::select(vec!["alice", "bob", "carol", "nobody"]);
    prop_oneof![
        5 => (krate(), vers()).prop_map(|(k, v)| Wish::Publish(k, v)),
        2 => (krate(), vers(), any::<bool>()).prop_map(|(k, v, y)| Wish::Yank(k, v, y)),
        1 => (krate(), vers()).prop_map(|(k, v)| Wish::Remove(k, v)),
        2 => (krate(), login()).prop_map(|(k, l)| Wish::AddOwner(k, l)),
        2 => (krate(), prop::collection::vec(login(), 1..3))
            .prop_map(|(k, l)| Wish::RemoveOwners(k, l)),
        1 => login().prop_map(Wish::Disable),
        1 => (0..5u32).prop_map(Wish::Revoke),
        8 => any_access_wish(),
    ]
}

fn any_access_wish() -> impl Strategy<Value = Wish> {
    let krate = || prop::sample::select(vec!["foo", "foo-bar", "foo_bar"]);
    let pattern = || prop::sample::select(vec!["foo", "foo*", "FOO-bar", "*"]);
    let login = || prop::sample::select(vec!["alice", "bob", "carol", "nobody"]);
    let team = || prop::sample::select(vec!["core", "Core", "other"]);
    let subject = || prop::sample::select(vec!["alice", "user:bob", "team:core", "team:none"]);
    let role = || prop::sample::select(vec![Role::Admin, Role::Auditor]);
    prop_oneof![
        login().prop_map(Wish::Enable),
        (login(), role()).prop_map(|(l, r)| Wish::Grant(l, r)),
        login().prop_map(Wish::RevokeRole),
        (team(), login()).prop_map(|(t, l)| Wish::AddMember(t, l)),
        (team(), login()).prop_map(|(t, l)| Wish::RemoveMember(t, l)),
        team().prop_map(Wish::RemoveTeam),
        (krate(), subject()).prop_map(|(k, s)| Wish::AddOwner(k, s)),
        (krate(), subject()).prop_map(|(k, s)| Wish::RemoveOwners(k, vec![s])),
        (krate(), prop::collection::vec(subject(), 1..3)).prop_map(|(k, s)| Wish::SetOwners(k, s)),
        (pattern(), prop::collection::vec(subject(), 0..3)).prop_map(|(p, s)| Wish::Restrict(p, s)),
        pattern().prop_map(Wish::Open),
        (pattern(), subject()).prop_map(|(p, s)| Wish::AddCreators(p, s)),
        pattern().prop_map(Wish::RemoveCreators),
    ]
}

fn command_of(wish: &Wish) -> Command {
    let owned = |logins: &[&str]| logins.iter().map(|l| (*l).to_owned()).collect();
    match wish {
        Wish::Publish(k, v) => publish_of(k, v),
        Wish::Yank(k, v, yanked) => {
            Command::Yank { krate: name(k), version: version(v), yanked: *yanked }
        }
        Wish::Remove(k, v) => {
            Command::Remove { krate: name(k), version: version(v), reason: "why".to_owned() }
        }
        Wish::AddOwner(k, l) => Command::AddOwners { krate: name(k), logins: owned(&[l]) },
        Wish::RemoveOwners(k, l) => Command::RemoveOwners { krate: name(k), logins: owned(l) },
        Wish::Disable(l) => Command::DisableUser { login: (*l).to_owned() },
        Wish::Revoke(id) => Command::RevokeToken { token: TokenId(*id) },
        Wish::Enable(l) => Command::EnableUser { login: (*l).to_owned() },
        Wish::Grant(l, role) => Command::GrantRole { login: (*l).to_owned(), role: *role },
        Wish::RevokeRole(l) => Command::RevokeRole { login: (*l).to_owned() },
        Wish::AddMember(t, l) => Command::AddMembers { team: (*t).to_owned(), logins: owned(&[l]) },
        Wish::RemoveMember(t, l) => {
            Command::RemoveMembers { team: (*t).to_owned(), logins: owned(&[l]) }
        }
        Wish::RemoveTeam(t) => Command::RemoveTeam { team: (*t).to_owned() },
        Wish::SetOwners(k, s) => Command::SetOwners { krate: name(k), owners: subjects(s) },
        Wish::Restrict(p, s) => {
            Command::Restrict { pattern: p.parse().unwrap(), readers: subjects(s) }
        }
        Wish::Open(p) => Command::Open { pattern: p.parse().unwrap() },
        Wish::AddCreators(p, s) => {
            Command::AddCreators { pattern: p.parse().unwrap(), creators: subjects(&[s]) }
        }
        Wish::RemoveCreators(p) => {
            Command::RemoveCreators { pattern: p.parse().unwrap(), creators: Vec::new() }
        }
    }
}

fn subjects(names: &[&str]) -> Vec<SubjectName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One spelling a name, one version a number, what is removed stays so, nobody can make a crate without a user
    /// who owns it, nor a registry without an administrator; whoever no longer counts changes nothing, and nothing is
    /// changed by who may not read it.
    #[test]
    fn whatever_is_asked_the_rules_hold(
        wishes in prop::collection::vec((0..4usize, any_wish()), 1..40),
    ) {
        let journal = Journal::new();
        journal.append(CommandActor::Operator, Command::EnableLevel { level: Level::KNOWN }).unwrap();
        let usual = ["alice", "bob"].map(|login| journal.user(login, Grant::usual()));
        let admin = journal.user("carol", scopes(&Scope::ALL));
        let [alice, bob] = usual;
        let who = [alice, bob, admin];
        let mut removed = std::collections::BTreeSet::new();
        for (asker, wish) in &wishes {
            let by = who.get(*asker).map_or(CommandActor::Operator, |who| CommandActor::Principal(who.clone()));
            let counts = match &by {
                CommandActor::Operator | CommandActor::Replica => true,
                CommandActor::Principal(who) => {
                    let view = journal.catalog.view().unwrap();
                    view.live_token(who.token, journal.now).unwrap().is_some()
                }
            };
            let hidden = match (&by, wish) {
                (
                    CommandActor::Principal(who),
                    Wish::Publish(k, _) | Wish::Yank(k, ..) | Wish::AddOwner(k, _) | Wish::RemoveOwners(k, _),
                ) => {
                    let (view, krate) = (journal.catalog.view().unwrap(), name(k));
                    let rights = view.rights(&krate.key()).unwrap();
                    let who = view.live_token(who.token, journal.now).unwrap().map(|(who, _)| who);
                    rights.krate.is_some() && !may_read(who.as_ref(), rights.of(&krate))
                }
                _ => false,
            };
            let outcome = journal.append(by, command_of(wish));
            prop_assert!(!hidden || outcome.is_err(), "{:?} by one who may not read it", wish);
            prop_assert!(!journal.catalog.view().unwrap().administrators(journal.now).unwrap().is_empty(), "the last administrator is gone");
            prop_assert!(counts || outcome.is_err(), "{:?} by one who no longer counts", wish);
            let view = journal.catalog.view().unwrap();
            for row in view.crates().unwrap() {
                let versions = view.versions(&row.name.key()).unwrap();
                let numbers: std::collections::BTreeSet<_> =
                    versions.iter().map(|v| v.line.vers.number()).collect();
                prop_assert_eq!(numbers.len(), versions.len(), "a number was given twice");
                prop_assert!(versions.iter().all(|v| v.line.name == row.name));
                let shown = versions.iter().filter(|v| !v.removed).count();
                prop_assert_eq!(row.shown as usize, shown);
                for v in &versions {
                    let what = (row.name.clone(), v.line.vers.clone());
                    if v.removed {
                        removed.insert(what);
                    } else {
                        prop_assert!(!removed.contains(&what), "a removed version came back");
                    }
                }
            }
            if let (Wish::RemoveOwners(krate, _) | Wish::SetOwners(krate, _), Ok(_)) = (wish, &outcome) {
                let row = view.krate(&name(krate).key()).unwrap().unwrap();
                prop_assert!(!row.owners.is_empty(), "the last owner was removed");
            }
        }
    }
}

#[test]
fn a_publish_is_judged_by_its_name_as_by_all_of_it_and_lag_is_told_apart() {
    let journal = Journal::new();
    let with = |scopes: &[Scope], login: &str| {
        let scopes = scopes.iter().copied().collect();
        journal.user(login, Grant { scopes, ..Grant::usual() })
    };
    let admit = |who: &Principal, krate: &str| {
        let (view, by) = (journal.catalog.view().unwrap(), CommandActor::Principal(who.clone()));
        admit_publish(&view, &by, &name(krate), &version("1.0.0"), journal.now)
    };
    let updates = with(&[Scope::PublishUpdate], "alice");
    let refusal = admit(&updates, "foo").unwrap_err();
    assert_eq!(refusal.error.kind, Kind::Forbidden);
    assert!(refusal.lag_could_explain, "another replica may have a `foo` that alice owns");
    for scopes in [&[Scope::Read][..], &[Scope::Yank]] {
        let refusal = admit(&with(scopes, "bob"), "foo").unwrap_err();
        assert!(!refusal.lag_could_explain, "no entry makes a scope");
    }
    let limited = Grant { crates: vec!["acme-*".parse().unwrap()], ..Grant::usual() };
    let limited = journal.user("carol", limited);
    assert!(!admit(&limited, "foo").unwrap_err().lag_could_explain, "nor a pattern");
    admit(&limited, "acme-foo").unwrap();
    let revoked = with(&[Scope::PublishNew], "dave");
    journal.append(CommandActor::Operator, Command::RevokeToken { token: revoked.token }).unwrap();
    assert_eq!(admit(&revoked, "foo").unwrap_err().error.kind, Kind::Unauthenticated);
}
