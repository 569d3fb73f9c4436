//! The URL of an object store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Which object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file://…`
    Folder(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`: what replicas can
    /// share.
    Bucket {
        /// Whose protocol it speaks.
        cloud: Cloud,
        /// The bucket, or Azure's container.
        bucket: String,
        /// The prefix, without slashes at its ends; perhaps empty.
        prefix: String,
    },
    /// `memory://`, for tests.
    Memory,
}

/// Whose protocol a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon's, and that of many others.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// How its URLs begin.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
        }
    }
}

impl StoreUrl {
    /// The protocol of its bucket; `None` for what is on this machine alone.
    pub fn cloud(&self) -> Option<Cloud> {
        match self {
            Self::Bucket { cloud, .. } => Some(*cloud),
            Self::Folder(_) | Self::Memory => None,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Bucket { cloud, bucket, prefix } => {
                write!(f, "{}{bucket}/{prefix}", cloud.scheme())
            }
            Self::Memory => f.write_str("memory://"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "write file:// and a path, s3://bucket/prefix, gs://bucket/prefix, \
                               az://container/prefix, or memory://";
        if text == "memory://" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file://").filter(|path| !path.is_empty()) {
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        let place = |cloud: Cloud| Some((cloud, text.strip_prefix(cloud.scheme())?));
        let (cloud, place) = Cloud::ALL.into_iter().find_map(place).ok_or(ALLOWED)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_matches('/');
        match is_plain(bucket) && (prefix.is_empty() || prefix.split('/').all(is_plain)) {
            true => {
                Ok(Self::Bucket { cloud, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            false => {
                Err("name a bucket, as in s3://bucket/prefix, with letters, digits, `.`, `_` \
                          and `-` alone")
            }
        }
    }
}

fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_every_cloud_has_a_name_and_perhaps_a_prefix() {
        for cloud in Cloud::ALL {
            let parse = |rest: &str| format!("{}{rest}", cloud.scheme()).parse::<StoreUrl>();
            let found = parse("crates.acme_1/a/b-c/").unwrap();
            let (bucket, prefix) = ("crates.acme_1".to_owned(), "a/b-c".to_owned());
            assert_eq!(found, StoreUrl::Bucket { cloud, bucket, prefix });
            assert_eq!(found.cloud(), Some(cloud));
            assert_eq!(found.to_string().parse(), Ok(found));
            assert!(parse("bucket").is_ok() && parse("bucket/").is_ok());
            for bad in ["", "/", "/prefix", "..", "b/../c", "b/a//c", "b?c", "b/c%2f", "user@b"] {
                assert!(parse(bad).unwrap_err().contains("name a bucket"), "{bad}");
            }
        }
    }

    #[test]
    fn what_is_no_store_is_refused_with_all_that_is() {
        for bad in ["", "bucket", "abfss://c@a/b", "S3://bucket", "file://", "memory://x"] {
            let why = bad.parse::<StoreUrl>().unwrap_err();
            assert!(why.contains("gs://") && why.contains("az://"), "{bad}: {why}");
        }
        assert_eq!("file://a b".parse(), Ok(StoreUrl::Folder("a b".into())));
    }
}
