//! Crate files, well made and badly made: every entry is written as it is asked for, with no
//! rule of `tar` in the way.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

/// A tarball, entry by entry: `TarballBuilder::new().file("a-1.0.0/x", b"…").gzip()`.
#[derive(Debug, Default)]
pub struct TarballBuilder {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    header: Header,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    Zeros(u64),
}

const BLOCK_BYTES: u64 = 512;
const NAME_BYTES: usize = 100;

impl TarballBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A regular file. The path is written as it stands, `..` and all; beyond 100 bytes as cargo
    /// does it, in an entry of its own before.
    #[must_use]
    pub fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), "", bytes)
    }

    /// A regular file whose path is any bytes.
    #[must_use]
    pub fn file_at(self, path: &[u8], bytes: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", bytes)
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), "", b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), target, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), target, b"")
    }

    /// An entry of any type, such as a device.
    #[must_use]
    pub fn entry(self, kind: EntryType, path: &[u8], link: &str, bytes: &[u8]) -> Self {
        let header = header(kind, path, link, bytes.len() as u64);
        self.long_path(path).push(header, Content::Bytes(bytes.to_vec()))
    }

    /// A regular file of that many zeros: it packs to a thousandth.
    #[must_use]
    pub fn zeros(self, path: &str, bytes: u64) -> Self {
        let header = header(EntryType::Regular, path.as_bytes(), "", bytes);
        self.push(header, Content::Zeros(bytes))
    }

    /// A regular file before which a pax header claims another size: readers that believe the
    /// one see other entries than readers that believe the other.
    #[must_use]
    pub fn file_with_pax_size(self, path: &str, bytes: &[u8], claimed: u64) -> Self {
        self.pax("size", &claimed.to_string()).file(path, bytes)
    }

    /// A pax header for the entry that follows.
    #[must_use]
    pub fn pax(self, key: &str, value: &str) -> Self {
        self.entry(EntryType::XHeader, b"PaxHeader", "", pax_record(key, value).as_bytes())
    }

    /// The tarball, not compressed.
    pub fn plain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The tarball as a crate file is packed.
    pub fn gzip(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        self.write(&mut encoder);
        encoder.finish().unwrap()
    }

    fn long_path(self, path: &[u8]) -> Self {
        if path.len() <= NAME_BYTES {
            return self;
        }
        let path = [path, b"\0"].concat();
        let header = header(EntryType::GNULongName, b"././@LongLink", "", path.len() as u64);
        self.push(header, Content::Bytes(path))
    }

    fn push(mut self, header: Header, content: Content) -> Self {
        self.entries.push(Entry { header, content });
        self
    }

    fn write(&self, out: &mut impl Write) {
        for entry in &self.entries {
            out.write_all(entry.header.as_bytes()).unwrap();
            let len = match &entry.content {
                Content::Bytes(bytes) => std::io::copy(&mut bytes.as_slice(), out).unwrap(),
                Content::Zeros(n) => zeros(*n, out),
            };
            zeros(len.next_multiple_of(BLOCK_BYTES) - len, out);
        }
        zeros(2 * BLOCK_BYTES, out);
    }
}

fn zeros(n: u64, out: &mut impl Write) -> u64 {
    std::io::copy(&mut std::io::repeat(0).take(n), out).unwrap()
}

fn header(kind: EntryType, path: &[u8], link: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    let path = &path[..path.len().min(NAME_BYTES)];
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_mtime(1);
    header.set_size(size);
    header.set_cksum();
    header
}

/// `LEN KEY=VALUE\n`, where LEN counts itself (POSIX pax).
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut len = rest.len();
    while len.to_string().len() + rest.len() != len {
        len = len.to_string().len() + rest.len();
    }
    format!("{len}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_itself_reads_what_is_built() {
        let tarball = TarballBuilder::new()
            .folder("a-1/")
            .file("a-1/Cargo.toml", b"[package]")
            .symlink("a-1/link", "/etc/passwd")
            .file("a-1/../up", b"x")
            .file(&format!("a-1/{}", "l".repeat(200)), b"x")
            .plain();
        let mut archive = tar::Archive::new(tarball.as_slice());
        let entries: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        let paths: Vec<_> = entries.iter().map(|e| e.path().unwrap().into_owned()).collect();
        assert_eq!(paths.len(), 5);
        assert_eq!(paths[4].to_str().map(str::len), Some(204));
        assert_eq!(paths[3].to_str(), Some("a-1/../up"));
        assert_eq!(entries[2].header().entry_type(), EntryType::Symlink);
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        assert_eq!(pax_record("size", "999"), "12 size=999\n");
        assert_eq!(pax_record("a", "b"), "6 a=b\n");
        let long = pax_record("k", &"v".repeat(95));
        assert!(long.starts_with(&format!("{} ", long.len())));
    }

    #[test]
    fn zeros_pack_small() {
        assert!(TarballBuilder::new().zeros("a-1/z", 10 << 20).gzip().len() < 1 << 18);
    }
}
