//! `gc`: hosted crate files that no version names are deleted.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::age::Age;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::times::to_the_second;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::garbage::{self, Plan, Swept};
use cratehouse_journal::writer::JournalHandle;
use cratehouse_storage::blobs::{Stored, blobs_in};
use cratehouse_storage::objects::Objects;

/// What is to be deleted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// How long a crate file must have been in the store.
    pub grace: Age,
    /// Nothing: it is only said.
    pub dry_run: bool,
    /// Also what is unusually much.
    pub force: bool,
    /// First what an interrupted sweep was at.
    pub finish: bool,
}

/// What a sweep found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Crate files in the store.
    pub crate_files: usize,
    /// Those that no version names, and that are old enough.
    pub garbage: Vec<Garbage>,
    /// Those that no version names, and that are too young.
    pub too_young: usize,
    /// Those that were deleted.
    pub deleted: usize,
}

/// A crate file that no version names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Its SHA-256.
    pub checksum: Checksum,
    /// How many bytes it has.
    pub bytes: u64,
    /// Since when it is in the store.
    pub stored: Timestamp,
}

/// Sweeps, or says what a sweep would delete. `progress(done, total)` may break it off.
///
/// # Errors
/// Invalid, for a grace that lies ahead; whatever is unusual, by name.
pub async fn sweep(
    objects: &Objects,
    journal: &JournalHandle,
    by: &CommandActor,
    what: &Sweep,
    progress: impl Fn(u64, u64) -> ControlFlow<()>,
) -> Result<Outcome> {
    let stored_before = what.grace.before(Timestamp::now()).map_err(Error::invalid)?;
    // By the client that does not retry: see `garbage::sweep`.
    let blobs = blobs_in(&Objects::same(Arc::clone(&objects.commit)));
    let Sweep { dry_run, force, finish, .. } = *what;
    let plan = Plan { stored_before, dry_run, force, finish };
    garbage::sweep(journal, &blobs, by, &plan, progress).await.map(Outcome::from)
}

impl From<Swept> for Outcome {
    fn from(swept: Swept) -> Self {
        let Swept { stored, young, garbage, deleted } = swept;
        let garbage = garbage.into_iter().map(Garbage::from).collect();
        Self { crate_files: stored, garbage, too_young: young, deleted }
    }
}

impl From<Stored> for Garbage {
    fn from(stored: Stored) -> Self {
        let Stored { cksum, size, modified } = stored;
        Self { checksum: cksum, bytes: size, stored: to_the_second(modified) }
    }
}
