//! Tokens.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{TokenRow, UserRow};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::entry::EventKind;
use crate::format;
use crate::principal::{CratePattern, Grant, Scope, TokenId};
use crate::token_secret::{TokenKind, TokenSecret};
use crate::token_use::{TokenUse, TokenUses};
use crate::writer::JournalHandle;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::times::to_the_second;
use cratehouse_storage::format_level::Level;

/// Creates a token for a user. This is the only time that it is seen.
///
/// # Errors
/// When there is no such user, or whoever asks may not.
pub async fn create(
    journal: &JournalHandle,
    by: CommandActor,
    login: &str,
    name: &str,
    grant: Grant,
) -> Result<(TokenId, TokenSecret)> {
    // What is unknown here is refused by the judge, or another replica has just made it.
    let kind =
        journal.catalog().view()?.login(login)?.map_or(TokenKind::Person, |user| user.kind.into());
    let secret = TokenSecret::random(kind);
    let command = Command::CreateToken {
        login: login.to_owned(),
        name: name.to_owned(),
        hash: secret.hash(),
        grant,
    };
    let events = journal.append(ActorCommand { by, command }).await?;
    created(&events).map(|id| (id, secret))
}

fn created(events: &[EventKind]) -> Result<TokenId> {
    let id = events.iter().find_map(|event| match event {
        EventKind::TokenCreated { token, .. } => Some(*token),
        _ => None,
    });
    id.ok_or_else(|| Error::unavailable("the token was not created"))
}

/// Makes a token in place of another, which counts until `until` at the most: same holder, same rights, and a life as
/// long as that of the other was, but no longer than `longest`. This is the only time that it is seen.
///
/// # Errors
/// When there is no such token, it no longer counts, or whoever asks may not.
pub async fn rotate(
    journal: &JournalHandle,
    by: CommandActor,
    token: TokenId,
    until: Timestamp,
    longest: Option<SignedDuration>,
) -> Result<(TokenId, TokenSecret)> {
    let view = journal.catalog().view()?;
    let holder = view.token(token)?.map(|row| view.user(row.user)).transpose()?.flatten();
    let secret = TokenSecret::random(holder.map_or(TokenKind::Person, |user| user.kind.into()));
    let command = Command::RotateToken { token, hash: secret.hash(), until, longest };
    let events = journal.append(ActorCommand { by, command }).await?;
    created(&events).map(|id| (id, secret))
}

/// A token as lists show it: without its secret, and times to the second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Its number.
    pub id: TokenId,
    /// Whose it is.
    pub user: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// On which crates; empty means all.
    pub crates: Vec<CratePattern>,
    /// Which crates it may read; empty means all that its holder may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only_crates: Vec<CratePattern>,
    /// When it ends, if ever.
    pub expires: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Where it was found, if it was revoked because others could read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// When it was last used, if ever, since that is recorded.
    #[serde(default)]
    pub last_used: Option<TokenUse>,
    /// Whether it counts.
    pub state: State,
}

/// Which tokens a list shows: those of which all of it is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this user.
    pub login: Option<String>,
    /// Never used, since that is recorded.
    pub never_used: bool,
    /// Without an end.
    pub endless: bool,
    /// Made before this time.
    pub before: Option<Timestamp>,
}

impl Selection {
    /// All of a user's.
    pub fn of(login: impl Into<String>) -> Self {
        Self { login: Some(login.into()), ..Self::default() }
    }

    fn has(&self, token: &Listed) -> bool {
        let was_used = self.never_used && token.last_used.is_some();
        let ends = self.endless && token.expires.is_some();
        let is_young = self.before.is_some_and(|before| token.created >= before);
        !(was_used || ends || is_young)
    }
}

/// Whether a token counts, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It counts.
    Active,
    /// Its end has come.
    Ended,
    /// It was revoked.
    Revoked,
    /// Its user is disabled.
    UserDisabled,
}

impl State {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
            Self::UserDisabled => "user disabled",
        }
    }

    fn of(token: &TokenRow, user: Option<&UserRow>, now: Timestamp) -> Self {
        match user {
            _ if token.revoked => Self::Revoked,
            Some(user) if user.disabled => Self::UserDisabled,
            _ if !token.grant.is_live(now) => Self::Ended,
            _ => Self::Active,
        }
    }
}

impl Listed {
    fn of(token: TokenRow, user: Option<&UserRow>, now: Timestamp) -> Self {
        let state = State::of(&token, user, now);
        let TokenRow { id, name, grant, revoked, created, reported, .. } = token;
        Self {
            id,
            user: user.map(|user| user.login.clone()).unwrap_or_default(),
            name,
            scopes: grant.scopes,
            crates: grant.crates,
            read_only_crates: grant.reads,
            expires: grant.expires,
            created,
            revoked,
            reported,
            last_used: None,
            state,
        }
    }

    /// The same as lists show it, without parts of a second.
    #[must_use]
    pub fn to_the_second(self) -> Self {
        let (created, expires) = (to_the_second(self.created), self.expires.map(to_the_second));
        Self { created, expires, ..self }
    }
}

/// Tokens by number, with their last uses.
///
/// # Errors
/// When there is no such user.
pub async fn list(
    journal: &JournalHandle,
    selection: &Selection,
    uses: &TokenUses,
) -> Result<Vec<Listed>> {
    let user = match &selection.login {
        None => None,
        Some(login) => {
            let unknown = || Error::absent(format!("there is no user `{login}`"));
            Some(journal.catalog().view()?.login(login)?.ok_or_else(unknown)?.id)
        }
    };
    let rows = journal.catalog().scan(|view| Ok((view.tokens()?, view.users()?))).await?;
    let (mut tokens, users) = rows;
    tokens.retain(|token| user.is_none_or(|user| token.user == user));
    let users: HashMap<_, _> = users.iter().map(|user| (user.id, user)).collect();
    let now = Timestamp::now();
    let listed = |token: TokenRow| {
        let user = users.get(&token.user).copied();
        let last_used = uses.get(&token.id).copied();
        Listed { last_used, ..Listed::of(token, user, now) }
    };
    Ok(tokens.into_iter().map(listed).filter(|token| selection.has(token)).collect())
}

/// Revokes tokens that were found where others read them; those that are none of this registry's, or count no more,
/// stay as they are. Says which were revoked.
///
/// # Errors
/// When the journal cannot be written: some may be revoked by then.
pub async fn report(journal: &JournalHandle, found: &[Found]) -> Result<Vec<TokenId>> {
    let mut revoked = Vec::new();
    for Found { hash, place } in found {
        let Some((row, _)) = journal.catalog().view()?.token_shown(hash)? else { continue };
        if row.revoked {
            continue;
        }
        // Entries of level 1 know no other actor than a user: it is the token that ends itself.
        let (by, command) = match format::enabled(journal)? >= Level::SECOND {
            true => {
                let place = place.clone();
                (CommandActor::Replica, Command::ReportToken { token: row.id, place })
            }
            false => {
                let Some(who) = journal.catalog().principal(hash)? else { continue };
                (CommandActor::Principal(who), Command::RevokeToken { token: row.id })
            }
        };
        journal.append(ActorCommand { by, command }).await?;
        revoked.push(row.id);
    }
    Ok(revoked)
}

/// A token that a scanner found.
#[derive(Debug, Clone)]
pub struct Found {
    /// SHA-256 of it.
    pub hash: Checksum,
    /// Where, as far as that was said.
    pub place: String,
}

/// Revokes a token: at once here, and elsewhere as soon as the journal is read.
///
/// # Errors
/// When there is no such token, or whoever asks may not.
pub async fn revoke(journal: &JournalHandle, by: CommandActor, token: TokenId) -> Result<()> {
    let command = ActorCommand { by, command: Command::RevokeToken { token } };
    journal.append(command).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Decided;
    use crate::principal::{PrincipalKind, UserId};

    #[test]
    fn a_listed_token_tells_whether_it_counts_and_shows_no_secret_and_no_nanoseconds() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-01-02T00:00:00Z");
        let token = TokenRow {
            id: TokenId(4),
            user: UserId(1),
            name: "ci".to_owned(),
            hash: Checksum::of(b"secret"),
            grant: Grant::usual(),
            revoked: false,
            created: at("2026-01-01T00:00:00.123456789Z"),
            reported: None,
            exchanged: false,
        };
        let user = |disabled| UserRow {
            id: UserId(1),
            login: "alice".to_owned(),
            disabled,
            kind: PrincipalKind::Person,
            role: Decided::Open,
        };
        let state = |token: &TokenRow, disabled| State::of(token, Some(&user(disabled)), now);
        assert_eq!(
            [state(&token, false), state(&token, true)],
            [State::Active, State::UserDisabled]
        );
        let ended = Grant { expires: Some(now), ..Grant::usual() };
        let ended = TokenRow { grant: ended, ..token.clone() };
        assert_eq!(
            [state(&ended, false), state(&ended, true)],
            [State::Ended, State::UserDisabled]
        );
        let revoked = TokenRow { revoked: true, ..ended };
        assert_eq!([state(&revoked, false), state(&revoked, true)], [State::Revoked; 2]);

        let listed = Listed::of(token, Some(&user(true)), now);
        let shown = serde_json::to_value(listed.to_the_second()).unwrap();
        let mut keys: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let wanted = [
            "crates",
            "created",
            "expires",
            "id",
            "last_used",
            "name",
            "revoked",
            "scopes",
            "state",
            "user",
        ];
        assert_eq!(keys, wanted);
        assert_eq!(
            [&shown["user"], &shown["state"], &shown["created"]],
            ["alice", "user_disabled", "2026-01-01T00:00:00Z"]
        );
    }
}
