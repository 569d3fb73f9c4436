//! The URLs about who may do what, below `/api/v1/admin`, and those of a token's holder, below `/api/v1/me`. They are
//! ours, but for `PUT /api/v1/me/tokens` and its kin, which are crates.io's.

use super::{Refused, Verb, decode, malformed, name, token_id};
use cratehouse_journal::principal::TokenId;
use cratehouse_package::name::{CrateName, NamePattern};

/// Requests about users, teams and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// `GET users/{login}`
    User(String),
    /// `PUT users/{login}/enable`
    EnableUser(String),
    /// `PUT users/{login}/role`
    GrantRole(String),
    /// `DELETE users/{login}/role`
    RevokeRole(String),
    /// `GET teams`
    Teams,
    /// `GET teams/{team}`
    Team(String),
    /// `DELETE teams/{team}`
    RemoveTeam(String),
    /// `PUT teams/{team}/name`
    RenameTeam(String),
    /// `PUT teams/{team}/members`: the team is created where there is none
    AddMembers(String),
    /// `DELETE teams/{team}/members`
    RemoveMembers(String),
    /// `PUT crates/{name}/owners`
    SetOwners(CrateName),
    /// `GET creators`
    Creators,
    /// `PUT creators/{pattern}`
    AddCreators(NamePattern),
    /// `DELETE creators/{pattern}`
    RemoveRule(NamePattern),
    /// `DELETE creators/{pattern}/subjects`
    RemoveCreators(NamePattern),
    /// `GET restrictions`
    Restrictions,
    /// `PUT restrictions/{pattern}`
    Restrict(NamePattern),
    /// `DELETE restrictions/{pattern}`
    Open(NamePattern),
    /// `DELETE restrictions/{pattern}/readers`
    RemoveReaders(NamePattern),
}

/// Requests of a token's holder about tokens of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// `GET /api/v1/me/tokens`
    Tokens,
    /// `PUT /api/v1/me/tokens`
    CreateToken,
    /// `POST /api/v1/me/tokens/{id}/rotate`
    RotateToken(TokenId),
    /// `DELETE /api/v1/me/tokens/{id}`
    RevokeToken(TokenId),
    /// `DELETE /api/v1/tokens/current`
    RevokeThis,
    /// `POST /api/v1/tokens/report`: tokens that a scanner found, whoever holds them
    Report,
}

pub(super) fn access(verb: Verb, segments: &[&str]) -> Result<Access, Refused> {
    use Verb::{Delete, Get, Put};
    let text = |segment| decode(segment).map(|text| text.into_owned());
    Ok(match (verb, segments) {
        (Get, ["users", login]) => Access::User(text(login)?),
        (Put, ["users", login, "enable"]) => Access::EnableUser(text(login)?),
        (Put, ["users", login, "role"]) => Access::GrantRole(text(login)?),
        (Delete, ["users", login, "role"]) => Access::RevokeRole(text(login)?),
        (Get, ["teams"]) => Access::Teams,
        (Get, ["teams", team]) => Access::Team(text(team)?),
        (Delete, ["teams", team]) => Access::RemoveTeam(text(team)?),
        (Put, ["teams", team, "name"]) => Access::RenameTeam(text(team)?),
        (Put, ["teams", team, "members"]) => Access::AddMembers(text(team)?),
        (Delete, ["teams", team, "members"]) => Access::RemoveMembers(text(team)?),
        (Put, ["crates", n, "owners"]) => Access::SetOwners(name(n)?),
        (Get, ["creators"]) => Access::Creators,
        (Put, ["creators", p]) => Access::AddCreators(pattern(p)?),
        (Delete, ["creators", p]) => Access::RemoveRule(pattern(p)?),
        (Delete, ["creators", p, "subjects"]) => Access::RemoveCreators(pattern(p)?),
        (Get, ["restrictions"]) => Access::Restrictions,
        (Put, ["restrictions", p]) => Access::Restrict(pattern(p)?),
        (Delete, ["restrictions", p]) => Access::Open(pattern(p)?),
        (Delete, ["restrictions", p, "readers"]) => Access::RemoveReaders(pattern(p)?),
        _ => return Err(Refused::Unknown),
    })
}

pub(super) fn own(verb: Verb, segments: &[&str]) -> Result<Own, Refused> {
    use Verb::{Delete, Get, Post, Put};
    Ok(match (verb, segments) {
        (Get, ["me", "tokens"]) => Own::Tokens,
        (Put, ["me", "tokens"]) => Own::CreateToken,
        (Post, ["me", "tokens", id, "rotate"]) => Own::RotateToken(token_id(id)?),
        (Delete, ["me", "tokens", id]) => Own::RevokeToken(token_id(id)?),
        (Delete, ["tokens", "current"]) => Own::RevokeThis,
        (Post, ["tokens", "report"]) => Own::Report,
        _ => return Err(Refused::Unknown),
    })
}

fn pattern(segment: &str) -> Result<NamePattern, Refused> {
    decode(segment)?.parse().map_err(malformed)
}

impl Access {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Access::User(_) => "admin_user",
            Access::EnableUser(_) => "admin_user_enable",
            Access::GrantRole(_) => "admin_role_grant",
            Access::RevokeRole(_) => "admin_role_revoke",
            Access::Teams => "admin_teams",
            Access::Team(_) => "admin_team",
            Access::RemoveTeam(_) => "admin_team_remove",
            Access::RenameTeam(_) => "admin_team_rename",
            Access::AddMembers(_) => "admin_members_add",
            Access::RemoveMembers(_) => "admin_members_remove",
            Access::SetOwners(_) => "admin_owners_set",
            Access::Creators => "admin_creators",
            Access::AddCreators(_) => "admin_creators_add",
            Access::RemoveRule(_) => "admin_creators_end",
            Access::RemoveCreators(_) => "admin_creators_remove",
            Access::Restrictions => "admin_restrictions",
            Access::Restrict(_) => "admin_restrict",
            Access::Open(_) => "admin_open",
            Access::RemoveReaders(_) => "admin_readers_remove",
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Access::User(_)
            | Access::Teams
            | Access::Team(_)
            | Access::Creators
            | Access::Restrictions => true,
            Access::EnableUser(_)
            | Access::GrantRole(_)
            | Access::RevokeRole(_)
            | Access::RemoveTeam(_)
            | Access::RenameTeam(_)
            | Access::AddMembers(_)
            | Access::RemoveMembers(_)
            | Access::SetOwners(_)
            | Access::AddCreators(_)
            | Access::RemoveRule(_)
            | Access::RemoveCreators(_)
            | Access::Restrict(_)
            | Access::Open(_)
            | Access::RemoveReaders(_) => false,
        }
    }
}

impl Own {
    /// The word for it in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Own::Tokens => "me_tokens",
            Own::CreateToken => "me_token_create",
            Own::RotateToken(_) => "me_token_rotate",
            Own::RevokeToken(_) => "me_token_revoke",
            Own::RevokeThis => "token_revoke_current",
            Own::Report => "token_report",
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::super::{Administer, Route, route};
    use super::*;

    #[test]
    fn the_urls_of_access_are_mapped() {
        let admin = |method, path: &str| route(&method, &format!("/api/v1/admin/{path}"), None);
        let ok = |what| Ok(Route::Admin(Administer::Access(what)));
        let pattern: NamePattern = "acme-*".parse().unwrap();
        assert_eq!(admin(Method::GET, "users/al%2Eice"), ok(Access::User("al.ice".to_owned())));
        assert_eq!(admin(Method::PUT, "users/a/role"), ok(Access::GrantRole("a".to_owned())));
        assert_eq!(
            admin(Method::PUT, "restrictions/acme-*"),
            ok(Access::Restrict(pattern.clone()))
        );
        assert_eq!(admin(Method::DELETE, "creators/acme-%2A"), ok(Access::RemoveRule(pattern)));
        assert!(matches!(admin(Method::PUT, "creators/a*b"), Err(Refused::Malformed(_))));
        assert_eq!(admin(Method::POST, "teams"), Err(Refused::Method("GET, HEAD".to_owned())));
    }

    #[test]
    fn the_urls_of_a_tokens_holder_are_mapped() {
        let call = |method, path: &str| route(&method, &format!("/api/v1/{path}"), None);
        assert_eq!(call(Method::PUT, "me/tokens"), Ok(Route::Own(Own::CreateToken)));
        assert_eq!(
            call(Method::DELETE, "me/tokens/7"),
            Ok(Route::Own(Own::RevokeToken(TokenId(7))))
        );
        assert_eq!(call(Method::DELETE, "tokens/current"), Ok(Route::Own(Own::RevokeThis)));
        assert!(matches!(call(Method::DELETE, "me/tokens/x"), Err(Refused::Absent(_))));
    }
}
