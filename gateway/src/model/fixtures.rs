//! For tests: crate files and publish requests, the wrong ones included, and journals.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tar::{EntryType, Header};

use crate::model::entry::{Actor, Entry, EntryId, Event, Happened, Metadata, Published};
use crate::model::index::IndexLine;
use crate::model::level::Level;
use crate::model::principal::{Grant, TokenId, UserId};
use cratehouse_core::checksum::Checksum;

/// Builds a crate file entry by entry, without the checks of a well-meaning tar library.
#[derive(Clone)]
pub(crate) struct CrateFile {
    root: String,
    tar: Vec<u8>,
}

impl CrateFile {
    /// An empty archive for this crate.
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self { root: format!("{name}-{version}"), tar: Vec::new() }
    }

    /// One with a minimal manifest and an empty library.
    pub(crate) fn minimal(name: &str, version: &str) -> Self {
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\n");
        Self::new(name, version).file("Cargo.toml", manifest).file("src/lib.rs", "")
    }

    /// Adds a file under the crate's folder.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = format!("{}/{path}", self.root);
        self.entry(EntryType::Regular, &path, content)
    }

    /// Adds an entry with exactly this path, cut to what a header can hold.
    pub(crate) fn entry(self, kind: EntryType, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry_with(kind, path, content, |_| ())
    }

    /// Adds an entry whose header is bent before its checksum is made.
    pub(crate) fn entry_with(
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
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.tar.extend_from_slice(bytes);
        self
    }

    fn padded(mut self) -> Self {
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    /// The archive with its end mark, gzipped.
    pub(crate) fn build(self) -> Vec<u8> {
        self.raw(&[0; 1024]).build_without_end()
    }

    /// The archive as it is, gzipped.
    pub(crate) fn build_without_end(self) -> Vec<u8> {
        gzip(&self.tar)
    }

    /// The archive as it is, not gzipped.
    pub(crate) fn into_tar(self) -> Vec<u8> {
        self.tar
    }
}

/// A whole gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One record of a pax header.
pub(crate) fn pax(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let digits = (1..).find(|n| (n + rest.len()).to_string().len() == *n).unwrap();
    format!("{}{rest}", digits + rest.len())
}

/// The body of a publish request.
pub(crate) fn frame(json: &str, crate_file: &[u8]) -> Bytes {
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
    let json = json.as_bytes();
    Bytes::from([&length(json)[..], json, &length(crate_file)[..], crate_file].concat())
}

/// A journal of at least `entries` entries, with everything in it that can happen: each entry,
/// its bytes and its hash.
pub(crate) fn history(registry: &str, entries: u64) -> Vec<(Entry, Bytes, Checksum)> {
    let mut prev = Checksum::of(registry.as_bytes());
    let mut seq = 0;
    let mut sealed = |events: Vec<Happened>| {
        seq += 1;
        let events = events.into_iter().map(|what| Event { by: Actor::Operator, what }).collect();
        let (id, time) = (EntryId::random(), Timestamp::UNIX_EPOCH);
        let entry =
            Entry { seq, id, prev, time, replica: "test".to_owned(), level: Level::FIRST, events };
        let (bytes, hash) = entry.seal().unwrap();
        prev = hash;
        (entry, bytes, hash)
    };
    let foo = || "Foo_bar".parse().unwrap();
    let version = |n: u64| format!("1.0.{n}").parse().unwrap();
    let mut journal: Vec<_> = beginning().into_iter().map(&mut sealed).collect();
    journal.extend((0..entries.max(3)).map(|n| {
        let mut events = vec![Happened::Published(Box::new(published("Foo_bar", n)))];
        match n {
            1 => events.push(Happened::Yanked { krate: foo(), version: version(0) }),
            2 => events.push(Happened::Unyanked { krate: foo(), version: version(0) }),
            n if n % 3 == 0 => events.push(Happened::Yanked { krate: foo(), version: version(n) }),
            _ => (),
        }
        sealed(events)
    }));
    let reason = "leaked".to_owned();
    journal.push(sealed(vec![Happened::Removed { krate: foo(), version: version(1), reason }]));
    journal
}

fn beginning() -> Vec<Vec<Happened>> {
    let (alice, bob) = (UserId(1), UserId(2));
    let token = |n: u32| Happened::TokenCreated {
        token: TokenId(n),
        user: alice,
        name: "laptop".to_owned(),
        hash: Checksum::of(&n.to_be_bytes()),
        grant: Grant::usual(),
    };
    let krate = || "bar".parse().unwrap();
    vec![
        vec![Happened::UserCreated { user: alice, login: "Alice".to_owned() }, token(1)],
        vec![Happened::UserCreated { user: bob, login: "bob".to_owned() }, token(2)],
        vec![Happened::TokenRevoked { token: TokenId(2) }],
        vec![
            Happened::Published(Box::new(published("bar", 0))),
            Happened::OwnerAdded { krate: krate(), user: alice },
            Happened::OwnerAdded { krate: krate(), user: bob },
        ],
        vec![Happened::OwnerRemoved { krate: krate(), user: alice }],
        vec![Happened::UserDisabled { user: bob }],
        vec![Happened::Condemned { checksums: vec![Checksum::of(b"a"), Checksum::of(b"b")] }],
        vec![Happened::Collected { checksums: vec![Checksum::of(b"a")] }],
        vec![Happened::LevelEnabled { level: Level::FIRST }],
        vec![Happened::PinCorrected {
            upstream: "crates-io".to_owned(),
            krate: "Public".parse().unwrap(),
            version: "1.0.0+b".parse().unwrap(),
            former: Checksum::of(b"a"),
            checksum: Checksum::of(b"b"),
            reason: "why".to_owned(),
        }],
    ]
}

/// Version `1.0.n` of a crate.
pub(crate) fn published(name: &str, n: u64) -> Published {
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
