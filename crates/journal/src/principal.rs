//! Who asks, and what they may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use cratehouse_package::name::{CrateName, PatternError};
use cratehouse_storage::format_level::Level;

/// A user's number: cargo wants a `u32` (Cargo book, "Web API", owners).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u32);

/// A token's number: what the audit trail names instead of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// A team's number. A name may be used again after its team was removed; a number never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamId(pub u32);

/// What kind of principal a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    #[default]
    Person,
    /// A machine: a service account. It holds no role.
    Service,
}

/// What a principal may do beyond their tokens' scopes, their ownership and their teams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Manages users, tokens, teams, rules, removals and the mirror.
    Admin,
    /// Reads what administrators read, and changes nothing.
    Auditor,
}

/// One kind of action that a token can allow. The words are those of crates.io, plus `read`,
/// `tokens`, `audit` and `admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Read the index, download, search, where `auth.required` is set.
    Read,
    /// Publish the first version of a crate.
    PublishNew,
    /// Publish further versions.
    PublishUpdate,
    /// Yank and unyank.
    Yank,
    /// Add and remove owners.
    ChangeOwners,
    /// Manage users, tokens, removals and the mirror, as an administrator. Never given without being asked for.
    Admin,
    /// Make, list and revoke tokens of the same user. Of format level 2; never given without being asked for.
    Tokens,
    /// Read what administrators read, as one or as an auditor. Of format level 2; never given without being asked for.
    Audit,
}

/// What a token may do, where and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The actions.
    pub scopes: BTreeSet<Scope>,
    /// The crates that it may change; empty means all. Reading is not limited by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<CratePattern>,
    /// The crates that it may read; empty means all that its holder may. Of format level 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<CratePattern>,
    /// When it ends, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A crate that a token may touch: a name, a prefix followed by `*`, or `*`. Case and dashes
/// count, as on crates.io (`models/token/scopes.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CratePattern(String);

/// Who asks: a user by one of their tokens, checked against the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The user's name.
    pub login: String,
    /// The token.
    pub token: TokenId,
    /// What the token may do.
    pub grant: Grant,
    /// Whether a person or a machine holds it.
    pub kind: PrincipalKind,
    /// The role of its holder, as it is now.
    pub role: Option<Role>,
    /// The teams of its holder, as they are now, by number.
    pub teams: Arc<[TeamId]>,
}

/// Why a token does not allow something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// The action is not among its scopes.
    #[error(
        "this token does not have the scope `{missing}`: ask for one with it (`cratehouse token create --user … \
         --scope {all}`)"
    )]
    Scope {
        /// The action.
        missing: Scope,
        /// The token's scopes and this one, as the command takes them.
        all: String,
    },
    /// The crate is not among its crates.
    #[error(
        "this token is for {only} alone, and `{krate}` is not among them{near}: ask for one with it \
         (`cratehouse token create --user … --crate {krate}`)"
    )]
    Crate {
        /// The crate.
        krate: CrateName,
        /// The token's patterns, or the first of them.
        only: String,
        /// A pattern that would cover it if case and dashes did not count.
        near: String,
    },
}

/// Patterns of a token that its refusal names.
const SHOWN_PATTERNS: usize = 10;

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 8] = [
        Scope::Read,
        Scope::PublishNew,
        Scope::PublishUpdate,
        Scope::Yank,
        Scope::ChangeOwners,
        Scope::Admin,
        Scope::Tokens,
        Scope::Audit,
    ];
    /// What a token gets that names no scopes.
    const USUAL: [Self; 5] =
        [Scope::Read, Scope::PublishNew, Scope::PublishUpdate, Scope::Yank, Scope::ChangeOwners];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::PublishNew => "publish-new",
            Scope::PublishUpdate => "publish-update",
            Scope::Yank => "yank",
            Scope::ChangeOwners => "change-owners",
            Scope::Admin => "admin",
            Scope::Tokens => "tokens",
            Scope::Audit => "audit",
        }
    }
}

impl Grant {
    /// What a token gets that names no scopes: everything but `admin`, `tokens` and `audit`.
    pub fn usual() -> Self {
        let (scopes, crates, reads) = (Scope::USUAL.into(), Vec::new(), Vec::new());
        Self { scopes, crates, reads, expires: None }
    }

    /// The format level that it takes to write it.
    pub fn level(&self) -> Level {
        let is_new = |scope: &Scope| matches!(scope, Scope::Tokens | Scope::Audit);
        match self.scopes.iter().any(is_new) || !self.reads.is_empty() {
            true => Level::SECOND,
            false => Level::FIRST,
        }
    }

    /// Whether a crate is among those that it may read, whoever holds it.
    pub fn reads(&self, krate: &CrateName) -> bool {
        self.reads.is_empty() || self.reads.iter().any(|pattern| pattern.covers_folded(krate))
    }

    /// Whether it allows nothing that another does not.
    pub fn is_within(&self, other: &Self) -> bool {
        let narrower = |mine: &[CratePattern], theirs: &[CratePattern]| {
            theirs.is_empty()
                || !mine.is_empty() && mine.iter().all(|p| theirs.iter().any(|q| q.includes(p)))
        };
        let ends = |grant: &Self| grant.expires.unwrap_or(Timestamp::MAX);
        self.scopes.is_subset(&other.scopes)
            && narrower(&self.crates, &other.crates)
            && narrower(&self.reads, &other.reads)
            && ends(self) <= ends(other)
    }

    fn other_crate(&self, krate: &CrateName) -> Lacking {
        let mut only: Vec<_> =
            self.crates.iter().take(SHOWN_PATTERNS).map(|p| format!("`{p}`")).collect();
        let rest = self.crates.len() - only.len();
        if rest > 0 {
            only.push(format!("{rest} more patterns"));
        }
        let near = self.crates.iter().find(|p| p.covers_folded(krate)).map(|p| {
            format!(" (`{p}` would be, but the case of letters, `-` and `_` count in a token's patterns)")
        });
        let near = near.unwrap_or_default();
        Lacking::Crate { krate: krate.clone(), only: only.join(", "), near }
    }

    /// Whether it still counts.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

impl Principal {
    /// For tests: Alice, with token 1 and the role of an administrator.
    #[cfg(any(test, feature = "test-util"))]
    pub fn sample() -> Self {
        Self {
            user: UserId(1),
            login: "alice".to_owned(),
            token: TokenId(1),
            grant: Grant::usual(),
            kind: PrincipalKind::Person,
            role: Some(Role::Admin),
            teams: [].into(),
        }
    }

    /// Checks that the token allows an action, on a crate where the action is about one.
    ///
    /// # Errors
    /// Says what the token lacks.
    pub(crate) fn check(&self, scope: Scope, krate: Option<&CrateName>) -> Result<(), Lacking> {
        if !self.grant.scopes.contains(&scope) {
            let all = self.grant.scopes.iter().chain([&scope]).map(ToString::to_string);
            let all = all.collect::<Vec<_>>().join(",");
            return Err(Lacking::Scope { missing: scope, all });
        }
        match krate {
            Some(name) if !self.grant.crates.is_empty() => {
                let covered = self.grant.crates.iter().any(|p| p.covers(name));
                if covered { Ok(()) } else { Err(self.grant.other_crate(name)) }
            }
            _ => Ok(()),
        }
    }
}

impl CratePattern {
    /// Whether the crate is meant.
    pub fn covers(&self, name: &CrateName) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.as_str().starts_with(prefix),
            None => name.as_str() == self.0,
        }
    }

    /// Whether every crate that another pattern covers is covered.
    fn includes(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => other.0.strip_suffix('*').unwrap_or(&other.0).starts_with(prefix),
            None => self.0 == other.0,
        }
    }

    /// Whether the crate is meant, were case and dashes the same: an index path has the name in lower case.
    fn covers_folded(&self, name: &CrateName) -> bool {
        let folded = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let name = folded(name.as_str());
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(&folded(prefix)),
            None => name == folded(&self.0),
        }
    }
}

impl PrincipalKind {
    /// Whether it is a person, which needs no mention.
    pub fn is_person(&self) -> bool {
        *self == Self::Person
    }
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = Scope::ALL.map(Scope::as_str).join(", ");
        let found = Scope::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not a scope: choose among {all}"))
    }
}

impl FromStr for CratePattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        text.parse::<cratehouse_package::name::NamePattern>()?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for CratePattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<CratePattern> for String {
    fn from(pattern: CratePattern) -> String {
        pattern.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Role::Admin, Role::Auditor].into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not a role: choose `admin` or `auditor`"))
    }
}

impl fmt::Display for CratePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(grant: Grant) -> Principal {
        Principal { grant, ..Principal::sample() }
    }

    #[test]
    fn a_usual_token_does_everything_but_administer() {
        let alice = principal(Grant::usual());
        assert_eq!(alice.check(Scope::PublishNew, None), Ok(()));
        let denied = alice.check(Scope::Admin, None).unwrap_err().to_string();
        assert!(denied.contains("does not have the scope `admin`"), "{denied}");
        assert!(denied.contains("--scope read,") && denied.contains(",admin`)"), "{denied}");
    }

    #[test]
    fn crate_patterns_mind_case_and_dashes() {
        let grant = Grant { crates: vec!["corp-*".parse().unwrap()], ..Grant::usual() };
        let alice = principal(grant);
        let name = |n: &str| CrateName::parse(n).unwrap();
        assert!(alice.check(Scope::Yank, Some(&name("corp-x"))).is_ok());
        assert!(alice.check(Scope::Yank, Some(&name("corp_x"))).is_err());
        let refusal = |n: &str| alice.check(Scope::Yank, Some(&name(n))).unwrap_err().to_string();
        assert_eq!(
            refusal("other"),
            "this token is for `corp-*` alone, and `other` is not among them: ask for one with it \
             (`cratehouse token create --user … --crate other`)"
        );
        assert!(refusal("corp_x").contains("(`corp-*` would be, but the case of letters"));
        assert!(refusal("Corp-x").contains("`corp-*` would be"));
    }
}
