//! What a browser sends because a page of another site makes it do so is refused. Cargo and other
//! programs send neither header.
//!
//! Sources: Fetch Metadata Request Headers (W3C), `Sec-Fetch-Site`; the Fetch standard, "`Origin`
//! header" (a browser sends it with all methods but `GET` and `HEAD`).

use hyper::header::{HeaderName, ORIGIN};
use hyper::{HeaderMap, Method};
use url::Url;

use crate::config::Config;
use cratehouse_core::error::{Error, Result};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Our own origins, as browsers write them: of our URL and of its aliases.
#[derive(Debug, Clone)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Those of a gateway that is known by this URL.
    pub fn new(url: &str, config: &Config) -> Self {
        let ours = url.parse::<Url>().ok();
        let origin = |url: &Url| url.origin().ascii_serialization();
        Self(ours.iter().chain(&config.server.aliases).map(origin).collect())
    }

    /// Lets a request pass that no page of another site has made. `GET` and `HEAD` change nothing.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Forbidden`].
    pub fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<()> {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        match is_read || self.is_own(headers) {
            true => Ok(()),
            false => Err(Error::forbidden(
                "a page of another site made a browser send this request: this registry takes \
                 changes from its own pages and from programs only",
            )),
        }
    }

    fn is_own(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(FETCH_SITE) {
            let mut sites = headers.get_all(FETCH_SITE).iter();
            return sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
        }
        headers.get_all(ORIGIN).iter().all(|origin| {
            self.0.iter().any(|ours| ours.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn passes(method: &Method, headers: &[(&'static str, &str)]) -> bool {
        let aliases = ("CRATEHOUSE_SERVER__ALIASES".into(), "https://crates.internal:8443".into());
        let config = Config::load(&Flags::default(), [aliases]).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Origins::new("https://crates.acme.example", &config).admit(method, &map).is_ok()
    }

    const SITE: &str = "sec-fetch-site";
    const FOREIGN: [&str; 6] = [
        "null",
        "https://evil.example",
        "http://crates.acme.example",
        "https://crates.acme.example:444",
        "https://crates.acme.example.evil.example",
        "",
    ];

    #[test]
    fn programs_and_own_pages_pass() {
        for method in [Method::PUT, Method::POST, Method::DELETE, Method::OPTIONS] {
            assert!(passes(&method, &[]), "as cargo");
            assert!(passes(&method, &[(SITE, "same-origin"), ("origin", "https://x.example")]));
            assert!(passes(&method, &[(SITE, "none")]), "typed by hand");
            assert!(passes(&method, &[("origin", "https://crates.acme.example")]));
            assert!(passes(&method, &[("origin", "https://crates.internal:8443")]), "an alias");
        }
    }

    #[test]
    fn pages_of_others_do_not() {
        for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            for site in ["cross-site", "same-site", "Same-Origin", "", "none, same-origin"] {
                assert!(!passes(&method, &[(SITE, site)]), "{method} {site}");
                let ours = ("origin", "https://crates.acme.example");
                assert!(!passes(&method, &[(SITE, site), ours]), "{method} {site}");
            }
            for origin in FOREIGN {
                assert!(!passes(&method, &[("origin", origin)]), "{method} {origin}");
            }
            assert!(!passes(&method, &[(SITE, "none"), (SITE, "cross-site")]), "two of them");
            let two = [("origin", "https://crates.acme.example"), ("origin", "null")];
            assert!(!passes(&method, &two));
        }
    }

    #[test]
    fn reading_is_open_to_all() {
        for method in [Method::GET, Method::HEAD] {
            assert!(passes(&method, &[(SITE, "cross-site"), ("origin", "null")]));
        }
    }
}
