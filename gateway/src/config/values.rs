//! Texts that are values: each is parsed, or refused with what is allowed.

use std::fs;
use std::net::SocketAddr;

use rand::RngExt;
use url::Url;

pub(super) fn socket(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8443")
}

pub(super) fn http_url(text: &str) -> Result<Url, &'static str> {
    const ALLOWED: &str = "write a URL that begins with https:// or http://, without user name, \
                           password, query and fragment";
    let url: Url = text.parse().map_err(|_| ALLOWED)?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err(ALLOWED) }
}

pub(super) fn own_url(text: &str) -> Result<Url, &'static str> {
    let url = http_url(text)?;
    match url.path() {
        "" | "/" => Ok(url),
        _ => Err("write scheme and host alone: the registry cannot live below a path"),
    }
}

pub(super) fn alias_url(text: &str) -> Result<Url, &'static str> {
    http_url(text.trim_end_matches('/'))
}

pub(super) fn index_url(text: &str) -> Result<Url, &'static str> {
    let text = text.strip_prefix("sparse+").unwrap_or(text);
    http_url(&format!("{}/", text.trim_end_matches('/')))
}

/// The text of a registry as it stands in manifests: cargo compares it letter by letter.
pub(super) fn registry_url(text: &str) -> Result<String, &'static str> {
    const ALLOWED: &str = "write the registry's index URL as manifests have it, such as \
                           sparse+https://crates.acme.example/index/";
    let bare = ["sparse+", "registry+"].iter().find_map(|kind| text.strip_prefix(kind));
    let url: Url = bare.unwrap_or(text).parse().map_err(|_| ALLOWED)?;
    if url.has_host() { Ok(text.to_owned()) } else { Err(ALLOWED) }
}

pub(super) fn dl_template(text: &str) -> Result<String, &'static str> {
    const ALLOWED: &str = "write a URL as in a registry's config.json; it may have the markers \
                           {crate}, {version}, {prefix}, {lowerprefix} and {sha256-checksum}";
    let bare = text.replace(['{', '}'], "");
    http_url(&bare).map(|_| text.to_owned()).map_err(|_| ALLOWED)
}

pub(super) fn upstream_name(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    match starts && text.len() <= 64 && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or \
                      digit"),
    }
}

pub(super) fn replica(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.len() <= 64 && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 of a-z, A-Z, 0-9, `.`, `_` and `-`"),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| {
        format!("write a level (error, warn, info, debug, trace) or target=level, …: {error}")
    })
}

/// This machine's name, as far as it can be had without asking the network.
pub(super) fn this_host(variable: Option<&str>) -> String {
    let file = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let names = [variable.unwrap_or_default(), file.trim()];
    names
        .iter()
        .find_map(|name| replica(name).ok().filter(|n| !n.is_empty()))
        .unwrap_or_else(|| format!("replica-{:08x}", rand::rng().random::<u32>()))
}
