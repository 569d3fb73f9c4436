//! Hand a crate over: these own it from then on, and nobody else.

use super::checks::{hosted, subjects};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::subject::{Subject, SubjectName};
use cratehouse_core::error::Error;
use cratehouse_package::name::CrateName;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    owners: &[SubjectName],
) -> Judged {
    by.authorize(Action::Administer)?;
    let row = hosted(view.krate(&krate.key())?, krate)?;
    let owners = subjects(view, owners)?;
    if !owners.iter().any(|owner| matches!(owner, Subject::User(_))) {
        let text = "name at least one user: a team publishes, but does not say who owns a crate";
        return Err(Error::invalid(text).into());
    }
    let name = || row.name.clone();
    let added = owners.iter().filter_map(|owner| match *owner {
        Subject::User(user) if !row.owners.contains(&user) => {
            Some(EventKind::OwnerAdded { krate: name(), user })
        }
        Subject::Team(team) if !row.teams.contains(&team) => {
            Some(EventKind::TeamOwnerAdded { krate: name(), team })
        }
        Subject::User(_) | Subject::Team(_) => None,
    });
    let users = row.owners.iter().filter(|user| !owners.contains(&Subject::User(**user)));
    let teams = row.teams.iter().filter(|team| !owners.contains(&Subject::Team(**team)));
    let removed = users
        .map(|user| EventKind::OwnerRemoved { krate: name(), user: *user })
        .chain(teams.map(|team| EventKind::TeamOwnerRemoved { krate: name(), team: *team }));
    Ok(added.chain(removed).collect())
}
