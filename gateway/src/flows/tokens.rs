//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::entry::Actor;
use crate::model::principal::{Grant, TokenId, TokenSecret};
use crate::stores::catalog::TokenRow;
/// Creates a token for a user and returns it; it is never shown again.
pub async fn create(
    _gateway: &Gateway,
    _by: Actor,
    _login: &str,
    _name: &str,
    _grant: Grant,
) -> Result<(TokenId, TokenSecret)> {
    todo!()
}
/// All tokens, or those of a user.
pub async fn list(_gateway: &Gateway, _login: Option<&str>) -> Result<Vec<TokenRow>> {
    todo!()
}
/// Revokes a token.
pub async fn revoke(_gateway: &Gateway, _by: Actor, _token: TokenId) -> Result<()> {
    todo!()
}
