//! Make users and teams owners of a crate.

use super::checks::{hosted, subject};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::subject::Subject;
use cratehouse_core::error::Error;
use cratehouse_package::name::CrateName;

/// Owners of a crate at the most, users and teams.
const MAX_OWNERS: usize = 1000;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    logins: &[String],
) -> Judged {
    let rights = view.rights(&krate.key())?;
    by.authorize(Action::ChangeOwners(rights.of(krate)))?;
    let row = hosted(rights.krate, krate)?;
    let mut events = Vec::new();
    for login in logins {
        let krate = row.name.clone();
        match subject(view, &login.parse().map_err(Error::invalid)?)? {
            Subject::User(user) if !row.owners.contains(&user) => {
                events.push(EventKind::OwnerAdded { krate, user });
            }
            Subject::Team(team) if !row.teams.contains(&team) => {
                events.push(EventKind::TeamOwnerAdded { krate, team });
            }
            Subject::User(_) | Subject::Team(_) => (),
        }
    }
    events.dedup();
    if row.owners.len() + row.teams.len() + events.len() > MAX_OWNERS {
        let text = format!("a crate has {MAX_OWNERS} owners at the most: make a team of them");
        return Err(Error::invalid(text).into());
    }
    Ok(events)
}
