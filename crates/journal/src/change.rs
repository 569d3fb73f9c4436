//! Changes that small rights allow: judged before they take a place in the journal's queue, and again,
//! for good, by the writer. So what will be refused, or is so already, stands before nobody's change.

use jiff::Timestamp;

use crate::commands::{self, ActorCommand, Refusal};
use crate::entry::EventKind;
use crate::writer::JournalHandle;
use cratehouse_core::error::Result;

/// Has a command done: the events that it became, none when all was so already.
///
/// # Errors
/// The refusal, or that the journal cannot be read or written now.
pub async fn change(journal: &JournalHandle, command: ActorCommand) -> Result<Vec<EventKind>> {
    let judge = || commands::judge(&journal.catalog().view()?, &command, Timestamp::now());
    let doubtful = match judge() {
        Ok(events) => events.is_empty(),
        Err(refusal) if refusal.lag_could_explain => true,
        Err(refusal) => return Err(refusal.error),
    };
    if doubtful {
        journal.catch_up().await?;
        if judge().map_err(|refusal| refusal.error)?.is_empty() {
            return Ok(Vec::new());
        }
    }
    journal.append(command).await
}

/// Judges before it is the writer's turn.
///
/// # Errors
/// Those of the judge, or that the journal cannot be read.
pub async fn early(journal: &JournalHandle, judge: impl Fn() -> Result<(), Refusal>) -> Result<()> {
    match judge() {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.lag_could_explain => {
            journal.catch_up().await?;
            judge().map_err(|refusal| refusal.error)
        }
        Err(refusal) => Err(refusal.error),
    }
}
