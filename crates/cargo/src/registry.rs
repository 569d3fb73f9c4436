//! A registry, by its URL: what is ours in an index URL of cargo's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The indexes of a Cratehouse, below its URL: the view that replaces crates.io, and its own.
const INDEXES: [&str; 2] = ["/crates-io/index", "/index"];
/// The longest URL that is looked at, in bytes.
const MAX_BYTES: usize = 1024;

/// A Cratehouse by the URL under which clients know it: `https://crates.acme.example`, in lower case as
/// far as case means nothing, without a default port and without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Registry(String);

impl Registry {
    /// That of an index URL as cargo gives it, if a Cratehouse could have it.
    pub fn of_index(url: &str) -> Option<Self> {
        let url = url.strip_prefix("sparse+")?.trim_end_matches('/');
        Self::parse(INDEXES.iter().find_map(|index| url.strip_suffix(index))?)
    }

    /// As people write it: the registry's URL, or that of one of its indexes.
    pub fn written(text: &str) -> Option<Self> {
        let indexed = if text.starts_with("sparse+") { text } else { &format!("sparse+{text}") };
        Self::of_index(indexed).or_else(|| Self::parse(text))
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim_end_matches('/').split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => ":443",
            "http" => ":80",
            _ => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
        let is_fine =
            |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\\".contains(&b));
        (!authority.is_empty() && is_fine(authority) && is_fine(path) && text.len() <= MAX_BYTES)
            .then(|| Self(format!("{scheme}://{authority}{path}")))
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.0
    }

    /// Whether others on the way cannot read along.
    pub fn is_encrypted(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The page that tells how to get a token, to which a Cratehouse points whoever has none.
    pub fn login_page(&self) -> String {
        format!("{}/me", self.0)
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Option<String> {
        Registry::of_index(url).map(|registry| registry.0)
    }

    #[test]
    fn both_indexes_are_of_one_registry() {
        let ours = Some("https://crates.acme.example".to_owned());
        assert_eq!(of("sparse+https://crates.acme.example/index/"), ours);
        assert_eq!(of("sparse+https://crates.acme.example/crates-io/index/"), ours);
        assert_eq!(of("sparse+https://crates.acme.example/index"), ours);
        assert_eq!(of("sparse+HTTPS://Crates.Acme.Example:443/index/"), ours);
        let below = Some("https://acme.example:8443/Crates".to_owned());
        assert_eq!(of("sparse+https://acme.example:8443/Crates/index/"), below);
    }

    #[test]
    fn other_index_urls_are_nobody_of_ours() {
        for url in [
            "https://crates.acme.example/index/", // a git index
            "sparse+https://crates.acme.example/",
            "sparse+https://crates.acme.example/api/v1/crates/",
            "sparse+https://crates.acme.example/my-index/",
            "sparse+ftp://crates.acme.example/index/",
            "sparse+https://user@crates.acme.example/index/",
            "sparse+https://crates.acme.example/index/?a=/index/",
            "sparse+https:///index/",
            "sparse+https://a b/index/",
            "",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
        assert_eq!(of(&format!("sparse+https://{}/index/", "a".repeat(MAX_BYTES))), None);
    }

    #[test]
    fn people_write_the_url_or_an_index() {
        for text in [
            "https://crates.acme.example",
            "https://crates.acme.example/",
            "https://crates.acme.example/index/",
            "sparse+https://crates.acme.example/crates-io/index/",
        ] {
            assert_eq!(Registry::written(text).unwrap().url(), "https://crates.acme.example");
        }
        for text in ["crates.acme.example", "--file", ""] {
            assert_eq!(Registry::written(text), None, "{text}");
        }
    }
}
