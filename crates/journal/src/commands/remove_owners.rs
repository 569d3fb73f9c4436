//! Make users and teams owners of a crate no more; the last user stays.

use super::checks::{hosted, known, known_team, lagging};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::subject::SubjectName;
use cratehouse_core::error::Error;
use cratehouse_package::name::CrateName;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    logins: &[String],
) -> Judged {
    let rights = view.rights(&krate.key())?;
    by.authorize(Action::ChangeOwners(rights.of(krate)))?;
    let row = hosted(rights.krate, krate)?;
    let (mut left, mut teams) = (row.owners.clone(), row.teams.clone());
    let mut events = Vec::new();
    for login in logins {
        let krate = row.name.clone();
        let (was_owner, event) = match login.parse().map_err(Error::invalid)? {
            SubjectName::User(login) => {
                let user = known(view, &login)?.id;
                let was_owner = left.contains(&user);
                left.retain(|owner| *owner != user);
                (was_owner, EventKind::OwnerRemoved { krate, user })
            }
            SubjectName::Team(name) => {
                let team = known_team(view, &name)?.id;
                let was_owner = teams.contains(&team);
                teams.retain(|owner| *owner != team);
                (was_owner, EventKind::TeamOwnerRemoved { krate, team })
            }
        };
        if !was_owner {
            let text = format!("`{login}` is not an owner of `{}`", row.name);
            return Err(lagging(Error::invalid(text)));
        }
        events.push(event);
    }
    if left.is_empty() {
        let text = format!(
            "the last user who owns `{0}` cannot be removed, since a team does not say who owns it: add another user \
             first (`cargo owner --add`), or have an administrator hand it over (`cratehouse owner set {0} user:…`)",
            row.name
        );
        return Err(lagging(Error::invalid(text)));
    }
    Ok(events)
}
