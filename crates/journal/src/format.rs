//! The journal's format level.

use crate::commands::{ActorCommand, Command, CommandActor};
use crate::writer::JournalHandle;
use cratehouse_core::error::Result;
use cratehouse_storage::format_level::Level;

/// The format level that is enabled, as far as this replica has read the journal.
///
/// # Errors
/// When the catalog fails.
pub fn enabled(journal: &JournalHandle) -> Result<Level> {
    Ok(journal.catalog().head()?.level)
}

/// Enables a format level for ever; says whether it was not enabled before. A replica whose
/// release does not know it stops following and appending there.
///
/// # Errors
/// When this release does not know the level, a higher one is enabled, or whoever asks may not.
pub async fn enable(journal: &JournalHandle, by: CommandActor, level: Level) -> Result<bool> {
    let command = Command::EnableLevel { level };
    let events = journal.append(ActorCommand { by, command }).await?;
    Ok(!events.is_empty())
}

#[cfg(test)]
mod tests;
