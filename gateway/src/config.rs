//! Configuration: one TOML file, the environment and the flags become checked types. Settings
//! are data; nothing here opens anything but the secret files that a key names.
//!
//! **Precedence**, key by key: a flag (`--url`) over the environment (`CRATEHOUSE_SERVER__URL`)
//! over the file (`[server] url`) over the default. A list is replaced as a whole.
//!
//! **Environment.** The name of a key's variable is `CRATEHOUSE_`, then its path in upper case
//! with `__` between the parts: `server.admin_listen` is `CRATEHOUSE_SERVER__ADMIN_LISTEN`, the
//! `index` of the first upstream `CRATEHOUSE_UPSTREAM__0__INDEX`. Numbers and `true`/`false` are
//! written as in the file, lists with commas; an empty variable is an empty list. An upstream
//! is added by the next number, and `CRATEHOUSE_UPSTREAM` (empty) means none. `CRATEHOUSE_CONFIG`
//! names the file itself. Every other `CRATEHOUSE_*` variable is refused, except those that
//! Kubernetes injects for a Service called `cratehouse` (`CRATEHOUSE_PORT_8443_TCP`, …).
//!
//! **Types.** Sizes and times are whole numbers whose unit ends the key: `_kib`, `_mib`, `_ms`,
//! `_seconds`. Relative paths start at the current folder. Secrets come from a file
//! (`token_file`) or from the environment (`CRATEHOUSE_UPSTREAM__0__TOKEN`), never from the TOML
//! file itself. Unknown keys and bad values are refused, all of them at once: [`ConfigError`].
//!
//! `deploy/cratehouse.toml` names every key; a test holds it against the keys read here.

mod load;
mod near;
mod reader;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use url::Url;

use cratehouse_core::checksum::Checksum;
pub use cratehouse_core::console::LogFormat;
use cratehouse_core::networks::Networks;
pub use cratehouse_core::per_address::{PER_ADDRESS_PERCENT, PerAddress};
pub use cratehouse_core::secret::Secret;
pub use cratehouse_mirror::settings::{Identity, MirrorMax, Upstream, UpstreamLimits};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::name::NamePattern;
pub use cratehouse_storage::settings::Store;
pub use cratehouse_storage::url::{Cloud, StoreUrl};

/// What the command line may override, each over the environment and the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the TOML file.
    pub config: Option<PathBuf>,
    /// `--data`: the key `data`.
    pub data: Option<String>,
    /// `--store`: the key `store.url`.
    pub store: Option<String>,
    /// `--url`: the key `server.url`.
    pub url: Option<String>,
    /// `--listen`: the key `server.listen`.
    pub listen: Option<String>,
    /// `--admin-listen`: the key `server.admin_listen`.
    pub admin_listen: Option<String>,
}

/// Everything that is wrong with a configuration, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The sentences; each names its key, variable or flag and what is allowed. Never empty.
    pub problems: Vec<String>,
}

/// The exit status for a configuration or a command line that is refused (`EX_USAGE` of
/// BSD's `sysexits.h`).
pub const EXIT_CONFIG: u8 = 64;

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
    /// `[mirror]`
    pub mirror: Mirror,
    /// `[policy]`
    pub policy: Policy,
    /// `[pulls]`
    pub pulls: Pulls,
    /// `[[upstream]]`, in the order of the chain.
    pub upstreams: Vec<Upstream>,
    /// `[limits]`
    pub limits: Limits,
    /// `[auth] required`: every read needs a token.
    pub auth_required: bool,
    /// `[auth]`: how long tokens count.
    pub token_life: TokenLife,
    /// `[index] unified`: our own index lists crates of crates.io's identity too; `None`: in a registry
    /// that release 0.1 founded.
    pub unified_index: Option<bool>,
    /// `[names] reserved`: names that are ours, and never asked of an upstream.
    pub reserved: Vec<NamePattern>,
    /// `[publish] allowed_registries`: index URLs of other registries that a hosted crate's
    /// dependencies may come from, beside our own and crates.io.
    pub allowed_registries: Vec<String>,
    /// `[outgoing] ca_file`: an extra bundle of CA certificates (PEM) for everything that goes out.
    pub outgoing_ca: Option<PathBuf>,
    /// `[log]`
    pub log: Log,
    /// `[tracing]`
    pub tracing: Tracing,
}

/// How long tokens count that are made from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenLife {
    /// `auth.default_token_days`: when nothing else is asked for.
    pub usual: Option<SignedDuration>,
    /// `auth.longest_token_days`: whatever is asked for.
    pub longest: Option<SignedDuration>,
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
    /// For how long of that new connections are still served, while balancers notice that this
    /// replica is not ready any more.
    pub unready: Duration,
    /// The name under which this replica writes journal entries.
    pub replica: String,
    /// Who may say where a client is, and how; `None`: nobody.
    pub proxies: Option<Proxies>,
}

/// Proxies that are believed when they say where a client is.
#[derive(Debug, Clone)]
pub struct Proxies {
    /// Their addresses.
    pub trusted: Networks,
    /// How they say it.
    pub header: ProxyHeader,
}

/// How a proxy says where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Before the client's first byte: the PROXY protocol, version 2.
    ProxyV2,
    /// In each request: `X-Forwarded-For`.
    XForwardedFor,
    /// In each request: `Forwarded` (RFC 7239).
    Forwarded,
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
        /// How often they are looked at.
        reload: Duration,
    },
}

/// `[catalog]`
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The redb file.
    pub path: PathBuf,
    /// redb's own cache, in bytes.
    pub cache_bytes: usize,
    /// After so many journal entries a checkpoint is written.
    pub checkpoint_entries: u64,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct Cache {
    /// Memory for rendered index files, in bytes.
    pub index_bytes: u64,
    /// Memory for names that no upstream has, in bytes.
    pub absent_bytes: u64,
    /// Memory for crate files, in bytes.
    pub crates_bytes: u64,
}

/// `[mirror]`: how much is kept of what was mirrored.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// All mirrored crate files together.
    pub max: MirrorMax,
    /// Days since the last use of each; `None`: no bound.
    pub max_age_days: Option<u32>,
    /// How often it is measured and swept.
    pub sweep: Duration,
}

/// `[policy]`: what may enter the organisation.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The folder of policy files; `None`: everything is allowed.
    pub dir: Option<PathBuf>,
    /// A RustSec advisory database: its folder, or a `.tar.gz` of it. `None`: the one that the store keeps.
    pub advisories: Option<PathBuf>,
    /// Where the one that the store keeps is fetched.
    pub advisories_url: Url,
    /// How often a server does so; `None`: never, that is for `cratehouse advisories fetch`.
    pub advisories_every: Option<Duration>,
    /// Fewer advisories than these are no whole database.
    pub advisories_least: usize,
    /// How often the policy is looked at; the database every fifteenth time.
    pub reload: Duration,
}

/// `[pulls]`: who pulled what is recorded.
#[derive(Debug, Clone)]
pub struct Pulls {
    /// How often it is written to the store; at a crash, so much of it is lost.
    pub flush: Duration,
    /// For how many days it is kept; `None`: nothing is recorded.
    pub retention_days: Option<u32>,
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
    /// The index lines of hosted crates.
    pub index: IndexBounds,
    /// An index file from an upstream, in bytes.
    pub index_file_bytes: usize,
    /// A crate file from an upstream, in bytes.
    pub mirrored_crate_bytes: usize,
    /// Memory for crate files beside those that are kept, in bytes: fills, and answers under way.
    pub fill_memory_bytes: usize,
    /// How long a fill may take.
    pub fill: Duration,
    /// How long a lookup or a download waits before it answers 503; what it waits for goes on.
    pub fill_wait: Duration,
    /// Requests under way to one upstream.
    pub upstream_requests: usize,
    /// Names that one client may ask upstreams for in vain at once.
    pub absent_burst: u32,
    /// Names that one client may ask upstreams for in vain each second, when it has used up
    /// `absent_burst`.
    pub absent_per_second: u32,
    /// `limits.failed_credentials`: of one address or account that are not delayed.
    pub failed_credentials: u32,
    /// `limits.publishes_per_hour`: of one principal; 0: they are not limited.
    pub publishes_per_hour: u32,
    /// `limits.publish_burst`: those that one principal may publish at once.
    pub publish_burst: u32,
    /// Redirects that are followed.
    pub redirects: usize,
    /// Connections at one time.
    pub connections: usize,
    /// How much of a limit one client address may take.
    pub per_address: PerAddress,
    /// Requests under way on one HTTP/2 connection.
    pub streams: u32,
    /// Requests under way that memory does not answer at once, and their responses until they are
    /// sent.
    pub requests: usize,
    /// Memory for responses above 16 KiB that are made for one request, in bytes.
    pub response_memory_bytes: usize,
    /// How long a TLS handshake or a request's head may take.
    pub head: Duration,
    /// How long a request body may take.
    pub body: Duration,
    /// How fast it has to come, in bytes a second.
    pub body_rate_bytes: usize,
    /// Memory for the bodies of publish requests that are under way, in bytes.
    pub publish_memory_bytes: usize,
    /// Memory for lock files that are to be judged, in bytes.
    pub check_memory_bytes: usize,
    /// How long a command waits for the journal.
    pub append: Duration,
    /// Commands that wait for the journal.
    pub append_queue: usize,
    /// Requests without a token that counts that wait for a read of the journal.
    pub journal_waits: usize,
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

/// `[tracing]`
#[derive(Debug, Clone)]
pub struct Tracing {
    /// The collector that spans are sent to; `None`: nothing is traced.
    pub otlp: Option<Url>,
    /// Which share of the requests that come without a trace is traced, from 0 to 1.
    pub sample_ratio: f64,
}

impl Config {
    /// Reads the file that the flags (or `CRATEHOUSE_CONFIG`) name, lays the environment and the
    /// flags over it, and checks the whole.
    ///
    /// # Errors
    /// Every unknown key and bad value at once, by name and with what is allowed; the process
    /// should then exit with [`EXIT_CONFIG`].
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        load::load(flags, environment)
    }

    /// The same with another store: with the `[store]` settings that are ours, or with those of
    /// a file of its own, over which neither the environment nor a flag counts.
    ///
    /// # Errors
    /// Every unknown key and bad value in that file at once.
    pub fn with_store(&self, url: &StoreUrl, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(file) => load::store_file(file)?,
            None => self.clone(),
        };
        config.store.url = url.clone();
        Ok(config)
    }

    /// Our public URL without a trailing slash: the configured one, or else one for the address
    /// that the listener is bound to, where an unspecified address becomes this machine's own.
    pub fn url_for(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.server.url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let (scheme, usual_port) = match self.tls {
            Tls::Off => ("http", 80),
            _ => ("https", 443),
        };
        let host = match bound {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => "localhost".to_owned(),
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        match bound.port() {
            port if port == usual_port => format!("{scheme}://{host}"),
            port => format!("{scheme}://{host}:{port}"),
        }
    }

    /// SHA-256, in hexadecimal, of all that replicas of one registry should have in common:
    /// neither secrets nor what is a replica's own (its name, addresses and local paths, and
    /// how it logs and traces). Comparable between replicas of one release only.
    pub fn fingerprint(&self) -> String {
        let mut common = self.clone();
        common.data = PathBuf::new();
        common.catalog.path = PathBuf::new();
        common.server.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        common.server.admin_listen = common.server.listen;
        common.server.replica = String::new();
        common.log = Log { format: LogFormat::Human, filter: String::new() };
        common.tracing = Tracing { otlp: None, sample_ratio: 0.0 };
        Checksum::of(format!("{common:?}").as_bytes()).to_string()
    }

    /// The default of the key `data`.
    fn default_data() -> &'static Path {
        Path::new("cratehouse-data")
    }
}

/// The name of the preset upstream.
pub const CRATES_IO: &str = "crates.io";

/// Where GitHub gives the newest state of RustSec's advisory database as an archive.
#[allow(clippy::expect_used, reason = "the text is a constant, and a test parses it")]
pub(crate) fn advisory_archive() -> Url {
    ADVISORY_ARCHIVE.parse().expect("a constant URL")
}

const ADVISORY_ARCHIVE: &str =
    "https://github.com/RustSec/advisory-db/archive/refs/heads/main.tar.gz";

/// Where crates.io keeps its sparse index. The one place that knows it.
#[allow(clippy::expect_used, reason = "the text is a constant, and a test parses it")]
pub fn crates_io_index() -> Url {
    format!("https://index.{CRATES_IO}/").parse().expect("a constant URL")
}

impl Limits {
    /// What bounds the requests to one upstream.
    pub fn of_upstream(&self) -> UpstreamLimits {
        UpstreamLimits {
            index_bytes: self.index_file_bytes,
            crate_bytes: self.mirrored_crate_bytes as u64,
            fill: self.fill,
            redirects: self.redirects,
            requests: self.upstream_requests,
            per_address: self.per_address.clone(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            publish_json_bytes: MIB,
            publish_crate_bytes: 10 * MIB,
            unpacked_bytes: 512 * MIB as u64,
            tar_entries: 100_000,
            dependencies: 500,
            features: 300,
            index: IndexBounds::default(),
            index_file_bytes: 64 * MIB,
            mirrored_crate_bytes: 256 * MIB,
            fill_memory_bytes: 512 * MIB,
            fill: Duration::from_secs(120),
            fill_wait: Duration::from_secs(25),
            upstream_requests: 128,
            absent_burst: 1000,
            absent_per_second: 50,
            failed_credentials: 20,
            publishes_per_hour: 0,
            publish_burst: 100,
            redirects: 5,
            connections: 10_000,
            per_address: PerAddress::default(),
            streams: 256,
            requests: 4096,
            response_memory_bytes: 64 * MIB,
            head: Duration::from_secs(15),
            body: Duration::from_secs(60),
            body_rate_bytes: KIB,
            publish_memory_bytes: 256 * MIB,
            check_memory_bytes: 64 * MIB,
            append: Duration::from_secs(12),
            append_queue: 1024,
            journal_waits: 1024,
            follow: Duration::from_millis(500),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
