// Every parser of bytes that strangers send, as one function over bytes. The fuzz targets call them one by one
// (`cargo fuzz run <name>`), and `tests/fuzz.rs` all of them on a stable compiler. None may panic, whatever the bytes.

use bytes::Bytes;
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::entry::Entry;
use cratehouse_package::dl::DlTemplate;
use cratehouse_package::lock_file;
use cratehouse_package::manifest::{Draft, ManifestLimits};
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;
use cratehouse_package::publish_frame::{self, UploadLimits};
use cratehouse_package::tarball::{self, TarballLimits};
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{Advisory, LicenseFact, Policy, PolicyText};

/// A name, the function, and a text to begin from.
pub(crate) type EntryPoint = (&'static str, fn(&[u8]), &'static [u8]);

/// All of them.
pub(crate) const ENTRY_POINTS: &[EntryPoint] = &[
    ("name_and_version", name_and_version, b"serde_json 1.0.0-rc.1+build"),
    ("publish_frame", frame, b"\x1b\0\0\0{\"name\":\"foo\",\"vers\":\"1\"}\x04\0\0\0\x1f\x8b\x08\0"),
    ("archive", archive, b"foo-1.0.0/Cargo.toml\0\0\0"),
    ("manifest", manifest, b"[package]\nname = \"foo\"\nversion = \"1.0.0\"\n[features]\na = [\"dep:b\"]\n"),
    ("index_file", index_file, b"{\"name\":\"foo\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"00\",\"features\":{},\"yanked\":false}\n"),
    ("lock", lock, b"version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+https://x\"\n"),
    ("advisory", advisory, b"```toml\n[advisory]\nid = \"RUSTSEC-2026-0001\"\npackage = \"a\"\n```\n# A\n"),
    ("policy", policy, b"[[ban]]\nname = \"a*\"\nversion = \"<1\"\n[age]\nminimum = \"3d\"\n"),
    ("dl", dl, b"https://x.example/{crate}/{version}/{lowerprefix}/{sha256-checksum}"),
    ("journal_entry", entry, b"{\"seq\":1,\"id\":\"00\",\"events\":[]}"),
];

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn named() -> Option<(CrateName, CrateVersion)> {
    Some(("foo".parse().ok()?, "1.0.0".parse().ok()?))
}

/// Names, versions.
pub(crate) fn name_and_version(bytes: &[u8]) {
    if let Some((name, version)) = text(bytes).and_then(|text| text.split_once(' ')) {
        let _ = (CrateName::parse(name), version.parse::<CrateVersion>());
    }
}

/// The body of a publish request.
pub(crate) fn frame(bytes: &[u8]) {
    let limits = UploadLimits { json_bytes: 1 << 20, crate_bytes: 1 << 20 };
    let _ = publish_frame::parse(Bytes::copy_from_slice(bytes), &limits);
}

/// A crate file, as it comes and as one that is well compressed.
pub(crate) fn archive(bytes: &[u8]) {
    const LIMITS: TarballLimits =
        TarballLimits { unpacked_bytes: 1 << 22, entries: 1000, manifest_bytes: 1 << 18 };
    let Some((name, version)) = named() else { return };
    let _ = tarball::read(bytes, &name, &version, &LIMITS);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    if let Ok(packed) =
        std::io::Write::write_all(&mut encoder, bytes).and_then(|()| encoder.finish())
    {
        let _ = tarball::read(&packed, &name, &version, &LIMITS);
        let _ = LicenseFact::of_crate_file(&packed, &name, &version);
    }
}

/// A Cargo.toml.
pub(crate) fn manifest(bytes: &[u8]) {
    let limits = ManifestLimits { dependencies: 500, features: 300 };
    if let (Some((name, version)), Some(text)) = (named(), text(bytes)) {
        let _ = Draft::parse(text, &name, &version, &limits);
    }
}

/// An upstream's index file, of crates.io and of a registry whose crates become ours.
pub(crate) fn index_file(bytes: &[u8]) {
    let Some((name, _)) = named() else { return };
    for own in [OwnRegistries::default(), OwnRegistries::new(["https://x.example/"])] {
        let _ = mirrored::read(&Bytes::copy_from_slice(bytes), &name, &own);
    }
}

/// A Cargo.lock.
pub(crate) fn lock(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = lock_file::packages(text);
    }
}

/// A RustSec advisory.
pub(crate) fn advisory(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = Advisory::parse(text);
    }
}

/// A file of a policy.
pub(crate) fn policy(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ =
            Policy::parse(&[PolicyText { name: "policy.toml".to_owned(), text: text.to_owned() }]);
    }
}

/// The `dl` of an upstream's `config.json`.
pub(crate) fn dl(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = DlTemplate::new(text);
    }
}

/// An object that stands where a journal entry should.
pub(crate) fn entry(bytes: &[u8]) {
    let _ = Entry::open(bytes, 1, &Checksum::of(b""));
}
