//! stub: owner FOUNDER
use crate::error::Result;
use crate::gateway::Gateway;
use crate::model::entry::Actor;
use crate::model::name::CrateName;
use crate::model::version::CrateVersion;
/// Takes a hosted version out of the index and its bytes out of reach; its number stays burned.
pub async fn remove(
    _gateway: &Gateway,
    _by: Actor,
    _name: &CrateName,
    _version: &CrateVersion,
    _reason: &str,
) -> Result<()> {
    todo!()
}
