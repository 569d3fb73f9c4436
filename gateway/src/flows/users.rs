//! Users.

use crate::flows::command::{By, Command, Order};
use crate::gateway::Gateway;
use crate::stores::catalog::{UserRow, View};
use cratehouse_core::error::{Error, Result};

/// Creates a user.
///
/// # Errors
/// When the name is taken or malformed, or whoever asks may not.
pub async fn create(gateway: &Gateway, by: By, login: &str) -> Result<UserRow> {
    let command = Command::CreateUser { login: login.to_owned() };
    gateway.journal.append(Order { by, command }).await?;
    let vanished = || Error::unavailable(format!("the user `{login}` was created; look again"));
    gateway.catalog.view()?.login(login)?.ok_or_else(vanished)
}

/// All users, by number.
///
/// # Errors
/// When the catalog fails.
pub async fn list(gateway: &Gateway) -> Result<Vec<UserRow>> {
    gateway.catalog.scan(View::users).await
}

/// Disables a user: none of their tokens counts any more.
///
/// # Errors
/// When there is no such user, or whoever asks may not.
pub async fn disable(gateway: &Gateway, by: By, login: &str) -> Result<()> {
    let command = Command::DisableUser { login: login.to_owned() };
    gateway.journal.append(Order { by, command }).await.map(drop)
}
