//! Which crates exist for whom. Every path that gives something of a crate to a reader asks this first, the quick one
//! that needs no more than memory and the long one alike.
//!
//! The rules are few and change seldom: they are kept, compiled, until one changes. What they make of one user and one
//! restricted name is remembered until anything changes in the catalog: owners, teams, members.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::flows::access::reader::Reader;
use cratehouse_core::error::Result;
use cratehouse_journal::authorize::may_read;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::principal::{Principal, UserId};
use cratehouse_package::name::{CrateName, NameKey};

/// Decisions that are remembered at most, some 100 bytes each.
const MAX_DECISIONS: usize = 100_000;

/// What knows which crates exist for whom.
#[derive(Debug)]
pub struct Visibility {
    catalog: Catalog,
    restricted: RwLock<(u64, Arc<Restricted>)>,
    decided: RwLock<Decided>,
}

/// The names that rules restrict, whoever may read them.
#[derive(Debug, Default)]
struct Restricted {
    names: HashSet<String>,
    /// Beginnings of names, without their `*`, and how long those are.
    prefixes: HashSet<String>,
    lengths: Vec<usize>,
}

/// Whether restricted crates exist for users, after so many changes of the catalog.
#[derive(Debug, Default)]
struct Decided {
    changes: u64,
    exists: HashMap<(UserId, NameKey), bool>,
}

impl Visibility {
    /// Of the crates of this catalog.
    pub fn new(catalog: Catalog) -> Self {
        // No catalog counts so far: the rules are read at the first question.
        let unread = (u64::MAX, Arc::default());
        Self { catalog, restricted: RwLock::new(unread), decided: RwLock::default() }
    }

    /// Whether a crate of this name exists for a reader, if it exists at all.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn exists_for(&self, reader: &Reader, name: &CrateName) -> Result<bool> {
        let Reader::Client(_, who) = reader else { return Ok(true) };
        if who.as_ref().is_some_and(|who| !who.grant.reads(name)) {
            return Ok(false);
        }
        let key = name.key();
        if !self.restricted()?.covers(&key) {
            return Ok(true);
        }
        match who {
            Some(who) => self.exists_for_user(who, name, key),
            None => Ok(false),
        }
    }

    /// Whether a rule restricts crates of this name.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn is_restricted(&self, key: &NameKey) -> Result<bool> {
        Ok(self.restricted()?.covers(key))
    }

    fn exists_for_user(&self, who: &Principal, name: &CrateName, key: NameKey) -> Result<bool> {
        let changes = self.catalog.changes(); // before the catalog, which may know more by then
        let key = (who.user, key);
        if let Some(exists) = self.recall(&key, changes) {
            return Ok(exists);
        }
        let view = self.catalog.view()?;
        // The teams of the catalog that answers, not those of when the token was looked at.
        let teams = view.teams_of(who.user)?.into();
        let who = Principal { teams, ..who.clone() };
        let exists = may_read(Some(&who), view.rights(&key.1)?.of(name));
        self.remember(key, changes, exists);
        Ok(exists)
    }

    fn recall(&self, key: &(UserId, NameKey), changes: u64) -> Option<bool> {
        let decided = self.decided.read().unwrap_or_else(PoisonError::into_inner);
        if decided.changes == changes { decided.exists.get(key).copied() } else { None }
    }

    fn remember(&self, key: (UserId, NameKey), changes: u64, exists: bool) {
        let mut decided = self.decided.write().unwrap_or_else(PoisonError::into_inner);
        if changes < decided.changes {
            return;
        }
        if changes > decided.changes || decided.exists.len() >= MAX_DECISIONS {
            decided.exists.clear();
        }
        decided.changes = changes;
        decided.exists.insert(key, exists);
    }

    fn restricted(&self) -> Result<Arc<Restricted>> {
        let stamp = self.catalog.restrictions(); // before the catalog, which may know more by then
        {
            let known = self.restricted.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == stamp {
                return Ok(Arc::clone(&known.1));
            }
        }
        let rules = self.catalog.view()?.restrictions()?;
        let made = Arc::new(Restricted::of(rules.iter().map(|rule| rule.pattern.key())));
        let mut known = self.restricted.write().unwrap_or_else(PoisonError::into_inner);
        if known.0 == u64::MAX || known.0 < stamp {
            *known = (stamp, Arc::clone(&made));
        }
        Ok(made)
    }
}

impl Restricted {
    fn of(patterns: impl Iterator<Item = String>) -> Self {
        let mut restricted = Self::default();
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                Some(prefix) => {
                    restricted.lengths.push(prefix.len());
                    restricted.prefixes.insert(prefix.to_owned());
                }
                None => {
                    restricted.names.insert(pattern);
                }
            }
        }
        restricted.lengths.sort_unstable();
        restricted.lengths.dedup();
        restricted
    }

    fn covers(&self, key: &NameKey) -> bool {
        let name = key.as_str();
        let begins = |length: &usize| {
            name.get(..*length).is_some_and(|prefix| self.prefixes.contains(prefix))
        };
        self.names.contains(name) || self.lengths.iter().any(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::flows::fixture::{TestGateway, memory};
    use cratehouse_core::client_key::ClientKey;
    use cratehouse_journal::commands::Command;
    use cratehouse_journal::principal::Grant;

    #[test]
    fn names_and_prefixes_are_covered_in_every_spelling() {
        let restricted = ["secret_*", "foo"].map(str::to_owned);
        let restricted = Restricted::of(restricted.into_iter());
        let covers = |name: &str| restricted.covers(&CrateName::parse(name).unwrap().key());
        for name in ["Secret-x", "secret_", "FOO"] {
            assert!(covers(name), "{name}");
        }
        for name in ["secret", "foo-bar", "fo", "x"] {
            assert!(!covers(name), "{name}");
        }
        assert!(
            Restricted::of(["*".to_owned()].into_iter())
                .covers(&CrateName::parse("x").unwrap().key())
        );
    }

    #[tokio::test]
    async fn a_crate_exists_for_readers_and_owners_as_soon_as_they_are_and_no_longer() {
        let server = TestGateway::open(&memory(), &[], Limits::default()).await;
        let names = ["alice", "bob"];
        for login in names {
            server.command(Command::create_user(login)).await;
        }
        let sample = |login: &str| {
            let user = server.gateway.catalog.view().unwrap().login(login).unwrap().unwrap().id;
            let who =
                Principal { user, login: login.to_owned(), role: None, ..Principal::sample() };
            Reader::Client(ClientKey::Exempt, Some(Arc::new(who)))
        };
        let [alice, bob] = names.map(sample);
        let (nobody, foo) = (Reader::Client(ClientKey::Exempt, None), "foo-x".parse().unwrap());
        let who_reads = || {
            let exists = |reader| server.gateway.visibility.exists_for(reader, &foo).unwrap();
            [exists(&nobody), exists(&alice), exists(&bob), exists(&Reader::OWN)]
        };
        assert_eq!(who_reads(), [true; 4]);
        let pattern = || "foo*".parse().unwrap();
        let to = |who: &str| vec![who.parse().unwrap()];
        server.command(Command::Restrict { pattern: pattern(), readers: to("alice") }).await;
        assert_eq!(who_reads(), [false, true, false, true]);
        let (team, logins) = ("core".to_owned(), vec!["bob".to_owned()]);
        server.command(Command::AddMembers { team: team.clone(), logins: logins.clone() }).await;
        server.command(Command::Restrict { pattern: pattern(), readers: to("team:core") }).await;
        assert_eq!(who_reads(), [false, true, true, true]);
        server.command(Command::RemoveMembers { team, logins }).await;
        server.command(Command::RemoveReaders { pattern: pattern(), readers: to("alice") }).await;
        assert_eq!(who_reads(), [false, false, false, true]);
        server.command(Command::Open { pattern: pattern() }).await;
        assert_eq!(who_reads(), [true; 4]);
    }

    #[tokio::test]
    async fn a_token_for_some_crates_reads_no_others() {
        let server = TestGateway::open(&memory(), &[], Limits::default()).await;
        let grant = Grant { reads: vec!["acme-*".parse().unwrap()], ..Grant::usual() };
        let who = Principal { grant, ..Principal::sample() };
        let reader = Reader::Client(ClientKey::Exempt, Some(Arc::new(who)));
        let exists =
            |name: &str| server.gateway.visibility.exists_for(&reader, &name.parse().unwrap());
        assert!(exists("acme_x").unwrap() && !exists("foo").unwrap());
    }
}
