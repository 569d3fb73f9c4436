//! A server that commands work on in place of a store: a client of its admin API.

pub(super) mod lines;
mod token;

use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::model::server_url::ServerUrl;
use cratehouse_cargo::config::CargoConfig;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::secret::Secret;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// For how long nothing may come of an answer.
const IDLE: Duration = Duration::from_secs(150);
/// How often a connection is tried while long work is waited for: a server that is gone is noticed, and one that
/// works is waited for however long it takes.
const ALIVE: Duration = Duration::from_secs(20);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A server, and the token that it is asked with.
#[derive(Debug)]
pub(crate) struct Server {
    url: ServerUrl,
    token: Option<Secret>,
    /// For questions, whose answers come at once.
    usual: Client,
    /// For work that takes as long as it takes.
    patient: Client,
}

#[derive(Debug, serde::Deserialize)]
struct Refusal {
    errors: Vec<Detail>,
}

#[derive(Debug, serde::Deserialize)]
struct Detail {
    detail: String,
}

impl Server {
    /// With the token that the environment, the file or cargo has, and the CAs that are configured here and for cargo.
    ///
    /// # Errors
    /// Invalid, when there is no token, or a file of CAs cannot be used.
    pub(crate) fn open(
        url: &ServerUrl,
        token_file: Option<&Path>,
        config: &Config,
    ) -> Result<Self> {
        let cargo = CargoConfig::of_this_process().map_err(Error::invalid)?;
        let token = token::find(url.registry(), token_file, &cargo, |name| std::env::var_os(name))?;
        Self::with(url, Some(token), &cargo, config)
    }

    /// Without a token: for what asks for none.
    ///
    /// # Errors
    /// Invalid, when a file of CAs cannot be used.
    pub(crate) fn anonymous(url: &ServerUrl, config: &Config) -> Result<Self> {
        let cargo = CargoConfig::of_this_process().map_err(Error::invalid)?;
        Self::with(url, None, &cargo, config)
    }

    fn with(
        url: &ServerUrl,
        token: Option<Secret>,
        cargo: &CargoConfig,
        config: &Config,
    ) -> Result<Self> {
        let mut authorities = Vec::new();
        for (key, path) in [
            ("`outgoing.ca_file`", config.outgoing_ca.as_deref()),
            ("`http.cainfo` in cargo's configuration", cargo.cainfo.as_deref()),
        ] {
            authorities.extend(
                path.map(|path| certificates(key, path)).transpose()?.into_iter().flatten(),
            );
        }
        let client = |patience: fn(ClientBuilder) -> ClientBuilder| {
            let mut builder = Client::builder()
                .user_agent(concat!("cratehouse/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(CONNECT)
                .tcp_keepalive(ALIVE);
            if !url.is_encrypted() {
                builder = builder.no_proxy(); // which would have the token in clear
            }
            for authority in &authorities {
                builder = builder.add_root_certificate(authority.clone());
            }
            let unusable =
                |e: reqwest::Error| Error::invalid(format!("no TLS client can be made: {e}"));
            patience(builder).build().map_err(unusable)
        };
        Ok(Self {
            url: url.clone(),
            token,
            usual: client(|builder| builder.read_timeout(IDLE))?,
            patient: client(|builder| {
                let pinging = builder.http2_keep_alive_interval(ALIVE);
                pinging.http2_keep_alive_timeout(ALIVE).http2_keep_alive_while_idle(true)
            })?,
        })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Asks for what stands at a path below the API, which [`path`] makes.
    ///
    /// # Errors
    /// What the server says, in its words; unavailable, when it says nothing.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.read(self.ask(&self.usual, Method::GET, path, None).await?).await
    }

    /// Has something changed.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = written(body)?;
        self.read(self.ask(&self.usual, method, path, body).await?).await
    }

    /// Has long work done.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(super) async fn work<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = written(body)?;
        self.read(self.ask(&self.patient, method, path, body).await?).await
    }

    /// The same with a body that is not JSON.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(super) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: String,
    ) -> Result<T> {
        let body = Some((text.into_bytes(), "text/plain; charset=utf-8"));
        self.read(self.ask(&self.patient, Method::POST, path, body).await?).await
    }

    /// Whether a Cratehouse answers there: asked without a token, it points to its own page for that.
    ///
    /// # Errors
    /// When nothing answers, or something else.
    pub(super) async fn is_there(&self) -> Result<()> {
        let answer = self.ask(&self.usual, Method::GET, "/api/v1/me", None).await?;
        let pointer = answer.headers().get(reqwest::header::WWW_AUTHENTICATE);
        let is_ours =
            pointer.is_some_and(|value| value.as_bytes().starts_with(b"Cargo login_url="));
        match answer.status() {
            StatusCode::UNAUTHORIZED if is_ours => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::OK => Err(self.stranger(answer.status())),
            _ => match self.read::<serde::de::IgnoredAny>(answer).await {
                Ok(_) => Err(self.stranger(StatusCode::OK)),
                Err(e) => Err(e),
            },
        }
    }

    async fn ask(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<(Vec<u8>, &'static str)>,
    ) -> Result<Response> {
        let mut request = client.request(method, self.url.join(path));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, header(token)?);
        }
        if let Some((body, kind)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        request.send().await.map_err(|e| self.unanswered(e))
    }

    async fn read<T: DeserializeOwned>(&self, mut answer: Response) -> Result<T> {
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "{} answers {status}, and a redirect is not followed with a token: name the registry's own URL",
                    self.url
                ),
            ));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|e| self.unanswered(e))? {
            if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(Error::new(
                    Kind::Internal,
                    format!("{} answers more than {MAX_ANSWER_BYTES} bytes", self.url),
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        if !status.is_success() {
            return Err(refusal(status, &bytes).unwrap_or_else(|| self.stranger(status)));
        }
        serde_json::from_slice(&bytes).map_err(|e| {
            let text = format!(
                "{} answers what this release does not understand: are both of the same release?",
                self.url
            );
            Error::new(Kind::Internal, text).because(e)
        })
    }

    fn stranger(&self, status: StatusCode) -> Error {
        let text = format!(
            "{} answers {status}, and not as a Cratehouse does: is the URL right, and is there a proxy in front?",
            self.url
        );
        Error::new(kind(status), text)
    }

    fn unanswered(&self, error: reqwest::Error) -> Error {
        // reqwest tells no kind for it, and clients that do not know the local CA meet it first.
        let untrusted = format!("{error:?}").contains("UnknownIssuer");
        let text = match untrusted {
            true => format!(
                "{} has a certificate of a CA that is not trusted here: name its file (`ca.pem`) as `http.cainfo` in cargo's \
                 configuration, or as `outgoing.ca_file` (CRATEHOUSE_OUTGOING__CA_FILE)",
                self.url
            ),
            false => format!("{} does not answer", self.url),
        };
        Error::unavailable(text).because(error.without_url())
    }
}

/// A path of the admin API, and its query: `path(&["users", "al"], &[])` is `/api/v1/admin/users/al`.
///
/// # Errors
/// Absent, for names that no URL can have, and nothing here has.
pub(super) fn path(segments: &[&str], query: &[(&str, Option<String>)]) -> Result<String> {
    let mut path = "/api/v1/admin".to_owned();
    for segment in segments {
        if matches!(*segment, "" | "." | "..") {
            return Err(Error::absent(format!("nothing has the name `{segment}`")));
        }
        path.push('/');
        path.extend(utf8_percent_encode(segment, PLAIN));
    }
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in query {
        if let Some(value) = value {
            pairs.append_pair(key, value);
        }
    }
    let query = pairs.finish();
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query);
    }
    Ok(path)
}

/// A body of JSON, and that it is.
fn written(body: Option<&impl Serialize>) -> Result<Option<(Vec<u8>, &'static str)>> {
    let body = body.map(serde_json::to_vec).transpose().map_err(Error::internal)?;
    Ok(body.map(|body| (body, "application/json")))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<Certificate>> {
    let unusable = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("{key}: the CAs in {} cannot be used: {e}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|e| unusable(&e))?;
    Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))
}

fn header(token: &Secret) -> Result<HeaderValue> {
    let header = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
    let mut header = header.map_err(|_| Error::invalid("the token cannot be sent"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A refusal in the server's own words; `None`, where it has none.
fn refusal(status: StatusCode, body: &[u8]) -> Option<Error> {
    let Refusal { errors } = serde_json::from_slice(body).ok()?;
    Some(Error::new(kind(status), errors.into_iter().next()?.detail))
}

/// The kind of error whose status this is.
fn kind(status: StatusCode) -> Kind {
    match status.as_u16() {
        400 | 422 => Kind::Invalid,
        401 => Kind::Unauthenticated,
        403 => Kind::Forbidden,
        404 | 410 => Kind::Absent,
        405 => Kind::MethodNotAllowed,
        408 => Kind::TooSlow,
        413 => Kind::TooLarge,
        429 => Kind::Throttled,
        502 => Kind::BadUpstream,
        503 => Kind::Unavailable,
        504 => Kind::UpstreamTimeout,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_names_percent_encoded() {
        let of = |segments: &[&str]| path(segments, &[]).unwrap();
        assert_eq!(of(&["users", "al.ice_1"]), "/api/v1/admin/users/al.ice_1");
        assert_eq!(of(&["creators", "acme-*"]), "/api/v1/admin/creators/acme-%2A");
        assert_eq!(
            of(&["users", "a/../b?c#d é"]),
            "/api/v1/admin/users/a%2F..%2Fb%3Fc%23d%20%C3%A9"
        );
        let query =
            [("user", Some("a&b".to_owned())), ("token", None), ("limit", Some("5".to_owned()))];
        assert_eq!(path(&["journal"], &query).unwrap(), "/api/v1/admin/journal?user=a%26b&limit=5");
        for odd in ["", ".", ".."] {
            assert_eq!(path(&["users", odd], &[]).unwrap_err().kind, Kind::Absent);
        }
    }

    #[test]
    fn a_refusal_has_the_servers_words_and_the_kind_of_its_status() {
        let body = br#"{"errors":[{"detail":"there is no user `al`"}]}"#;
        let error = refusal(StatusCode::NOT_FOUND, body).unwrap();
        assert_eq!((error.kind, error.message.as_str()), (Kind::Absent, "there is no user `al`"));
        for (status, wanted) in [
            (400, Kind::Invalid),
            (401, Kind::Unauthenticated),
            (403, Kind::Forbidden),
            (413, Kind::TooLarge),
            (429, Kind::Throttled),
            (500, Kind::Internal),
            (503, Kind::Unavailable),
            (418, Kind::Internal),
        ] {
            assert_eq!(kind(StatusCode::from_u16(status).unwrap()), wanted, "{status}");
        }
        for odd in ["<html>", "{}", r#"{"errors":[]}"#] {
            assert!(refusal(StatusCode::BAD_GATEWAY, odd.as_bytes()).is_none(), "{odd}");
        }
        let odd = br#"{"errors":[{"detail":"a\u001b[2Jb"}]}"#;
        let error = refusal(StatusCode::BAD_REQUEST, odd).unwrap();
        assert!(!error.message.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Secret::new("crh_secret");
        assert!(header(&token).unwrap().is_sensitive());
        assert!(!format!("{:?} {:?}", header(&token).unwrap(), token).contains("crh_secret"));
        let odd = header(&Secret::new("crh\nsecret")).unwrap_err();
        assert!(!odd.chain().contains("secret"), "{}", odd.chain());
    }
}
