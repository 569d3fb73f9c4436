//! Pins that this replica has read.

use std::fmt;
use std::sync::Arc;

use moka::future::Cache;
use moka::sync;

use crate::log_lines::MirrorLines;
use crate::upstream::Upstream;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::single_flight::SingleFlight;
use cratehouse_package::index::Listed;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// Pins that are remembered in memory; each takes about 200 bytes.
const REMEMBERED_PINS: u64 = 50_000;

/// A mirrored version, as the upstream that answers for its name lists it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The upstream's number in the chain.
    pub at: usize,
    /// What its index line says.
    pub listed: Listed,
}

/// Pins that were read, as they stand since the corrections of that number
/// ([`crate::hosting::PinCorrections::count`]): nothing here is believed after the next one. And what was listed
/// against them, so that each change raises one alarm however often it is asked for.
#[derive(Debug)]
pub struct Pins {
    known: sync::Cache<Key, (u64, Checksum)>,
    reading: SingleFlight<(Key, u64), Result<Checksum>>,
    alarmed: Cache<(Key, Checksum), ()>,
}

type Key = (usize, CrateName, CrateVersion);

impl Pins {
    /// What is pinned, if that was read already and no pin was corrected since.
    pub(crate) fn known(&self, wanted: &Wanted, corrections: u64) -> Option<Checksum> {
        let (as_of, pinned) = self.known.get(&wanted.key())?;
        (as_of == corrections).then_some(pinned)
    }

    /// What is pinned; all who ask at the same time share one `read`, which must bound its time.
    pub(crate) async fn known_or<F>(
        &self,
        wanted: &Wanted,
        corrections: u64,
        read: impl FnOnce() -> F,
    ) -> Result<Checksum>
    where
        F: Future<Output = Result<Checksum>> + Send + 'static,
    {
        if let Some(pinned) = self.known(wanted, corrections) {
            return Ok(pinned);
        }
        let key = (wanted.key(), corrections); // a request from before a correction reads by itself
        let (known, place) = (self.known.clone(), wanted.key());
        let start = || {
            let reading = read();
            async move {
                // Another request may have read it since we looked.
                if let Some((_, pinned)) = known.get(&place).filter(|(at, _)| *at == corrections) {
                    return Ok(pinned);
                }
                let pinned = reading.await?;
                known.insert(place, (corrections, pinned));
                Ok(pinned)
            }
        };
        self.reading.join(key, start).await.unwrap_or_else(|| Err(broke_off()))
    }

    /// Raises the alarm that an upstream lists a version with another checksum than its pin, if
    /// it is that: the first time that this checksum is seen.
    pub(crate) async fn compare(
        &self,
        metrics: &Metrics,
        lines: &MirrorLines,
        upstream: &str,
        wanted: &Wanted,
        pinned: Checksum,
    ) -> Result<()> {
        let listed = &wanted.listed;
        if listed.cksum == pinned {
            return Ok(());
        }
        let change = self.alarmed.entry((wanted.key(), listed.cksum));
        if change.or_insert(()).await.is_fresh() {
            metrics.alarms.with_label_values(&["checksum_changed"]).inc();
            if let Some(suppressed) = lines.checksum_changed.admit() {
                tracing::error!(upstream, krate = %listed.name, version = %listed.version, %pinned,
                    listed = %listed.cksum, suppressed, "the checksum of a version changed upstream");
            }
        }
        Err(Error::forbidden(format_args!(
            "{wanted} is refused: the upstream `{upstream}` now lists it with another checksum \
             than when it was first served here. A published version never changes, so ask the \
             registry's administrators to find out why before anybody uses it"
        )))
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self {
            known: sync::Cache::new(REMEMBERED_PINS),
            reading: SingleFlight::default(),
            alarmed: Cache::new(REMEMBERED_PINS),
        }
    }
}

impl Wanted {
    fn key(&self) -> Key {
        (self.at, self.listed.name.clone(), self.listed.version.clone())
    }

    /// The name of the upstream.
    pub fn upstream<'a>(&self, upstreams: &'a [Arc<Upstream>]) -> &'a str {
        upstreams.get(self.at).map_or("?", |upstream| upstream.name())
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.listed.name, self.listed.version)
    }
}

fn broke_off() -> Error {
    Error::new(Kind::Internal, "reading a pin broke off; the registry's log knows more")
}
