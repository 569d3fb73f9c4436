//! Yank and unyank.

use crate::change;
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::principal::Principal;
use crate::writer::JournalHandle;
use cratehouse_core::error::Result;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Yanks a hosted version, or undoes it. It may be so already.
///
/// # Errors
/// When there is no such version here, or the principal may not.
pub async fn yank(
    journal: &JournalHandle,
    who: &Principal,
    name: &CrateName,
    version: &CrateVersion,
    yanked: bool,
) -> Result<()> {
    let command = Command::Yank { krate: name.clone(), version: version.clone(), yanked };
    let command = ActorCommand { by: CommandActor::Principal(who.clone()), command };
    change::change(journal, command).await.map(drop)
}
