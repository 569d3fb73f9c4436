//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::entry::Actor;
use crate::stores::catalog::UserRow;
/// Creates a user.
pub async fn create(_gateway: &Gateway, _by: Actor, _login: &str) -> Result<UserRow> {
    todo!()
}
/// All users.
pub async fn list(_gateway: &Gateway) -> Result<Vec<UserRow>> {
    todo!()
}
/// Disables a user: their tokens no longer count.
pub async fn disable(_gateway: &Gateway, _by: Actor, _login: &str) -> Result<()> {
    todo!()
}
