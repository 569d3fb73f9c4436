//! Keeps an eye on a folder store: how much room its disk has, and, once it has refused a write, whether
//! it takes one again. Nobody may write for hours, and an alarm must end when its reason does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use cratehouse_core::error::Refusal;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside;
use cratehouse_storage::disk::Disk;
use cratehouse_storage::objects::PROBES;
use cratehouse_storage::url::StoreUrl;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct StoreWatch {
    folder: PathBuf,
    /// Measured, so that a write which comes through ends the alarm.
    durable: Arc<dyn ObjectStore>,
    /// An object of this replica's own.
    probe: Path,
    metrics: Metrics,
}

impl StoreWatch {
    /// That of a folder; there is nothing to watch of other stores.
    pub fn of(
        url: &StoreUrl,
        durable: &Arc<dyn ObjectStore>,
        replica: &str,
        metrics: &Metrics,
    ) -> Option<Self> {
        let StoreUrl::Folder(folder) = url else { return None };
        let probe = Path::from(format!("{PROBES}{replica}-{:08x}", rand::random::<u32>()));
        let (durable, metrics) = (Arc::clone(durable), metrics.clone());
        Some(Self { folder: folder.clone(), durable, probe, metrics })
    }

    /// Looks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut look = interval(EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            stop.run_until_cancelled(self.look()).await;
        }
    }

    async fn look(&self) {
        self.measure().await;
        if refusal(&self.metrics).is_some() {
            self.try_again().await;
        }
    }

    async fn measure(&self) {
        let folder = self.folder.clone();
        // A disk that hangs holds a thread, and no more.
        let Ok(Ok(disk)) = aside(move || Disk::below(&folder)).await else { return };
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.store_disk.set(gauge(disk.total));
        self.metrics.store_disk_free.set(gauge(disk.free));
    }

    async fn try_again(&self) {
        if self.durable.put(&self.probe, "probe".into()).await.is_err() {
            return; // as before; it is logged where somebody needed it
        }
        info!("the store takes what is written to it again");
        if let Err(error) = self.durable.delete(&self.probe).await {
            warn!(%error, "the probe {} stays in the store; it may be deleted", self.probe);
        }
    }
}

/// Why the store takes nothing just now, if it does not.
pub fn refusal(metrics: &Metrics) -> Option<Refusal> {
    let refuses =
        |one: &Refusal| metrics.store_refuses.with_label_values(&[one.label()]).get() != 0;
    Refusal::ALL.into_iter().find(refuses)
}
