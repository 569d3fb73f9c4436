//! The sparse index: one file a crate, one JSON line a version.
//! Source: Cargo book, "Index format"; cargo `cargo-util-schemas/src/index.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gzip;
use crate::name::CrateName;
use crate::version::CrateVersion;
use cratehouse_core::checksum::Checksum;

/// crates.io's identity: the `registry` of a dependency on a public crate.
pub const CRATES_IO_IDENTITY: &str = "https://github.com/rust-lang/crates.io-index";

/// What an index file in memory takes for each version beside its lines, in bytes: its row in the
/// table, and what of a pre-release does not fit. The name is shared.
const VERSION_BYTES: usize = 150;
/// The bytes of a hash that an ETag has.
const ETAG_BYTES: usize = 16;
/// As hexadecimal digits, in quotes.
const ETAG_CHARS: usize = 2 * ETAG_BYTES + 2;

/// One version of a hosted crate, in the field order of crates.io. Mirrored lines are never
/// read into this and written again: they pass through as they came. A field that this release
/// does not know would be lost, so it is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexLine {
    /// The crate's name as its author spells it.
    pub name: CrateName,
    /// The version.
    pub vers: CrateVersion,
    /// The dependencies, sorted.
    pub deps: Vec<IndexDep>,
    /// SHA-256 of the crate file.
    pub cksum: Checksum,
    /// The features that every cargo understands.
    pub features: BTreeMap<String, Vec<String>>,
    /// The features that use `dep:` or `?/`, and those that build on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features2: Option<BTreeMap<String, Vec<String>>>,
    /// Whether new resolutions should pass this version over.
    pub yanked: bool,
    /// The native library that this crate links, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<String>,
    /// The oldest Rust that builds it, if stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rust_version: Option<String>,
    /// When it was published, `YYYY-MM-DDTHH:MM:SSZ`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubtime: Option<String>,
    /// 2 when there are `features2`, else absent (that is 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v: Option<u32>,
}

/// A dependency in an index line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexDep {
    /// The name in the dependant's code: the alias, when the dependency is renamed.
    pub name: String,
    /// The version requirement.
    pub req: String,
    /// The features that it turns on.
    pub features: Vec<String>,
    /// Whether it is optional.
    pub optional: bool,
    /// Whether it keeps the default features.
    pub default_features: bool,
    /// The `cfg(…)` or triple that it is for.
    pub target: Option<String>,
    /// Normal, build or dev.
    pub kind: DepKind,
    /// `None` for this registry, else the index URL of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The real name, when the dependency is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<CrateName>,
}

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepKind {
    /// For the crate itself.
    Normal,
    /// For its build script.
    Build,
    /// For its tests, examples and benchmarks.
    Dev,
}

/// A crate's index file as it is sent: made once, then only shared.
#[derive(Debug)]
pub struct IndexFile {
    /// As the lines are.
    pub identity: Encoded,
    /// Compressed, where that makes it smaller.
    pub gzip: Option<Encoded>,
    /// What a download needs to know of each version, sorted by version.
    versions: Vec<Listed>,
}

/// One encoding of an index file.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The body.
    pub bytes: Bytes,
    /// A hash of these very bytes.
    pub etag: ETag,
}

/// A strong ETag, quotes included. Made once, and shared by every answer that carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct ETag(Bytes);

/// What an index line says of a version's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The crate's name as this line spells it.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
    /// SHA-256 of the crate file.
    pub cksum: Checksum,
    /// Whether the line is yanked.
    pub yanked: bool,
    /// When it was published, if the line says so.
    pub pubtime: Option<Timestamp>,
}

impl IndexFile {
    /// Renders a file from its lines. Compresses and hashes: run it off the async threads.
    pub fn new(lines: Bytes, versions: Vec<Listed>) -> Self {
        let sum = Checksum::of(&lines);
        Self::summed(lines, &sum, versions)
    }

    /// The same for who knows the SHA-256 of the lines already.
    pub fn summed(lines: Bytes, sum: &Checksum, mut versions: Vec<Listed>) -> Self {
        let gzip = gzip::pack(&lines).filter(|packed| packed.len() < lines.len()).map(Bytes::from);
        versions.sort_by(|a, b| a.version.cmp(&b.version));
        versions.shrink_to_fit();
        Self {
            identity: Encoded { bytes: lines, etag: ETag::of(sum) },
            gzip: gzip.map(|bytes| Encoded { etag: ETag::of(&Checksum::of(&bytes)), bytes }),
            versions,
        }
    }

    /// The version of exactly this number, build metadata included.
    pub fn version(&self, version: &CrateVersion) -> Option<&Listed> {
        let at = self.versions.binary_search_by(|listed| listed.version.cmp(version)).ok()?;
        self.versions.get(at)
    }

    /// A version of this number with other build metadata.
    pub fn same_number(&self, version: &CrateVersion) -> Option<&CrateVersion> {
        let wanted = version.semver();
        let before = |listed: &Listed| listed.version.semver().cmp_precedence(wanted).is_lt();
        let from = self.versions.get(self.versions.partition_point(before)..)?;
        let mut alike = from.iter().map(|listed| &listed.version);
        alike
            .by_ref()
            .take_while(|other| other.same_number(version))
            .find(|other| *other != version)
    }

    /// All versions, in no useful order.
    pub fn versions(&self) -> impl Iterator<Item = &Listed> {
        self.versions.iter()
    }

    /// The memory that the bodies and the table hold, in bytes.
    pub fn weight(&self) -> usize {
        let gzip = self.gzip.as_ref().map_or(0, |g| g.bytes.len());
        self.identity.bytes.len() + gzip + self.versions.len() * VERSION_BYTES + 500
    }
}

impl ETag {
    /// That of the bytes with this checksum. It is cheap: one is made for each download.
    pub fn of(sum: &Checksum) -> Self {
        let mut chars = [b'"'; ETAG_CHARS];
        if let (Some(bytes), [_, digits @ .., _]) = (sum.as_bytes().get(..ETAG_BYTES), &mut chars) {
            let _ = hex::encode_to_slice(bytes, digits); // they fit
        }
        Self(Bytes::copy_from_slice(&chars))
    }

    /// As it stands in the header.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same, to be shared with an answer.
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl Deref for ETag {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for ETag {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(version: &str) -> Listed {
        let (name, version) = ("foo".parse().unwrap(), version.parse().unwrap());
        let cksum = Checksum::of(b"abc");
        Listed { name, version, cksum, yanked: false, pubtime: None }
    }

    #[test]
    fn a_version_is_found_by_its_whole_number() {
        let numbers =
            ["1.10.0", "1.9.0", "1.0.0+b", "1.0.0+a", "1.0.0", "1.0.0-rc.1", "1.0.0+01", "1.0.0+1"];
        let file = IndexFile::new(Bytes::new(), numbers.map(listed).to_vec());
        for number in numbers {
            let version = number.parse().unwrap();
            assert_eq!(file.version(&version).map(|listed| &listed.version), Some(&version));
        }
        for absent in ["1.0.1", "1.0.0-rc.2", "1.0.0+c", "0.0.0", "2.0.0"] {
            assert_eq!(file.version(&absent.parse().unwrap()), None, "{absent}");
        }
        let instead =
            |version: &str| file.same_number(&version.parse().unwrap()).map(ToString::to_string);
        assert_eq!(instead("1.0.0+c"), Some("1.0.0".to_owned()));
        assert_eq!(instead("1.9.0+c"), Some("1.9.0".to_owned()));
        assert_eq!(instead("1.0.0-rc.1+c"), Some("1.0.0-rc.1".to_owned()));
        assert_eq!((instead("1.9.0"), instead("1.9.1+a"), instead("2.0.0")), (None, None, None));
    }

    #[test]
    fn an_etag_is_a_quoted_hash_of_the_bytes_that_are_sent() {
        let lines = Bytes::from("{\"name\":\"a\"}\n".repeat(50));
        let file = IndexFile::new(lines.clone(), Vec::new());
        let tag = |bytes: &[u8]| format!("\"{:.32}\"", Checksum::of(bytes).to_string());
        assert_eq!(file.identity.etag.as_str(), tag(&lines));
        let gzip = file.gzip.unwrap();
        assert_eq!(gzip.etag.bytes(), tag(&gzip.bytes));
        let summed = IndexFile::summed(lines.clone(), &Checksum::of(&lines), Vec::new());
        assert_eq!(summed.identity.etag, file.identity.etag);
    }

    #[test]
    fn the_row_of_a_version_is_within_its_weight() {
        let text = "1.22.333-alpha.1".len();
        let row = size_of::<Listed>() + text;
        assert!(row <= VERSION_BYTES, "{row} bytes");
    }
}
