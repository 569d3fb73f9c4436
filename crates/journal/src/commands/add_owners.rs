//! Make users owners of a crate.

use super::checks::{hosted, known, of};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_core::error::Error;
use cratehouse_package::name::CrateName;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    logins: &[String],
) -> Judged {
    let row = view.krate(&krate.key())?;
    by.authorize(Action::ChangeOwners(of(krate, row.as_ref())))?;
    let row = hosted(row, krate)?;
    let mut events = Vec::new();
    for login in logins {
        let user = known(view, login)?;
        if user.disabled {
            return Err(Error::invalid(format!("the user `{login}` is disabled")).into());
        }
        if !row.owners.contains(&user.id) {
            events.push(EventKind::OwnerAdded { krate: row.name.clone(), user: user.id });
        }
    }
    events.dedup();
    Ok(events)
}
