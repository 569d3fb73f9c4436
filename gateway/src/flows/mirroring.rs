//! stub: owner C1. Refresh and purge by an administrator, and what an upstream definitely has.
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;
use std::sync::Arc;
/// Asks the upstreams now, whatever is fresh. Says what was found.
pub async fn refresh(_gateway: &Arc<Gateway>, _name: &CrateName) -> Result<String> {
    todo!()
}
/// Forgets the mirrored copies of a crate (index file, and the bytes of one or all versions); pins stay.
pub async fn purge(
    _gateway: &Arc<Gateway>,
    _name: &CrateName,
    _version: Option<&CrateVersion>,
) -> Result<String> {
    todo!()
}
/// Which upstream has a crate of any spelling of this name: `Some((upstream, spelling))`, `None` when every
/// upstream definitely answered not-found for every spelling, an error when one did not answer. Always asks.
pub async fn taken_upstream(
    _gateway: &Arc<Gateway>,
    _name: &CrateName,
) -> Result<Option<(String, CrateName)>> {
    todo!()
}
/// Every mirrored crate name in the store that was ever asked for and found.
pub async fn names(_gateway: &Arc<Gateway>) -> Result<Vec<CrateName>> {
    todo!()
}
