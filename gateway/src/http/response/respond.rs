//! Answers: the only place that knows status codes, and what each kind of answer says to caches.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::http::request::negotiate;
use crate::http::request::route::{Form, Refused};
use crate::http::response::answer::Body;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_package::index::{ETag, IndexFile};
use cratehouse_package::view::View;

/// Every answer.
pub type Answer = Response<Body>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8"; // prometheus::TEXT_FORMAT
const HTML: &str = "text/html; charset=utf-8";
const CRATE: &str = "application/gzip"; // as crates.io's downloads
const INDEX: &str = "text/plain"; // as crates.io's index

/// Room for the headers of an answer, with those that hyper adds: made once.
const HEADERS: usize = 12;
/// The same for a 304: with more it would take over 1 kB, and for that glibc tidies its heap each time.
const HEADERS_OF_304: usize = 6;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request is called in the log and in its answer: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

/// A small JSON answer of the web API. One that may be large is
/// [`crate::http::response::responses::Responses::json`].
///
/// # Errors
/// [`Kind::Internal`] when the value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> Result<Answer> {
    let body = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(json_bytes(body.into()))
}

/// The same, written already.
pub(crate) fn json_bytes(body: Bytes) -> Answer {
    with_caching(answer(StatusCode::OK, JSON, body), "no-store")
}

/// `{"ok":true}`, with a sentence where cargo wants one.
///
/// # Errors
/// As [`json()`].
pub fn done(message: Option<&str>) -> Result<Answer> {
    match message {
        None => json(&json!({ "ok": true })),
        Some(text) => json(&json!({ "ok": true, "msg": text })),
    }
}

/// `config.json`. Never a 304, which cargo takes for an error: so it has no validator.
///
/// # Errors
/// As [`json()`].
pub fn index_config(view: View, url: &str, auth_required: bool) -> Result<Answer> {
    let mut config =
        json!({ "dl": format!("{url}/api/v1/crates"), "auth-required": auth_required });
    // Without it cargo publishes, yanks and searches nothing there, and says so.
    if let (View::Own, Some(config)) = (view, config.as_object_mut()) {
        config.insert("api".to_owned(), url.into());
    }
    let answer = json(&config)?;
    Ok(with_caching(answer, caching(auth_required)))
}

/// An index file, in the encoding that the client takes; 304 when it has that one already.
pub fn index_file(file: &IndexFile, asked: &HeaderMap, private: bool) -> Answer {
    let packed = file.gzip.as_ref().filter(|_| negotiate::accepts_gzip(asked));
    let chosen = packed.unwrap_or(&file.identity);
    let unchanged = negotiate::has_already(asked, &chosen.etag);
    let mut answer = match unchanged {
        true => not_modified(),
        false => sending(StatusCode::OK, INDEX, Body::Whole(chosen.bytes.clone())),
    };
    let headers = answer.headers_mut();
    if packed.is_some() && !unchanged {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::from_maybe_shared(chosen.etag.bytes()) {
        headers.insert(header::ETAG, etag);
    }
    with_caching(answer, caching(private))
}

/// A crate file: whole (cargo takes no 2xx but 200), never encoded; 304 for a cache that has it already.
/// Its bytes are for ever, but whether they may be had is not: so a cache asks each time.
pub fn crate_file(body: Body, cksum: &Checksum, asked: &HeaderMap, private: bool) -> Answer {
    let etag = ETag::of(cksum);
    let mut answer = match negotiate::has_already(asked, &etag) {
        true => not_modified(),
        false => sending(StatusCode::OK, CRATE, body),
    };
    if let Ok(etag) = HeaderValue::from_maybe_shared(etag.bytes()) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    with_caching(answer, caching(private))
}

/// A document of this release, for programs; 304 for who has it already.
pub fn document(body: Bytes, cksum: &Checksum, asked: &HeaderMap) -> Answer {
    let etag = ETag::of(cksum);
    let mut answer = match negotiate::has_already(asked, &etag) {
        true => not_modified(),
        false => sending(StatusCode::OK, JSON, Body::Whole(body)),
    };
    if let Ok(etag) = HeaderValue::from_maybe_shared(etag.bytes()) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    with_caching(answer, "no-cache")
}

/// A page for people, under a content security policy.
pub fn page(html: String, policy: &str) -> Answer {
    let mut answer = with_caching(answer(StatusCode::OK, HTML, html.into()), "no-cache");
    let headers = answer.headers_mut();
    insert(headers, header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A line or more of plain text, for the admin listener.
pub fn text(body: impl Into<String>) -> Answer {
    with_caching(answer(StatusCode::OK, TEXT, body.into().into()), "no-store")
}

/// Metrics in Prometheus's text format.
pub fn metrics(body: String) -> Answer {
    with_caching(answer(StatusCode::OK, METRICS, body.into()), "no-store")
}

/// A refusal. `login` is the page that a 401 points to; the request id helps who asks about a
/// fault of ours.
pub fn error(error: &Error, form: Form, login: &str, id: RequestId) -> Answer {
    let status = status(error.kind);
    let detail = match error.kind {
        Kind::Internal => format!("{}: {}", error.message, id.as_str()),
        _ => error.message.clone(),
    };
    let mut answer = match form {
        Form::Json => {
            let body = json!({ "errors": [{ "detail": detail }] }).to_string();
            answer(status, JSON, body.into())
        }
        Form::Text => answer(status, TEXT, format!("{detail}\n").into()),
    };
    let headers = answer.headers_mut();
    if let Some(wait) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    if error.kind == Kind::Unauthenticated {
        // Cargo reads it on config.json (Cargo book, "Registry authentication").
        insert(headers, header::WWW_AUTHENTICATE, &format!("Cargo login_url=\"{login}\""));
    }
    with_caching(answer, "no-store")
}

/// The whole answer to who speaks plain http where TLS is spoken: a registry is never redirected to, since
/// the token that a client sends would have gone over the wire before.
pub fn to_plain_http(url: &str) -> String {
    let text = format!(
        "this port speaks TLS, and was asked in plain http: use {url}/ instead, which is \
         `index = \"sparse+{url}/index/\"` in cargo's configuration, and `registry = \
         \"sparse+{url}/crates-io/index/\"` for what replaces crates.io\n"
    );
    let status = StatusCode::BAD_REQUEST;
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {TEXT}\r\ncontent-length: {}\r\ncache-control: \
         no-store\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// The error that a refused request line is, and its `Allow`. `url` is ours.
pub fn refused(refused: Refused, url: &str) -> (Error, Option<String>) {
    match refused {
        Refused::Unknown => (Error::absent("there is nothing at this URL"), None),
        Refused::BesideTheIndex { is_cargo, view } => {
            let own = format!("`index = \"sparse+{url}/index/\"` below `[registries.…]`");
            let public =
                format!("`registry = \"sparse+{url}/crates-io/index/\"` below `[source.…]`");
            let [first, second] = match view {
                View::Own => [format!("{own}, or, for what replaces crates.io,"), public],
                View::CratesIo => [format!("{public} for what replaces crates.io, and"), own],
            };
            let why = format!(
                "there is no index at this URL: write into cargo's configuration {first} {second}, with the slash at \
                 its end"
            );
            // Of a 404 cargo shows nothing but that there is no config.json.
            let kind = if is_cargo { Kind::Invalid } else { Kind::Absent };
            (Error::new(kind, why), None)
        }
        Refused::Absent(why) => (Error::absent(why), None),
        Refused::Malformed(why) => (Error::invalid(why), None),
        Refused::Method(allow) => {
            let why = format!("this URL does not take that method, but: {allow}");
            (Error::new(Kind::MethodNotAllowed, why), Some(allow))
        }
    }
}

/// Puts the last touches on every answer; the body of a `HEAD` stays behind, its length does not.
pub fn finish(answer: Answer, is_head: bool, allow: Option<&str>, id: RequestId) -> Answer {
    let mut answer = if is_head { answer.map(|_| Body::default()) } else { answer };
    if let Ok(mut id) = HeaderValue::from_bytes(&id.0) {
        // It would only push what comes again out of the client's table (RFC 7541, section 7.1.3).
        id.set_sensitive(true);
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(methods) = allow {
        insert(headers, header::ALLOW, methods);
    }
    answer
}

impl RequestId {
    /// A new one.
    pub fn random() -> Self {
        let mut digits = [b'0'; 16];
        let _ = hex::encode_to_slice(rand::random::<[u8; 8]>(), &mut digits); // they fit
        Self(digits)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// How many bytes of body an answer sends.
pub fn body_bytes(answer: &Answer) -> u64 {
    answer.body().size_hint().lower()
}

/// The word for a kind of error in metrics.
pub fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::TooLarge => "too_large",
        Kind::TooSlow => "too_slow",
        Kind::Unauthenticated => "unauthenticated",
        Kind::Forbidden => "forbidden",
        Kind::Absent => "absent",
        Kind::MethodNotAllowed => "method_not_allowed",
        Kind::Throttled => "throttled",
        Kind::Unavailable => "unavailable",
        Kind::BadUpstream => "bad_upstream",
        Kind::UpstreamTimeout => "upstream_timeout",
        Kind::Internal => "internal",
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Absent => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::BadUpstream => StatusCode::BAD_GATEWAY,
        Kind::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Cargo ignores it, and always revalidates an index file. A cache in between may keep what it got, and must
/// ask before each use: or a publish would not be seen, and what was removed or denied would still be
/// handed out, in no record. Where reads need a token nobody else's cache may keep it.
fn caching(private: bool) -> &'static str {
    if private { "private, no-cache" } else { "no-cache" }
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    sending(status, content_type, Body::Made(body))
}

fn sending(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let length = HeaderValue::from(body.size_hint().lower());
    let mut answer = with_status(status, body, HEADERS);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, length);
    answer
}

fn not_modified() -> Answer {
    with_status(StatusCode::NOT_MODIFIED, Body::default(), HEADERS_OF_304)
}

fn with_status(status: StatusCode, body: Body, headers: usize) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::with_capacity(headers);
    answer
}

fn with_caching(mut answer: Answer, caching: &'static str) -> Answer {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    answer
}

/// Leaves a header out whose value cannot be one, rather than fail the answer.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Rounded up: asking again too early helps nobody.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const ID: RequestId = RequestId(*b"0123456789abcdef");

    fn body(answer: Answer) -> Bytes {
        futures_util::FutureExt::now_or_never(answer.into_body().collect())
            .unwrap()
            .unwrap()
            .to_bytes()
    }

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers().get(name).map(|v| v.to_str().unwrap())
    }

    fn asking(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn file() -> IndexFile {
        IndexFile::new(Bytes::from("{\"name\":\"a\"}\n".repeat(50)), Vec::new())
    }

    #[test]
    fn an_index_file_is_packed_for_those_who_take_it_and_each_encoding_has_its_etag() {
        let file = file();
        let plain = index_file(&file, &HeaderMap::new(), false);
        let packed = index_file(&file, &asking(&[(header::ACCEPT_ENCODING, "gzip")]), false);
        assert_eq!(header(&plain, "content-encoding"), None);
        assert_eq!(header(&packed, "content-encoding"), Some("gzip"));
        assert_ne!(header(&plain, "etag"), header(&packed, "etag"));
        for answer in [plain, packed] {
            assert_eq!(answer.status(), 200);
            assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
            assert_eq!(header(&answer, "content-type"), Some("text/plain"));
            assert_eq!(header(&answer, "cache-control"), Some("no-cache"));
            let length: usize = header(&answer, "content-length").unwrap().parse().unwrap();
            assert_eq!(body(answer).len(), length);
        }
    }

    #[test]
    fn a_client_that_has_the_file_gets_a_304_with_the_same_etag_and_no_body() {
        let file = file();
        let etag = file.identity.etag.clone();
        let answer = index_file(&file, &asking(&[(header::IF_NONE_MATCH, &etag)]), true);
        assert_eq!(answer.status(), 304);
        assert_eq!(header(&answer, "etag"), Some(etag.as_str()));
        assert_eq!(header(&answer, "vary"), Some("accept-encoding"));
        assert_eq!(header(&answer, "cache-control"), Some("private, no-cache"));
        assert_eq!(header(&answer, "content-length"), None);
        assert_eq!(header(&answer, "content-encoding"), None);
        let answer = finish(answer, false, None, ID);
        assert_eq!(answer.headers().len() + 1, HEADERS_OF_304, "hyper adds a date");
        assert_eq!(answer.headers().capacity(), HEADERS_OF_304);
        assert!(body(answer).is_empty());
        let other = asking(&[(header::IF_NONE_MATCH, &etag), (header::ACCEPT_ENCODING, "gzip")]);
        assert_eq!(index_file(&file, &other, true).status(), 200);
    }

    #[test]
    fn a_head_keeps_the_length_and_loses_the_body() {
        let file = Bytes::from_static(b"abc");
        let file = crate_file(file.into(), &Checksum::of(b"abc"), &HeaderMap::new(), false);
        let answer = finish(file, true, None, ID);
        assert_eq!(header(&answer, "content-length"), Some("3"));
        assert_eq!(header(&answer, "x-request-id"), Some(ID.as_str()));
        assert_eq!(body_bytes(&answer), 0);
    }

    #[test]
    fn crate_files_are_never_encoded_and_a_cache_asks_each_time() {
        let (abc, cksum) = (Bytes::from_static(b"abc"), Checksum::of(b"abc"));
        let tag = ETag::of(&cksum).as_str().to_owned();
        for (asked, status) in
            [(HeaderMap::new(), 200), (asking(&[(header::IF_NONE_MATCH, &tag)]), 304)]
        {
            let answer = crate_file(abc.clone().into(), &cksum, &asked, true);
            assert_eq!(answer.status(), status);
            assert_eq!(header(&answer, "cache-control"), Some("private, no-cache"));
            assert_eq!(header(&answer, "content-encoding"), None);
            assert_eq!(header(&answer, "etag"), Some(tag.as_str()));
            assert_eq!(body_bytes(&answer), if status == 200 { 3 } else { 0 });
        }
        let answer = crate_file(abc.into(), &cksum, &HeaderMap::new(), false);
        assert_eq!(header(&answer, "cache-control"), Some("no-cache"));
    }

    #[test]
    fn config_json_names_the_three_things_that_cargo_wants() {
        let answer = index_config(View::Own, "https://crates.example", true).unwrap();
        assert_eq!(header(&answer, "etag"), None);
        let value: serde_json::Value = serde_json::from_slice(&body(answer)).unwrap();
        let wanted = json!({
            "dl": "https://crates.example/api/v1/crates",
            "api": "https://crates.example",
            "auth-required": true,
        });
        assert_eq!(value, wanted);
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let cases = [
            (Kind::Invalid, 400),
            (Kind::TooLarge, 413),
            (Kind::TooSlow, 408),
            (Kind::Unauthenticated, 401),
            (Kind::Forbidden, 403),
            (Kind::Absent, 404),
            (Kind::MethodNotAllowed, 405),
            (Kind::Throttled, 429),
            (Kind::Unavailable, 503),
            (Kind::BadUpstream, 502),
            (Kind::UpstreamTimeout, 504),
            (Kind::Internal, 500),
        ];
        for (kind, status) in cases {
            let answer = error(&Error::new(kind, "no"), Form::Json, "https://x/me", ID);
            assert_eq!(answer.status(), status, "{kind:?}");
        }
    }

    #[test]
    fn the_api_answers_in_json_and_the_rest_in_plain_text() {
        let refusal = Error::forbidden("not \"you\"");
        let api = error(&refusal, Form::Json, "https://x/me", ID);
        assert_eq!(header(&api, "content-type"), Some("application/json"));
        assert_eq!(body(api), r#"{"errors":[{"detail":"not \"you\""}]}"#);
        let text = error(&refusal, Form::Text, "https://x/me", ID);
        assert_eq!(header(&text, "content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(header(&text, "cache-control"), Some("no-store"));
        assert_eq!(body(text), "not \"you\"\n");
    }

    #[test]
    fn a_401_points_to_the_login_page_and_a_503_says_when() {
        let nobody = Error::new(Kind::Unauthenticated, "who are you");
        let answer = error(&nobody, Form::Text, "https://x/me", ID);
        assert_eq!(header(&answer, "www-authenticate"), Some("Cargo login_url=\"https://x/me\""));
        let later = Error::unavailable("later").retry_after(Duration::from_millis(1200));
        assert_eq!(header(&error(&later, Form::Json, "", ID), "retry-after"), Some("2"));
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn a_wrong_method_is_answered_with_allow() {
        let (why, allow) = refused(Refused::Method("PUT".to_owned()), "https://x");
        let answer = finish(error(&why, Form::Json, "", ID), false, allow.as_deref(), ID);
        assert_eq!((answer.status().as_u16(), header(&answer, "allow")), (405, Some("PUT")));
    }
}
