//! Users.

use crate::catalog::{UserRow, View};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::writer::JournalHandle;
use cratehouse_core::error::{Error, Result};

/// Creates a user.
///
/// # Errors
/// When the name is taken or malformed, or whoever asks may not.
pub async fn create(journal: &JournalHandle, by: CommandActor, login: &str) -> Result<UserRow> {
    let command = Command::CreateUser { login: login.to_owned() };
    journal.append(ActorCommand { by, command }).await?;
    let vanished = || Error::unavailable(format!("the user `{login}` was created; look again"));
    journal.catalog().view()?.login(login)?.ok_or_else(vanished)
}

/// All users, by number.
///
/// # Errors
/// When the catalog fails.
pub async fn list(journal: &JournalHandle) -> Result<Vec<UserRow>> {
    journal.catalog().scan(View::users).await
}

/// Disables a user: none of their tokens counts any more.
///
/// # Errors
/// When there is no such user, or whoever asks may not.
pub async fn disable(journal: &JournalHandle, by: CommandActor, login: &str) -> Result<()> {
    let command = Command::DisableUser { login: login.to_owned() };
    journal.append(ActorCommand { by, command }).await.map(drop)
}
