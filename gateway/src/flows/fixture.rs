//! For tests: a gateway in memory, and upstreams on the loopback interface.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::Timestamp;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{self, Config, Limits, TokenLife};
use crate::flows::open::{forgetting, pulls_in};
use crate::flows::policy::store::PolicyStore;
use crate::flows::pulls::log::DownloadLog;
use crate::flows::registry::download::{File, Part};
use crate::gateway::{Gateway, Parts};
use cratehouse_core::error::Result;
use cratehouse_core::fair_share::FairShares;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::per_address::PerAddress;
use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::checkpoint::Checkpointer;
use cratehouse_journal::checkpoint_store::checkpoints_in;
use cratehouse_journal::commands::{ActorCommand, Command, CommandActor};
use cratehouse_journal::entry_store::journal_in;
use cratehouse_journal::writer::{JournalHandle, JournalWriter, Settings};
use cratehouse_mirror::index::cache::IndexCache;
use cratehouse_mirror::upstream::Upstream;
use cratehouse_mirror::upstream::test_util::{self, Server, reply};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::published::{Metadata, Published};
pub(super) use cratehouse_package::test_util::{line, name, version};
use cratehouse_storage::blobs::Origin;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;

const LONG: Duration = Duration::from_secs(60);

/// An upstream with one crate, `Foo` 1.0.0.
pub(super) struct Public {
    pub(super) server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
pub(super) struct State {
    /// What the index line's checksum is of; `None`: the crate is not in the index.
    pub(super) listed: Option<Vec<u8>>,
    /// What is sent; `None`: 404.
    pub(super) sent: Option<Vec<u8>>,
    /// Whether bodies are sent without a length.
    pub(super) chunked: bool,
}

impl Public {
    pub(super) async fn start(bytes: &[u8]) -> Self {
        let state =
            State { listed: Some(bytes.to_vec()), sent: Some(bytes.to_vec()), chunked: false };
        let state = Arc::new(Mutex::new(state));
        let (shared, address) = (Arc::clone(&state), Arc::new(Mutex::new(String::new())));
        let url = Arc::clone(&address);
        let server = Server::start(move |path, _| {
            let State { listed, sent, chunked } = shared.lock().unwrap().clone();
            let body = match path {
                "/index/config.json" => {
                    Some(format!(r#"{{"dl":"{}/dl"}}"#, url.lock().unwrap()).into_bytes())
                }
                "/index/3/f/foo" => listed.map(|bytes| {
                    let line = serde_json::to_string(&line("Foo", "1.0.0", &bytes)).unwrap();
                    format!("{line}\n").into_bytes()
                }),
                "/dl/Foo/1.0.0/download" => sent,
                _ => None,
            };
            match body {
                Some(body) if chunked => reply(200, &[("transfer-encoding", "chunked")], body),
                Some(body) => reply(200, &[], body),
                None => reply(404, &[], ""),
            }
        })
        .await;
        address.lock().unwrap().clone_from(&server.url);
        Self { server, state }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// How often the crate file was asked for since the last call.
    pub(super) fn fills(&self) -> usize {
        self.server.paths().iter().filter(|path| path.starts_with("/dl/")).count()
    }
}

pub(super) struct TestGateway {
    pub(super) gateway: Arc<Gateway>,
    _writer: DropGuard,
}

impl TestGateway {
    pub(super) async fn open(
        store: &Arc<dyn ObjectStore>,
        upstreams: &[&Public],
        limits: Limits,
    ) -> Self {
        Self::of(store, config(upstreams, limits), Timestamp::now).await
    }

    /// One with a policy: the text of its one file.
    pub(super) async fn ruled(
        store: &Arc<dyn ObjectStore>,
        upstreams: &[&Public],
        policy: &str,
    ) -> Self {
        Self::ruled_at(store, upstreams, policy, Timestamp::now).await
    }

    /// One whose policy lives by another clock.
    pub(super) async fn ruled_at(
        store: &Arc<dyn ObjectStore>,
        upstreams: &[&Public],
        policy: &str,
        clock: fn() -> Timestamp,
    ) -> Self {
        let (config, _folder) = with_policy(config(upstreams, limits()), policy);
        Self::of(store, config, clock).await
    }

    /// One with a policy, whose configuration is changed.
    pub(super) async fn changed(
        store: &Arc<dyn ObjectStore>,
        upstreams: &[&Public],
        policy: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (mut config, _folder) = with_policy(config(upstreams, limits()), policy);
        change(&mut config);
        Self::of(store, config, Timestamp::now).await
    }

    async fn of(store: &Arc<dyn ObjectStore>, config: Config, clock: fn() -> Timestamp) -> Self {
        let objects = Objects::same(Arc::clone(store));
        let metrics = Metrics::new().unwrap();
        let catalog = Catalog::in_memory("registry").unwrap();
        let settings = Settings {
            operator: None,
            replica: "test".to_owned(),
            patience: LONG,
            queue: 10,
            waits: FairShares::new(100, &PerAddress::default()),
            follow: Duration::from_millis(50),
            founding: Level::KNOWN,
        };
        let cache = &config.cache;
        let index = IndexCache::bounded(cache.index_bytes, cache.absent_bytes, 1 << 20);
        let (mut writer, journal) = JournalWriter::new(
            journal_in(&objects),
            catalog.clone(),
            forgetting(&index),
            metrics.clone(),
            settings,
        );
        writer.begin(|_, _| ()).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(writer.run(stop.clone()));
        let gateway = gateway_at(clock, config, &objects, catalog, index, metrics, journal);
        Self { gateway: Arc::new(gateway), _writer: stop.drop_guard() }
    }

    /// Downloads `Foo` 1.0.0, and says by which outcome.
    pub(super) async fn foo(&self) -> (Result<Bytes>, &'static str) {
        self.download("Foo", "1.0.0").await
    }

    /// Its bytes and how the lookup counted, once what follows it is done too.
    pub(super) async fn download(&self, krate: &str, vers: &str) -> (Result<Bytes>, &'static str) {
        const OUTCOMES: [&str; 5] = ["hit", "store", "miss", "negative", "error"];
        let lookups = &self.gateway.metrics.crate_lookups;
        let counts = || OUTCOMES.map(|outcome| lookups.with_label_values(&[outcome]).get());
        let before = counts();
        let answer = self.gateway.downloads.get(&name(krate), &version(vers), Part::Bytes).await;
        let moved: Vec<_> =
            (0..5).flat_map(|i| vec![OUTCOMES[i]; (counts()[i] - before[i]) as usize]).collect();
        assert_eq!(moved.len(), 1, "one download moved {moved:?}");
        let bytes = match answer {
            Ok(download) => download.file.read().await,
            Err(error) => Err(error),
        };
        self.gateway.mirror.written().await;
        (bytes, moved[0])
    }

    /// The memory that crate files take.
    pub(super) fn taken(&self) -> u64 {
        self.gateway.mirror.files.cache.taken()
    }

    pub(super) fn alarms(&self, alarm: &str) -> u64 {
        self.gateway.metrics.alarms.with_label_values(&[alarm]).get()
    }

    pub(super) async fn publish(&self, krate: &str, vers: &str, bytes: &'static [u8]) {
        let line = line(krate, vers, bytes);
        let blob = Bytes::from_static(bytes);
        self.gateway.mirror.files.blobs.put(Origin::Hosted, &line.cksum, blob).await.unwrap();
        let size = bytes.len() as u64;
        let published = Box::new(Published { line, size, metadata: Metadata::default() });
        let put_at = self.gateway.catalog.head().unwrap().seq;
        self.command(Command::Publish { published, put_at, bounds: IndexBounds::default() }).await;
    }

    pub(super) async fn command(&self, command: Command) {
        self.gateway
            .journal
            .append(ActorCommand { by: CommandActor::Operator, command })
            .await
            .unwrap();
    }
}

/// A configuration with a policy. Its folder is read once, when the gateway is opened.
fn with_policy(mut config: Config, policy: &str) -> (Config, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    config.policy.dir = Some(folder.path().to_owned());
    (config, folder)
}

impl File {
    /// All of it, as a client reads it.
    pub(super) async fn read(self) -> Result<Bytes> {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Stream { pieces, .. } => {
                let append = |mut all: Vec<u8>, piece: Bytes| async move {
                    all.extend_from_slice(&piece);
                    Ok(all)
                };
                pieces.try_fold(Vec::new(), append).await.map(Bytes::from)
            }
        }
    }
}

/// A gateway of the parts that differ; the others as small as they go. Its policy lives by that clock.
fn gateway_at(
    clock: fn() -> Timestamp,
    config: Config,
    objects: &Objects,
    catalog: Catalog,
    index: IndexCache,
    metrics: Metrics,
    journal: JournalHandle,
) -> Gateway {
    let upstream =
        |of| Upstream::new(of, &config.limits.of_upstream(), None, metrics.clone()).unwrap();
    let upstreams = config.upstreams.iter().map(|of| Arc::new(upstream(of))).collect();
    let policy_store = PolicyStore::open_at(clock, &config, metrics.clone(), None).unwrap();
    let checkpointer = Checkpointer {
        registry: "registry".to_owned(),
        catalog: catalog.clone(),
        journal: journal_in(objects),
        checkpoints: checkpoints_in(objects),
        metrics: metrics.clone(),
        namer: None,
    };
    Gateway::new(Parts {
        checkpointer,
        url: "https://crates.acme.example".to_owned(),
        index: index
            .with_flights(FairShares::new(config.limits.requests, &config.limits.per_address)),
        pulls: DownloadLog::new(pulls_in(objects), "test", true, metrics.clone()),
        policy_store: Arc::new(policy_store),
        unified: config.unified_index.unwrap_or(true),
        objects: objects.clone(),
        config: Arc::new(config),
        metrics,
        traces: None,
        catalog,
        journal,
        upstreams,
    })
}

pub(super) fn config(upstreams: &[&Public], limits: Limits) -> Config {
    let address = "127.0.0.1:0".parse().unwrap();
    Config {
        data: "data".into(),
        server: config::Server {
            listen: address,
            admin_listen: address,
            url: None,
            aliases: Vec::new(),
            drain: LONG,
            unready: Duration::ZERO,
            replica: "test".to_owned(),
            proxies: None,
        },
        tls: config::Tls::Off,
        store: config::Store {
            url: config::StoreUrl::Memory,
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
        },
        catalog: config::Catalog {
            path: "catalog".into(),
            cache_bytes: 0,
            checkpoint_entries: 1000,
        },
        cache: config::Cache { index_bytes: 0, absent_bytes: 0, crates_bytes: 8 << 20 },
        mirror: config::Mirror {
            max: config::MirrorMax::Unbounded,
            max_age_days: None,
            sweep: LONG,
        },
        policy: config::Policy {
            dir: None,
            advisories: None,
            advisories_url: "https://advisories.example/db.tar.gz".parse().unwrap(),
            advisories_every: None,
            advisories_least: 1,
            reload: LONG,
        },
        pulls: config::Pulls { flush: LONG, retention_days: Some(90) },
        upstreams: (1..)
            .zip(upstreams)
            .map(|(n, public)| config::Upstream {
                name: format!("up{n}"),
                fresh: Duration::ZERO,
                ..test_util::config(&public.server.url)
            })
            .collect(),
        limits,
        token_life: TokenLife::default(),
        auth_required: false,
        unified_index: None,
        reserved: vec!["acme-*".parse().unwrap()],
        allowed_registries: Vec::new(),
        outgoing_ca: None,
        log: config::Log { format: config::LogFormat::Human, filter: String::new() },
        tracing: config::Tracing { otlp: None, sample_ratio: 0.0 },
    }
}

/// Small ones.
pub(super) fn limits() -> Limits {
    Limits { index_file_bytes: 1000, upstream_requests: 4, redirects: 3, ..Limits::default() }
}

pub(super) fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}
