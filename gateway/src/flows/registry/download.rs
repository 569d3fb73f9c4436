//! Downloads: the bytes of one version, hosted or mirrored, from memory, from the store, or by a
//! fill.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::timeout;

use crate::flows::access::reader::Reader;
use crate::flows::access::visibility::Visibility;
use crate::flows::registry::hosting::{Hosting, NameOf};
use crate::flows::registry::lookup::Lookup;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_journal::catalog::{CrateRow, VersionRow};
use cratehouse_mirror::files::crate_file::{Content, Got, Source};
use cratehouse_mirror::files::crate_files::{CrateFiles, HostedFile};
use cratehouse_mirror::files::download::MirroredFiles;
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::cache::{CachedLookup, IndexCache};
use cratehouse_mirror::index::chain::{Chain, lowered};
use cratehouse_mirror::judge::Judge;
use cratehouse_mirror::pins::cache::Wanted;
use cratehouse_mirror::pins::pinner::Pinner;
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_storage::blobs::Origin;

/// What gives clients crate files.
#[derive(Debug)]
pub struct Downloads {
    /// Index files in memory, where most downloads begin.
    pub index: IndexCache,
    /// Crate files.
    pub files: Arc<CrateFiles>,
    /// Mirrored ones.
    pub mirrored: Arc<MirroredFiles>,
    /// The pins of those.
    pub pinner: Arc<Pinner>,
    /// What judges versions.
    pub judge: Arc<Judge>,
    /// Index files of upstreams.
    pub chain: Arc<Chain>,
    /// Index files of hosted crates.
    pub lookup: Arc<Lookup>,
    /// Which names are ours, and their crates.
    pub hosting: Arc<Hosting>,
    /// Which crates exist for whom.
    pub visibility: Arc<Visibility>,
    /// How long a download may take until it begins.
    pub wait: Duration,
    /// Where downloads count.
    pub metrics: Metrics,
}

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

impl Downloads {
    /// One version's crate file, for work of our own: see [`get_for`](Self::get_for).
    ///
    /// # Errors
    /// As [`get_for`](Self::get_for).
    pub async fn get(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        part: Part,
    ) -> Result<Download> {
        self.get_for(&Reader::OWN, name, version, part).await
    }

    /// One version's crate file, on behalf of a reader, for whom it may not exist. `name` and `version` must be spelled as in the
    /// index line.
    ///
    /// # Errors
    /// Absent, with what is wrong with the name or the version; forbidden, when its checksum changed
    /// upstream; unavailable, when it takes longer than `limits.fill_wait` (the work goes on), or there
    /// is no room in memory; throttled, when the client has asked for too much that nobody has; else
    /// what went wrong in the store or at an upstream.
    pub async fn get_for(
        &self,
        reader: &Reader,
        name: &CrateName,
        version: &CrateVersion,
        part: Part,
    ) -> Result<Download> {
        if let Some(download) = self.at_hand(reader, name, version) {
            return Ok(download);
        }
        let finding = async {
            let (origin, got) = self.find_in_current_state(reader, name, version).await?;
            self.opened(origin, got, part).await
        };
        let answer = match timeout(deadline::at_most(self.wait), finding).await {
            Ok(answer) => answer,
            Err(_) => Err(on_its_way(name, version)),
        };
        self.count(answer.as_ref().map(|download| download.source));
        answer
    }

    /// The same, if memory alone can tell that it may be had and has it: most downloads end here.
    pub fn at_hand(
        &self,
        reader: &Reader,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Option<Download> {
        self.visibility.exists_for(reader, name).ok().filter(|exists| *exists)?;
        let (at, known) = self.index.found(&name.key(), &lowered(name), self.chain.len())?;
        let Ok(Some(file)) = &known.answer else { return None };
        let listed = file.version(version).filter(|listed| listed.name == *name)?;
        let shown = self.judge.shown_already(&known, file)?;
        if shown.is_some_and(|shown| !shown.lets_pass(version)) {
            return None;
        }
        let (cksum, bytes) = (listed.cksum, self.files.cache.at_hand(&listed.cksum)?);
        if let Some(at) = at {
            let wanted = Wanted { at, listed: listed.clone() };
            self.pinner.is_known_as_wanted(&wanted).then_some(())?;
            self.mirrored.note_use(&cksum);
        }
        self.count(Ok(Source::Memory));
        Some(Download { file: File::Whole(bytes), cksum, source: Source::Memory })
    }

    /// The file for one client: what is streamed is no one else's.
    async fn opened(&self, origin: Origin, got: Got, part: Part) -> Result<Download> {
        let (cksum, source) = (got.cksum, got.source);
        let file = match (got.content, part) {
            (Content::Whole(bytes), _) => File::Whole(bytes),
            (Content::InStore { size: length, .. }, Part::Head) => {
                File::Stream { length, pieces: stream::empty().boxed() }
            }
            (Content::InStore { size: length, at_hand }, Part::Bytes) => {
                drop(at_hand); // or a stream could wait for the room that it has
                let pieces = self.files.stream(origin, cksum, length).await?;
                File::Stream { length, pieces }
            }
        };
        Ok(Download { file, cksum, source })
    }

    /// A refusal that the journal's lag could explain is given only after the journal was read to its
    /// end.
    async fn find_in_current_state(
        &self,
        reader: &Reader,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<(Origin, Got)> {
        match self.find(reader, name, version).await {
            Err(error) if error.kind == Kind::Absent => {
                self.hosting.catch_up(reader.client()).await?;
                self.find(reader, name, version).await
            }
            answer => answer,
        }
    }

    async fn find(
        &self,
        reader: &Reader,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<(Origin, Got)> {
        let (key, client) = (name.key(), reader.client());
        if !self.visibility.exists_for(reader, name)? {
            let reserved = self.hosting.is_reserved(&key);
            return Err(if reserved { only_reserved(name) } else { no_crate(name) });
        }
        if let Some((at, known)) = self.chain.in_memory(name) {
            let got = self.mirrored(client, at, &known, name, version).await?;
            return Ok((Origin::Mirrored, got));
        }
        match self.hosting.whose(&key)? {
            NameOf::Hosted(krate) => {
                let got = self.hosted(client, krate, name, version).await?;
                return Ok((Origin::Hosted, got));
            }
            NameOf::Reserved => return Err(only_reserved(name)),
            NameOf::Others => {}
        }
        let (known, at) = self.chain.find(client, &lowered(name), self.chain.len()).await;
        if known.answer.clone()?.is_some() {
            let got = self.mirrored(client, at, &known, name, version).await?;
            return Ok((Origin::Mirrored, got));
        }
        Err(no_crate(name))
    }

    async fn hosted(
        &self,
        client: ClientKey,
        krate: CrateRow,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<Got> {
        let row = self.hosting.catalog.version(&krate.name.key(), version)?;
        let row = hosted_version(&krate.name, row, name, version)?;
        if !self.judge.policy.is_silent() {
            let known = self.lookup.hosted_file_of(client, krate).await?;
            let _ = self.judge.admit(name, version, &known).await?; // its metadata tells its licence
        }
        self.files.hosted(client, file_of(row)).await
    }

    async fn mirrored(
        &self,
        client: ClientKey,
        at: usize,
        known: &CachedLookup,
        name: &CrateName,
        version: &CrateVersion,
    ) -> Result<Got> {
        let Some(file) = known.answer.clone()? else { return Err(no_version(name, version, None)) };
        let wanted = mirrored_version(at, &file, name, version)?;
        self.mirrored.get(client, known, wanted).await
    }

    fn count(&self, answer: Result<Source, &Error>) {
        self.metrics.crate_lookups.with_label_values(&[outcome(answer)]).inc();
    }
}

fn file_of(row: VersionRow) -> HostedFile {
    let VersionRow { line, size, .. } = row;
    HostedFile { name: line.name, version: line.vers, cksum: line.cksum, size }
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

fn no_crate(name: &CrateName) -> Error {
    Error::absent(format_args!("there is no crate `{name}`"))
}

fn only_reserved(name: &CrateName) -> Error {
    Error::absent(format_args!(
        "there is no crate `{name}`: the name is reserved here, and nothing was published under it"
    ))
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
