//! What looks after the store of a running server, as administrators ask for it.

use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::chain::Chain;
use cratehouse_journal::checkpoint::Checkpointer;
use cratehouse_journal::checkpoint_format::Name;
use cratehouse_journal::entry_store::Journal;
use cratehouse_storage::objects::Objects;
use serde::{Deserialize, Serialize};

use crate::flows::works::Works;
use cratehouse_storage::format_level::Level;

/// The store, and the long work at it.
#[derive(Debug)]
pub struct Upkeep {
    /// The store.
    pub objects: Objects,
    /// Writes checkpoints of this replica's catalog.
    pub checkpointer: Checkpointer,
    /// What is under way.
    pub works: Works,
}

/// The journal's format levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// The one that is enabled.
    pub enabled: Level,
    /// The highest that the release knows.
    pub known: Level,
}

/// What came of enabling a format level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enabled {
    /// Whether it was not enabled before.
    pub new: bool,
    /// The path of the checkpoint that was written then.
    pub checkpoint: Option<String>,
}

impl Upkeep {
    /// Over this store.
    pub fn new(objects: Objects, checkpointer: Checkpointer) -> Self {
        Self { objects, checkpointer, works: Works::default() }
    }

    /// The registry's id.
    pub fn registry(&self) -> &str {
        &self.checkpointer.registry
    }

    /// The journal's entries.
    pub fn journal(&self) -> &Journal {
        &self.checkpointer.journal
    }

    /// Writes a checkpoint from the journal alone: one that is asked for is to tell of those before it. Takes the
    /// memory of another catalog meanwhile.
    ///
    /// # Errors
    /// When the journal cannot be read to its end, or as [`Checkpointer::write`].
    pub async fn write_checkpoint(&self) -> Result<Name> {
        let catalog = self.replayed().await?;
        Checkpointer { catalog, ..self.checkpointer.clone() }.write().await
    }

    async fn replayed(&self) -> Result<Catalog> {
        let catalog = Catalog::in_memory(self.registry())?;
        let mut chain = Chain::new(self.journal(), self.registry());
        loop {
            let entries = chain.next(u64::MAX).await?;
            if entries.is_empty() {
                return Ok(catalog);
            }
            let hashed = entries.into_iter().map(|(entry, bytes)| (entry, Checksum::of(&bytes)));
            let hashed: Vec<_> = hashed.collect();
            catalog.work(move |catalog| catalog.apply(&hashed).map(drop)).await?;
        }
    }
}
