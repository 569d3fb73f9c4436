//! Configuration: raw TOML, environment and flags become checked types. Settings are data;
//! nothing here opens anything but the secret files that a key names.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::name::NamePattern;

/// Everything that can be configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where local state lives: the default store, the catalog, the local CA.
    pub data: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Tls,
    /// `[store]`
    pub store: Store,
    /// `[catalog]`
    pub catalog: Catalog,
    /// `[cache]`
    pub cache: Cache,
    /// `[[upstream]]`, in the order of the chain.
    pub upstreams: Vec<Upstream>,
    /// `[limits]`
    pub limits: Limits,
    /// `[auth] required`: every read needs a token.
    pub auth_required: bool,
    /// `[names] reserved`: names that are ours, and never asked of an upstream.
    pub reserved: Vec<NamePattern>,
    /// `[publish] allowed_registries`: index URLs of other registries that a hosted crate's
    /// dependencies may come from, beside our own and crates.io.
    pub allowed_registries: Vec<String>,
    /// `[outgoing] ca_file`: an extra bundle of CA certificates (PEM) for everything that goes out.
    pub outgoing_ca: Option<PathBuf>,
    /// `[log]`
    pub log: Log,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// Where the registry listens.
    pub listen: SocketAddr,
    /// Where the admin listener listens.
    pub admin_listen: SocketAddr,
    /// Our public URL, without a trailing slash; derived from `listen` when absent.
    pub url: Option<Url>,
    /// Other URLs of ours that may stand in manifests, without a trailing slash.
    pub aliases: Vec<Url>,
    /// How long a stop may take in all.
    pub drain: Duration,
    /// The name under which this replica writes journal entries.
    pub replica: String,
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// `mode = "off"`: plain http, behind another proxy.
    Off,
    /// A local CA under `<data>/tls/`.
    LocalCa,
    /// Files that the operator provides (PEM).
    Files {
        /// The certificate chain.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// `[store]`
#[derive(Debug, Clone)]
pub struct Store {
    /// Which store.
    pub url: StoreUrl,
    /// The S3 endpoint, where it is not Amazon's.
    pub endpoint: Option<Url>,
    /// The S3 region.
    pub region: Option<String>,
    /// The S3 access key; absent: the usual AWS variables and roles.
    pub access_key_id: Option<String>,
    /// The S3 secret key.
    pub secret_access_key: Option<Secret>,
    /// Whether an `http:` endpoint is acceptable.
    pub allow_http: bool,
}

/// Which object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file://…`
    Folder(PathBuf),
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its ends; perhaps empty.
        prefix: String,
    },
    /// `memory://`, for tests.
    Memory,
}

/// `[catalog]`
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The redb file.
    pub path: PathBuf,
    /// redb's own cache, in bytes.
    pub cache_bytes: usize,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct Cache {
    /// Memory for rendered index files, in bytes.
    pub index_bytes: u64,
    /// Memory for crate files, in bytes.
    pub crates_bytes: u64,
}

/// `[[upstream]]`
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name: the folder of its files in the store.
    pub name: String,
    /// The base URL of its sparse index, with a trailing slash, without `sparse+`.
    pub index: Url,
    /// Whose identity its crates have.
    pub identity: Identity,
    /// Overrides the `dl` of its `config.json`.
    pub dl: Option<String>,
    /// The token it wants.
    pub token: Option<Secret>,
    /// For how long an index file is fresh.
    pub fresh: Duration,
    /// For how long a not-found answer is remembered.
    pub negative: Duration,
    /// How long an index request may take in all.
    pub timeout: Duration,
    /// An extra bundle of CA certificates (PEM) for this upstream.
    pub ca_file: Option<PathBuf>,
    /// Whether its `dl` and its redirects may lead to private addresses of another origin.
    pub private_dl: bool,
}

/// Whose identity the crates of an upstream have: what `registry` means in their lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// They are crates.io's crates (the preset, Panamax): lines pass verbatim.
    CratesIo,
    /// They become ours (a private registry that is chained in): dependencies on that registry,
    /// named by its index URL, become null.
    Ours,
}

/// `[limits]`: every bound has its unit in its name or its type.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The JSON part of a publish request, in bytes.
    pub publish_json_bytes: usize,
    /// A published crate file, in bytes.
    pub publish_crate_bytes: usize,
    /// What a published crate file may unpack to, in bytes.
    pub unpacked_bytes: u64,
    /// The entries in a published crate file.
    pub tar_entries: usize,
    /// Dependencies of a published version.
    pub dependencies: usize,
    /// Features of a published version, and values of one feature.
    pub features: usize,
    /// An index file from an upstream, in bytes.
    pub index_file_bytes: usize,
    /// A crate file from an upstream, in bytes.
    pub mirrored_crate_bytes: usize,
    /// Memory for fills under way, in bytes.
    pub fill_memory_bytes: usize,
    /// How long a fill may take.
    pub fill: Duration,
    /// How long a download waits for its fill before it answers 503.
    pub fill_wait: Duration,
    /// Requests under way to one upstream.
    pub upstream_requests: usize,
    /// Redirects that are followed.
    pub redirects: usize,
    /// Connections at one time.
    pub connections: usize,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// How long a TLS handshake or a request's head may take.
    pub head: Duration,
    /// How long a request body may take.
    pub body: Duration,
    /// How long a command waits for the journal.
    pub append: Duration,
    /// Commands that wait for the journal.
    pub append_queue: usize,
    /// The journal is read this often.
    pub follow: Duration,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `cratehouse=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A text that never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
