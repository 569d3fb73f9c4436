//! Crate files: gzipped tar archives, read under limits and with suspicion.
//!
//! Readers of tar disagree about odd archives, and an archive that two readers see differently
//! can hide a file from one of them. So every header is looked at raw, and whatever cargo never
//! writes is refused rather than interpreted. Sources: cargo `ops/cargo_package.rs` (what it
//! writes) and `sources/registry/mod.rs` (what it unpacks); crates.io `crates_io_tarball`.

mod first;
mod paths;

use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, Header};

pub use self::first::first_manifest;
use self::paths::{Paths, has_unsafe_chars, is_manifest};
use crate::name::CrateName;
use crate::version::CrateVersion;
use cratehouse_core::excerpt::excerpt_bytes as shown;

/// How much a crate file may hold.
#[derive(Debug, Clone, Copy)]
pub struct TarballLimits {
    /// The whole archive once inflated, headers included, in bytes.
    pub unpacked_bytes: u64,
    /// Its entries, those that only extend another included.
    pub entries: usize,
    /// Its Cargo.toml, in bytes.
    pub manifest_bytes: u64,
}

/// What a crate file that is good in itself holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The text of its Cargo.toml.
    pub manifest: String,
    /// Whole sentences for the publisher: with which of its files some system will stumble.
    pub warnings: Vec<String>,
}

/// Why a crate file is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// It is damaged, cut short, or no gzipped tar archive.
    #[error("the crate file is not a whole gzipped tar archive ({0}): package it again")]
    Malformed(#[from] io::Error),
    /// It inflates to more than the limit.
    #[error(
        "the crate file unpacks to more than {0} bytes (`limits.unpacked_mib`): leave files out with \
         `package.exclude`"
    )]
    UnpacksTooLarge(u64),
    /// It has more entries than the limit.
    #[error(
        "the crate file has more than {0} entries (`limits.tar_entries`): leave files out with `package.exclude`"
    )]
    TooManyEntries(usize),
    /// Something follows the gzip member: unpackers would see it differently.
    #[error("{0} bytes follow the gzip stream of the crate file: package it again")]
    TrailingBytes(usize),
    /// The archive's end mark is missing, or something follows it.
    #[error("the tar archive in the crate file does not end as it should: package it again")]
    BadEnd,
    /// A header that readers of tar read in different ways.
    #[error("the crate file has an ambiguous tar header ({what}) at `{path}`: package it again")]
    Ambiguous {
        /// The entry.
        path: String,
        /// What is ambiguous.
        what: &'static str,
    },
    /// The size in a pax header is not the one in the tar header.
    #[error("the crate file states two sizes for `{0}`: package it again")]
    PaxSize(String),
    /// A path that is absolute, has `.`, `..` or empty parts, or characters that some system or
    /// reader takes for something else.
    #[error(
        "the crate file has the unsafe path `{0}`: rename the file, or leave it out with \
         `package.exclude`"
    )]
    UnsafePath(String),
    /// Two entries with one path.
    #[error("the crate file has `{0}` twice: package it again")]
    Twice(String),
    /// A path that is a file, and has others in it.
    #[error("the crate file has `{0}` as a file and as a folder: package it again")]
    FileAndFolder(String),
    /// One path, or all of them, beyond the limit.
    #[error(
        "the paths in the crate file are too long: {} bytes each at most, and {} MiB in all",
        paths::MAX_PATH_BYTES,
        paths::MAX_PATHS_BYTES / (1024 * 1024)
    )]
    PathsTooLong,
    /// A path outside the crate's folder.
    #[error("the crate file has `{path}`, which is not under `{root}/`")]
    ForeignPath {
        /// The path.
        path: String,
        /// The crate's folder.
        root: String,
    },
    /// A link, a device, a sparse file or the like.
    #[error("the crate file has `{path}` as a {kind}; only files and directories can be published")]
    EntryKind {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// There is no Cargo.toml.
    #[error("the crate file has no Cargo.toml")]
    NoManifest,
    /// There are several, perhaps in different case or under another of its names: systems disagree
    /// which one counts.
    #[error("the crate file has more than one Cargo.toml, or another name for it")]
    SeveralManifests,
    /// Its name is in the wrong case, or it is not a file.
    #[error("the crate file has `{0}` where its Cargo.toml should be")]
    OddManifest(String),
    /// It is larger than the limit.
    #[error("the Cargo.toml is larger than {0} bytes")]
    ManifestTooLarge(u64),
    /// It is not text.
    #[error("the Cargo.toml is not UTF-8 text")]
    ManifestNotText,
}

/// The most that a long path or a pax header may take, in bytes; cargo's paths stay far below.
const EXTENSION_BYTES: u64 = 16 * 1024;

/// The second half of a tar archive's end mark, in bytes; the first half ends the entries.
const END_BYTES: u64 = 512;

/// Checks a crate file and gives what it holds. Inflates the whole file, though it
/// keeps nothing else of it: run it off the async threads.
///
/// # Errors
/// Says which rule is broken.
pub fn read(
    crate_file: &[u8],
    name: &CrateName,
    version: &CrateVersion,
    limits: &TarballLimits,
) -> Result<Contents, TarballError> {
    let inflated =
        Bounded { inner: GzDecoder::new(crate_file), left: limits.unpacked_bytes, exceeded: false };
    let mut archive = Archive::new(inflated);
    let mut walk = Walk::new(format!("{name}-{version}"), limits);
    let walked = walk.entries(&mut archive);
    let mut inflated = archive.into_inner();
    let whole = walked.and_then(|()| check_end(&mut inflated));
    if inflated.exceeded {
        return Err(TarballError::UnpacksTooLarge(limits.unpacked_bytes));
    }
    whole?;
    let warnings = walk.paths.compare()?;
    let manifest = walk.manifest.ok_or(TarballError::NoManifest)?;
    Ok(Contents { manifest, warnings })
}

/// After the entries come zeros up to the end of the gzip member (whose checksum is thereby
/// proven), and nothing after it: cargo reads the first member alone.
fn check_end(inflated: &mut Bounded<GzDecoder<&[u8]>>) -> Result<(), TarballError> {
    let mut zeros = 0;
    let mut buffer = [0; 8192];
    loop {
        let read = inflated.read(&mut buffer)?;
        let block = buffer.get(..read).unwrap_or_default();
        if block.iter().any(|byte| *byte != 0) {
            return Err(TarballError::BadEnd);
        }
        zeros += block.len() as u64;
        if block.is_empty() {
            break;
        }
    }
    if zeros < END_BYTES {
        return Err(TarballError::BadEnd);
    }
    match inflated.inner.get_ref() {
        [] => Ok(()),
        rest => Err(TarballError::TrailingBytes(rest.len())),
    }
}

/// A reader that fails once it has given a number of bytes and there are more: a zip bomb is
/// not inflated beyond the limit.
struct Bounded<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("more bytes than the limit"));
            }
        }
        Ok(read)
    }
}

/// The state of a walk over the headers.
struct Walk<'a> {
    /// The folder that everything is in: `{name}-{version}`.
    root: String,
    limits: &'a TarballLimits,
    /// What the headers before this one say about it.
    pending: Extension,
    manifest: Option<String>,
    paths: Paths,
}

/// What a GNU long name or a pax header says about the entry that follows.
#[derive(Default)]
struct Extension {
    long_name: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<'a> Walk<'a> {
    fn new(root: String, limits: &'a TarballLimits) -> Self {
        let (pending, paths) = (Extension::default(), Paths::default());
        Self { root, limits, pending, manifest: None, paths }
    }

    fn entries<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), TarballError> {
        for (nth, entry) in archive.entries()?.raw(true).enumerate() {
            if nth >= self.limits.entries {
                return Err(TarballError::TooManyEntries(self.limits.entries));
            }
            self.entry(entry?)?;
        }
        match self.pending.long_name.is_some() || self.pending.pax.is_some() {
            true => Err(TarballError::BadEnd),
            false => Ok(()),
        }
    }

    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), TarballError> {
        check_header(entry.header())?;
        if entry.size() > self.limits.unpacked_bytes {
            return Err(TarballError::UnpacksTooLarge(self.limits.unpacked_bytes));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName if self.pending.long_name.is_none() => {
                self.pending.long_name = Some(read_extension(&mut entry)?);
                Ok(())
            }
            EntryType::XHeader if self.pending.pax.is_none() => {
                let records = read_extension(&mut entry)?;
                self.pending.pax =
                    Some(Pax::parse(&records).map_err(|what| ambiguous(entry.header(), what))?);
                Ok(())
            }
            EntryType::GNULongName | EntryType::XHeader => {
                Err(ambiguous(entry.header(), "two extensions of one kind"))
            }
            EntryType::Regular => self.member(entry, false),
            EntryType::Directory if entry.size() == 0 => self.member(entry, true),
            EntryType::Directory => Err(ambiguous(entry.header(), "a directory with content")),
            other => Err(TarballError::EntryKind {
                path: shown(&entry.header().path_bytes()),
                kind: kind_name(other),
            }),
        }
    }

    /// A file or a directory.
    fn member<R: Read>(
        &mut self,
        mut entry: Entry<'_, R>,
        directory: bool,
    ) -> Result<(), TarballError> {
        let extension = std::mem::take(&mut self.pending);
        let path = extension.apply(entry.header(), entry.size(), &self.root)?;
        let parts = check_path(&path, &self.root, directory)?;
        self.paths.add(&path, directory)?;
        if !parts.get(1).is_some_and(|part| is_manifest(part)) {
            return Ok(());
        }
        if self.manifest.is_some() {
            return Err(TarballError::SeveralManifests);
        }
        match parts.as_slice() {
            [_, "Cargo.toml" | "cargo.toml"] if !directory => {
                self.manifest = Some(read_manifest(&mut entry, self.limits.manifest_bytes)?);
                Ok(())
            }
            _ => Err(TarballError::OddManifest(shown(path.as_bytes()))),
        }
    }
}

impl Extension {
    /// The path of the entry that this stands before.
    ///
    /// A reader that knows the extension and one that does not must see the same: the same size,
    /// and a path that the header holds the beginning of, unless that is a manifest already.
    fn apply(self, header: &Header, size: u64, root: &str) -> Result<String, TarballError> {
        let pax = self.pax.unwrap_or_default();
        if pax.size.is_some_and(|stated| stated != size) {
            return Err(TarballError::PaxSize(shown(&header.path_bytes())));
        }
        let in_header = header.path_bytes();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|e| TarballError::UnsafePath(shown(e.as_bytes())))
        };
        let path = match (self.long_name, pax.path) {
            (None, None) => return text(in_header.into_owned()),
            (Some(_), Some(_)) => return Err(ambiguous(header, "two long names")),
            (Some(mut name), None) => {
                name.pop_if(|last| *last == 0);
                text(name)?
            }
            (None, Some(path)) => path,
        };
        let manifest_in_header = std::str::from_utf8(&in_header).is_ok_and(|text| {
            let rest = text.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
            rest.and_then(|rest| rest.split('/').next()).is_some_and(is_manifest)
        });
        let same = path.as_bytes() == &*in_header;
        if !same && (manifest_in_header || !path.as_bytes().starts_with(&in_header)) {
            return Err(ambiguous(header, "a long name that is not the header's own, continued"));
        }
        Ok(path)
    }
}

/// What a pax header says that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
}

impl Pax {
    /// Reads `<length> <key>=<value>\n` records, strictly: each key once, and only keys that
    /// cannot change what an entry is.
    fn parse(records: &[u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "a malformed pax header";
        let mut rest = std::str::from_utf8(records).map_err(|_| MALFORMED)?;
        let mut seen = Vec::new();
        let mut pax = Self::default();
        while !rest.is_empty() {
            let (digits, _) = rest.split_once(' ').ok_or(MALFORMED)?;
            let length = number(digits).and_then(|n| usize::try_from(n).ok()).ok_or(MALFORMED)?;
            let (record, next) = rest.split_at_checked(length).ok_or(MALFORMED)?;
            let record = record.get(digits.len() + 1..).ok_or(MALFORMED)?;
            let record = record.strip_suffix('\n').ok_or(MALFORMED)?;
            let (key, value) = record.split_once('=').ok_or(MALFORMED)?;
            if value.contains(['\n', '\0']) || seen.contains(&key) {
                return Err(MALFORMED);
            }
            match key {
                "path" => pax.path = Some(value.to_owned()),
                "size" => pax.size = Some(number(value).ok_or(MALFORMED)?),
                "mtime" | "atime" | "ctime" | "uid" | "gid" | "uname" | "gname" | "comment" => {}
                _ => return Err("a pax key that cargo never writes"),
            }
            seen.push(key);
            rest = next;
        }
        Ok(pax)
    }
}

/// A decimal number without a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Every reader must recognise the header's format and see the same size in it.
fn check_header(header: &Header) -> Result<(), TarballError> {
    if header.as_gnu().is_none() && header.as_ustar().is_none() {
        return Err(ambiguous(header, "neither GNU nor POSIX"));
    }
    let size = header.as_old().size.trim_ascii_end();
    let end = size.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(size.len());
    let (digits, rest) = size.split_at_checked(end).unwrap_or((size, &[]));
    let plain = !digits.is_empty()
        && digits.iter().all(|b| matches!(b, b'0'..=b'7'))
        && rest.iter().all(|b| matches!(b, 0 | b' '));
    match plain {
        true => Ok(()),
        false => Err(ambiguous(header, "an odd size")),
    }
}

/// Splits a path into its parts: `{root}/…`, relative, without tricks.
fn check_path<'p>(
    path: &'p str,
    root: &str,
    directory: bool,
) -> Result<Vec<&'p str>, TarballError> {
    let refuse = || TarballError::UnsafePath(shown(path.as_bytes()));
    let inner = path.strip_suffix('/').filter(|_| directory).unwrap_or(path);
    let parts: Vec<&str> = inner.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || has_unsafe_chars(path) {
        return Err(refuse());
    }
    let inside = parts.first() == Some(&root) && (directory || parts.len() > 1);
    match inside {
        true => Ok(parts),
        false => Err(TarballError::ForeignPath {
            path: shown(path.as_bytes()),
            root: shown(root.as_bytes()),
        }),
    }
}

fn read_extension<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, TarballError> {
    match entry.size() {
        0..=EXTENSION_BYTES => Ok(read_whole(entry)?),
        _ => Err(ambiguous(entry.header(), "an overlong extension")),
    }
}

fn read_manifest<R: Read>(entry: &mut Entry<'_, R>, limit: u64) -> Result<String, TarballError> {
    if entry.size() > limit {
        return Err(TarballError::ManifestTooLarge(limit));
    }
    String::from_utf8(read_whole(entry)?).map_err(|_| TarballError::ManifestNotText)
}

/// Reads an entry whose size has been checked.
fn read_whole<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = entry.read_to_end(&mut content)?;
    match read as u64 == entry.size() {
        true => Ok(content),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn ambiguous(header: &Header, what: &'static str) -> TarballError {
    TarballError::Ambiguous { path: shown(&header.path_bytes()), what }
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "fifo",
        EntryType::GNUSparse => "sparse file",
        EntryType::GNULongLink => "long link",
        EntryType::XGlobalHeader => "global pax header",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests;
