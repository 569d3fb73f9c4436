//! Downloads: the bytes of one version, hosted or mirrored, from memory, from the store, or by a
//! fill.

use crate::flows::crate_file::STREAM_BYTES;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::flows::crate_file::{Content, Got, Source, Stored};
use crate::flows::index_cache::CachedLookup;
use crate::flows::pin_cache::Wanted;
use crate::flows::{fill, judging, licenses, lookup, mirroring, pinning, reading, streaming};
use crate::gateway::Gateway;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_journal::catalog::VersionRow;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_policy::ReadLicense;
use cratehouse_storage::blobs::Origin;

/// What is wanted of a crate file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its bytes.
    Bytes,
    /// That it is there, and how long it is.
    Head,
}

/// A crate file for one client.
#[derive(Debug)]
pub struct Download {
    /// What is sent.
    pub file: File,
    /// Its SHA-256.
    pub cksum: Checksum,
    /// Where it was found.
    pub source: Source,
}

/// The bytes of a crate file.
pub enum File {
    /// In memory, verified.
    Whole(Bytes),
    /// From the store, verified before the last piece is given.
    Stream {
        /// How many bytes they are.
        length: u64,
        /// An error comes in place of what is not right. Without any where only the head of the
        /// file was wanted.
        pieces: BoxStream<'static, Result<Bytes>>,
    },
}

impl File {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Stream { length, .. } => *length,
        }
    }
}

/// One version's crate file, for work of our own: see [`download_for`].
///
/// # Errors
/// As [`download_for`].
pub async fn download(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    version: &CrateVersion,
    part: Part,
) -> Result<Download> {
    download_for(gateway, ClientKey::OWN, name, version, part).await
}

/// One version's crate file, on behalf of a client. `name` and `version` must be spelled as in the index line.
///
/// # Errors
/// Absent, with what is wrong with the name or the version; forbidden, when its checksum changed
/// upstream; unavailable, when it takes longer than `limits.fill_wait` (the work goes on), or there
/// is no room in memory; throttled, when the client has asked for too much that nobody has; else the
/// trouble of the store or of an upstream.
pub async fn download_for(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    version: &CrateVersion,
    part: Part,
) -> Result<Download> {
    let finding = async {
        let (origin, got) = find_in_current_state(gateway, client, name, version).await?;
        opened(gateway, origin, got, part).await
    };
    let answer = match timeout(deadline::at_most(gateway.config.limits.fill_wait), finding).await {
        Ok(answer) => answer,
        Err(_) => Err(on_its_way(name, version)),
    };
    let outcome = outcome(answer.as_ref().map(|download| download.source));
    gateway.metrics.crate_lookups.with_label_values(&[outcome]).inc();
    answer
}

/// The same, if memory alone can tell that it may be had and has it: most downloads end here.
pub fn at_hand(gateway: &Gateway, name: &CrateName, version: &CrateVersion) -> Option<Download> {
    let lowered = mirroring::lowered(name);
    let (at, known) = gateway.index.found(&name.key(), &lowered, gateway.upstreams.len())?;
    let Ok(Some(file)) = &known.answer else { return None };
    let listed = file.version(version).filter(|listed| listed.name == *name)?;
    let shown = judging::shown_already(gateway, &known, file)?;
    if shown.is_some_and(|shown| !shown.lets_pass(version)) {
        return None;
    }
    let (cksum, bytes) = (listed.cksum, gateway.crates.at_hand(&listed.cksum)?);
    if let Some(at) = at {
        let wanted = Wanted { at, listed: listed.clone() };
        let corrections = gateway.catalog.corrections();
        gateway.crates.pins.known(&wanted, corrections).filter(|pinned| *pinned == cksum)?;
        gateway.uses.note(&cksum);
    }
    gateway.metrics.crate_lookups.with_label_values(&[outcome(Ok(Source::Memory))]).inc();
    Some(Download { file: File::Whole(bytes), cksum, source: Source::Memory })
}

/// The file for one client: what is streamed is no one else's.
async fn opened(gateway: &Arc<Gateway>, origin: Origin, got: Got, part: Part) -> Result<Download> {
    let (cksum, source) = (got.cksum, got.source);
    let file = match (got.content, part) {
        (Content::Whole(bytes), _) => File::Whole(bytes),
        (Content::InStore { size: length, .. }, Part::Head) => {
            File::Stream { length, pieces: stream::empty().boxed() }
        }
        (Content::InStore { size: length, at_hand }, Part::Bytes) => {
            drop(at_hand); // or a stream could wait for the room that it has
            let room = gateway.crates.room(length.min(STREAM_BYTES)).await?;
            let stored = Stored { origin, cksum, size: length };
            File::Stream { length, pieces: streaming::pieces(gateway, stored, room) }
        }
    };
    Ok(Download { file, cksum, source })
}

/// A refusal that the journal's lag could explain is given only after the journal was read to its
/// end.
async fn find_in_current_state(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<(Origin, Got)> {
    match find(gateway, client, name, version).await {
        Err(error) if error.kind == Kind::Absent => {
            gateway.journal.catch_up_for(gateway.reader(client)).await?;
            find(gateway, client, name, version).await
        }
        answer => answer,
    }
}

async fn find(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<(Origin, Got)> {
    let key = name.key();
    if let Some((at, known)) = mirroring::in_memory(gateway, name) {
        let got = mirrored(gateway, client, at, &known, name, version).await?;
        return Ok((Origin::Mirrored, got));
    }
    if let Some(krate) = gateway.catalog.krate(&key)? {
        let row = gateway.catalog.version(&key, version)?;
        let row = hosted_version(&krate.name, row, name, version)?;
        if !gateway.policy_store.is_silent() {
            let known = lookup::hosted_file_of(gateway, client, krate).await?;
            let _ = allowed(gateway, name, version, &known).await?; // its metadata tells its licence
        }
        return Ok((Origin::Hosted, hosted(gateway, client, row).await?));
    }
    if gateway.config.is_reserved(&key) {
        return Err(Error::absent(format_args!(
            "there is no crate `{name}`: the name is reserved here, and nothing was published \
             under it"
        )));
    }
    let (known, at) =
        mirroring::chain(gateway, client, &mirroring::lowered(name), gateway.upstreams.len()).await;
    if known.answer.clone()?.is_some() {
        let got = mirrored(gateway, client, at, &known, name, version).await?;
        return Ok((Origin::Mirrored, got));
    }
    Err(Error::absent(format_args!("there is no crate `{name}`")))
}

async fn hosted(gateway: &Arc<Gateway>, client: ClientKey, row: VersionRow) -> Result<Got> {
    let key = (Origin::Hosted, row.line.cksum);
    let bound = gateway.config.limits.fill;
    let owned = Arc::clone(gateway);
    gateway.crates.obtain(client, key, bound, || fill::hosted(owned, row)).await
}

async fn mirrored(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    at: usize,
    known: &CachedLookup,
    name: &CrateName,
    version: &CrateVersion,
) -> Result<Got> {
    let Some(file) = known.answer.clone()? else { return Err(no_version(name, version, None)) };
    let wanted = mirrored_version(at, &file, name, version)?;
    let license = allowed(gateway, name, version, known).await?;
    let listed = wanted.listed.clone();
    let got = verified(gateway, client, wanted).await?;
    match license {
        ReadLicense::No => {}
        ReadLicense::WhenAtHand => read_license_aside(gateway, known, &listed, &got),
        ReadLicense::BeforeDownload => {
            let bytes = all_of(gateway, client, &got).await?;
            licenses::read(gateway, known, &listed, &bytes).await?;
            drop(bytes); // they may be many
            allowed(gateway, name, version, known).await?;
        }
    }
    Ok(got)
}

/// Reads what is in memory beside the answer, and what is not if nothing else does.
fn read_license_aside(gateway: &Arc<Gateway>, known: &CachedLookup, listed: &Listed, got: &Got) {
    if let Some(bytes) = got.content.at_hand() {
        return licenses::read_aside(gateway, known, listed, bytes);
    }
    let Ok(turn) = Arc::clone(&gateway.crates.large_aside).try_acquire_owned() else { return };
    let (gateway, known, listed, got) =
        (Arc::clone(gateway), known.clone(), listed.clone(), got.clone());
    let reading = async move {
        match all_of(&gateway, ClientKey::Exempt, &got).await {
            Ok(bytes) => licenses::read_aside(&gateway, &known, &listed, &bytes),
            Err(error) => tracing::warn!(error = %error.chain(), "a licence could not be read"),
        }
        drop(turn);
    };
    tokio::spawn(reading.in_current_span());
}

/// The bytes of a mirrored file, also of one that is streamed.
pub(super) async fn all_of(gateway: &Arc<Gateway>, client: ClientKey, got: &Got) -> Result<Bytes> {
    match &got.content {
        Content::Whole(bytes) | Content::InStore { at_hand: Some(bytes), .. } => Ok(bytes.clone()),
        Content::InStore { size, at_hand: None } => {
            let stored = Stored { origin: Origin::Mirrored, cksum: got.cksum, size: *size };
            reading::whole(gateway, client, &stored).await
        }
    }
}

/// Whether the policy lets a version through, and whether its licence is still to be read.
async fn allowed(
    gateway: &Gateway,
    name: &CrateName,
    version: &CrateVersion,
    known: &CachedLookup,
) -> Result<ReadLicense> {
    let Ok(Some(file)) = &known.answer else { return Ok(ReadLicense::No) };
    let shown = judging::shown(gateway, name, known, file).await?;
    let Some(shown) = shown else { return Ok(ReadLicense::No) };
    let in_force = gateway.policy_store.in_force();
    match shown.refusal(name, version, in_force.policy.contact()) {
        None => Ok(shown.read_license(version)),
        Some(refusal) => {
            gateway.metrics.policy_denials.inc();
            Err(refusal)
        }
    }
}

/// A mirrored file, from wherever it can be had, by its pin.
pub(super) async fn verified(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    wanted: Wanted,
) -> Result<Got> {
    let key = (Origin::Mirrored, wanted.listed.cksum);
    let bound = gateway.config.limits.fill;
    let (owned, filled) = (Arc::clone(gateway), wanted.clone());
    let fill = || fill::mirrored(owned, client, filled);
    let got = gateway.crates.obtain(client, key, bound, fill).await?;
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
    match row {
        Some(row) if row.line.vers != *version => {
            let instead = Some(&row.line.vers).filter(|_| !row.removed);
            Err(no_version(name, version, instead))
        }
        Some(row) if row.removed => Err(removed(&row)),
        Some(row) => Ok(row),
        None => Err(no_version(name, version, None)),
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
        None => Err(no_version(name, version, file.same_number(version))),
    }
}

fn no_version(name: &CrateName, version: &CrateVersion, instead: Option<&CrateVersion>) -> Error {
    Error::absent(no_such_version(name, version, instead))
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

fn outcome(answer: Result<Source, &Error>) -> &'static str {
    match answer {
        Ok(Source::Memory) => "hit",
        Ok(Source::Store) => "store",
        Ok(Source::Upstream) => "miss",
        Err(error) if error.kind == Kind::Absent => "negative",
        Err(_) => "error",
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Stream { length, .. } => write!(f, "a stream of {length} bytes"),
        }
    }
}

#[cfg(test)]
mod tests;
