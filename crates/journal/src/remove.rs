//! Removing a hosted version for ever.

use tracing::warn;

use crate::commands::{ActorCommand, Command, CommandActor};
use crate::writer::JournalHandle;
use cratehouse_core::error::Result;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Takes a hosted version out of the index and its bytes out of reach, at once. Its number
/// stays burned, and the journal keeps the reason.
///
/// # Errors
/// When there is no such version here, or whoever asks may not.
pub async fn remove(
    journal: &JournalHandle,
    by: CommandActor,
    name: &CrateName,
    version: &CrateVersion,
    reason: &str,
) -> Result<()> {
    let command = Command::Remove {
        krate: name.clone(),
        version: version.clone(),
        reason: reason.to_owned(),
    };
    journal.append(ActorCommand { by, command }).await?;
    warn!(%name, %version, reason, "a version was removed by an administrator");
    Ok(())
}
