//! Who reads.

use std::sync::Arc;

use cratehouse_core::client_key::ClientKey;
use cratehouse_journal::principal::Principal;

/// On whose behalf something is read.
#[derive(Debug, Clone)]
pub enum Reader {
    /// This replica's own work, and what an operator asks for: it sees everything.
    Own(ClientKey),
    /// A client, with the holder of its token where it has shown one.
    Client(ClientKey, Option<Arc<Principal>>),
}

impl Reader {
    /// Work of our own, which takes nobody's share of limits.
    pub const OWN: Self = Self::Own(ClientKey::OWN);

    /// Whose share of limits it takes.
    pub fn client(&self) -> ClientKey {
        let (Self::Own(client) | Self::Client(client, _)) = self;
        *client
    }
}
