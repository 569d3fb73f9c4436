//! Who asks, and what they may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use cratehouse_core::checksum::Checksum;
use cratehouse_package::name::{CrateName, PatternError};

/// A user's number: cargo wants a `u32` (Cargo book, "Web API", owners).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u32);

/// A token's number: what the audit trail names instead of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// One kind of action that a token can allow. The words are those of crates.io, plus `read`
/// and `admin`.
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
    /// Manage users, tokens, removals and the mirror. Never given without being asked for.
    Admin,
}

/// What a token may do, where and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The actions.
    pub scopes: BTreeSet<Scope>,
    /// The crates; empty means all. Reading is not limited by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<CratePattern>,
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
}

/// A token as its owner holds it. Shown once; only its SHA-256 is kept.
pub struct TokenSecret(String);

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

const SECRET_PREFIX: &str = "crh_";
/// Patterns of a token that its refusal names.
const SHOWN_PATTERNS: usize = 10;
const SECRET_CHARS: usize = 32; // of 62: 190 bits

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 6] = [
        Scope::Read,
        Scope::PublishNew,
        Scope::PublishUpdate,
        Scope::Yank,
        Scope::ChangeOwners,
        Scope::Admin,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::PublishNew => "publish-new",
            Scope::PublishUpdate => "publish-update",
            Scope::Yank => "yank",
            Scope::ChangeOwners => "change-owners",
            Scope::Admin => "admin",
        }
    }
}

impl Grant {
    /// What a token gets that names no scopes: everything but `admin`.
    pub fn usual() -> Self {
        let scopes = Scope::ALL.into_iter().filter(|s| *s != Scope::Admin).collect();
        Self { scopes, crates: Vec::new(), expires: None }
    }

    fn other_crate(&self, krate: &CrateName) -> Lacking {
        let mut only: Vec<_> =
            self.crates.iter().take(SHOWN_PATTERNS).map(|p| format!("`{p}`")).collect();
        let rest = self.crates.len() - only.len();
        if rest > 0 {
            only.push(format!("{rest} more patterns"));
        }
        let near = self.crates.iter().find(|p| p.nearly_covers(krate)).map(|p| {
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

    /// The same, were case and dashes the same.
    fn nearly_covers(&self, name: &CrateName) -> bool {
        let folded = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let name = folded(name.as_str());
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(&folded(prefix)),
            None => name == folded(&self.0),
        }
    }
}

impl TokenSecret {
    /// A new one.
    pub fn random() -> Self {
        let mut rng = rand::rng();
        let tail: String =
            (0..SECRET_CHARS).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect();
        Self(format!("{SECRET_PREFIX}{tail}"))
    }

    /// What is kept of it.
    pub fn hash(&self) -> Checksum {
        Checksum::of(self.0.as_bytes())
    }

    /// The text, to be shown to its owner and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
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

impl fmt::Display for CratePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(grant: Grant) -> Principal {
        Principal { user: UserId(1), login: "alice".to_owned(), token: TokenId(1), grant }
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

    #[test]
    fn secrets_differ_and_do_not_print() {
        let (a, b) = (TokenSecret::random(), TokenSecret::random());
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.reveal().len(), SECRET_PREFIX.len() + SECRET_CHARS);
        assert!(!format!("{a:?}").contains(a.reveal()));
    }
}
