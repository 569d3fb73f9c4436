//! What the rules ask of a version: where it comes from, how old it is, what its licence is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// The longest licence that is read, in bytes; a longer one is not an expression.
pub(super) const MAX_LICENSE_BYTES: usize = 4096;

/// A version, and what is known of it.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The crate.
    pub name: &'a CrateName,
    /// The version.
    pub version: &'a CrateVersion,
    /// Where it comes from.
    pub source: Source<'a>,
    /// How old it is; asked of mirrored versions alone.
    pub age: AgeFact,
    /// Whether its own index line says that it is yanked.
    pub yanked: bool,
    /// What its crate file says of its licence; `None`: nobody has looked yet.
    pub license: Option<&'a LicenseFact>,
    /// Whether its upstream kept its word.
    pub integrity: IntegrityFact,
}

/// Where a version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// It was published here.
    Hosted,
    /// It is read through from the upstream of this name.
    Mirrored {
        /// The upstream's name in the configuration.
        upstream: &'a str,
    },
}

/// How old a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeFact {
    /// Its index line says when it was published (`pubtime`).
    Published(Timestamp),
    /// Its line says nothing, and it was first seen here at this time, after its crate's file had
    /// been fetched before.
    FirstSeen(Timestamp),
    /// Its line says nothing, and it was there when its crate's file was first fetched: old.
    Old,
    /// Nothing tells.
    Unknown,
}

/// Whether an upstream kept its word about a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IntegrityFact {
    /// As far as anybody knows.
    #[default]
    Sound,
    /// It has another checksum than when it was first served here.
    ChecksumChanged,
}

/// What a crate file says about its licence; kept in the store by checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenseFact {
    /// `package.license`, as it stands there.
    Stated(String),
    /// Only `package.license-file`.
    FileOnly,
    /// Nothing.
    Missing,
}

impl LicenseFact {
    /// From the two keys of a manifest's `[package]`; the expression counts where both are there.
    pub fn of(license: Option<&str>, license_file: Option<&str>) -> Self {
        match (license.map(str::trim), license_file) {
            (Some(license), _) if !license.is_empty() => Self::Stated(license.to_owned()),
            (_, Some(_)) => Self::FileOnly,
            _ => Self::Missing,
        }
    }

    /// The word, as metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Stated(_) => "stated",
            Self::FileOnly => "file_only",
            Self::Missing => "missing",
        }
    }
}
