//! The parts of the mirror, put together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::files::cache::CrateCache;
use crate::files::crate_files::CrateFiles;
use crate::files::download::MirroredFiles;
use crate::files::evict::Evictor;
use crate::files::fill::Filler;
use crate::files::noted_uses::Uses;
use crate::hosting::{HostedNames, PinCorrections};
use crate::index::cache::IndexCache;
use crate::index::chain::Chain;
use crate::index::credit::Credits;
use crate::judge::Judge;
use crate::licenses::facts::Readers;
use crate::licenses::reader::LicenseReader;
use crate::licenses::search::LicenseSearch;
use crate::log_lines::MirrorLines;
use crate::names::keeper::NameKeeper;
use crate::names::known::MirroredNames;
use crate::pins::cache::Pins;
use crate::pins::pinner::Pinner;
use crate::settings::{AbsentLimits, CrateMemory, Eviction, FileLimits, Identity};
use crate::store::MirrorStore;
use crate::upstream::Upstream;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;
use cratehouse_core::write_behind::WriteBehind;
use cratehouse_package::mirrored::OwnRegistries;
use cratehouse_policy::PolicyInForce;
use cratehouse_storage::blobs::Blobs;

/// What a mirror is made of.
#[derive(Debug)]
pub struct Parts {
    /// Crate files in the store, hosted ones too.
    pub blobs: Blobs,
    /// What is mirrored in the store, beside crate files.
    pub store: MirrorStore,
    /// Index files in memory.
    pub index: IndexCache,
    /// The chain of upstreams, in order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What is hosted here.
    pub hosted: Arc<dyn HostedNames>,
    /// What administrators decided of pins.
    pub corrections: Arc<dyn PinCorrections>,
    /// What is applied to versions.
    pub policy: Arc<PolicyInForce>,
    /// What was served.
    pub uses: Uses,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Settings of a mirror.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Memory for crate files.
    pub crate_memory: CrateMemory,
    /// What bounds crate files.
    pub files: FileLimits,
    /// What bounds names that no upstream has.
    pub absent: AbsentLimits,
    /// What bounds crate files in the store.
    pub eviction: Eviction,
    /// How long an index file waits for memory.
    pub memory_wait: Duration,
    /// How much of what is bounded one client address may take.
    pub per_address: PerAddress,
    /// Our own base URLs, as they may stand in the lines of registries that we chain in.
    pub own_urls: Vec<String>,
}

/// A mirror: each part may be had by itself.
#[derive(Debug)]
pub struct Mirror {
    /// The chain of upstreams, in order.
    pub upstreams: Arc<[Arc<Upstream>]>,
    /// What is mirrored in the store, beside crate files.
    pub store: MirrorStore,
    /// What asks upstreams for index files.
    pub chain: Arc<Chain>,
    /// Crate files in memory and in the store.
    pub files: Arc<CrateFiles>,
    /// What pins versions.
    pub pinner: Arc<Pinner>,
    /// What gives clients mirrored crate files.
    pub downloads: Arc<MirroredFiles>,
    /// What judges versions.
    pub judge: Arc<Judge>,
    /// What reads licences.
    pub licenses: Arc<LicenseReader>,
    /// What looks for licences on purpose.
    pub license_search: Arc<LicenseSearch>,
    /// What knows the names.
    pub keeper: Arc<NameKeeper>,
    /// What keeps the store within its bounds.
    pub evictor: Arc<Evictor>,
    /// Which files were served.
    pub uses: Arc<Uses>,
    write_behind: Arc<WriteBehind>,
}

impl Mirror {
    /// Puts the parts together.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let Parts { blobs, store, index, upstreams, hosted, corrections, policy, uses, metrics } =
            parts;
        let upstreams: Arc<[Arc<Upstream>]> = upstreams.into();
        let lines = Arc::new(MirrorLines::new(&metrics));
        let (write_behind, uses) = (Arc::new(WriteBehind::default()), Arc::new(uses));
        let cache = CrateCache::of(&settings.crate_memory, metrics.clone());
        let files = Arc::new(CrateFiles {
            blobs: blobs.clone(),
            cache,
            limits: settings.files,
            metrics: metrics.clone(),
            lines: Arc::clone(&lines),
        });
        let keeper = Arc::new(NameKeeper {
            names: Arc::new(MirroredNames::default()),
            store: store.clone(),
            upstreams: Arc::clone(&upstreams),
            renderers: index.renderers.clone(),
            lines: Arc::clone(&lines),
            learning: Arc::new(Semaphore::new(1)),
        });
        let licenses = Arc::new(LicenseReader {
            readers: Readers::new(&settings.per_address, &metrics),
            store: store.clone(),
            metrics: metrics.clone(),
            lines: Arc::clone(&lines),
        });
        let judge = Arc::new(Judge {
            policy: Arc::clone(&policy),
            licenses: Arc::clone(&licenses),
            index: index.clone(),
            names: Arc::clone(&keeper.names),
            upstreams: Arc::clone(&upstreams),
            metrics: metrics.clone(),
        });
        let pinner = Arc::new(Pinner {
            pins: Pins::default(),
            store: store.clone(),
            corrections,
            policy,
            upstreams: Arc::clone(&upstreams),
            wait: settings.files.fill,
            metrics: metrics.clone(),
            lines: Arc::clone(&lines),
        });
        let own = |upstream: &Arc<Upstream>| Arc::new(own_registries(&settings.own_urls, upstream));
        let chain = Arc::new(Chain {
            own: upstreams.iter().map(own).collect(),
            upstreams: Arc::clone(&upstreams),
            index,
            store: store.clone(),
            credits: Credits::new(&settings.absent, metrics.clone()),
            names: Arc::clone(&keeper.names),
            write_behind: Arc::clone(&write_behind),
            pinner: Arc::clone(&pinner),
            hosted,
            memory_wait: settings.memory_wait,
            metrics: metrics.clone(),
            lines,
        });
        let filler = Arc::new(Filler {
            files: Arc::clone(&files),
            chain: Arc::clone(&chain),
            pinner: Arc::clone(&pinner),
            write_behind: Arc::clone(&write_behind),
            uses: Arc::clone(&uses),
        });
        let license_search = Arc::new(LicenseSearch {
            judge: Arc::clone(&judge),
            reader: Arc::clone(&licenses),
            filler: Arc::clone(&filler),
            files: Arc::clone(&files),
        });
        let downloads = Arc::new(MirroredFiles {
            filler,
            files: Arc::clone(&files),
            judge: Arc::clone(&judge),
            licenses: Arc::clone(&licenses),
        });
        let evictor = Arc::new(Evictor::new(settings.eviction, blobs, Arc::clone(&uses), metrics));
        Self {
            upstreams,
            store,
            chain,
            files,
            pinner,
            downloads,
            judge,
            licenses,
            license_search,
            keeper,
            evictor,
            uses,
            write_behind,
        }
    }

    /// Waits until the store has what it is to have of answers that were given. The caller bounds the
    /// time.
    pub async fn settled(&self) {
        self.write_behind.settled().await;
        self.licenses.readers.settled().await;
    }

    /// The same of index files and crate files alone.
    #[cfg(any(test, feature = "test-util"))]
    pub async fn written(&self) {
        self.write_behind.settled().await;
    }
}

/// The index URLs that become null in an upstream's lines.
fn own_registries(own_urls: &[String], upstream: &Upstream) -> OwnRegistries {
    if upstream.config().identity == Identity::CratesIo {
        return OwnRegistries::default();
    }
    let ours = own_urls.iter().map(|url| format!("{}/index/", url.trim_end_matches('/')));
    let all: Vec<String> = ours.chain([upstream.config().index.to_string()]).collect();
    OwnRegistries::new(all.iter().map(String::as_str))
}
