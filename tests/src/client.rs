//! An HTTP client that shows what cargo hides: statuses, headers, bytes as they are sent. It
//! trusts one CA, decodes nothing, and follows nothing.

use std::time::Duration;

use reqwest::blocking::{Client as Http, ClientBuilder};
use reqwest::{Certificate, Method, Version, redirect::Policy};
use serde_json::Value;

use crate::krate::{Krate, index_path};

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: Http,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// Not decoded.
    pub body: Vec<u8>,
}

/// Longer than any answer of the gateway may take.
const TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// A client of `base` (no slash at its end) that trusts the CA of this PEM text, if any.
    pub fn new(base: &str, ca_pem: Option<&[u8]>) -> Self {
        Self::build(base, ca_pem, |http| http)
    }

    /// The same, with more said to reqwest, such as [`ClientBuilder::http1_only`].
    pub fn build(
        base: &str,
        ca_pem: Option<&[u8]>,
        more: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Self {
        let mut http =
            Http::builder().no_proxy().no_gzip().redirect(Policy::none()).timeout(TIMEOUT);
        if let Some(pem) = ca_pem {
            http = http.tls_certs_only([Certificate::from_pem(pem).unwrap()]);
        }
        Self { base: base.to_owned(), http: more(http).build().unwrap() }
    }

    /// Whose client it is, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET base+path`.
    pub fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[])
    }

    /// `GET` with headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, path, headers, None)
    }

    /// `GET` with a token, as cargo sends it.
    pub fn get_as(&self, path: &str, token: &str) -> Reply {
        self.get_with(path, &[("authorization", token)])
    }

    /// The index file of a crate.
    pub fn index(&self, name: &str) -> Reply {
        self.get(&format!("/index/{}", index_path(name)))
    }

    /// The crate file of a version.
    pub fn download(&self, name: &str, version: &str) -> Reply {
        self.get(&format!("/api/v1/crates/{name}/{version}/download"))
    }

    /// Publishes a crate as cargo does.
    pub fn publish(&self, krate: &Krate, token: &str) -> Reply {
        self.publish_raw(krate.publish_body(), token)
    }

    /// Sends any bytes as a publish request.
    pub fn publish_raw(&self, body: Vec<u8>, token: &str) -> Reply {
        self.call(Method::PUT, "/api/v1/crates/new", Some(body), token)
    }

    /// Yanks a version.
    pub fn yank(&self, name: &str, version: &str, token: &str) -> Reply {
        self.call(Method::DELETE, &format!("/api/v1/crates/{name}/{version}/yank"), None, token)
    }

    /// Takes a yank back.
    pub fn unyank(&self, name: &str, version: &str, token: &str) -> Reply {
        let path = format!("/api/v1/crates/{name}/{version}/unyank");
        self.call(Method::PUT, &path, Some(Vec::new()), token)
    }

    /// Adds (`PUT`) or removes (`DELETE`) owners.
    pub fn owners(&self, method: Method, name: &str, logins: &[&str], token: &str) -> Reply {
        let body = serde_json::json!({ "users": logins }).to_string().into_bytes();
        self.call(method, &format!("/api/v1/crates/{name}/owners"), Some(body), token)
    }

    /// A call of the web API with a token.
    pub fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>, token: &str) -> Reply {
        let headers = [("authorization", token), ("accept", "application/json")];
        self.send(method, path, &headers, body)
    }

    /// Any request.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Reply {
        self.try_send(method, path, headers, body).unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    /// Any request, where failing is among what may happen.
    ///
    /// # Errors
    /// Those of the connection; a status is none.
    pub fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Reply> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = request.send()?;
        let text =
            |v: &reqwest::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        Ok(Reply {
            status: answer.status().as_u16(),
            version: answer.version(),
            headers: answer.headers().iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
            body: answer.bytes()?.to_vec(),
        })
    }
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The lines of an index file.
    pub fn lines(&self) -> Vec<Value> {
        assert!(self.body.is_empty() || self.body.ends_with(b"\n"), "no final newline: {self}");
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The line of one version in an index file; panics when there is none.
    pub fn line(&self, version: &str) -> Value {
        let found = self.lines().into_iter().find(|line| line["vers"] == version);
        found.unwrap_or_else(|| panic!("no line of {version}: {self}"))
    }

    /// A header's value; the first, where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Panics unless the status is this one.
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Panics unless this is a refusal (4xx) in the form of the web API, whose details contain
    /// a text. Gives the details.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, containing: &str) -> String {
        assert_eq!(self.status, status, "{self}");
        let details = self.details();
        assert!(
            details.to_lowercase().contains(&containing.to_lowercase()),
            "`{containing}` is not in `{details}`"
        );
        details
    }

    /// Panics unless this is a failure that passes: 502, 503 or 504, with a `Retry-After`.
    #[track_caller]
    pub fn assert_trouble(&self) {
        assert!([502, 503, 504].contains(&self.status), "{self}");
        assert!(self.header("retry-after").is_some(), "no Retry-After: {self}");
    }

    /// The details of an error in the form of the web API; panics when it has another form.
    #[track_caller]
    pub fn details(&self) -> String {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "not JSON: {self}");
        let json = self.json();
        let errors = json["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self}"));
        assert!(!errors.is_empty(), "no errors: {self}");
        let details = errors.iter().map(|e| e["detail"].as_str().expect("a detail is a text"));
        details.collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text().chars().take(2000).collect();
        write!(f, "{} {:?}\n{text}", self.status, self.headers)
    }
}

/// As `Authorization: Basic` wants it.
pub fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        let all = [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]));
        let text: String = all.iter().take(chunk.len() + 1).collect();
        format!("{text:=<4}")
    };
    text.as_bytes().chunks(3).map(digits).collect()
}
