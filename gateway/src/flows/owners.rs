//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use crate::model::principal::Principal;
use crate::stores::catalog::UserRow;
use std::sync::Arc;
/// Owners of a hosted crate.
pub async fn list(_gateway: &Arc<Gateway>, _name: &CrateName) -> Result<Vec<UserRow>> {
    todo!()
}
/// Adds; returns the sentence for cargo.
pub async fn add(
    _gateway: &Arc<Gateway>,
    _who: &Principal,
    _name: &CrateName,
    _logins: &[String],
) -> Result<String> {
    todo!()
}
/// Removes; returns the sentence for cargo.
pub async fn remove(
    _gateway: &Arc<Gateway>,
    _who: &Principal,
    _name: &CrateName,
    _logins: &[String],
) -> Result<String> {
    todo!()
}
