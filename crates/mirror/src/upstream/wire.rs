//! How we present ourselves to an upstream: clients, certificates, headers.

use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Response, redirect};
use url::Url;

use super::body::Collector;
use super::{CONNECT, Validators, guard};
use crate::settings;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::secret::Secret;

/// A URL for the log: without its query, which may be signed, and without a password.
pub(super) fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// The headers of a request: conditional by `ETag`, else by `Last-Modified`, else not.
pub(super) fn headers(
    validators: Option<&Validators>,
    inflate: bool,
    token: Option<&HeaderValue>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let encoding = if inflate { "gzip" } else { "identity" };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token.clone());
    }
    let condition = validators.and_then(|v| match (&v.etag, &v.last_modified) {
        (Some(etag), _) => Some((header::IF_NONE_MATCH, etag)),
        (None, Some(date)) => Some((header::IF_MODIFIED_SINCE, date)),
        (None, None) => None,
    });
    if let Some((name, value)) = condition
        && let Ok(value) = HeaderValue::from_str(value)
    {
        headers.insert(name, value);
    }
    headers
}

/// What a response can be recognised by later.
pub(super) fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
}

/// Reads a body of at most `max_bytes`, which may be compressed where that was allowed.
pub(super) fn collector(
    inflate: bool,
    max_bytes: usize,
    response: &Response,
) -> io::Result<Collector> {
    let encoding = response.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    match encoding.filter(|_| inflate) {
        None | Some(b"" | b"identity") => {
            Collector::new(max_bytes, response.content_length(), false)
        }
        Some(b"gzip" | b"x-gzip") => Collector::new(max_bytes, response.content_length(), true),
        Some(_) => Err(io::Error::other("an encoding nobody asked for")),
    }
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speak {
    /// What the server does.
    Any,
    /// HTTP/2 alone.
    Http2,
}

/// What an upstream may send on one connection and in one answer before we have read it, in bytes:
/// enough that a line of 1 Gbit/s and 100 ms is never idle. Whatever arrives is read at once.
const CONNECTION_WINDOW: u32 = 16 << 20;
const STREAM_WINDOW: u32 = 4 << 20;
/// A connection with requests under way on which nothing arrives is asked for a sign of life this
/// often, and has so long to give it: all requests wait on that one connection.
const PING: Duration = Duration::from_secs(10);

/// A client that follows no redirect and decodes nothing by itself.
pub(super) fn client(
    config: &settings::Upstream,
    roots: &[Certificate],
    public_only: bool,
    speak: Speak,
) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("cratehouse/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_gzip()
        .referer(false)
        .connect_timeout(CONNECT.min(config.timeout))
        .read_timeout(config.timeout)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING);
    if speak == Speak::Http2 {
        builder = builder.http2_prior_knowledge();
    }
    for root in roots {
        builder = builder.add_root_certificate(root.clone());
    }
    if public_only {
        builder = builder.dns_resolver(guard::PublicOnly::new());
    }
    builder.build().map_err(|e| {
        Error::invalid(format!("upstream `{}`: no TLS client can be made of the system's and the configured CA certificates", config.name))
            .because(e)
    })
}

/// The certificates in a PEM file.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<Certificate>> {
    let refuse = |why: String| Error::invalid(format!("CA file `{}`: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|e| refuse(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| refuse(e.to_string()))?;
    match certificates.is_empty() {
        true => Err(refuse("there is no certificate in it (PEM is expected)".to_owned())),
        false => Ok(certificates),
    }
}

/// The token as it is sent, verbatim as cargo does.
pub(super) fn token_header(config: &settings::Upstream, token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| {
        let name = &config.name;
        Error::invalid(format!(
            "the token of upstream `{name}` has characters that no header takes"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}
