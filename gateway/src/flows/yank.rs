//! Yank and unyank.

use std::sync::Arc;

use crate::flows::changing;
use crate::flows::command::{By, Command, Order};
use crate::gateway::Gateway;
use crate::model::principal::Principal;
use cratehouse_core::error::Result;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Yanks a hosted version, or undoes it. It may be so already.
///
/// # Errors
/// When there is no such version here, or the principal may not.
pub async fn yank(
    gateway: &Arc<Gateway>,
    who: &Principal,
    name: &CrateName,
    version: &CrateVersion,
    yanked: bool,
) -> Result<()> {
    let command = Command::Yank { krate: name.clone(), version: version.clone(), yanked };
    let order = Order { by: By::Principal(who.clone()), command };
    changing::change(gateway, order).await.map(drop)
}
