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

/// The memory for crate files: one budget.
#[derive(Debug, Clone)]
pub struct CrateMemory {
    /// The part of it in which files may be kept, in bytes.
    pub kept_bytes: u64,
    /// The part of it that only files on their way take, in bytes.
    pub more_bytes: u64,
    /// How long a file waits for memory.
    pub wait: Duration,
    /// Requests under way: there are no more fills than these.
    pub requests: usize,
    /// How much of them one client address may take.
    pub per_address: PerAddress,
}

/// What bounds crate files that are brought into memory.
#[derive(Debug, Clone, Copy)]
pub struct FileLimits {
    /// How long bringing one may take.
    pub fill: Duration,
    /// The largest that an upstream may send, in bytes.
    pub mirrored_bytes: u64,
}

/// What bounds names that no upstream has.
#[derive(Debug, Clone)]
pub struct AbsentLimits {
    /// Names that a client may ask for in vain at one time.
    pub burst: u32,
    /// Names that it may go on asking for in vain each second.
    pub per_second: u32,
    /// Requests under way.
    pub requests: usize,
    /// How much of these one client address may take.
    pub per_address: PerAddress,
}

/// What bounds the mirrored crate files in the store.
#[derive(Debug, Clone)]
pub struct Eviction {
    /// Their size.
    pub max: MirrorMax,
    /// The age of their last use after which they go, in days; `None`: they stay.
    pub max_age_days: Option<u32>,
    /// How often the bounds are applied.
    pub sweep: Duration,
    /// The folder on whose disk they are, where the store is one.
    pub folder: Option<PathBuf>,
}

/// `[mirror] max_mib`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorMax {
    /// As much as leaves a part of the disk of a folder store free; in a bucket, no bound.
    Disk,
    /// No bound.
    Unbounded,
    /// So many bytes.
    Bytes(u64),
}
