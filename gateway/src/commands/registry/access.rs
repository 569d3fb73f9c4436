//! Users, tokens, teams and rules.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::Registry;
use crate::commands::remote::path;
use cratehouse_core::error::Result;
use cratehouse_core::secret::Secret;
use cratehouse_journal::commands::{Command, CommandActor};
use cratehouse_journal::principal::{Grant, PrincipalKind, Role, TokenId};
use cratehouse_journal::rules::Exposed;
use cratehouse_journal::subject::SubjectName;
use cratehouse_journal::tokens::Selection;
use cratehouse_journal::writer::Waiter;
use cratehouse_journal::{owners, rules, teams, tokens, users};
use cratehouse_package::name::{CrateName, NamePattern};
use jiff::Timestamp;

const BY: CommandActor = CommandActor::Operator;

/// A body that is none.
const NOTHING: Option<&()> = None;

/// What a restriction came to.
#[derive(Debug, Deserialize)]
pub(in crate::commands) struct Restricted {
    /// The open crates that name restricted ones.
    pub(in crate::commands) exposed: Vec<Exposed>,
    /// Whether reads need a token at all.
    pub(in crate::commands) auth_required: bool,
}

#[derive(Deserialize)]
struct NewToken {
    id: TokenId,
    token: String,
}

type Done = BTreeMap<String, IgnoredAny>;

impl Registry<'_> {
    pub(in crate::commands) async fn users(self) -> Result<Vec<users::Listed>> {
        match self.place() {
            Ok(gateway) => users::list(&gateway.journal).await,
            Err(server) => server.get(&path(&["users"], &[])?).await,
        }
    }

    pub(in crate::commands) async fn user(self, login: &str) -> Result<users::Shown> {
        match self.place() {
            Ok(gateway) => {
                users::show(&gateway.journal, login, &gateway.last_uses.for_list().await).await
            }
            Err(server) => server.get(&path(&["users", login], &[])?).await,
        }
    }

    pub(in crate::commands) async fn create_user(
        self,
        login: &str,
        kind: PrincipalKind,
    ) -> Result<users::Listed> {
        match self.place() {
            Ok(gateway) => users::create(&gateway.journal, BY, login, kind).await,
            Err(server) => {
                let body = json!({ "login": login, "kind": kind });
                server.send(Method::POST, &path(&["users"], &[])?, Some(&body)).await
            }
        }
    }

    /// `command` on the store; on a server, a request of the admin API.
    async fn change(
        self,
        command: Command,
        (method, segments): (Method, &[&str]),
        body: Option<serde_json::Value>,
    ) -> Result<()> {
        match self.place() {
            Ok(gateway) => rules::change(&gateway.journal, BY, command).await,
            Err(server) => {
                let path = path(segments, &[])?;
                server.send::<Done>(method, &path, body.as_ref()).await.map(drop)
            }
        }
    }

    pub(in crate::commands) async fn disable_user(self, login: &str) -> Result<()> {
        let command = Command::DisableUser { login: login.to_owned() };
        self.change(command, (Method::DELETE, &["users", login]), None).await
    }

    pub(in crate::commands) async fn enable_user(self, login: &str) -> Result<()> {
        let command = Command::EnableUser { login: login.to_owned() };
        self.change(command, (Method::PUT, &["users", login, "enable"]), None).await
    }

    pub(in crate::commands) async fn set_role(self, login: &str, role: Option<Role>) -> Result<()> {
        let (to, login) = (["users", login, "role"], login.to_owned());
        match role {
            Some(role) => {
                let body = json!({ "role": role });
                self.change(Command::GrantRole { login, role }, (Method::PUT, &to), Some(body))
                    .await
            }
            None => self.change(Command::RevokeRole { login }, (Method::DELETE, &to), None).await,
        }
    }

    /// All, or the one of this name.
    pub(in crate::commands) async fn teams(self, team: Option<&str>) -> Result<Vec<teams::Listed>> {
        match (self.place(), team) {
            (Ok(gateway), team) => teams::list(&gateway.journal, team).await,
            (Err(server), None) => server.get(&path(&["teams"], &[])?).await,
            (Err(server), Some(team)) => {
                server.get(&path(&["teams", team], &[])?).await.map(|team| vec![team])
            }
        }
    }

    pub(in crate::commands) async fn add_members(
        self,
        team: &str,
        logins: &[String],
    ) -> Result<()> {
        let command = Command::AddMembers { team: team.to_owned(), logins: logins.to_vec() };
        let body = json!({ "users": logins });
        self.change(command, (Method::PUT, &["teams", team, "members"]), Some(body)).await
    }

    /// Nobody named means the team.
    pub(in crate::commands) async fn remove_members(
        self,
        team: &str,
        logins: &[String],
    ) -> Result<()> {
        if logins.is_empty() {
            let command = Command::RemoveTeam { team: team.to_owned() };
            return self.change(command, (Method::DELETE, &["teams", team]), None).await;
        }
        let command = Command::RemoveMembers { team: team.to_owned(), logins: logins.to_vec() };
        let body = json!({ "users": logins });
        self.change(command, (Method::DELETE, &["teams", team, "members"]), Some(body)).await
    }

    pub(in crate::commands) async fn rename_team(self, team: &str, name: &str) -> Result<()> {
        let command = Command::RenameTeam { team: team.to_owned(), name: name.to_owned() };
        let body = json!({ "name": name });
        self.change(command, (Method::PUT, &["teams", team, "name"]), Some(body)).await
    }

    pub(in crate::commands) async fn owners(
        self,
        krate: &CrateName,
    ) -> Result<Vec<owners::Listed>> {
        match self.place() {
            Ok(gateway) => owners::list(&gateway.journal, Waiter::Authenticated, krate).await,
            Err(server) => server.get(&path(&["crates", krate.as_str(), "owners"], &[])?).await,
        }
    }

    pub(in crate::commands) async fn set_owners(
        self,
        krate: &CrateName,
        owners: &[SubjectName],
    ) -> Result<()> {
        let command = Command::SetOwners { krate: krate.clone(), owners: owners.to_vec() };
        let to = ["crates", krate.as_str(), "owners"];
        self.change(command, (Method::PUT, &to), Some(json!({ "owners": owners }))).await
    }

    pub(in crate::commands) async fn creators(self) -> Result<Vec<rules::Listed>> {
        match self.place() {
            Ok(gateway) => rules::creators(&gateway.journal).await,
            Err(server) => server.get(&path(&["creators"], &[])?).await,
        }
    }

    pub(in crate::commands) async fn add_creators(
        self,
        pattern: &NamePattern,
        creators: &[SubjectName],
    ) -> Result<()> {
        let (pattern, creators) = (pattern.clone(), creators.to_vec());
        let body = json!({ "creators": creators });
        let command = Command::AddCreators { pattern: pattern.clone(), creators };
        self.change(command, (Method::PUT, &["creators", pattern.as_str()]), Some(body)).await
    }

    /// Nobody named means the rule.
    pub(in crate::commands) async fn remove_creators(
        self,
        pattern: &NamePattern,
        creators: &[SubjectName],
    ) -> Result<()> {
        let (pattern, creators) = (pattern.clone(), creators.to_vec());
        let (to, body) =
            (["creators", pattern.as_str(), "subjects"], json!({ "creators": creators }));
        let is_whole = creators.is_empty();
        let command = Command::RemoveCreators { pattern: pattern.clone(), creators };
        match is_whole {
            true => self.change(command, (Method::DELETE, &to[..2]), None).await,
            false => self.change(command, (Method::DELETE, &to), Some(body)).await,
        }
    }

    pub(in crate::commands) async fn restrictions(self) -> Result<Vec<rules::Listed>> {
        match self.place() {
            Ok(gateway) => rules::restrictions(&gateway.journal).await,
            Err(server) => server.get(&path(&["restrictions"], &[])?).await,
        }
    }

    pub(in crate::commands) async fn restrict(
        self,
        pattern: &NamePattern,
        readers: Vec<SubjectName>,
    ) -> Result<Restricted> {
        match self.place() {
            Ok(gateway) => {
                let command = Command::Restrict { pattern: pattern.clone(), readers };
                rules::change(&gateway.journal, BY, command).await?;
                let exposed = rules::exposed(&gateway.journal, pattern).await?;
                Ok(Restricted { exposed, auth_required: gateway.config.auth_required })
            }
            Err(server) => {
                let path = path(&["restrictions", pattern.as_str()], &[])?;
                server.send(Method::PUT, &path, Some(&json!({ "readers": readers }))).await
            }
        }
    }

    pub(in crate::commands) async fn remove_readers(
        self,
        pattern: &NamePattern,
        readers: Vec<SubjectName>,
    ) -> Result<()> {
        let body = json!({ "readers": readers });
        let command = Command::RemoveReaders { pattern: pattern.clone(), readers };
        let to = ["restrictions", pattern.as_str(), "readers"];
        self.change(command, (Method::DELETE, &to), Some(body)).await
    }

    pub(in crate::commands) async fn end_restriction(self, pattern: &NamePattern) -> Result<()> {
        let command = Command::Open { pattern: pattern.clone() };
        self.change(command, (Method::DELETE, &["restrictions", pattern.as_str()]), None).await
    }

    pub(in crate::commands) async fn tokens(
        self,
        selection: &Selection,
    ) -> Result<Vec<tokens::Listed>> {
        match self.place() {
            Ok(gateway) => {
                let uses = gateway.last_uses.for_selection(selection).await?;
                tokens::list(&gateway.journal, selection, &uses).await
            }
            Err(server) => {
                let Selection { login, never_used, endless, before } = selection;
                let set = |is_set: bool| is_set.then(|| "true".to_owned());
                let query = [
                    ("user", login.clone()),
                    ("never_used", set(*never_used)),
                    ("without_end", set(*endless)),
                    ("created_before", before.map(|before| before.to_string())),
                ];
                server.get(&path(&["tokens"], &query)?).await
            }
        }
    }

    pub(in crate::commands) async fn create_token(
        self,
        user: &str,
        name: &str,
        grant: Grant,
    ) -> Result<(TokenId, Secret)> {
        match self.place() {
            Ok(gateway) => {
                let life = &gateway.config.token_life;
                let expires = life.end(grant.expires, None, Timestamp::now())?;
                let grant = Grant { expires, ..grant };
                let made = tokens::create(&gateway.journal, BY, user, name, grant).await?;
                Ok((made.0, Secret::new(made.1.reveal())))
            }
            Err(server) => {
                let Grant { scopes, crates, reads, expires } = grant;
                let body = json!({
                    "user": user,
                    "name": name,
                    "scopes": scopes,
                    "crates": crates,
                    "read_only_crates": reads,
                    "expires": expires.map(|end| end.to_string()),
                });
                let made: NewToken =
                    server.send(Method::POST, &path(&["tokens"], &[])?, Some(&body)).await?;
                Ok((made.id, Secret::new(made.token)))
            }
        }
    }

    pub(in crate::commands) async fn rotate_token(
        self,
        former: TokenId,
        until: Timestamp,
    ) -> Result<(TokenId, Secret)> {
        match self.place() {
            Ok(gateway) => {
                let longest = gateway.config.token_life.longest;
                let made = tokens::rotate(&gateway.journal, BY, former, until, longest).await?;
                Ok((made.0, Secret::new(made.1.reveal())))
            }
            Err(server) => {
                let path = path(&["tokens", &former.to_string(), "rotate"], &[])?;
                let body = json!({ "overlap": until.to_string() });
                let made: NewToken = server.send(Method::POST, &path, Some(&body)).await?;
                Ok((made.id, Secret::new(made.token)))
            }
        }
    }

    pub(in crate::commands) async fn revoke_token(self, token: TokenId) -> Result<()> {
        match self.place() {
            Ok(gateway) => tokens::revoke(&gateway.journal, BY, token).await,
            Err(server) => {
                let path = path(&["tokens", &token.to_string()], &[])?;
                server.send::<Done>(Method::DELETE, &path, NOTHING).await.map(drop)
            }
        }
    }
}
