//! Make a token in place of another, which goes on for a while: so that it can be exchanged without a pause.

use jiff::{SignedDuration, Timestamp};

use super::checks::lagging;
use super::create_token::room_for_token;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::principal::{Grant, TokenId};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Error;

/// What is known of the new one.
pub(super) struct New {
    /// SHA-256 of it.
    pub(super) hash: Checksum,
    /// Its longest life.
    pub(super) longest: Option<SignedDuration>,
}

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    token: TokenId,
    New { hash, longest }: New,
    until: Timestamp,
    now: Timestamp,
) -> Judged {
    let row = view.token(token)?;
    let row = row.ok_or_else(|| lagging(Error::absent(format!("there is no token {token}"))))?;
    let begun = Grant { expires: None, ..row.grant.clone() };
    let life = row.grant.expires.map(|end| end.duration_since(row.created));
    let life = life.into_iter().chain(longest).min();
    let expires = life.map(|life| now.checked_add(life)).transpose();
    let expires = expires.map_err(|e| Error::invalid(e.to_string()))?;
    // A token begins its own life anew; to another it gives none that is longer than its own.
    let is_itself = matches!(by, CommandActor::Principal(who) if who.token == token);
    let ends = if is_itself { Some(now) } else { expires };
    let asked = Grant { expires: ends, ..begun.clone() };
    by.authorize(Action::CreateToken { of: row.user, grant: &asked })?;
    if view.live_token(token, now)?.is_none() {
        let text = format!("token {token} does not count any more: make a new one");
        return Err(lagging(Error::invalid(text)));
    }
    if row.exchanged {
        let text = format!(
            "there is another in place of token {token} already: exchange that one, or make a new one"
        );
        return Err(Error::invalid(text).into());
    }
    room_for_token(view, row.user, now)?;
    let (user, name, grant) = (row.user, row.name, Grant { expires, ..begun });
    let mut events =
        vec![EventKind::TokenCreated { token: view.next_ids()?.1, user, name, hash, grant }];
    if row.grant.expires.is_none_or(|end| until < end) {
        events.push(EventKind::TokenEndSet { token, expires: until });
    }
    Ok(events)
}
