//! The place on the network where a database is to be had: an archive at a URL.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, StatusCode};
use url::Url;

use super::MAX_ARCHIVE_BYTES;
use cratehouse_core::error::{Error, Kind, Result};

/// How long a connection may take, and the whole.
const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(120);
/// A longer `ETag` is not kept: the archive is fetched anew then.
const MAX_ETAG_BYTES: usize = 512;
/// GitHub sends on once.
const REDIRECTS: usize = 5;

/// What a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// What was fetched before.
    Same,
    /// An archive, not yet read.
    Archive {
        /// Its bytes.
        bytes: Bytes,
        /// What it can be recognised by.
        etag: Option<String>,
    },
}

/// Asks for the archive at a URL, unless it is still the one of this `ETag`.
///
/// # Errors
/// [`Kind::Invalid`] when a CA file cannot be used; [`Kind::BadUpstream`] when the answer is no archive or
/// too large; [`Kind::Unavailable`] when there is none. Each says what to do.
pub async fn ask(url: &Url, extra_ca: Option<&Path>, etag: Option<&str>) -> Result<Remote> {
    let mut request = client(extra_ca)?.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let unanswered = |e: reqwest::Error| {
        let text = format!("{url} (`policy.advisories_url`) does not give an answer");
        Error::unavailable(text).because(e.without_url())
    };
    let mut answer = request.send().await.map_err(unanswered)?;
    match answer.status() {
        StatusCode::NOT_MODIFIED if etag.is_some() => return Ok(Remote::Same),
        StatusCode::OK => (),
        status => {
            return Err(bad(url, &format!("answers {status}: correct `policy.advisories_url`")));
        }
    }
    let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
    let etag = etag.filter(|etag| etag.len() <= MAX_ETAG_BYTES).map(str::to_owned);
    let too_large = || bad(url, &format!("sends more than {MAX_ARCHIVE_BYTES} bytes"));
    if answer.content_length().is_some_and(|bytes| bytes > MAX_ARCHIVE_BYTES) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(unanswered)? {
        if (bytes.len() + piece.len()) as u64 > MAX_ARCHIVE_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Remote::Archive { bytes: bytes.freeze(), etag })
}

fn bad(url: &Url, what: &str) -> Error {
    Error::new(Kind::BadUpstream, format!("{url} {what}"))
}

/// Its redirects never leave https for plain http.
fn client(extra_ca: Option<&Path>) -> Result<Client> {
    let unusable = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("`outgoing.ca_file`: no TLS client can be made with it: {e}"))
    };
    let mut builder = Client::builder()
        .user_agent(concat!("cratehouse/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::custom(follow))
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(WHOLE);
    if let Some(path) = extra_ca {
        let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| unusable(&e))
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_safe && attempt.url().scheme() != "https" {
        return attempt.error("it sends from https on to plain http");
    }
    match attempt.previous().len() > REDIRECTS {
        true => attempt.error("it sends on and on"),
        false => attempt.follow(),
    }
}
