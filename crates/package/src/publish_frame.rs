//! The body of a publish request: `u32le json_len | json | u32le crate_len | crate`, and not a
//! byte more. Source: Cargo book, "Registry Web API", Publish.

use bytes::{Buf, Bytes};
use serde::Deserialize;

use crate::name::{CrateName, NameError};
use crate::version::{CrateVersion, VersionError};
use cratehouse_core::excerpt::excerpt;

/// What a publish request holds. Its JSON has more, but what a crate is its own Cargo.toml says
/// (crates.io: `crates_io_api_types/src/krate_publish.rs`).
#[derive(Debug, Clone)]
pub struct Upload {
    /// The crate's name, which the manifest must repeat.
    pub name: CrateName,
    /// Its version, which the manifest must repeat.
    pub version: CrateVersion,
    /// The crate file: a part of the request body, not a copy.
    pub crate_file: Bytes,
}

/// What a publish request is about: known before its archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The crate's name.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
}

/// How large the parts of a publish request may be.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// The JSON, in bytes.
    pub json_bytes: usize,
    /// The crate file, in bytes.
    pub crate_bytes: usize,
}

impl UploadLimits {
    /// The largest body that can be right, in bytes: the bound for reading it.
    pub fn body_bytes(&self) -> usize {
        self.json_bytes.saturating_add(self.crate_bytes).saturating_add(2 * LENGTH_BYTES)
    }
}

/// Why a body is not a publish request.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The JSON is longer than its limit.
    #[error(
        "the metadata is {bytes} bytes long; this registry takes {limit} at most \
         (`limits.publish_json_kib`): it is long by its README, features and dependencies"
    )]
    JsonTooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The crate file is longer than its limit.
    #[error(
        "the crate file is {bytes} bytes large; this registry takes {limit} at most \
         (`limits.publish_crate_kib`): leave files out with `package.exclude`, or have an administrator \
         raise the limit"
    )]
    CrateTooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body ends before what its lengths announce.
    #[error("the publish request ends within its {0}: send it again")]
    CutShort(&'static str),
    /// Something follows the crate file.
    #[error("{0} bytes follow the crate file in the publish request")]
    TrailingBytes(usize),
    /// The JSON has no readable `name` and `vers`.
    #[error("the metadata is not what cargo sends: {}", excerpt(&.0.to_string()))]
    Json(#[from] serde_json::Error),
    /// The name breaks a rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The version breaks a rule.
    #[error(transparent)]
    Version(#[from] VersionError),
}

impl UploadError {
    /// Whether a part is larger than its limit (413) rather than wrong (400).
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::JsonTooLarge { .. } | Self::CrateTooLarge { .. })
    }
}

/// The part of the JSON that is read.
#[derive(Deserialize)]
struct Json {
    name: String,
    vers: String,
}

/// The bytes of a length: a little-endian `u32`.
const LENGTH_BYTES: usize = 4;

/// How many bytes the beginning of a publish request has, up to the end of its JSON: 4 as long as
/// that is not known, and one more than there may be where it claims to be longer.
///
/// # Errors
/// [`UploadError::JsonTooLarge`], once it is. A claim alone is malformed, if the request ends before.
pub fn head_bytes(begun: &[u8], limits: &UploadLimits) -> Result<usize, UploadError> {
    let Some(length) = begun.first_chunk::<LENGTH_BYTES>() else { return Ok(LENGTH_BYTES) };
    let bytes = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let most = LENGTH_BYTES.saturating_add(limits.json_bytes);
    match bytes <= limits.json_bytes {
        true => Ok(LENGTH_BYTES + bytes),
        false if begun.len() <= most => Ok(most.saturating_add(1)),
        false => Err(UploadError::JsonTooLarge { bytes, limit: limits.json_bytes }),
    }
}

/// Reads what is published from the beginning of a publish request.
///
/// # Errors
/// When the beginning is shorter than its JSON, or that names nothing that can be.
pub fn named(begun: &[u8]) -> Result<Named, UploadError> {
    let (length, rest) =
        begun.split_first_chunk().ok_or(UploadError::CutShort("metadata length"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let json = rest.get(..length).ok_or(UploadError::CutShort("metadata"))?;
    read(json)
}

fn read(json: &[u8]) -> Result<Named, UploadError> {
    let Json { name, vers } = serde_json::from_slice(json)?;
    Ok(Named { name: name.parse()?, version: vers.parse()? })
}

/// Takes a publish request apart.
///
/// # Errors
/// Says what is too large or malformed.
pub fn parse(mut body: Bytes, limits: &UploadLimits) -> Result<Upload, UploadError> {
    let json = take_part(&mut body, ["metadata length", "metadata"])?;
    if json.len() > limits.json_bytes {
        let (bytes, limit) = (json.len(), limits.json_bytes);
        return Err(UploadError::JsonTooLarge { bytes, limit });
    }
    let crate_file = take_part(&mut body, ["crate file length", "crate file"])?;
    if crate_file.len() > limits.crate_bytes {
        let (bytes, limit) = (crate_file.len(), limits.crate_bytes);
        return Err(UploadError::CrateTooLarge { bytes, limit });
    }
    if !body.is_empty() {
        return Err(UploadError::TrailingBytes(body.len()));
    }

    let Named { name, version } = read(&json)?;
    Ok(Upload { name, version, crate_file })
}

/// A length and as many bytes. They are all in memory already, under the bound of the body; so
/// a length that lies is malformed rather than too large.
fn take_part(body: &mut Bytes, what: [&'static str; 2]) -> Result<Bytes, UploadError> {
    let length = body.try_get_u32_le().map_err(|_| UploadError::CutShort(what[0]))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if body.len() < length {
        return Err(UploadError::CutShort(what[1]));
    }
    Ok(body.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_util::frame;

    const LIMITS: UploadLimits = UploadLimits { json_bytes: 100, crate_bytes: 50 };
    const JSON: &str = r#"{"name":"foo","vers":"1.0.0","deps":[{"any":"thing"}],"readme":null}"#;

    fn parse_frame(json: &str, crate_file: &[u8]) -> Result<Upload, UploadError> {
        parse(frame(json, crate_file), &LIMITS)
    }

    #[test]
    fn a_whole_frame_gives_name_version_and_a_view_of_the_crate_file() {
        let body = frame(JSON, b"crate");
        let upload = parse(body.clone(), &LIMITS).unwrap();
        assert_eq!(upload.name.as_str(), "foo");
        assert_eq!(upload.version.to_string(), "1.0.0");
        assert_eq!(upload.crate_file, "crate");
        assert_eq!(upload.crate_file.as_ptr(), body[body.len() - 5..].as_ptr());
    }

    #[test]
    fn parts_above_their_limit_are_too_large() {
        let json = format!(r#"{{"name":"foo","vers":"1.0.0","readme":"{}"}}"#, "x".repeat(100));
        assert!(parse_frame(&json, b"").unwrap_err().is_too_large());
        assert!(parse_frame(JSON, &[0; 51]).unwrap_err().is_too_large());
        assert!(parse_frame(JSON, &[0; 50]).is_ok());
        assert_eq!(LIMITS.body_bytes(), 158);
    }

    #[test]
    fn a_length_that_lies_is_malformed_and_not_too_large() {
        let error = parse(Bytes::from_static(&[0xff; 4]), &LIMITS).unwrap_err();
        assert!(!error.is_too_large(), "{error}");
    }

    #[test]
    fn the_beginning_says_what_is_published_and_how_long_it_is() {
        let whole = frame(JSON, b"crate");
        let head = LENGTH_BYTES + JSON.len();
        for end in 0..whole.len() {
            let begun = &whole[..end];
            let known = if end < LENGTH_BYTES { LENGTH_BYTES } else { head };
            assert_eq!(head_bytes(begun, &LIMITS).unwrap(), known);
            assert_eq!(named(begun).is_ok(), end >= head, "{end}");
        }
        let Named { name, version } = named(&whole).unwrap();
        assert_eq!((name.as_str(), version.to_string().as_str()), ("foo", "1.0.0"));
        assert_eq!(head_bytes(&[0xff; 4], &LIMITS).unwrap(), 105, "it may be a lie");
        assert!(head_bytes(&[0xff; 105], &LIMITS).unwrap_err().is_too_large());
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = frame(JSON, b"crate");
        for end in 0..whole.len() {
            let error = parse(whole.slice(..end), &LIMITS).unwrap_err();
            assert!(matches!(error, UploadError::CutShort(_)), "{end}: {error}");
            assert!(!error.is_too_large());
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let body = Bytes::from([&frame(JSON, b"crate")[..], b"x"].concat());
        assert!(matches!(parse(body, &LIMITS), Err(UploadError::TrailingBytes(1))));
    }

    #[test]
    fn metadata_without_name_or_version_is_refused() {
        for json in ["", "[]", "{}", r#"{"name":"foo"}"#, r#"{"name":1,"vers":"1.0.0"}"#] {
            assert!(matches!(parse_frame(json, b""), Err(UploadError::Json(_))), "{json}");
        }
    }

    #[test]
    fn bad_names_and_versions_are_refused() {
        let name = parse_frame(r#"{"name":"1abc","vers":"1.0.0"}"#, b"");
        assert!(matches!(name, Err(UploadError::Name(_))));
        let version = parse_frame(r#"{"name":"foo","vers":"1.0"}"#, b"");
        assert!(matches!(version, Err(UploadError::Version(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_upload_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Bytes::from(body), &LIMITS);
        }

        #[test]
        fn a_damaged_frame_is_an_upload_or_an_error(at in 0usize..80, byte: u8) {
            let mut body = frame(JSON, b"crate").to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = parse(Bytes::from(body), &LIMITS);
        }
    }
}
