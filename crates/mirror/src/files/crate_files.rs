//! Crate files of one origin or the other, in memory and in the store; upstreams are not known here.

mod reading;
mod streaming;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

pub(crate) use self::reading::{Found, Reading, Unread};
use crate::files::cache::{CrateCache, broke_off};
use crate::files::crate_file::{Content, Got, STREAM_BYTES, Source, Stored};
use crate::log_lines::MirrorLines;
use crate::settings::FileLimits;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::blobs::{Blobs, Origin};

/// The crate files of a process.
#[derive(Debug)]
pub struct CrateFiles {
    /// Those in the store.
    pub blobs: Blobs,
    /// Those in memory.
    pub cache: CrateCache,
    /// What bounds them.
    pub limits: FileLimits,
    pub(crate) metrics: Metrics,
    pub(crate) lines: Arc<MirrorLines>,
}

/// The crate file of a version that is hosted here, as it was published.
#[derive(Debug, Clone)]
pub struct HostedFile {
    /// The crate's name.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
    /// SHA-256 of the file.
    pub cksum: Checksum,
    /// Its length in bytes.
    pub size: u64,
}

impl CrateFiles {
    /// A hosted crate file, on behalf of a client.
    ///
    /// # Errors
    /// [`Kind::Internal`] and an alarm when the bytes are lost; that the store does not answer; that
    /// there is no room in memory.
    pub async fn hosted(self: &Arc<Self>, client: ClientKey, file: HostedFile) -> Result<Got> {
        let key = (Origin::Hosted, file.cksum);
        let load = || {
            let (owned, file) = (Arc::clone(self), file.clone());
            async move { owned.read_hosted(file).await }
        };
        self.cache.obtain(client, key, self.limits.fill, load).await
    }

    async fn read_hosted(&self, file: HostedFile) -> Result<Got> {
        let HostedFile { name, version, cksum, size } = file;
        let (likely, largest, wait) = (size, size, self.limits.fill);
        let origin = Origin::Hosted;
        let reading = Reading { files: self, origin, cksum: &cksum, likely, largest, wait };
        let lost = match reading.find().await? {
            Found::File(Content::InStore { size: found, .. }) if found != size => "of another size",
            Found::File(content) => return Ok(Got { content, cksum, source: Source::Store }),
            Found::Nothing => "missing",
            Found::Damaged => "damaged",
            Found::TooLarge { .. } => "of another size",
        };
        self.metrics.alarms.with_label_values(&["hosted_blob_missing"]).inc();
        if let Some(suppressed) = self.lines.lost.admit() {
            tracing::error!(krate = %name, %version, %cksum, lost, suppressed,
                "the bytes of a hosted version are lost; restore the object from a backup");
        }
        Err(Error::new(
            Kind::Internal,
            format!(
                "the registry has lost the bytes of `{name}` {version}; its administrators must \
                 restore them"
            ),
        ))
    }

    /// The pieces of a file in the store, for one client; the last is withheld until all were compared.
    ///
    /// # Errors
    /// Unavailable, when there is no room in memory for a stream.
    pub async fn stream(
        self: &Arc<Self>,
        origin: Origin,
        cksum: Checksum,
        size: u64,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let permit = self.cache.reserve(size.min(STREAM_BYTES)).await?;
        Ok(streaming::pieces(self, Stored { origin, cksum, size }, permit))
    }

    /// The bytes of a mirrored file, also of one that is streamed.
    ///
    /// # Errors
    /// When it is not what it should be; that the store does not answer; that there is no room.
    pub async fn all_of(self: &Arc<Self>, client: ClientKey, got: &Got) -> Result<Bytes> {
        match &got.content {
            Content::Whole(bytes) | Content::InStore { at_hand: Some(bytes), .. } => {
                Ok(bytes.clone())
            }
            Content::InStore { size, at_hand: None } => {
                let stored = Stored { origin: Origin::Mirrored, cksum: got.cksum, size: *size };
                let (owned, cksum) = (Arc::clone(self), stored.cksum);
                let reading = || async move { reading::whole(&owned, &stored).await };
                let flight = self.cache.wholes.join_for(client, cksum, reading).await?;
                flight.unwrap_or_else(|| Err(broke_off()))
            }
        }
    }
}
