//! Make users owners of a crate no more; the last one stays.

use super::checks::{hosted, known, lagging, of};
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
    let mut left = row.owners.clone();
    let mut events = Vec::new();
    for login in logins {
        let user = known(view, login)?.id;
        if !left.contains(&user) {
            let text = format!("`{login}` is not an owner of `{}`", row.name);
            return Err(lagging(Error::invalid(text)));
        }
        left.retain(|owner| *owner != user);
        events.push(EventKind::OwnerRemoved { krate: row.name.clone(), user });
    }
    if left.is_empty() {
        let text = format!(
            "the last owner of `{}` cannot be removed: add another one first (`cargo owner --add`)",
            row.name
        );
        return Err(lagging(Error::invalid(text)));
    }
    Ok(events)
}
