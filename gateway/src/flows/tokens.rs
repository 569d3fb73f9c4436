//! Tokens.

use crate::error::{Error, Result};
use crate::flows::command::{By, Command, Order};
use crate::gateway::Gateway;
use crate::model::entry::Happened;
use crate::model::principal::{Grant, TokenId, TokenSecret};
use crate::stores::catalog::{TokenRow, View};

/// Creates a token for a user. This is the only time that it is seen.
///
/// # Errors
/// When there is no such user, or whoever asks may not.
pub async fn create(
    gateway: &Gateway,
    by: By,
    login: &str,
    name: &str,
    grant: Grant,
) -> Result<(TokenId, TokenSecret)> {
    let secret = TokenSecret::random();
    let command = Command::CreateToken {
        login: login.to_owned(),
        name: name.to_owned(),
        hash: secret.hash(),
        grant,
    };
    let events = gateway.journal.append(Order { by, command }).await?;
    let id = events.iter().find_map(|event| match event {
        Happened::TokenCreated { token, .. } => Some(*token),
        _ => None,
    });
    id.map(|id| (id, secret)).ok_or_else(|| Error::unavailable("the token was not created"))
}

/// All tokens, or those of one user, without their secrets.
///
/// # Errors
/// When there is no such user.
pub async fn list(gateway: &Gateway, login: Option<&str>) -> Result<Vec<TokenRow>> {
    let user = match login {
        None => None,
        Some(login) => {
            let unknown = || Error::absent(format!("there is no user `{login}`"));
            Some(gateway.catalog.view()?.login(login)?.ok_or_else(unknown)?.id)
        }
    };
    let mut tokens = gateway.catalog.scan(View::tokens).await?;
    tokens.retain(|token| user.is_none_or(|user| token.user == user));
    Ok(tokens)
}

/// Revokes a token: at once here, and elsewhere as soon as the journal is read.
///
/// # Errors
/// When there is no such token, or whoever asks may not.
pub async fn revoke(gateway: &Gateway, by: By, token: TokenId) -> Result<()> {
    let order = Order { by, command: Command::RevokeToken { token } };
    gateway.journal.append(order).await.map(drop)
}
