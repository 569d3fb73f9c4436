//! Teams and their members.

use super::checks::{enabled, fits_as_name, known, known_team, lagging};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_core::error::Error;

/// Members of one team at the most.
const MAX_MEMBERS: usize = 10_000;
/// Teams of one user at the most.
const MAX_TEAMS_OF_USER: usize = 1000;

/// Users that one command makes members: each is an event, and a row that is written anew.
const MAX_AT_ONCE: usize = 250;

pub(super) fn add_members<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    team: &str,
    logins: &[String],
) -> Judged {
    by.authorize(Action::Administer)?;
    fits_as_name("team", team)?;
    let mut events = Vec::new();
    let (id, mut members) = match view.team_named(team)? {
        Some(row) => (row.id, row.members),
        None => {
            let id = view.next_team()?;
            events.push(EventKind::TeamCreated { team: id, name: team.to_owned() });
            (id, Vec::new())
        }
    };
    if logins.len() > MAX_AT_ONCE {
        let text = format!("{MAX_AT_ONCE} users at once at the most: add them in several steps");
        return Err(Error::invalid(text).into());
    }
    for login in logins {
        let user = enabled(view, login)?.id;
        if members.contains(&user) {
            continue;
        }
        if view.teams_of(user)?.len() >= MAX_TEAMS_OF_USER {
            let text = format!("`{login}` is in {MAX_TEAMS_OF_USER} teams already");
            return Err(lagging(Error::invalid(text)));
        }
        members.push(user);
        events.push(EventKind::MemberAdded { team: id, user });
    }
    if members.len() > MAX_MEMBERS {
        return Err(Error::invalid(format!("a team has {MAX_MEMBERS} members at the most")).into());
    }
    Ok(events)
}

pub(super) fn remove_members<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    team: &str,
    logins: &[String],
) -> Judged {
    by.authorize(Action::Administer)?;
    let row = known_team(view, team)?;
    let mut events = Vec::new();
    for login in logins {
        let user = known(view, login)?.id;
        if !row.members.contains(&user) {
            let text = format!("`{login}` is not a member of the team `{}`", row.name);
            return Err(lagging(Error::invalid(text)));
        }
        events.push(EventKind::MemberRemoved { team: row.id, user });
    }
    events.dedup();
    Ok(events)
}

pub(super) fn rename<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    team: &str,
    name: &str,
) -> Judged {
    by.authorize(Action::Administer)?;
    fits_as_name("team", name)?;
    let row = known_team(view, team)?;
    if row.name == name {
        return Ok(Vec::new());
    }
    if view.team_named(name)?.is_some_and(|other| other.id != row.id) {
        return Err(lagging(Error::invalid(format!("there is a team `{name}` already"))));
    }
    Ok(vec![EventKind::TeamRenamed { team: row.id, name: name.to_owned() }])
}

/// What it owned keeps its other owners: among those is always a user.
pub(super) fn remove<T: Tables>(view: &View<T>, by: &CommandActor, team: &str) -> Judged {
    by.authorize(Action::Administer)?;
    Ok(vec![EventKind::TeamRemoved { team: known_team(view, team)?.id }])
}
