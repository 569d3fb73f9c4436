//! What an upstream answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::permits::Place;

/// What an upstream gave with an index file to recognise it by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// An upstream's definite answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Here it is, whole as far as HTTP can tell, and otherwise unchecked.
    Found {
        /// The body, as it came.
        body: Body,
        /// What it can be recognised by; perhaps nothing.
        validators: Validators,
    },
    /// What the validators stand for is current.
    NotModified,
    /// There is no such crate.
    NotFound,
}

/// An upstream's definite answer about a crate file.
#[derive(Debug, Clone)]
pub enum CrateAnswer {
    /// The bytes, not verified.
    Found(Bytes),
    /// The upstream has no such file, whatever its index says.
    NotFound,
}

/// A place among the requests for crate files, until this is dropped.
#[derive(Debug)]
pub struct CratePlace {
    pub(super) _place: Place,
}
