//! What the server says: whether it is a Cratehouse, and whose a token is.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Response;
use ureq::http::header::WWW_AUTHENTICATE;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::words;
use cratehouse_cargo::config::CargoConfig;
use cratehouse_cargo::registry::Registry;

/// For how long a question may take in all: somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Asks servers, with the CAs and the proxy that cargo is configured for.
#[derive(Debug)]
pub(crate) struct Server {
    agent: Agent,
}

/// What a server says of a token, or of none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is this one's.
    Holder(Holder),
    /// It is nobody's, or counts no more: why.
    Refused(String),
    /// Something else: in words.
    Other(String),
}

/// Whose a token is, and what it may do.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Holder {
    user: User,
    token: Token,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct User {
    login: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Token {
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expires: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Detail>,
}

#[derive(Debug, Deserialize)]
struct Detail {
    detail: String,
}

impl Server {
    /// One that asks as cargo would.
    ///
    /// # Errors
    /// When cargo's configuration, or the file of CAs that it names, cannot be read.
    pub(crate) fn as_cargo_asks() -> Result<Self, String> {
        Self::new(&CargoConfig::of_this_process()?)
    }

    fn new(http: &CargoConfig) -> Result<Self, String> {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .root_certs(roots(http)?);
        let mut config = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &http.proxy {
            let wrong = |_| {
                format!(
                    "`http.proxy` in cargo's configuration is no proxy: {}",
                    words::plain(proxy)
                )
            };
            config = config.proxy(Some(Proxy::new(proxy).map_err(wrong)?));
        }
        Ok(Self { agent: config.build().into() })
    }

    /// Whether this is a Cratehouse: asked without a token, it points to its own page for that.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn is_cratehouse(&self, registry: &Registry) -> Result<bool, String> {
        let answer = self.ask(registry, None)?;
        let points = format!("Cargo login_url=\"{}\"", registry.login_page());
        let pointer = answer.headers().get(WWW_AUTHENTICATE);
        Ok(answer.status() == 401
            && pointer.is_some_and(|value| value.as_bytes() == points.as_bytes()))
    }

    /// Whose this token is.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn holder(&self, registry: &Registry, token: &str) -> Result<Said, String> {
        let mut answer = self.ask(registry, Some(token))?;
        let status = answer.status().as_u16();
        let text =
            answer.body_mut().with_config().limit(MAX_BYTES).lossy_utf8(true).read_to_string();
        Ok(said(status, &text.map_err(|e| failed(registry, &e))?))
    }

    fn ask(&self, registry: &Registry, token: Option<&str>) -> Result<Response<Body>, String> {
        let mut request = self.agent.get(format!("{registry}/api/v1/me"));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        request.call().map_err(|e| failed(registry, &e))
    }
}

fn failed(registry: &Registry, error: &ureq::Error) -> String {
    format!("{registry} does not answer: {}", words::plain(&error.to_string()))
}

fn said(status: u16, text: &str) -> Said {
    match status {
        200 => match serde_json::from_str(text) {
            Ok(holder) => Said::Holder(holder),
            Err(_) => Said::Other("the server's answer is none of a Cratehouse".to_owned()),
        },
        401 | 403 => {
            let errors = serde_json::from_str::<Errors>(text).unwrap_or_default().errors;
            let told = errors.first().map(|first| words::plain(&first.detail));
            Said::Refused(told.unwrap_or_else(|| format!("it answers {status}")))
        }
        404 => {
            Said::Other("the server is of a release that tells nobody whose a token is".to_owned())
        }
        status => Said::Other(format!("the server answers {status}")),
    }
}

/// Those of `http.cainfo` alone, as in cargo, else the system's.
fn roots(http: &CargoConfig) -> Result<RootCerts, String> {
    let Some(path) = &http.cainfo else { return Ok(RootCerts::PlatformVerifier) };
    let wrong = |why: &dyn std::fmt::Display| {
        format!("`http.cainfo` in cargo's configuration names {}: {why}", path.display())
    };
    let pem = std::fs::read(path).map_err(|e| wrong(&e))?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    Ok(RootCerts::from(certificates))
}

impl Holder {
    /// Who it is and what they may do, as a sentence's end.
    pub(crate) fn describe(&self) -> String {
        let mut text = words::plain(&self.user.login);
        if !self.token.scopes.is_empty() {
            text += &format!(", who may {}", words::plain(&self.token.scopes.join(", ")));
        }
        if let Some(end) = &self.token.expires {
            let end = end.split_once('.').map_or(end.clone(), |(whole, _)| format!("{whole}Z"));
            text += &format!(", until {}", words::plain(&end));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_whose_a_token_is_or_why_it_is_nobodys() {
        let text = r#"{"user":{"id":1,"login":"alice"},"token":{"id":7,"scopes":["read","yank"],
            "crates":[],"expires":"2027-01-31T00:00:00.123456789Z"},"more":1}"#;
        let Said::Holder(holder) = said(200, text) else { panic!() };
        assert_eq!(holder.describe(), "alice, who may read, yank, until 2027-01-31T00:00:00Z");
        let text = r#"{"user":{"login":"a\u001bb"},"token":{"expires":null}}"#;
        let Said::Holder(holder) = said(200, text) else { panic!() };
        assert_eq!(holder.describe(), "a b");
        let why = said(401, r#"{"errors":[{"detail":"this token is unknown"}]}"#);
        assert_eq!(why, Said::Refused("this token is unknown".to_owned()));
        assert_eq!(said(403, "<html>"), Said::Refused("it answers 403".to_owned()));
        for (status, text) in [(200, "<html>"), (404, ""), (503, "{}")] {
            assert!(matches!(said(status, text), Said::Other(_)), "{status}");
        }
    }

    #[test]
    fn a_file_of_cas_that_is_none_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let http = CargoConfig { cainfo: Some(path.clone()), ..CargoConfig::default() };
        for text in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\n")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let why = Server::new(&http).unwrap_err();
            assert!(why.contains("http.cainfo") && why.contains("ca.pem"), "{why}");
        }
        let proxy = Some("ftp://x".to_owned());
        let wrong = CargoConfig { proxy, ..CargoConfig::default() };
        assert!(Server::new(&wrong).unwrap_err().contains("http.proxy"));
    }
}
