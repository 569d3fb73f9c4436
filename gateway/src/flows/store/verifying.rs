//! `journal verify`: whether the chain holds, the state is what its entries make, and the bytes are there.

use std::path::Path;

use serde::{Deserialize, Serialize};

use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_journal::checkpoint_store::checkpoints_in;
use cratehouse_journal::entry_store::journal_in;
use cratehouse_journal::verify::{Rebuild, check_bytes, walk_and_rebuild};
use cratehouse_storage::blobs::blobs_in;
use cratehouse_storage::objects::Objects;

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The last entry up to which the chain holds.
    pub seq: u64,
    /// SHA-256 of its bytes.
    pub sha256: Checksum,
    /// The catalog of the server.
    pub catalog: String,
    /// Whether that was compared: no server may have it in use.
    pub catalog_compared: bool,
    /// What is wrong, each a sentence.
    pub wrong: Vec<String>,
}

/// What a verification is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The entries are read and applied.
    Walking,
    /// The hosted crate files are read.
    Bytes,
}

/// Walks the journal of a registry; `progress(step, done, total)` hears how far it is.
///
/// # Errors
/// When the store does not answer, or the state cannot be rebuilt.
pub async fn verify(
    objects: &Objects,
    registry: &str,
    catalog: &Path,
    progress: impl Fn(Step, u64, u64),
) -> Result<Verified> {
    let (journal, blobs) = (journal_in(objects), blobs_in(objects));
    let mut rebuild = Rebuild::new(registry)?;
    rebuild.expect_checkpoints(&checkpoints_in(objects), registry).await?;
    let catalog_compared = rebuild.expect_catalog(catalog, registry).await?;
    let tick = |done, total| progress(Step::Walking, done, total);
    let mut walk = walk_and_rebuild(&journal, registry, rebuild, tick).await?;
    let tick = |done, total| progress(Step::Bytes, done, total);
    check_bytes(&blobs, &mut walk, tick).await;
    Ok(Verified {
        seq: walk.head,
        sha256: walk.hash,
        catalog: catalog.display().to_string(),
        catalog_compared,
        wrong: walk.wrong,
    })
}
