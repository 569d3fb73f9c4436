//! For tests: crate files and publish requests, the wrong ones included.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use crate::index::IndexLine;
use crate::name::CrateName;
use crate::published::{Metadata, Published};
use crate::version::CrateVersion;
use cratehouse_core::checksum::Checksum;

/// Builds a crate file entry by entry, without the checks of a well-meaning tar library.
#[derive(Clone)]
pub struct CrateFile {
    root: String,
    tar: Vec<u8>,
}

impl CrateFile {
    /// An empty archive for this crate.
    pub fn new(name: &str, version: &str) -> Self {
        Self { root: format!("{name}-{version}"), tar: Vec::new() }
    }

    /// One with a minimal manifest and an empty library.
    pub fn minimal(name: &str, version: &str) -> Self {
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\n");
        Self::new(name, version).file("Cargo.toml", manifest).file("src/lib.rs", "")
    }

    /// Adds a file under the crate's folder.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = format!("{}/{path}", self.root);
        self.entry(EntryType::Regular, &path, content)
    }

    /// Adds an entry with exactly this path, cut to what a header can hold.
    pub fn entry(self, kind: EntryType, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry_with(kind, path, content, |_| ())
    }

    /// Adds an entry whose header is bent before its checksum is made.
    pub fn entry_with(
        self,
        kind: EntryType,
        path: &str,
        content: impl AsRef<[u8]>,
        bend: impl FnOnce(&mut Header),
    ) -> Self {
        let content = content.as_ref();
        let mut header = Header::new_gnu();
        let room = &mut header.as_old_mut().name;
        let held = path.len().min(room.len());
        room[..held].copy_from_slice(&path.as_bytes()[..held]);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        bend(&mut header);
        header.set_cksum();
        self.raw(header.as_bytes()).raw(content).padded()
    }

    /// Adds bytes to the archive as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.tar.extend_from_slice(bytes);
        self
    }

    fn padded(mut self) -> Self {
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// The archive with its end mark, gzipped.
    pub fn build(self) -> Vec<u8> {
        self.raw(&[0; 1024]).build_without_end()
    }

    /// The archive as it is, gzipped.
    pub fn build_without_end(self) -> Vec<u8> {
        gzip(&self.tar)
    }

    /// The archive as it is, not gzipped.
    pub fn into_tar(self) -> Vec<u8> {
        self.tar
    }
}

/// A whole gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One record of a pax header.
pub fn pax(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let digits = (1..).find(|n| (n + rest.len()).to_string().len() == *n).unwrap();
    format!("{}{rest}", digits + rest.len())
}

/// The body of a publish request.
pub fn frame(json: &str, crate_file: &[u8]) -> Bytes {
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    let json = json.as_bytes();
    Bytes::from([&length(json)[..], json, &length(crate_file)[..], crate_file].concat())
}

/// Version `1.0.n` of a crate.
pub fn published(name: &str, n: u64) -> Published {
    let line = IndexLine {
        name: name.parse().unwrap(),
        vers: format!("1.0.{n}").parse().unwrap(),
        deps: Vec::new(),
        cksum: Checksum::of(format!("{name} {n}").as_bytes()),
        features: [("default".to_owned(), vec!["std".to_owned()])].into(),
        features2: None,
        yanked: false,
        links: None,
        rust_version: None,
        pubtime: Some(format!("2026-01-01T00:00:{:02}Z", n % 60)),
        v: None,
    };
    let description = Some(format!("The {n}th — \"so to speak\""));
    Published { line, size: n, metadata: Metadata { description, ..Metadata::default() } }
}

/// A crate name that is one.
pub fn name(text: &str) -> CrateName {
    CrateName::parse(text).unwrap()
}

/// A version that is one.
pub fn version(text: &str) -> CrateVersion {
    text.parse().unwrap()
}

/// An index line without dependencies and features.
pub fn line(krate: &str, vers: &str, bytes: &[u8]) -> IndexLine {
    IndexLine {
        name: name(krate),
        vers: version(vers),
        deps: Vec::new(),
        cksum: Checksum::of(bytes),
        features: Default::default(),
        features2: None,
        yanked: false,
        links: None,
        rust_version: None,
        pubtime: None,
        v: None,
    }
}
