//! The URL of a server that commands work on in place of a store.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use cratehouse_cargo::registry::Registry;

/// A Cratehouse, by the URL under which clients know it: https, or plain http to this very machine. A token crosses
/// no network in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    registry: Registry,
    url: Url,
}

impl FromStr for ServerUrl {
    type Err = String;

    /// As people write it: the URL, or that of one of its indexes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write the registry's URL, such as https://crates.acme.example, without a user and a query"
                .to_owned()
        };
        let registry = Registry::written(text).ok_or_else(wrong)?;
        let url: Url = registry.url().parse().map_err(|_| wrong())?;
        let is_here = match url.host() {
            None => return Err(wrong()),
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
        };
        if !registry.is_encrypted() && !is_here {
            return Err("write https://: a token must not cross a network in clear. Plain http is for this very \
                        machine alone (127.0.0.1, [::1] or localhost)"
                .to_owned());
        }
        Ok(Self { registry, url })
    }
}

impl ServerUrl {
    /// It, without a slash at its end.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether others on the way cannot read along.
    pub fn is_encrypted(&self) -> bool {
        self.registry.is_encrypted()
    }

    /// The URL of what stands below it; `path` begins with a slash, and is percent-encoded.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_url_or_an_index() {
        for text in [
            "https://crates.acme.example",
            "https://Crates.Acme.Example:443/",
            "sparse+https://crates.acme.example/index/",
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "https://crates.acme.example", "{text}");
            assert_eq!(url.join("/api/v1/me"), "https://crates.acme.example/api/v1/me", "{text}");
        }
        let below: ServerUrl = "https://acme.example:8443/crates".parse().unwrap();
        assert_eq!(below.join("/api"), "https://acme.example:8443/crates/api");
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for here in
            ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8443", "http://LOCALHOST:1"]
        {
            assert!(here.parse::<ServerUrl>().is_ok(), "{here}");
        }
        for there in [
            "http://crates.acme.example",
            "http://10.0.0.1",
            "http://localhost.acme.example",
            "http://127.0.0.1.acme.example",
            "http://[fe80::1]",
        ] {
            let why = there.parse::<ServerUrl>().unwrap_err();
            assert!(why.contains("write https://"), "{there}: {why}");
        }
        for odd in ["crates.acme.example", "ftp://a", "https://alice@a", "https://a/?b", "https://"]
        {
            assert!(odd.parse::<ServerUrl>().is_err(), "{odd}");
        }
    }
}
