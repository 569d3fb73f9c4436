//! Downloads: the bytes of one version, hosted or mirrored, from memory, from the store, or by a
//! fill.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::flows::fill::{self, Budget, Got, Source};
use crate::flows::flights::Flights;
use crate::flows::index_cache::Known;
use crate::flows::lookup::{self, is_reserved};
use crate::flows::pinning::{self, Pins, Wanted};
use crate::flows::{judging, licenses, mirroring};
use crate::gateway::Gateway;
use crate::model::checksum::Checksum;
use crate::model::index::IndexFile;
use crate::model::name::CrateName;
use crate::model::policy::ReadLicense;
use crate::model::version::CrateVersion;
use crate::stores::blobs::Origin;
use crate::stores::catalog::VersionRow;

/// A crate file is kept in memory when it takes at most this part of it.
const LARGEST_SHARE: u64 = 8;

/// What each cached crate file takes beside its bytes.
const ENTRY_BYTES: usize = 200;

/// The bytes of one version, verified. `name` and `version` must be spelled as in the index line.
///
/// # Errors
/// Absent, with what is wrong with the name or the version; forbidden, when its checksum changed
/// upstream; unavailable, when it takes longer than `limits.fill_wait` (the work goes on); else
/// the trouble of the store or of an upstream.
pub async fn download(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Got> {
    let finding = find_in_current_state(gateway, name, version);
    let answer = match timeout(gateway.config.limits.fill_wait, finding).await {
        Ok(answer) => answer,
        Err(_) => Err(on_its_way(name, version)),
    };
    gateway.metrics.crate_lookups.with_label_values(&[outcome(&answer)]).inc();
    answer
}

/// A refusal that the journal's lag could explain is given only after the journal was read to its
/// end.
async fn find_in_current_state(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Got> {
    match find(gateway, name, version).await {
        Err(error) if error.kind == Kind::Absent => {
            gateway.journal.catch_up().await?;
            find(gateway, name, version).await
        }
        answer => answer,
    }
}

async fn find(gateway: &Arc<Gateway>, name: &CrateName, version: &CrateVersion) -> Result<Got> {
    let key = name.key();
    if let Some((at, known)) = mirroring::in_memory(gateway, name) {
        return mirrored(gateway, at, &known, name, version).await;
    }
    if let Some(krate) = gateway.catalog.krate(&key)? {
        let row = gateway.catalog.version(&key, version)?;
        let row = hosted_version(&krate.name, row, name, version)?;
        if !gateway.rulebook.is_silent() {
            let known = lookup::hosted_file_of(gateway, krate).await?;
            let _ = allowed(gateway, name, version, &known).await?; // its metadata tells its licence
        }
        return hosted(gateway, row).await;
    }
    if is_reserved(&gateway.config, &key) {
        return Err(Error::absent(format_args!(
            "there is no crate `{name}`: the name is reserved here, and nothing was published \
             under it"
        )));
    }
    for at in 0..gateway.upstreams.len() {
        let known = mirroring::known_at(gateway, name, at).await?;
        if known.answer.clone()?.is_some() {
            return mirrored(gateway, at, &known, name, version).await;
        }
    }
    Err(Error::absent(format_args!("there is no crate `{name}`")))
}

async fn hosted(gateway: &Arc<Gateway>, row: VersionRow) -> Result<Got> {
    let key = (Origin::Hosted, row.line.cksum);
    let bound = gateway.config.limits.fill;
    let owned = Arc::clone(gateway);
    gateway.crates.obtain(key, bound, || fill::hosted(owned, row)).await
}

async fn mirrored(
    gateway: &Arc<Gateway>,
    at: usize,
    known: &Known,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Got> {
    let Some(file) = known.answer.clone()? else { return Err(no_version(name, version)) };
    let wanted = mirrored_version(at, &file, name, version)?;
    let license = allowed(gateway, name, version, known).await?;
    let listed = wanted.listed.clone();
    let got = verified(gateway, wanted).await?;
    match license {
        ReadLicense::No => {}
        ReadLicense::WhenAtHand => licenses::read_aside(gateway, known, &listed, &got.bytes),
        ReadLicense::BeforeDownload => {
            licenses::read(gateway, known, &listed, &got.bytes).await?;
            allowed(gateway, name, version, known).await?;
        }
    }
    Ok(got)
}

/// Whether the policy lets a version through, and whether its licence is still to be read.
async fn allowed(
    gateway: &Gateway,
    name: &CrateName,
    version: &CrateVersion,
    known: &Known,
) -> Result<ReadLicense> {
    let Ok(Some(file)) = &known.answer else { return Ok(ReadLicense::No) };
    let shown = judging::shown(gateway, name, known, file).await?;
    let Some(shown) = shown else { return Ok(ReadLicense::No) };
    let in_force = gateway.rulebook.in_force();
    match shown.refusal(name, version, in_force.policy.contact()) {
        None => Ok(shown.read_license(version)),
        Some(refusal) => {
            gateway.metrics.policy_denials.inc();
            Err(refusal)
        }
    }
}

async fn verified(gateway: &Arc<Gateway>, wanted: Wanted) -> Result<Got> {
    let key = (Origin::Mirrored, wanted.listed.cksum);
    let bound = gateway.config.limits.fill;
    let (owned, filled) = (Arc::clone(gateway), wanted.clone());
    let got = gateway.crates.obtain(key, bound, || fill::mirrored(owned, filled)).await?;
    pinning::pin(gateway, &wanted).await?;
    gateway.uses.note(&wanted.listed.cksum);
    Ok(got)
}

/// The version of a hosted crate that a URL means: both must be spelled as they were published.
fn hosted_version(
    published: &CrateName,
    row: Option<VersionRow>,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<VersionRow> {
    if published != name {
        return Err(spelled_otherwise(name, published));
    }
    match row.filter(|row| row.line.vers == *version) {
        Some(row) if row.removed => Err(removed(&row)),
        Some(row) => Ok(row),
        None => Err(no_version(name, version)),
    }
}

/// The version that a URL means, in the index file of the first upstream that has the crate. One
/// that it does not list is absent: two upstreams are never mixed.
fn mirrored_version(
    at: usize,
    file: &IndexFile,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Wanted> {
    match file.version(version) {
        Some(listed) if listed.name == *name => Ok(Wanted { at, listed: listed.clone() }),
        Some(listed) => Err(spelled_otherwise(name, &listed.name)),
        None => Err(no_version(name, version)),
    }
}

fn no_version(name: &CrateName, version: &CrateVersion) -> Error {
    Error::absent(format_args!("`{name}` has no version {version}"))
}

fn removed(row: &VersionRow) -> Error {
    Error::absent(format_args!(
        "`{}` {} was removed by an administrator; use another version",
        row.line.name, row.line.vers
    ))
}

fn spelled_otherwise(asked: &CrateName, real: &CrateName) -> Error {
    Error::absent(format_args!("there is no crate `{asked}`: it is spelled `{real}`"))
}

fn on_its_way(name: &CrateName, version: &CrateVersion) -> Error {
    Error::unavailable(format_args!(
        "`{name}` {version} is still on its way to the registry, which goes on fetching it; try \
         again in a few seconds"
    ))
}

fn outcome(answer: &Result<Got>) -> &'static str {
    match answer {
        Ok(got) => match got.source {
            Source::Memory => "hit",
            Source::Store => "store",
            Source::Upstream => "miss",
        },
        Err(error) if error.kind == Kind::Absent => "negative",
        Err(_) => "error",
    }
}

/// Crate files in memory, and those that are on their way there.
#[derive(Debug)]
pub struct CrateCache {
    memory: Memory,
    flights: Flights<(Origin, Checksum), Result<Got>>,
    pub(in crate::flows) pins: Pins,
    pub(in crate::flows) budget: Budget,
}

impl CrateCache {
    /// `capacity` bytes for crate files that are kept, `fill_memory_bytes` for those on their way.
    pub fn new(capacity: u64, fill_memory_bytes: usize) -> Self {
        Self {
            memory: Memory::new(capacity),
            flights: Flights::default(),
            pins: Pins::default(),
            budget: Budget::new(fill_memory_bytes),
        }
    }

    /// Drops a crate file from memory, whatever its origin.
    pub async fn forget(&self, cksum: &Checksum) {
        self.memory.files.invalidate(cksum).await;
    }

    /// A crate file from memory, else what `load` brings within `bound`: one `load` for all who
    /// ask at the same time, which goes on when they leave.
    async fn obtain<F, W>(&self, key: (Origin, Checksum), bound: Duration, load: F) -> Result<Got>
    where
        F: FnOnce() -> W,
        W: Future<Output = Result<Got>> + Send + 'static,
    {
        let cksum = key.1;
        if let Some(got) = self.memory.get(&cksum).await {
            return Ok(got);
        }
        let memory = self.memory.clone();
        let start = || {
            let loading = load();
            async move {
                // Another flight may have landed since we looked.
                if let Some(got) = memory.get(&cksum).await {
                    return Ok(got);
                }
                let got = timeout(bound, loading).await.unwrap_or_else(|_| Err(too_slow(bound)))?;
                memory.keep(cksum, &got.bytes).await;
                Ok(got)
            }
        };
        self.flights.join(key, start).await.unwrap_or_else(|| Err(broke_off()))
    }
}

fn too_slow(bound: Duration) -> Error {
    let seconds = bound.as_secs();
    Error::new(
        Kind::UpstreamTimeout,
        format!("the crate file did not arrive within {seconds} s; try again"),
    )
    .retry_after(Duration::from_secs(5))
}

fn broke_off() -> Error {
    Error::new(Kind::Internal, "fetching the crate file broke off; the registry's log knows more")
}

/// The cache itself, which flights share.
#[derive(Debug, Clone)]
struct Memory {
    files: Cache<Checksum, Bytes>,
    largest: u64,
}

impl Memory {
    fn new(capacity: u64) -> Self {
        let weigh = |_: &Checksum, bytes: &Bytes| {
            u32::try_from(bytes.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let files = Cache::builder().max_capacity(capacity).weigher(weigh).build();
        Self { files, largest: capacity / LARGEST_SHARE }
    }

    async fn get(&self, cksum: &Checksum) -> Option<Got> {
        let bytes = self.files.get(cksum).await?;
        Some(Got { bytes, cksum: *cksum, source: Source::Memory })
    }

    async fn keep(&self, cksum: Checksum, bytes: &Bytes) {
        if bytes.len() as u64 <= self.largest {
            self.files.insert(cksum, bytes.clone()).await;
        }
    }
}

#[cfg(test)]
mod tests;
