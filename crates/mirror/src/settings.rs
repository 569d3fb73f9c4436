//! Which upstreams there are, and what bounds the requests to them.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use cratehouse_core::per_address::PerAddress;
use cratehouse_core::secret::Secret;

/// `[[upstream]]`
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name: the folder of its files in the store; `[a-z0-9._-]`, unique.
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

/// What bounds the requests to one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamLimits {
    /// An index file, in bytes.
    pub index_bytes: usize,
    /// A crate file, in bytes.
    pub crate_bytes: u64,
    /// How long fetching a crate file may take.
    pub fill: Duration,
    /// Redirects that are followed.
    pub redirects: usize,
    /// Requests under way.
    pub requests: usize,
    /// How much of these one client address may take.
    pub per_address: PerAddress,
}
