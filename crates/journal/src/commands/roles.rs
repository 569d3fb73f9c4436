//! Give a user a role, and take it away. There is always an administrator left.

use jiff::Timestamp;

use super::checks::{enabled, known, lagging};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Decided, Tables, UserRow, View};
use crate::entry::EventKind;
use crate::principal::Role;
use cratehouse_core::error::Error;
use cratehouse_storage::format_level::Level;

pub(super) fn grant<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    role: Role,
    now: Timestamp,
) -> Judged {
    by.authorize(Action::Administer)?;
    let user = enabled(view, login)?;
    if !user.kind.is_person() {
        return Err(Error::invalid(format!(
            "`{login}` is a service account, and those hold no role: give it to a person"
        ))
        .into());
    }
    if user.role == Decided::Has(role) {
        return Ok(Vec::new());
    }
    if role != Role::Admin {
        not_the_last_admin(view, &user, now)?;
    }
    Ok(vec![EventKind::RoleGranted { user: user.id, role }])
}

pub(super) fn revoke<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    now: Timestamp,
) -> Judged {
    by.authorize(Action::Administer)?;
    let user = known(view, login)?;
    if view.role_of(&user, now)?.is_none() {
        return Ok(Vec::new());
    }
    not_the_last_admin(view, &user, now)?;
    Ok(vec![EventKind::RoleRevoked { user: user.id }])
}

/// Refuses what would leave no administrator, where there are roles.
pub(super) fn not_the_last_admin<T: Tables>(
    view: &View<T>,
    user: &UserRow,
    now: Timestamp,
) -> Judged<()> {
    if view.head()?.level < Level::SECOND {
        return Ok(());
    }
    let admins = view.administrators(now)?;
    match admins.iter().all(|admin| admin.id == user.id) && !admins.is_empty() {
        false => Ok(()),
        true => Err(lagging(Error::invalid(format!(
            "`{}` is the last administrator: make another one first (`cratehouse role grant NAME admin`)",
            user.login
        )))),
    }
}
