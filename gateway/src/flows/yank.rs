//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::name::CrateName;
use crate::model::principal::Principal;
use crate::model::version::CrateVersion;
use std::sync::Arc;
/// Yanks or unyanks.
pub async fn yank(
    _gateway: &Arc<Gateway>,
    _who: &Principal,
    _name: &CrateName,
    _version: &CrateVersion,
    _yanked: bool,
) -> Result<()> {
    todo!()
}
