//! The URLs of administrators, below `/api/v1/admin`. They are ours: cargo knows none of them.

use std::borrow::Cow;

use super::access::{self, Access};
use super::upkeep::{self, Upkeep};
use super::{Refused, Verb, decode, malformed, name, parameter, token_id, version};
use crate::model::age::Age;
use cratehouse_journal::principal::TokenId;
use cratehouse_journal::tokens::Selection;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use jiff::Timestamp;

/// Requests that need a token of an administrator, or of an auditor where they only read, below `/api/v1/admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Administer {
    /// `GET users`
    Users,
    /// `POST users`
    CreateUser,
    /// `DELETE users/{login}`
    DisableUser(String),
    /// `GET tokens`, of one user with `?user=`, and some with `?never_used=true`, `?without_end=true` and
    /// `?older_than=90d` or `?created_before=`
    Tokens(Box<Selection>),
    /// `POST tokens`
    CreateToken,
    /// `DELETE tokens/{id}`
    RevokeToken(TokenId),
    /// `POST tokens/{id}/rotate`
    RotateToken(TokenId),
    /// Users, teams and rules about names
    Access(Access),
    /// The store, the journal and the mirror
    Upkeep(Upkeep),
    /// `DELETE crates/{name}/{version}`
    Remove(CrateName, CrateVersion),
    /// `POST mirror/{name}/refresh`
    Refresh(CrateName),
    /// `POST mirror/{name}/purge`, of one version with `?version=`
    Purge(CrateName, Option<CrateVersion>),
    /// `GET names/audit`
    Audit,
    /// `GET journal/head`
    Head,
}

pub(super) fn administer(
    verb: Verb,
    segments: &[&str],
    query: Option<&str>,
) -> Result<Administer, Refused> {
    use Verb::{Delete, Get, Post};
    Ok(match (verb, segments) {
        (Get, ["users"]) => Administer::Users,
        (Post, ["users"]) => Administer::CreateUser,
        (Delete, ["users", login]) => Administer::DisableUser(decode(login)?.into_owned()),
        (Get, ["tokens"]) => Administer::Tokens(Box::new(selection(query)?)),
        (Post, ["tokens"]) => Administer::CreateToken,
        (Delete, ["tokens", id]) => Administer::RevokeToken(token_id(id)?),
        (Post, ["tokens", id, "rotate"]) => Administer::RotateToken(token_id(id)?),
        (Delete, ["crates", n, v]) => Administer::Remove(name(n)?, version(v)?),
        (Post, ["mirror", n, "refresh"]) => Administer::Refresh(name(n)?),
        (Post, ["mirror", n, "purge"]) => Administer::Purge(name(n)?, version_parameter(query)?),
        (Get, ["names", "audit"]) => Administer::Audit,
        (Get, ["journal", "head"]) => Administer::Head,
        _ => match upkeep::upkeep(verb, segments, query) {
            Err(Refused::Unknown) => Administer::Access(access::access(verb, segments)?),
            found => Administer::Upkeep(found?),
        },
    })
}

fn selection(query: Option<&str>) -> Result<Selection, Refused> {
    let is_set = |key: &str| match parameter(query, key).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(malformed(format_args!("`{key}` is true or false"))),
    };
    let age = parameter(query, "older_than").map(|text| text.parse::<Age>()).transpose();
    let before = match age.map_err(malformed)? {
        Some(age) => Some(age.before(Timestamp::now()).map_err(malformed)?),
        None => parameter(query, "created_before")
            .map(|text| text.parse().map_err(|e| malformed(format_args!("`created_before`: {e}"))))
            .transpose()?,
    };
    Ok(Selection {
        login: parameter(query, "user").map(Cow::into_owned),
        never_used: is_set("never_used")?,
        endless: is_set("without_end")?,
        before,
    })
}

/// A version in a query. No version has a blank: one is a `+` that was not percent-encoded.
fn version_parameter(query: Option<&str>) -> Result<Option<CrateVersion>, Refused> {
    let text = parameter(query, "version");
    text.map(|text| text.replace(' ', "+").parse()).transpose().map_err(malformed)
}

impl Administer {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Administer::Users => "admin_users",
            Administer::CreateUser => "admin_user_create",
            Administer::DisableUser(_) => "admin_user_disable",
            Administer::Tokens(_) => "admin_tokens",
            Administer::CreateToken => "admin_token_create",
            Administer::RevokeToken(_) => "admin_token_revoke",
            Administer::RotateToken(_) => "admin_token_rotate",
            Administer::Access(what) => what.label(),
            Administer::Upkeep(what) => what.label(),
            Administer::Remove(..) => "admin_remove",
            Administer::Refresh(_) => "admin_mirror_refresh",
            Administer::Purge(..) => "admin_mirror_purge",
            Administer::Audit => "admin_names_audit",
            Administer::Head => "admin_journal_head",
        }
    }
}
