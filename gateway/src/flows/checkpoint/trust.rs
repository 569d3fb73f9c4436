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

use super::{Checkpointer, Head, is_strict, untrusted};
use crate::error::{Error, Result};
use crate::flows::chain::Chain;
use crate::model::checkpoint::{Header, Name};
use crate::model::checksum::Checksum;
use crate::model::entry::Entry;
use crate::model::level::Level;

/// Entries behind a checkpoint's last one that are searched for the one that names it. It is appended
/// as soon as the checkpoint is put.
const NAMED_WITHIN: u64 = 4096;

impl Checkpointer {
    /// Checks that the journal holds the last entry of a checkpoint and, where that is needed, that
    /// it names the checkpoint.
    pub(super) async fn check_trust(&self, name: &Name, header: &Header) -> Result<()> {
        let last = self.journal.read(header.seq).await.map_err(Error::store)?;
        let last = last.filter(|bytes| Checksum::of(bytes) == header.hash);
        let last = last.ok_or_else(|| untrusted("the journal does not hold its last entry"))?;
        let Head { level, .. } = self.catalog.head()?;
        let strict = [level, header.level, level_behind(&last)].into_iter().any(is_strict)
            || is_strict(self.newest_level(header.seq).await?);
        match strict {
            true if self.is_named(name, header.hash).await? => Ok(()),
            true => Err(untrusted(
                "no entry of the journal names it: it was forged, or its writer was cut off",
            )),
            false => {
                warn!(checkpoint = %name, "a checkpoint is believed as it is found, because format level {} of the journal is not enabled: whoever can write below checkpoints/ could have forged it. When every replica runs this release, enable it with `cratehouse format enable {0}`", Level::NAMED_CHECKPOINTS);
                Ok(())
            }
        }
    }

    /// Whether a checkpoint was believed as it was found (`loaded` is the catalog as it was then), and
    /// the entries behind it tell that it must be named: a listing did not show them.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub fn was_believed_in_vain(&self, loaded: &Head) -> Result<bool> {
        let now = self.catalog.head()?.level;
        let in_vain = is_strict(now) && !is_strict(loaded.level);
        if in_vain {
            warn!(
                seq = loaded.seq,
                "the checkpoint that was loaded is named by no entry, and must be: the journal is read from its beginning instead"
            );
        }
        Ok(in_vain)
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

/// The level that is enabled behind an entry. One that cannot be read is of a later release.
fn level_behind(bytes: &[u8]) -> Level {
    serde_json::from_slice(bytes).map_or(Level::KNOWN, |entry: Entry| entry.leaves())
}

#[cfg(test)]
impl Checkpointer {
    /// A mistake, for the simulation: whatever is sound in itself is loaded.
    pub(in crate::flows) async fn load_whatever_is_sound(&self) {
        let names = self.checkpoints.newest(0..=u64::MAX, 1).await.unwrap_or_default();
        if let Some(name) = names.first()
            && let Ok(mut reader) = self.fetch(*name).await
        {
            let _ = self.catalog.work(move |catalog| catalog.restore(&mut reader, |_, _| ())).await;
        }
    }
}
