//! Create a token.

use jiff::Timestamp;

use super::checks::{enabled, lagging, short_text};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Decided, Tables, View};
use crate::entry::EventKind;
use crate::principal::{Grant, Role, Scope, UserId};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Error;
use cratehouse_storage::format_level::Level;

/// Tokens of one user that still count (crates.io: 500).
pub(super) const MAX_TOKENS: usize = 500;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    name: &str,
    hash: &Checksum,
    grant: &Grant,
    now: Timestamp,
) -> Judged {
    // Who may not make tokens for others does not hear whom there is.
    let user = match by.user() {
        Some(own) if view.user(own)?.is_some_and(|user| user.login == login) => own,
        _ => {
            by.authorize(Action::Administer)?;
            enabled(view, login)?.id
        }
    };
    by.authorize(Action::CreateToken { of: user, grant })?;
    let name = short_text("name", name)?;
    if grant.scopes.is_empty() {
        return Err(Error::invalid("a token without any scope would be of no use").into());
    }
    if grant.scopes.contains(&Scope::Admin) && !grant.crates.is_empty() {
        let text = "a token with the scope `admin` cannot be limited to crates: it could make itself another";
        return Err(Error::invalid(text).into());
    }
    room_for_token(view, user, now)?;
    let mut events = Vec::new();
    if grant.scopes.contains(&Scope::Admin) && view.head()?.level >= Level::SECOND {
        events.extend(role_for(view, by, user, now)?);
    }
    let token = view.next_ids()?.1;
    let (hash, grant) = (*hash, grant.clone());
    events.push(EventKind::TokenCreated { token, user, name, hash, grant });
    Ok(events)
}

/// A token with the scope `admin` is of use to an administrator alone. Who has the store makes one of its user.
fn role_for<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    user: UserId,
    now: Timestamp,
) -> Judged<Option<EventKind>> {
    let Some(row) = view.user(user)? else { return Ok(None) };
    let role = Role::Admin;
    if row.role == Decided::Has(role) {
        return Ok(None);
    }
    match (by, view.role_of(&row, now)?, row.kind.is_person()) {
        (CommandActor::Operator, _, true) => Ok(Some(EventKind::RoleGranted { user, role })),
        (_, Some(Role::Admin), _) => Ok(None),
        (_, _, true) => Err(lagging(Error::invalid(format!(
            "`{0}` is not an administrator, so a token with the scope `admin` would be of no use to them: \
             `cratehouse role grant {0} admin` first",
            row.login
        )))),
        (_, _, false) => Err(Error::invalid(format!(
            "`{}` is a service account, and those are no administrators: leave the scope `admin` out",
            row.login
        ))
        .into()),
    }
}

/// Refuses one more token for who has many.
pub(super) fn room_for_token<T: Tables>(
    view: &View<T>,
    user: UserId,
    now: Timestamp,
) -> Judged<()> {
    if view.live_tokens(user, now)? < MAX_TOKENS {
        return Ok(());
    }
    let login = view.user(user)?.map(|user| user.login).unwrap_or_default();
    Err(lagging(Error::invalid(format!("`{login}` has {MAX_TOKENS} tokens: revoke some first"))))
}
