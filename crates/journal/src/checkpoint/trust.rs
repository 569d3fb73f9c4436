//! Whether a checkpoint may be believed.
//!
//! Where format level 2 is enabled, an entry of the journal must name it. The entry stands behind the
//! last one that is in the checkpoint, and it must continue that one by the chain of hashes, which the
//! replica then follows itself. So who can write below `checkpoints/` alone gains nothing: a forged one
//! has another hash than the one that is named, and a deleted one makes a start slower.
//!
//! Which level is enabled is not asked of the checkpoint, which could lie, but of the journal: an entry
//! says the level at which it was written. The one that the checkpoint ends at may be older than the
//! level, so the newest one is asked too. Who can write below `journal/` writes the truth itself; that
//! shows in the heads of the chain, which are logged, to those who know an older one.

use tracing::warn;

use super::{Checkpointer, Head, Known, is_strict, untrusted};
use crate::chain::Chain;
use crate::checkpoint_format::{Header, Name};
use crate::entry::Entry;
use crate::writer::JournalWriter;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::console::LogFormat;
use cratehouse_core::error::{Error, Result};
use cratehouse_storage::format_level::Level;

/// Entries behind a checkpoint's last one that are searched for the one that names it. It is appended
/// as soon as the checkpoint is put.
const NAMED_WITHIN: u64 = 4096;

/// What the journal says of a checkpoint.
#[derive(Debug)]
pub(super) struct Last {
    /// SHA-256 of the entry that it ends at.
    hash: Checksum,
    /// Whether an entry names it. Asked only where that is needed.
    pub(super) names_it: bool,
}

impl Last {
    /// Checks what a checkpoint says of itself.
    pub(super) fn check(&self, header: &Header) -> Result<()> {
        match header.hash == self.hash {
            false => Err(untrusted("the journal does not hold its last entry")),
            // It says so, and the journal does not.
            true if is_strict(header.level) && !self.names_it => Err(unnamed()),
            true => Ok(()),
        }
    }
}

impl Checkpointer {
    /// Checks that the journal holds an entry of a checkpoint's number and, where that is needed, that
    /// it names the checkpoint; before a byte of that is fetched.
    pub(super) async fn check_trust(&self, name: &Name) -> Result<Last> {
        let last = self.journal.read(name.seq).await.map_err(Error::store)?;
        let last = last.ok_or_else(|| untrusted("the journal does not hold its last entry"))?;
        let hash = Checksum::of(&last);
        let Head { level, .. } = self.catalog.head()?;
        let strict = [level, level_behind(&last)].into_iter().any(is_strict)
            || is_strict(self.newest_level(name.seq).await?);
        match strict {
            true if self.is_named(name, hash).await? => Ok(Last { hash, names_it: true }),
            true => Err(unnamed()),
            false => {
                warn!(checkpoint = %name, "a checkpoint is believed as it is found, because format level {} of the journal is not enabled: whoever can write below checkpoints/ could have forged it. When every replica runs this release, enable it with `cratehouse format enable {0}`", Level::NAMED_CHECKPOINTS);
                Ok(Last { hash, names_it: false })
            }
        }
    }

    /// Reads the journal to its end. Where the level turns out to be enabled at which checkpoints must be
    /// named, nothing stays of one that was believed without: neither of the one that was just loaded,
    /// because a listing did not show the level, nor of one that an earlier process or release loaded.
    ///
    /// # Errors
    /// As [`JournalWriter::begin`], or when the catalog fails.
    pub async fn begin(
        &self,
        writer: &mut JournalWriter,
        mut known: Known,
        voice: Option<LogFormat>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Known> {
        writer.begin(&mut progress).await?;
        for from_checkpoint in [true, false] {
            let Err(why) = self.check_may_name() else { break };
            warn!(%why, "the catalog is built anew");
            self.catalog.empty(&self.registry)?;
            if from_checkpoint {
                known = self.load(voice).await;
            }
            writer.begin(&mut progress).await?;
        }
        Ok(known)
    }

    /// Where checkpoints must be named, none is named that was made of one that nobody had named: else who
    /// forged that one would have the journal believe it.
    pub(super) fn check_may_name(&self) -> Result<()> {
        let head = self.catalog.head()?;
        match is_strict(head.level) && head.seq > 0 && !head.proven {
            false => Ok(()),
            true => Err(Error::unavailable(
                "this replica's catalog is of an earlier release, or was loaded from a checkpoint that no entry of the journal names: it is built anew when the replica is started again",
            )),
        }
    }

    /// The level that the newest entry tells, as far as a listing shows it.
    async fn newest_level(&self, from: u64) -> Result<Level> {
        let newest = self.journal.newest_hint(from).await.map_err(Error::store)?;
        let entry = self.journal.read(newest).await.map_err(Error::store)?;
        Ok(entry.map_or(Level::FIRST, |bytes| level_behind(&bytes)))
    }

    /// Whether an entry names it that continues its last one.
    async fn is_named(&self, name: &Name, hash: Checksum) -> Result<bool> {
        let mut chain = Chain::behind(&self.journal, name.seq, hash);
        let until = name.seq.saturating_add(NAMED_WITHIN);
        loop {
            let entries = chain.next(until).await?;
            if entries.is_empty() {
                return Ok(false);
            }
            if entries.iter().any(|(entry, _)| entry.checkpoints().any(|named| named == *name)) {
                return Ok(true);
            }
        }
    }
}

fn unnamed() -> Error {
    untrusted("no entry of the journal names it: it was forged, or its writer was cut off")
}

/// The level that is enabled behind an entry. One that cannot be read is of a later release.
fn level_behind(bytes: &[u8]) -> Level {
    serde_json::from_slice(bytes).map_or(Level::KNOWN, |entry: Entry| entry.leaves())
}

#[cfg(any(test, feature = "test-util"))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "of tests")]
impl Checkpointer {
    /// A mistake, for the simulation: whatever is sound in itself is loaded.
    pub async fn load_whatever_is_sound(&self) {
        let names = self.checkpoints.newest(0..=u64::MAX, 1).await.unwrap_or_default();
        if let Some(name) = names.first()
            && let Ok(mut reader) = self.fetch(*name).await
        {
            let _ = self
                .catalog
                .work(move |catalog| catalog.restore(&mut reader, true, |_, _| ()))
                .await;
        }
    }
}
