//! Who owns a hosted crate.

use jiff::Timestamp;

use crate::catalog::UserRow;
use crate::change;
use crate::commands::{self, ActorCommand, Command, CommandActor};
use crate::principal::Principal;
use crate::writer::{JournalHandle, Waiter};
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// Users named in one request at the most.
const MAX_LOGINS: usize = 100;

/// The owners of a hosted crate.
///
/// # Errors
/// When it is not hosted here.
pub async fn list(
    journal: &JournalHandle,
    waiter: Waiter,
    name: &CrateName,
) -> Result<Vec<UserRow>> {
    if let Some(owners) = listed(journal, name)? {
        return Ok(owners);
    }
    journal.catch_up_for(waiter).await?;
    let absent = || Error::absent(format!("`{name}` is not a crate that is hosted here"));
    listed(journal, name)?.ok_or_else(absent)
}

fn listed(journal: &JournalHandle, name: &CrateName) -> Result<Option<Vec<UserRow>>> {
    let view = journal.catalog().view()?;
    match view.krate(&name.key())?.filter(|row| row.name == *name) {
        Some(row) => view.owners(&row).map(Some),
        None => Ok(None),
    }
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
