//! Changes that small rights allow: judged before they take a place in the journal's queue, and again,
//! for good, by the scribe. So what will be refused, or is so already, stands before nobody's change.

use jiff::Timestamp;

use crate::flows::command::{self, Order};
use crate::gateway::Gateway;
use crate::model::entry::Happened;
use cratehouse_core::error::Result;

/// Has an order done: the events that it became, none when all was so already.
///
/// # Errors
/// The refusal, or that the journal cannot be read or written now.
pub(super) async fn change(gateway: &Gateway, order: Order) -> Result<Vec<Happened>> {
    let judge = || command::judge(&gateway.catalog.view()?, &order, Timestamp::now());
    let doubtful = match judge() {
        Ok(events) => events.is_empty(),
        Err(refusal) if refusal.lag_could_explain => true,
        Err(refusal) => return Err(refusal.error),
    };
    if doubtful {
        gateway.journal.catch_up().await?;
        if judge().map_err(|refusal| refusal.error)?.is_empty() {
            return Ok(Vec::new());
        }
    }
    gateway.journal.append(order).await
}
