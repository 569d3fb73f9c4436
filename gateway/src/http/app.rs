//! What every request is answered with.

use std::sync::Arc;

use crate::gateway::Gateway;
use crate::http::request::body::Budgets;
use crate::http::request::origin::Origins;
use crate::http::response::responses::Responses;
use crate::http::transport::outgoing::Outgoing;
use cratehouse_core::error::Result;
use cratehouse_core::fair_share::Share;

/// What every request needs: the gateway, and what its body may take.
#[derive(Debug)]
pub struct App {
    /// Every component.
    pub gateway: Arc<Gateway>,
    /// What request bodies may take.
    pub bodies: Budgets,
    /// What clients may hold of the caches.
    pub outgoing: Outgoing,
    /// Where pages of our own come from.
    pub origins: Origins,
}

impl App {
    /// For a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let bodies = Budgets::new(&gateway.config.limits, &gateway.metrics);
        let outgoing = Outgoing::of(&gateway);
        let origins = Origins::new(&gateway.url, &gateway.config);
        Self { gateway, bodies, outgoing, origins }
    }

    /// The right to make an answer of many rows, before they are read: it goes into the work that reads
    /// them. Whoever has it waits for no upstream and no journal, so that nobody keeps others waiting.
    ///
    /// # Errors
    /// Unavailable, when there is no memory for it, or others make theirs for too long.
    pub(super) async fn long_answer(&self, to: Responses<'_>) -> Result<Share> {
        to.admit()?;
        self.gateway.turns.long_answers.turn(to.client()).await
    }
}
