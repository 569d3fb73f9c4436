//! What an upstream lists beside what is pinned: versions that changed or vanished, and those whose pins
//! an administrator corrected.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{ReadThrough, Rendered, noticed};
use crate::pins::cache::Wanted;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Pins that are put at one time.
const PINS: usize = 16;

impl ReadThrough<'_> {
    /// Versions that are listed otherwise than the pins that stand, of those that changed and of those
    /// whose pins an administrator corrected: a correction to what is listed ends a change, and one to
    /// something else is a change, though the upstream never listed anything else.
    pub(crate) fn standing(
        &self,
        name: &CrateName,
        changed: BTreeMap<CrateVersion, Checksum>,
        file: &IndexFile,
    ) -> Result<BTreeMap<CrateVersion, Checksum>> {
        let mut standing = changed;
        standing.extend(self.pinner.corrections.of(self.upstream.name(), name)?);
        Ok(noticed::still_changed(&standing, file))
    }

    /// Raises the alarms of changes that were noticed before this process began.
    pub(crate) async fn alarm(&self, file: &IndexFile, changed: &BTreeMap<CrateVersion, Checksum>) {
        for (version, pinned) in changed {
            let Some(listed) = file.version(version).cloned() else { continue };
            let wanted = Wanted { at: self.at, listed };
            let _ = self.pinner.alarm(&wanted, *pinned).await;
        }
    }

    /// Pins every version of a former file that the new one does not list with the same checksum
    /// to its former one, so that the download side refuses another here and on every other
    /// replica, also when a version that was removed comes back. Gives those that are listed with
    /// another checksum now, with their pins.
    ///
    /// # Errors
    /// When the store does not answer: then the former file stays, and the next one tries again.
    pub(crate) async fn pin_lost(
        &self,
        name: &CrateName,
        former: Option<&Rendered>,
        new: Option<&IndexFile>,
        now: Timestamp,
    ) -> Result<BTreeMap<CrateVersion, Checksum>> {
        let Some(former) = former else { return Ok(BTreeMap::new()) };
        let lost = former.file.versions().filter_map(|was| {
            let listed = new.and_then(|new| new.version(&was.version));
            listed.is_none_or(|listed| listed.cksum != was.cksum).then_some((was, listed))
        });
        let pins = lost.map(|(was, listed)| self.pin(name, was, listed, now));
        let pins: Vec<_> = pins.collect();
        let pinned = stream::iter(pins).buffer_unordered(PINS);
        pinned.try_filter_map(|changed| std::future::ready(Ok(changed))).try_collect().await
    }

    async fn pin(
        &self,
        name: &CrateName,
        was: &Listed,
        listed: Option<&Listed>,
        now: Timestamp,
    ) -> Result<Option<(CrateVersion, Checksum)>> {
        let upstream = self.upstream.name();
        let pin = self.store.pin(upstream, name, &was.version, &was.cksum, now).await?;
        let Some(listed) = listed else { return Ok(None) };
        let wanted = Wanted { at: self.at, listed: listed.clone() };
        let pinned = self.pinner.corrections.standing(upstream, name, &was.version, pin.cksum)?;
        // It is refused when somebody asks for its bytes; the alarm need not wait for that.
        let compared = self.pinner.alarm(&wanted, pinned).await;
        Ok(compared.is_err().then(|| (was.version.clone(), pinned)))
    }
}
