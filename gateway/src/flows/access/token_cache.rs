//! Who holds which token, remembered between two changes of the catalog.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cratehouse_core::checksum::Checksum;
use cratehouse_journal::principal::Principal;

/// Tokens whose holders are remembered, at most; some 500 bytes each.
pub(crate) const MAX_HOLDERS: usize = 4096;

/// Who holds the tokens that were shown since the catalog last changed, by their hashes. The catalog
/// would say the same: reading it takes ten times as long.
#[derive(Debug, Default)]
pub struct TokenCache(pub(crate) RwLock<Remembered>);

#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// See [`cratehouse_journal::catalog::Catalog::changes`].
    changes: u64,
    pub(crate) holders: HashMap<Checksum, Arc<Principal>>,
}

impl TokenCache {
    /// The holder of the token of this hash, if the catalog has not changed since it was remembered.
    pub(crate) fn recall(&self, hash: &Checksum, changes: u64) -> Option<Arc<Principal>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let holders = (known.changes == changes).then_some(&known.holders)?;
        holders.get(hash).map(Arc::clone)
    }

    /// Remembers a holder, as the catalog was after so many changes.
    pub(crate) fn remember(&self, hash: Checksum, changes: u64, who: Arc<Principal>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if changes < known.changes {
            return;
        }
        if changes > known.changes || known.holders.len() >= MAX_HOLDERS {
            known.holders.clear();
        }
        known.changes = changes;
        known.holders.insert(hash, who);
    }
}
