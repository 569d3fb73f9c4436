//! What a registry keeps of a published version beside its crate file.

use serde::{Deserialize, Serialize};

use crate::index::IndexLine;

/// A published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The index line, not yanked.
    pub line: IndexLine,
    /// The size of the crate file in bytes.
    pub size: u64,
    /// What search and pages need.
    pub metadata: Metadata,
}

/// What a manifest says beside the index line. No authors: the journal is kept for ever, and
/// they are e-mail addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    /// `package.description`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `package.license`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// `package.license-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license_file: Option<String>,
    /// `package.homepage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// `package.documentation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
    /// `package.repository`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// `package.keywords`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// `package.categories`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}
