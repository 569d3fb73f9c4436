//! Who owns a hosted crate.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::authorize::absent;
use crate::catalog::{TeamRow, UserRow};
use crate::change;
use crate::commands::{self, ActorCommand, Command, CommandActor};
use crate::principal::Principal;
use crate::subject::SubjectName;
use crate::writer::{JournalHandle, Waiter};
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// Users named in one request at the most.
const MAX_LOGINS: usize = 100;

/// An owner as cargo lists them. Source: Cargo book, "Web API", Owners; crates.io's `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The user's or the team's number.
    pub id: u32,
    /// `alice`, or `team:core`: what `cargo owner --remove` takes.
    pub login: String,
    /// `user` or `team`.
    pub kind: OwnerKind,
}

/// What an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerKind {
    /// A user.
    User,
    /// A team.
    Team,
}

/// The owners of a hosted crate, users first.
///
/// # Errors
/// When it is not hosted here.
pub async fn list(
    journal: &JournalHandle,
    waiter: Waiter,
    name: &CrateName,
) -> Result<Vec<Listed>> {
    if let Some(owners) = listed(journal, name)? {
        return Ok(owners);
    }
    journal.catch_up_for(waiter).await?;
    listed(journal, name)?.ok_or_else(|| absent(name))
}

fn listed(journal: &JournalHandle, name: &CrateName) -> Result<Option<Vec<Listed>>> {
    let view = journal.catalog().view()?;
    let Some(row) = view.krate(&name.key())?.filter(|row| row.name == *name) else {
        return Ok(None);
    };
    let user = |user: UserRow| Listed { id: user.id.0, login: user.login, kind: OwnerKind::User };
    let team = |team: TeamRow| {
        let login = SubjectName::Team(team.name).to_string();
        Listed { id: team.id.0, login, kind: OwnerKind::Team }
    };
    let users = view.owners(&row)?.into_iter().map(user);
    Ok(Some(users.chain(view.owning_teams(&row)?.into_iter().map(team)).collect()))
}

/// Whether the principal may change who owns a crate; asked before it is read whom.
///
/// # Errors
/// When it is not hosted here, or the principal may not.
pub async fn may_change(journal: &JournalHandle, who: &Principal, name: &CrateName) -> Result<()> {
    let command = Command::AddOwners { krate: name.clone(), logins: Vec::new() };
    let command = ActorCommand { by: CommandActor::Principal(who.clone()), command };
    let judge =
        || commands::judge(&journal.catalog().view()?, &command, Timestamp::now()).map(drop);
    change::early(journal, judge).await
}

/// Makes users owners; returns the sentence that cargo prints.
///
/// # Errors
/// When a user is unknown, or the principal may not.
pub async fn add(
    journal: &JournalHandle,
    who: &Principal,
    name: &CrateName,
    logins: &[String],
) -> Result<String> {
    let logins = bounded(logins)?;
    let command = Command::AddOwners { krate: name.clone(), logins: logins.clone() };
    change::change(journal, ActorCommand { by: CommandActor::Principal(who.clone()), command })
        .await?;
    Ok(format!("{} may now publish `{name}`", named(&logins)))
}

/// Makes users owners no more; returns the sentence that cargo prints.
///
/// # Errors
/// When one is no owner, nobody would be left, or the principal may not.
pub async fn remove(
    journal: &JournalHandle,
    who: &Principal,
    name: &CrateName,
    logins: &[String],
) -> Result<String> {
    let logins = bounded(logins)?;
    let command = Command::RemoveOwners { krate: name.clone(), logins: logins.clone() };
    change::change(journal, ActorCommand { by: CommandActor::Principal(who.clone()), command })
        .await?;
    Ok(format!("{} may no longer publish `{name}`", named(&logins)))
}

/// Each name once, and not too many.
fn bounded(logins: &[String]) -> Result<Vec<String>> {
    if logins.is_empty() || logins.len() > MAX_LOGINS {
        return Err(Error::invalid(format!("name 1 to {MAX_LOGINS} users")));
    }
    let mut once: Vec<String> = Vec::new();
    for login in logins {
        if !once.iter().any(|seen| seen.eq_ignore_ascii_case(login)) {
            once.push(login.clone());
        }
    }
    Ok(once)
}

fn named(logins: &[String]) -> String {
    logins.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ")
}
