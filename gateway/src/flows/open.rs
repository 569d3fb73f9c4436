//! Putting the gateway together: from a configuration to something that can serve or work.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::flows::policy::advisories::{self, Keeper};
use crate::flows::policy::store::{Kept, PolicyStore, try_policy};
use crate::flows::pulls::log::{self, DownloadLog};
use crate::flows::reread::Reread;
use crate::flows::store::store_watch::StoreWatch;
use crate::flows::store::{founded, replica_note};
use crate::gateway::{Gateway, Parts};
use crate::model::account;
use crate::otlp::Exporting;
use crate::stores::advisories::AdvisoryStore;
use crate::stores::download_log::DownloadLogStore;
use crate::stores::replicas::ReplicaNotes;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::progress::{Progress, say};
use cratehouse_core::threads::aside;
use cratehouse_core::traces::Traces;
use cratehouse_journal::catalog::{Catalog, Opened};
use cratehouse_journal::checkpoint::{Checkpointer, Known, Namer};
use cratehouse_journal::checkpoint_store::checkpoints_in;
use cratehouse_journal::entry_store::journal_in;
use cratehouse_journal::writer::{JournalWriter, OnChange, Settings};
use cratehouse_mirror::index::cache::IndexCache;
use cratehouse_mirror::upstream::Upstream;
use cratehouse_storage::objects::Objects;

/// Where the catalog is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// In the file that the configuration names: one process holds it. Every step is told.
    File,
    /// In memory: command-line work replays the journal, and leaves a running server alone.
    Memory,
    /// In memory, and from the journal alone: what deletes for ever must not rest on a
    /// checkpoint, and one that is written by hand is to tell of those before it.
    Replayed,
}

/// What is opened, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The object store, whose format this release must know.
    Store,
    /// This replica's view of the journal.
    Catalog,
    /// The journal, which is read to its end.
    Journal,
    /// The policy and the upstreams.
    Policy,
}

/// What a process has before anything is open.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its metrics, which count from its first moment.
    pub metrics: Metrics,
    /// The wish to read everything again.
    pub reread: Reread,
}

/// A gateway that has caught up, with its writer at work.
#[derive(Debug)]
pub struct Running {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Writes checkpoints: by itself with [`Keep::File`], else on demand alone.
    pub checkpointer: Checkpointer,
    /// What works beside the requests, by name.
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    stop: CancellationToken,
}

/// The metrics of this process, which say what it is: release, commit, and configuration.
///
/// # Errors
/// When two metrics have one name, which no release has.
pub fn process_metrics(config: &Config) -> Result<Metrics> {
    let build = [env!("CARGO_PKG_VERSION"), env!("CRATEHOUSE_BUILD_COMMIT"), &config.fingerprint()];
    Metrics::of_process(build).map_err(Error::internal)
}

impl Running {
    /// Opens the store, the catalog and the upstreams, and reads the journal to its end.
    ///
    /// # Errors
    /// When the store does not answer or holds something else, or the catalog cannot be used.
    pub async fn open(config: Arc<Config>, url: String, keep: Keep) -> Result<Self> {
        let metrics = process_metrics(&config)?;
        let process = Process { metrics, reread: Reread::never() };
        Self::open_in_steps(config, url, keep, process, |_| ()).await
    }

    /// The same; `begins` hears of each part before it is opened. A registry is founded with
    /// [`Keep::File`] alone.
    ///
    /// # Errors
    /// As [`Running::open`]; [`cratehouse_core::error::Kind::Unavailable`] is what waiting may mend.
    pub async fn open_in_steps(
        config: Arc<Config>,
        url: String,
        keep: Keep,
        process: Process,
        begins: impl Fn(Part),
    ) -> Result<Self> {
        let voice = config.log.format;
        let tell = |line: String| {
            if keep == Keep::File {
                say(voice, &line);
            }
        };
        let Process { metrics, reread } = process;
        begins(Part::Store);
        let objects = match keep {
            Keep::File => Objects::open(&config.store, config.outgoing_ca.as_deref())?,
            Keep::Memory | Keep::Replayed => founded::open_existing(&config)?,
        };
        let objects = objects.measured(&metrics);
        let registry = match keep {
            Keep::File => founded::found(&config, &objects).await?,
            Keep::Memory | Keep::Replayed => founded::registry_in(&config, &objects).await?,
        };
        let registry = registry.to_string();
        tell(format!("store {} holds registry {registry}", founded::shown(&config.store.url)));
        begins(Part::Catalog);
        let catalog = open_catalog(&config, &registry, keep, tell)?;
        begins(Part::Journal);
        let mut checkpointer = Checkpointer {
            registry,
            catalog: catalog.clone(),
            journal: journal_in(&objects),
            checkpoints: checkpoints_in(&objects),
            metrics: metrics.clone(),
            namer: None,
        };
        let known = match keep {
            Keep::File => checkpointer.load(Some(voice)).await,
            Keep::Memory => checkpointer.load(None).await,
            Keep::Replayed => Known::default(),
        };
        let index = index_cache(&config);
        let founding = objects.founding().await?;
        // Clients of a registry of release 0.1 have public crates from its own index.
        let unified = config.unified_index.unwrap_or(founding.is_first());
        let settings = Settings {
            operator: Some(account::of_this_process()),
            replica: config.server.replica.clone(),
            patience: config.limits.append,
            queue: config.limits.append_queue,
            waits: FairShares::new(config.limits.journal_waits, &config.limits.per_address),
            follow: config.limits.follow,
            founding,
        };
        let (mut writer, journal) = JournalWriter::new(
            journal_in(&objects),
            catalog.clone(),
            forgetting(&index),
            metrics.clone(),
            settings,
        );
        let reading = Progress::begin("reading the journal", voice);
        let tick = |done, total| reading.tick(done, Some(total));
        let loading = (keep == Keep::File).then_some(voice);
        let known = checkpointer.begin(&mut writer, known, loading, tick).await?;
        checkpointer.namer = Some(Namer { journal: journal.clone(), heads: writer.heads() });
        if keep == Keep::File {
            reading.end(&format!("journal read up to entry {}", catalog.head()?.seq));
        }
        begins(Part::Policy);
        let upstreams = open_upstreams(&config, &metrics)?;
        let advisory_store = advisories_in(&objects);
        let kept = advisories::at_start(&config, &advisory_store).await;
        let policy_store = open_policy(&config, &metrics, kept).await?;
        let pulls = DownloadLog::new(
            pulls_in(&objects),
            &config.server.replica,
            config.pulls.retention_days.is_some(),
            metrics.clone(),
        );
        let (traces, exporting) = match keep {
            Keep::File => open_traces(&config, &metrics)?,
            Keep::Memory | Keep::Replayed => None,
        }
        .unzip();
        let gateway = Arc::new(Gateway::new(Parts {
            config,
            url,
            metrics,
            traces,
            objects: objects.clone(),
            catalog,
            journal,
            unified,
            upstreams,
            policy_store,
            index,
            pulls,
            checkpointer: checkpointer.clone(),
        }));
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        if keep == Keep::File {
            let (entries, heads) = (gateway.config.catalog.checkpoint_entries, writer.heads());
            let checkpointing = checkpointer.clone().run(known, entries, heads, stop.clone());
            tasks.push(("checkpointer", tokio::spawn(checkpointing)));
            let evicting = Arc::clone(&gateway.mirror.evictor).run(stop.clone());
            tasks.push(("evictor", tokio::spawn(evicting)));
            let every = gateway.config.policy.reload;
            let store = Arc::clone(&gateway.policy_store);
            let keeper = Keeper::new(&gateway.config, advisory_store, store, &gateway.metrics);
            if let Some(keeper) = keeper {
                let keeping = keeper.run(every, reread.clone(), stop.clone());
                tasks.push(("keeper of advisories", tokio::spawn(keeping)));
            }
            let watching = Arc::clone(&gateway.policy_store).watch(every, reread, stop.clone());
            tasks.push(("policy store", tokio::spawn(watching)));
            let store = &gateway.config.store.url;
            let replica = &gateway.config.server.replica;
            if let Some(watch) = StoreWatch::of(store, &objects.durable, replica, &gateway.metrics)
            {
                tasks.push(("store's watch", tokio::spawn(watch.run(stop.clone()))));
            }
            let (notes, now) = (replica_notes_in(&objects), jiff::Timestamp::now());
            let noting =
                replica_note::run(notes, replica_note::of(&gateway.config, now), stop.clone());
            tasks.push(("note of this replica", tokio::spawn(noting)));
            let keeping = Arc::clone(&gateway.mirror.keeper).run(stop.clone());
            tasks.push(("keeper of names", tokio::spawn(keeping)));
            let (owned, stopped) = (Arc::clone(&gateway), stop.clone());
            let recording =
                async move { log::run(&owned.pulls, &owned.config.pulls, stopped).await };
            tasks.push(("recorder of pulls", tokio::spawn(recording)));
            let (owned, stopped) = (Arc::clone(&gateway), stop.clone());
            let noting = async move { owned.last_uses.run(stopped).await };
            tasks.push(("recorder of tokens' uses", tokio::spawn(noting)));
        }
        if let Some(exporting) = exporting {
            tasks.push(("exporter of spans", tokio::spawn(exporting.run(stop.clone()))));
        }
        tasks.push(("journal writer", tokio::spawn(writer.run(stop.clone()))));
        Ok(Self { gateway, checkpointer, tasks, stop })
    }

    /// Lets the writer finish what it is at, waits for copies that are under way to the store, and
    /// puts the catalog on disk. The caller bounds the time.
    pub async fn close(self) {
        self.gateway.upkeep.works.stop();
        self.gateway.upkeep.works.settled().await; // what ends a sweep is put into the journal
        self.stop.cancel();
        self.gateway.mirror.settled().await;
        for (what, task) in self.tasks {
            if let Err(e) = task.await {
                tracing::error!(error = %e, "the {what} did not end well");
            }
        }
    }
}

/// Whether the CA files, tokens and bucket settings of a configuration can be used. Asks nobody, and
/// makes nothing.
///
/// # Errors
/// [`cratehouse_core::error::Kind::Invalid`] when something cannot.
pub fn check(config: &Config) -> Result<()> {
    if config.store.url.cloud().is_some() {
        Objects::open(&config.store, config.outgoing_ca.as_deref())?;
    }
    let metrics = Metrics::new().map_err(Error::internal)?;
    open_upstreams(config, &metrics)?;
    open_traces(config, &metrics)?;
    // Advisories too: a start goes on without them, with an alarm, and whoever asks before it hears of it.
    try_policy(config, config.policy.dir.as_deref()).map(drop)
}

fn open_traces(config: &Config, metrics: &Metrics) -> Result<Option<(Traces, Exporting)>> {
    let (replica, extra_ca) = (&config.server.replica, config.outgoing_ca.as_deref());
    Exporting::open(&config.tracing, replica, extra_ca, metrics)
}

async fn open_policy(
    config: &Arc<Config>,
    metrics: &Metrics,
    kept: Option<Kept>,
) -> Result<Arc<PolicyStore>> {
    let (config, metrics) = (Arc::clone(config), metrics.clone());
    aside(move || PolicyStore::open(&config, metrics, kept)).await?.map(Arc::new)
}

/// The advisory database in a store: durable, because one that came from a file can be had nowhere else.
pub fn advisories_in(objects: &Objects) -> AdvisoryStore {
    AdvisoryStore::new(Arc::clone(&objects.durable))
}

/// Who pulled what, in a store: durable, because it can be had nowhere else.
pub fn pulls_in(objects: &Objects) -> DownloadLogStore {
    DownloadLogStore::new(Arc::clone(&objects.durable))
}

/// What replicas note of themselves in a store.
pub fn replica_notes_in(objects: &Objects) -> ReplicaNotes {
    ReplicaNotes::new(Arc::clone(&objects.cache))
}

/// Drops from memory what an entry changed.
pub fn forgetting(index: &IndexCache) -> OnChange {
    let index = index.clone();
    Box::new(move |key| index.forget(key))
}

/// Memory for index files: beside those that are kept, as many bytes again for answers under way, or
/// for two of the largest in both their encodings.
fn index_cache(config: &Config) -> IndexCache {
    let kept = config.cache.index_bytes;
    let absent = config.cache.absent_bytes;
    IndexCache::bounded(kept, absent, kept.max(4 * config.limits.index_file_bytes as u64))
        .with_flights(FairShares::new(config.limits.requests, &config.limits.per_address))
}

fn open_catalog(
    config: &Config,
    registry: &str,
    keep: Keep,
    tell: impl Fn(String),
) -> Result<Catalog> {
    if keep != Keep::File {
        return Catalog::in_memory(registry);
    }
    let path = &config.catalog.path;
    let (catalog, opened) = Catalog::open(path, config.catalog.cache_bytes, registry)?;
    let seq = catalog.head()?.seq;
    let path = path.display();
    tell(match opened {
        Opened::Reused => format!("catalog {path} stands at entry {seq}"),
        Opened::Created => format!("catalog {path} created"),
        Opened::Replaced => {
            format!("catalog {path} was damaged or of another registry or release: built anew")
        }
    });
    Ok(catalog)
}

fn open_upstreams(config: &Config, metrics: &Metrics) -> Result<Vec<Arc<Upstream>>> {
    let extra_ca = config.outgoing_ca.as_deref();
    let open = |one| {
        Upstream::new(one, &config.limits.of_upstream(), extra_ca, metrics.clone()).map(Arc::new)
    };
    config.upstreams.iter().map(open).collect()
}
