//! A mirrored version as a client gets it: judged, pinned, and with its licence read where the policy asks
//! for that.

use std::sync::Arc;

use tracing::Instrument as _;

use crate::files::crate_file::Got;
use crate::files::crate_files::CrateFiles;
use crate::files::fill::Filler;
use crate::index::cache::CachedLookup;
use crate::judge::Judge;
use crate::licenses::reader::LicenseReader;
use crate::pins::cache::Wanted;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_package::index::Listed;
use cratehouse_policy::ReadLicense;

/// What gives clients mirrored crate files.
#[derive(Debug)]
pub struct MirroredFiles {
    pub(crate) filler: Arc<Filler>,
    pub(crate) files: Arc<CrateFiles>,
    pub(crate) judge: Arc<Judge>,
    pub(crate) licenses: Arc<LicenseReader>,
}

impl MirroredFiles {
    /// Takes note that a file was served from memory.
    pub fn note_use(&self, cksum: &Checksum) {
        self.filler.uses.note(cksum);
    }

    /// One version's crate file, if the policy lets it through. `known` is the index file that lists it.
    ///
    /// # Errors
    /// Forbidden, with the policy's reason or by the pin; as [`Filler::verified`].
    pub async fn get(
        self: &Arc<Self>,
        client: ClientKey,
        known: &CachedLookup,
        wanted: Wanted,
    ) -> Result<Got> {
        let listed = wanted.listed.clone();
        let (name, version) = (&listed.name, &listed.version);
        let license = self.judge.admit(name, version, known).await?;
        let got = self.filler.verified(client, wanted).await?;
        match license {
            ReadLicense::No => {}
            ReadLicense::WhenAtHand => self.read_license_aside(known, &listed, &got),
            ReadLicense::BeforeDownload => {
                let bytes = self.files.all_of(client, &got).await?;
                self.licenses.read(known, &listed, &bytes).await?;
                drop(bytes); // they may be many
                self.judge.admit(name, version, known).await?;
            }
        }
        Ok(got)
    }

    /// Reads what is in memory beside the answer, and what is not if nothing else does.
    fn read_license_aside(self: &Arc<Self>, known: &CachedLookup, listed: &Listed, got: &Got) {
        if let Some(bytes) = got.content.at_hand() {
            return self.licenses.read_aside(known, listed, bytes);
        }
        let Ok(turn) = Arc::clone(&self.files.cache.large_aside).try_acquire_owned() else {
            return;
        };
        let (owned, known, listed, got) =
            (Arc::clone(self), known.clone(), listed.clone(), got.clone());
        let reading = async move {
            match owned.files.all_of(ClientKey::Exempt, &got).await {
                Ok(bytes) => owned.licenses.read_aside(&known, &listed, &bytes),
                Err(error) => tracing::warn!(error = %error.chain(), "a licence could not be read"),
            }
            drop(turn);
        };
        tokio::spawn(reading.in_current_span());
    }
}
