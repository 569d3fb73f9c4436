//! Every key by name, with its type, its range and its default, and the rules between keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use url::Url;

use super::reader::{PREFIX, Reader, Sources};
use super::values::{
    alias_url, dl_template, http_url, index_url, log_filter, own_url, registry_url, replica,
    socket, this_host, upstream_name,
};
use super::{
    CRATES_IO, Cache, Catalog, Config, ConfigError, Flags, Limits, Log, Mirror, MirrorMax,
    PER_ADDRESS_PERCENT, Policy, Proxies, ProxyHeader, Pulls, Server, Store, Tls, TokenLife,
    Tracing, Upstream, advisory_archive, crates_io_index,
};
use cratehouse_core::console::LogFormat;
use cratehouse_core::networks::{Networks, network};
use cratehouse_core::per_address::PerAddress;
use cratehouse_mirror::settings::Identity;
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::name::NamePattern;
use cratehouse_storage::url::{Cloud, StoreUrl};

const KIB: u64 = 1024;
/// What is logged where nothing else is said. Libraries warn of what each client that misbehaves can
/// make them do, as often as it likes.
const LOG_FILTER: &str = "info,h2=error,hyper=error,rustls=error";
const MIB: u64 = 1024 * KIB;
const MAX_UPSTREAMS: usize = 64;
/// Cargo gives up on a request after this long without a byte (cargo: `http.timeout`).
const CARGO_PATIENCE_SECONDS: u64 = 30;
/// What of that a publish may spend on the journal: the rest is for what comes before
/// (`flows/registry/publish.rs`).
const APPEND_SECONDS: u64 = 13;

/// See [`Config::load`].
pub(super) fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let mut environment = Environment::collect(environment)?;
    let file = match flags.config.clone().or_else(|| environment.config_file()) {
        Some(path) => read_file(&path).map_err(one_problem)?,
        None => toml::Table::new(),
    };
    let sources = Sources {
        flags: flag_keys(flags),
        environment: environment.ours,
        file,
        read: |path| fs::read_to_string(path),
    };
    read(&sources, environment.host_name.as_deref()).map(|(config, _)| config)
}

/// The configuration that the sources make, and the key paths that were read.
pub(super) fn read(
    sources: &Sources,
    host_name: Option<&str>,
) -> Result<(Config, BTreeSet<String>), ConfigError> {
    let reader = Reader::new(sources);
    let config = config(&reader, host_name);
    for problem in contradictions(&config) {
        reader.problem(problem);
    }
    let asked = reader.asked();
    let problems = reader.finish();
    if problems.is_empty() { Ok((config, asked)) } else { Err(ConfigError { problems }) }
}

/// A file that is read for its `[store]` (and `[outgoing]`) alone: the rules between keys are
/// those of a gateway, and do not matter.
pub(super) fn store_file(path: &Path) -> Result<Config, ConfigError> {
    let sources = Sources {
        flags: BTreeMap::new(),
        environment: BTreeMap::new(),
        file: read_file(path).map_err(one_problem)?,
        read: |path| fs::read_to_string(path),
    };
    let reader = Reader::new(&sources);
    let config = config(&reader, None);
    let problems = reader.finish();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
}

/// The token of commands that work by a server: no part of a configuration.
const TOKEN: &str = "CRATEHOUSE_TOKEN";

/// The part of the environment that concerns us.
struct Environment {
    ours: BTreeMap<String, String>,
    host_name: Option<String>,
}

impl Environment {
    fn collect(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut found = Self { ours: BTreeMap::new(), host_name: None };
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let ours = name.starts_with(PREFIX) && !is_service_link(name) && name != TOKEN;
            match value.into_string() {
                Ok(value) if ours => drop(found.ours.insert(name.to_owned(), value)),
                Ok(value) if name == "HOSTNAME" => found.host_name = Some(value),
                Err(_) if ours => return Err(one_problem(format!("{name} is not UTF-8"))),
                _ => {}
            }
        }
        Ok(found)
    }

    fn config_file(&mut self) -> Option<PathBuf> {
        self.ours.remove("CRATEHOUSE_CONFIG").map(PathBuf::from)
    }
}

/// Whether Kubernetes made this variable for a Service whose name begins with `cratehouse`
/// (Kubernetes, "Discovering services", environment variables).
fn is_service_link(name: &str) -> bool {
    let port = |(_, tail): (&str, &str)| {
        let mut parts = tail.split('_');
        parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.ends_with("_PORT")
            || name.rsplit_once("_PORT_").is_some_and(port))
}

fn flag_keys(flags: &Flags) -> BTreeMap<&'static str, (&'static str, String)> {
    let all = [
        ("data", "--data", &flags.data),
        ("store.url", "--store", &flags.store),
        ("server.url", "--url", &flags.url),
        ("server.listen", "--listen", &flags.listen),
        ("server.admin_listen", "--admin-listen", &flags.admin_listen),
    ];
    let given = |(key, flag, text): (_, _, &Option<String>)| Some((key, (flag, text.clone()?)));
    all.into_iter().filter_map(given).collect()
}

fn read_file(path: &Path) -> Result<toml::Table, String> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("the configuration file {shown} cannot be read: {error}"))?;
    text.parse().map_err(|error| format!("the configuration file {shown} is not TOML: {error}"))
}

fn one_problem(text: String) -> ConfigError {
    ConfigError { problems: vec![text] }
}

fn config(r: &Reader<'_>, host_name: Option<&str>) -> Config {
    let data = r.path("data").unwrap_or_else(|| Config::default_data().to_owned());
    Config {
        server: server(r, host_name),
        tls: tls(r),
        store: store(r, &data),
        catalog: Catalog {
            path: r.path("catalog.path").unwrap_or_else(|| data.join("catalog.redb")),
            cache_bytes: size(r.integer("catalog.cache_mib", 1..=1024 * KIB, 64) * MIB),
            checkpoint_entries: r.integer("catalog.checkpoint_entries", 1..=1_000_000, 1000),
        },
        cache: Cache {
            index_bytes: r.integer("cache.index_mib", 0..=1024 * KIB, 128) * MIB,
            absent_bytes: r.integer("cache.absent_mib", 0..=1024 * KIB, 16) * MIB,
            crates_bytes: r.integer("cache.crates_mib", 0..=1024 * KIB, 256) * MIB,
        },
        mirror: Mirror {
            max: mirror_max(r),
            max_age_days: u32::try_from(r.integer("mirror.max_age_days", 0..=36_500, 0))
                .ok()
                .filter(|days| *days > 0),
            sweep: Duration::from_secs(60 * r.integer("mirror.sweep_minutes", 1..=10_080, 60)),
        },
        policy: policy(r),
        pulls: Pulls {
            flush: seconds(r.integer("pulls.flush_seconds", 1..=3600, 60)),
            retention_days: u32::try_from(r.integer("pulls.retention_days", 0..=36_500, 90))
                .ok()
                .filter(|days| *days > 0),
        },
        upstreams: upstreams(r),
        limits: limits(r),
        auth_required: r.boolean("auth.required", false),
        token_life: TokenLife {
            usual: days(r.integer("auth.default_token_days", 0..=36_500, 0)),
            longest: days(r.integer("auth.longest_token_days", 0..=36_500, 0)),
        },
        unified_index: r.has("index.unified").then(|| r.boolean("index.unified", false)),
        reserved: r.list("names.reserved", str::parse::<NamePattern>),
        allowed_registries: r.list("publish.allowed_registries", registry_url),
        outgoing_ca: r.path("outgoing.ca_file"),
        log: log(r),
        tracing: Tracing {
            otlp: r.parsed("tracing.otlp", http_url),
            sample_ratio: r.ratio("tracing.sample_ratio", 0.01),
        },
        data,
    }
}

fn policy(r: &Reader<'_>) -> Policy {
    let policy = Policy {
        dir: r.path("policy.dir"),
        advisories: r.path("policy.advisories"),
        advisories_url: r
            .parsed("policy.advisories_url", http_url)
            .unwrap_or_else(advisory_archive),
        advisories_every: Some(r.integer("policy.advisories_hours", 0..=8760, 0))
            .filter(|hours| *hours > 0)
            .map(|hours| seconds(3600 * hours)),
        advisories_least: size(r.integer("policy.advisories_least", 1..=50_000, 500)),
        reload: seconds(r.integer("policy.reload_seconds", 1..=3600, 2)),
    };
    if policy.advisories.is_some() && policy.advisories_every.is_some() {
        r.problem(
            "`policy.advisories` names a database of yours, which then counts, and \
             `policy.advisories_hours` fetches another: leave one of them out",
        );
    }
    policy
}

fn mirror_max(r: &Reader<'_>) -> MirrorMax {
    let is_set = r.has("mirror.max_mib");
    match r.integer("mirror.max_mib", 0..=1024 * MIB, 0) {
        _ if !is_set => MirrorMax::Disk,
        0 => MirrorMax::Unbounded,
        mib => MirrorMax::Bytes(mib * MIB),
    }
}

fn server(r: &Reader<'_>, host_name: Option<&str>) -> Server {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Server {
        listen: r.parsed("server.listen", socket).unwrap_or(local(8443)),
        admin_listen: r.parsed("server.admin_listen", socket).unwrap_or(local(8444)),
        url: r.parsed("server.url", own_url),
        aliases: r.list("server.aliases", alias_url),
        drain: seconds(r.integer("server.drain_seconds", 1..=3600, 25)),
        unready: seconds(r.integer("server.unready_seconds", 0..=3599, 0)),
        replica: r.parsed("server.replica", replica).unwrap_or_else(|| this_host(host_name)),
        proxies: proxies(r),
    }
}

fn proxies(r: &Reader<'_>) -> Option<Proxies> {
    let trusted = r.list("server.trusted_proxies", network);
    let headers = [
        ("proxy-v2", ProxyHeader::ProxyV2),
        ("x-forwarded-for", ProxyHeader::XForwardedFor),
        ("forwarded", ProxyHeader::Forwarded),
    ];
    match r.choice("server.proxy_header", &headers) {
        Some(header) if !trusted.is_empty() => {
            return Some(Proxies { trusted: Networks::new(trusted), header });
        }
        Some(_) if !r.has("server.trusted_proxies") => r.problem(
            "`server.proxy_header` needs `server.trusted_proxies`: anybody could claim to be \
             anywhere otherwise",
        ),
        None if !trusted.is_empty() && !r.has("server.proxy_header") => r.problem(
            "`server.trusted_proxies` needs `server.proxy_header`: how they say where a client \
             is, `proxy-v2`, `x-forwarded-for` or `forwarded`",
        ),
        _ => {}
    }
    None
}

fn tls(r: &Reader<'_>) -> Tls {
    let mode =
        r.choice("tls.mode", &[("local-ca", "local-ca"), ("files", "files"), ("off", "off")]);
    let (cert, key) = (r.path("tls.cert"), r.path("tls.key"));
    let reload = seconds(r.integer("tls.reload_seconds", 1..=3600, 10));
    match (mode, cert, key) {
        (None | Some("files"), Some(cert), Some(key)) => {
            return Tls::Files { cert, key, reload };
        }
        (None | Some("local-ca"), None, None) => {}
        (Some("off"), None, None) => return Tls::Off,
        (None | Some("files"), _, _) => {
            r.problem("`tls.cert` and `tls.key` belong together: set both, or neither");
        }
        (Some(mode), _, _) => r.problem(format!(
            "`tls.mode` = `{mode}` uses neither `tls.cert` nor `tls.key`: leave them out, or set \
             the mode to `files`"
        )),
    }
    Tls::LocalCa
}

fn store(r: &Reader<'_>, data: &Path) -> Store {
    let store = Store {
        url: r
            .parsed("store.url", str::parse::<StoreUrl>)
            .unwrap_or_else(|| StoreUrl::Folder(data.join("store"))),
        endpoint: r.parsed("store.endpoint", http_url),
        region: r.text("store.region"),
        access_key_id: r.text("store.access_key_id"),
        secret_access_key: r.secret("store.secret_access_key"),
        allow_http: r.boolean("store.allow_http", false),
    };
    if store.access_key_id.is_some() != store.secret_access_key.is_some() {
        r.problem(
            "`store.access_key_id` and `store.secret_access_key_file` belong together: set both, \
             or neither (then the usual AWS variables and roles count)",
        );
    }
    let plain = store.endpoint.as_ref().filter(|url| url.scheme() == "http");
    if let Some(endpoint) = plain.filter(|_| !store.allow_http) {
        r.problem(format!(
            "`store.endpoint` = `{endpoint}` is plain http, so keys and crates could be read on the way: write \
             https://, or set `store.allow_http` = true"
        ));
    }
    store
}

fn log(r: &Reader<'_>) -> Log {
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    Log {
        format: r.choice("log.format", &formats).unwrap_or(LogFormat::Human),
        filter: r.parsed("log.filter", log_filter).unwrap_or_else(|| LOG_FILTER.to_owned()),
    }
}

fn upstreams(r: &Reader<'_>) -> Vec<Upstream> {
    let preset_first = !r.has("upstream");
    let rows = r.rows("upstream", MAX_UPSTREAMS).unwrap_or(1);
    (0..rows).filter_map(|row| upstream(r, row, preset_first && row == 0)).collect()
}

/// One `[[upstream]]`; `None` and a problem noted when something is missing.
fn upstream(r: &Reader<'_>, row: usize, preset: bool) -> Option<Upstream> {
    let path = |key: &str| format!("upstream.{row}.{key}");
    let name = r.parsed(&path("name"), upstream_name);
    let name = name.or_else(|| (preset && !r.has(&path("name"))).then(|| CRATES_IO.to_owned()));
    let preset = name.as_deref() == Some(CRATES_IO);
    let index = r.parsed(&path("index"), index_url).or_else(|| preset.then(crates_io_index));
    let identities = [("crates-io", Identity::CratesIo), ("ours", Identity::Ours)];
    let identity = r.choice(&path("identity"), &identities);
    let identity = identity.or(preset.then_some(Identity::CratesIo));
    let dl = r.parsed(&path("dl"), dl_template);
    let token = r.secret(&path("token"));
    let fresh = seconds(r.integer(&path("fresh_seconds"), 0..=604_800, 60));
    let negative = seconds(r.integer(&path("negative_seconds"), 0..=86_400, 10));
    let timeout = seconds(r.integer(&path("timeout_seconds"), 1..=300, 15));
    let ca_file = r.path(&path("ca_file"));
    let private_dl = r.boolean(&path("private_dl"), false);

    let wanted = [
        ("name", name.is_some(), "a short name of its own, the folder of its files in the store"),
        ("index", index.is_some(), "the URL of its sparse index"),
        (
            "identity",
            identity.is_some(),
            "`crates-io` when it serves crates.io's crates (Panamax), `ours` when it is a private \
             registry of yours",
        ),
    ];
    for (key, _, what) in wanted.iter().filter(|(key, got, _)| !got && !r.has(&path(key))) {
        r.problem(format!("`{}` is required: {what}", path(key)));
    }
    Some(Upstream {
        name: name?,
        index: index?,
        identity: identity?,
        dl,
        token,
        fresh,
        negative,
        timeout,
        ca_file,
        private_dl,
    })
}

fn limits(r: &Reader<'_>) -> Limits {
    let d = Limits::default();
    let count = |key, most, default| size(r.integer(key, 1..=most, default as u64));
    let kib = |key, most, default| size(r.integer(key, 1..=most, default as u64 / KIB) * KIB);
    let mib = |key, most, default| size(r.integer(key, 1..=most, default as u64 / MIB) * MIB);
    let number = |key, most, default: u32| {
        u32::try_from(r.integer(key, 1..=most, default.into())).unwrap_or(default)
    };
    let secs = |key, most, default: Duration| seconds(r.integer(key, 1..=most, default.as_secs()));
    let patience = CARGO_PATIENCE_SECONDS - 1;
    let streams = r.integer("limits.streams", 1..=10_000, u64::from(d.streams));
    Limits {
        publish_json_bytes: kib("limits.publish_json_kib", 64 * KIB, d.publish_json_bytes),
        publish_crate_bytes: kib("limits.publish_crate_kib", MIB, d.publish_crate_bytes),
        unpacked_bytes: r.integer("limits.unpacked_mib", 1..=64 * KIB, d.unpacked_bytes / MIB)
            * MIB,
        tar_entries: count("limits.tar_entries", 10_000_000, d.tar_entries),
        dependencies: count("limits.dependencies", 100_000, d.dependencies),
        features: count("limits.features", 100_000, d.features),
        index: IndexBounds {
            line_bytes: kib("limits.index_line_kib", 64 * KIB, d.index.line_bytes),
            file_bytes: mib("limits.hosted_index_file_mib", 4 * KIB, d.index.file_bytes),
        },
        index_file_bytes: mib("limits.index_file_mib", 4 * KIB, d.index_file_bytes),
        mirrored_crate_bytes: mib("limits.mirrored_crate_mib", 4 * KIB, d.mirrored_crate_bytes),
        fill_memory_bytes: mib("limits.fill_memory_mib", 1024 * KIB, d.fill_memory_bytes),
        fill: secs("limits.fill_seconds", 3600, d.fill),
        fill_wait: secs("limits.fill_wait_seconds", patience, d.fill_wait),
        upstream_requests: count("limits.upstream_requests", 10_000, d.upstream_requests),
        absent_burst: number("limits.absent_burst", 1_000_000, d.absent_burst),
        absent_per_second: number("limits.absent_per_second", 100_000, d.absent_per_second),
        failed_credentials: number("limits.failed_credentials", 1_000_000, d.failed_credentials),
        publishes_per_hour: u32::try_from(r.integer("limits.publishes_per_hour", 0..=1_000_000, 0))
            .unwrap_or(d.publishes_per_hour),
        publish_burst: number("limits.publish_burst", 1_000_000, d.publish_burst),
        redirects: size(r.integer("limits.redirects", 0..=20, d.redirects as u64)),
        connections: count("limits.connections", 1_000_000, d.connections),
        per_address: per_address(r),
        streams: u32::try_from(streams).unwrap_or(d.streams),
        requests: count("limits.requests", 1_000_000, d.requests),
        response_memory_bytes: mib("limits.response_memory_mib", 64 * KIB, d.response_memory_bytes),
        head: secs("limits.head_seconds", 300, d.head),
        body: secs("limits.body_seconds", 3600, d.body),
        body_rate_bytes: kib("limits.body_rate_kib", KIB, d.body_rate_bytes),
        publish_memory_bytes: mib("limits.publish_memory_mib", MIB, d.publish_memory_bytes),
        check_memory_bytes: mib("limits.check_memory_mib", MIB, d.check_memory_bytes),
        append: secs("limits.append_seconds", APPEND_SECONDS, d.append),
        append_queue: count("limits.append_queue", 1_000_000, d.append_queue),
        journal_waits: count("limits.journal_waits", 1_000_000, d.journal_waits),
        follow: millis(r.integer("limits.follow_ms", 10..=60_000, d.follow.as_millis() as u64)),
    }
}

/// A life in days; none where it is 0.
fn days(number: u64) -> Option<SignedDuration> {
    let hours = i64::try_from(number).ok().filter(|days| *days > 0)? * 24;
    Some(SignedDuration::from_hours(hours))
}

fn per_address(r: &Reader<'_>) -> PerAddress {
    let percent = r.integer("limits.per_address_percent", 1..=100, PER_ADDRESS_PERCENT.into());
    PerAddress {
        percent: u8::try_from(percent).unwrap_or(PER_ADDRESS_PERCENT),
        exempt: Networks::new(r.list("limits.exempt_networks", network)),
    }
}

/// The rules between keys.
fn contradictions(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let server = &config.server;
    if let (Some(cloud), Tls::LocalCa) = (config.store.url.cloud(), &config.tls) {
        problems.push(format!(
            "with an `{}` store, set `tls.cert` and `tls.key`, or `tls.mode` = `off` behind a \
             proxy: replicas share such a store, and a local CA for each of them would break \
             their clients",
            cloud.scheme()
        ));
    }
    problems.extend(s3_keys_elsewhere(&config.store));
    if config.tls != Tls::Off && server.url.as_ref().is_some_and(|url| url.scheme() == "http") {
        problems.push(
            "`server.url` must begin with https:// (or set `tls.mode` = `off` to serve plain \
             http)"
                .to_owned(),
        );
    }
    if server.listen == server.admin_listen && server.listen.port() != 0 {
        problems.push(format!(
            "`server.listen` and `server.admin_listen` are both {}: choose another port for one",
            server.listen
        ));
    }
    let in_requests = |proxies: &Proxies| proxies.header != ProxyHeader::ProxyV2;
    if config.tls != Tls::Off && server.proxies.as_ref().is_some_and(in_requests) {
        problems.push(
            "`server.proxy_header` must be `proxy-v2`, or `tls.mode` `off`: a proxy that passes \
             TLS on cannot write into requests, so whatever stands there is a client's own word"
                .to_owned(),
        );
    }
    if server.unready >= server.drain {
        problems.push(
            "`server.unready_seconds` must be less than `server.drain_seconds`, of which it is a \
             part"
                .to_owned(),
        );
    }
    if config.limits.mirrored_crate_bytes > config.limits.fill_memory_bytes {
        problems.push(
            "`limits.fill_memory_mib` must be at least `limits.mirrored_crate_mib`, or the \
             largest crates could never be fetched"
                .to_owned(),
        );
    }
    let mut names = BTreeSet::new();
    let our_urls: Vec<_> = server.url.iter().chain(&server.aliases).map(Url::origin).collect();
    for upstream in &config.upstreams {
        let name = &upstream.name;
        if !names.insert(name) {
            problems.push(format!("two upstreams are called `{name}`: names must differ"));
        }
        if our_urls.contains(&upstream.index.origin()) {
            problems.push(format!(
                "the index of the upstream `{name}` has our own address ({}): we would ask \
                 ourselves",
                upstream.index
            ));
        }
    }
    problems
}

/// What is set for S3 would be passed over in silence.
fn s3_keys_elsewhere(store: &Store) -> Option<String> {
    let cloud = store.url.cloud().filter(|cloud| *cloud != Cloud::S3)?;
    let set = store.endpoint.is_some() || store.region.is_some() || store.access_key_id.is_some();
    set.then(|| {
        format!(
            "`store.endpoint`, `store.region` and `store.access_key_id` are for `s3://`: an `{}` \
             store is reached by the usual environment variables of its cloud",
            cloud.scheme()
        )
    })
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Every caller's number is range-checked far below this bound.
fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
