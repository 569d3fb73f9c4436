//! The gateway: what a request may need, put together. Handlers take it whole; what they call takes the parts
//! that it uses.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::flows::access::authenticate::Authenticator;
use crate::flows::access::last_uses::LastUses;
use crate::flows::access::throttle::{FailedCredentials, Publishes};
use crate::flows::access::token_cache::TokenCache;
use crate::flows::access::visibility::Visibility;
use crate::flows::policy::store::PolicyStore;
use crate::flows::pulls::log::DownloadLog;
use crate::flows::registry::dependencies::Dependencies;
use crate::flows::registry::download::Downloads;
use crate::flows::registry::hosting::Hosting;
use crate::flows::registry::lock_file::LockFiles;
use crate::flows::registry::lookup::Lookup;
use crate::flows::registry::policy_check::PolicyChecks;
use crate::flows::registry::prefetch::Prefetcher;
use crate::flows::registry::publish::Publisher;
use crate::flows::registry::publish_rules::PublishRules;
use crate::flows::registry::search::Search;
use crate::flows::registry::views::Views;
use crate::flows::store::upkeep::Upkeep;
use crate::flows::turns::ClientParsers;
use crate::flows::turns::Turns;
use crate::logging::requests::RequestLines;
use crate::stores::token_uses::TokenUseStore;
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::traces::Traces;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::checkpoint::Checkpointer;
use cratehouse_journal::publish::VersionWriter;
use cratehouse_journal::writer::JournalHandle;
use cratehouse_mirror::files::noted_uses::Uses;
use cratehouse_mirror::files::uses_store::UsesStore;
use cratehouse_mirror::index::cache::IndexCache;
use cratehouse_mirror::mirror::{self, Mirror};
use cratehouse_mirror::settings::{AbsentLimits, CrateMemory, Eviction, FileLimits};
use cratehouse_mirror::store::MirrorStore;
use cratehouse_mirror::upstream::Upstream;
use cratehouse_storage::blobs::blobs_in;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::url::StoreUrl;

/// What [`Gateway::responses`] counts in, in bytes.
pub const RESPONSE_STEP_BYTES: usize = 1 << 10;

/// What a gateway is put together from.
#[derive(Debug)]
pub struct Parts {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Our public URL without a trailing slash, e.g. `https://crates.acme.example`.
    pub url: String,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// Where spans are told; `None`: nowhere.
    pub traces: Option<Traces>,
    /// The object store.
    pub objects: Objects,
    /// The journal, applied.
    pub catalog: Catalog,
    /// The way into the journal.
    pub journal: JournalHandle,
    /// Whether our own index lists crates of crates.io's identity too.
    pub unified: bool,
    /// The chain of upstreams, in order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What may enter.
    pub policy_store: Arc<PolicyStore>,
    /// Rendered index files in memory.
    pub index: IndexCache,
    /// Who pulled what, until it is written down.
    pub pulls: DownloadLog,
    /// What writes checkpoints.
    pub checkpointer: Checkpointer,
}

/// Everything that a request may need. Components are concrete types.
#[derive(Debug)]
pub struct Gateway {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Our public URL without a trailing slash, e.g. `https://crates.acme.example`.
    pub url: String,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// How many lines requests leave in the log.
    pub lines: RequestLines,
    /// Where spans are told; `None`: nowhere.
    pub traces: Option<Traces>,
    /// The journal, applied.
    pub catalog: Catalog,
    /// The way into the journal.
    pub journal: JournalHandle,
    /// Which names are our own.
    pub hosting: Arc<Hosting>,
    /// Who holds which token.
    pub tokens: Authenticator,
    /// When tokens were last used.
    pub last_uses: LastUses,
    /// Which crates exist for whom.
    pub visibility: Arc<Visibility>,
    /// Other registries, and what is kept of them.
    pub mirror: Mirror,
    /// Index files.
    pub lookup: Arc<Lookup>,
    /// Crate files.
    pub downloads: Arc<Downloads>,
    /// Publishes.
    pub publisher: Publisher,
    /// Searches.
    pub search: Arc<Search>,
    /// Policies that are tried, and verdicts that are explained.
    pub checks: PolicyChecks,
    /// What is wanted ahead of need.
    pub prefetcher: Prefetcher,
    /// What may enter.
    pub policy_store: Arc<PolicyStore>,
    /// Permits to parse what clients send.
    pub parsers: Arc<ClientParsers>,
    /// Who pulled what, until it is written down.
    pub pulls: DownloadLog,
    /// Requests that memory does not answer at once.
    pub in_flight: FairShares,
    /// Memory for large responses that are made for one request, in KiB.
    pub responses: FairShares,
    /// Turns for searches, checks and long answers.
    pub turns: Arc<Turns>,
    /// The store, for who looks after it.
    pub upkeep: Upkeep,
}

impl Gateway {
    /// Puts one together.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            url,
            metrics,
            traces,
            objects,
            catalog,
            journal,
            unified,
            upstreams,
            policy_store,
            index,
            pulls,
            checkpointer,
        } = parts;
        let limits = &config.limits;
        let hosting = Arc::new(Hosting {
            catalog: catalog.clone(),
            journal: journal.clone(),
            reserved: config.reserved.clone(),
            auth_required: config.auth_required,
        });
        let mirror = Mirror::new(
            mirror::Parts {
                blobs: blobs_in(&objects),
                store: mirror_in(&objects),
                index: index.clone(),
                upstreams,
                hosted: Arc::clone(&hosting) as _,
                corrections: Arc::clone(&hosting) as _,
                policy: Arc::clone(policy_store.in_force()),
                uses: Uses::new(UsesStore::new(Arc::clone(&objects.cache)), &config.server.replica),
                metrics: metrics.clone(),
            },
            mirror_settings(&config, &url),
        );
        let parsers = Arc::new(ClientParsers::new(&limits.per_address, &metrics));
        let turns = Arc::new(Turns::new(&limits.per_address));
        let visibility = Arc::new(Visibility::new(catalog.clone()));
        let views = Arc::new(Views::new(unified, &config.upstreams));
        let locks = Arc::new(LockFiles::new(&config, &url, Arc::clone(&parsers)));
        let lookup = Arc::new(Lookup {
            index: index.clone(),
            hosting: Arc::clone(&hosting),
            chain: Arc::clone(&mirror.chain),
            judge: Arc::clone(&mirror.judge),
            views: Arc::clone(&views),
            visibility: Arc::clone(&visibility),
            wait: limits.fill_wait,
            metrics: metrics.clone(),
        });
        let downloads = Arc::new(Downloads {
            index: index.clone(),
            files: Arc::clone(&mirror.files),
            mirrored: Arc::clone(&mirror.downloads),
            pinner: Arc::clone(&mirror.pinner),
            judge: Arc::clone(&mirror.judge),
            chain: Arc::clone(&mirror.chain),
            lookup: Arc::clone(&lookup),
            hosting: Arc::clone(&hosting),
            visibility: Arc::clone(&visibility),
            wait: limits.fill_wait,
            metrics: metrics.clone(),
        });
        let publisher = Publisher {
            hosting: Arc::clone(&hosting),
            versions: VersionWriter {
                journal: journal.clone(),
                blobs: mirror.files.blobs.clone(),
                bounds: limits.index,
            },
            limits: limits.clone(),
            visibility: Arc::clone(&visibility),
            rate: Publishes::new(limits.publishes_per_hour, limits.publish_burst, metrics.clone()),
            parsers: Arc::clone(&parsers),
            rules: PublishRules {
                policy: Arc::clone(policy_store.in_force()),
                catalog: catalog.clone(),
                url: url.clone(),
                metrics: metrics.clone(),
            },
            dependencies: Dependencies::new(
                &config,
                &url,
                unified,
                Arc::clone(&hosting),
                Arc::clone(&mirror.chain),
                Arc::clone(&visibility),
            ),
            chain: Arc::clone(&mirror.chain),
            metrics: metrics.clone(),
        };
        let search = Arc::new(Search::new(Arc::clone(&mirror.keeper), &lookup, Arc::clone(&turns)));
        let checks = PolicyChecks {
            locks: Arc::clone(&locks),
            lookup: Arc::clone(&lookup),
            hosting: Arc::clone(&hosting),
            judge: Arc::clone(&mirror.judge),
            licenses: Arc::clone(&mirror.license_search),
            turns: Arc::clone(&turns),
            url: url.clone(),
        };
        let prefetcher = Prefetcher {
            locks,
            lookup: Arc::clone(&lookup),
            downloads: Arc::clone(&downloads),
            licenses: Arc::clone(&mirror.license_search),
        };
        Self {
            tokens: Authenticator {
                hosting: Arc::clone(&hosting),
                holders: TokenCache::default(),
                failed: FailedCredentials::new(limits.failed_credentials, metrics.clone()),
            },
            last_uses: LastUses::new(
                TokenUseStore::new(Arc::clone(&objects.cache)),
                &config.server.replica,
            ),
            visibility,
            catalog,
            journal,
            hosting,
            mirror,
            lookup,
            downloads,
            publisher,
            search,
            checks,
            prefetcher,
            policy_store,
            parsers,
            pulls,
            in_flight: FairShares::new(limits.requests, &limits.per_address),
            responses: FairShares::new(
                limits.response_memory_bytes / RESPONSE_STEP_BYTES,
                &limits.per_address,
            ),
            turns,
            upkeep: Upkeep::new(objects, checkpointer),
            lines: RequestLines::new(&metrics),
            traces,
            metrics,
            url,
            config,
        }
    }
}

/// What is mirrored in a store.
pub fn mirror_in(objects: &Objects) -> MirrorStore {
    MirrorStore::new(Arc::clone(&objects.cache), Arc::clone(&objects.durable))
}

fn mirror_settings(config: &Config, url: &str) -> mirror::Settings {
    let limits = &config.limits;
    let aliases = config.server.aliases.iter().map(|alias| alias.to_string());
    mirror::Settings {
        crate_memory: CrateMemory {
            kept_bytes: config.cache.crates_bytes,
            more_bytes: limits.fill_memory_bytes as u64,
            wait: limits.fill_wait,
            requests: limits.requests,
            per_address: limits.per_address.clone(),
        },
        files: FileLimits { fill: limits.fill, mirrored_bytes: limits.mirrored_crate_bytes as u64 },
        absent: AbsentLimits {
            burst: limits.absent_burst,
            per_second: limits.absent_per_second,
            requests: limits.requests,
            per_address: limits.per_address.clone(),
        },
        eviction: eviction(config),
        memory_wait: limits.fill_wait,
        per_address: limits.per_address.clone(),
        own_urls: std::iter::once(url.to_owned()).chain(aliases).collect(),
    }
}

/// What bounds the mirrored crate files in the store.
pub fn eviction(config: &Config) -> Eviction {
    let folder: Option<PathBuf> = match &config.store.url {
        StoreUrl::Folder(folder) => Some(folder.clone()),
        _ => None,
    };
    Eviction {
        max: config.mirror.max,
        max_age_days: config.mirror.max_age_days,
        sweep: config.mirror.sweep,
        folder,
    }
}
