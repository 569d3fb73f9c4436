//! What is kept of a request's head while the request waits: the headers that are read later on. Others may
//! be 32 KiB in all, and thousands of requests wait.

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue,
    IF_NONE_MATCH, ORIGIN,
};

/// A head of so many bytes is kept as it is: nearly all are.
const SMALL_BYTES: usize = 2048;
/// The most that is kept of one header's values, in bytes. What is cut is refused where it is read, as what
/// is too long: a token has fewer, and so has a list of proxies.
const VALUE_BYTES: usize = 8192;

/// The headers that something reads behind the route.
const READ: [HeaderName; 10] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    EXPECT,
    FORWARDED,
    HOST,
    IF_NONE_MATCH,
    ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-forwarded-for"),
];

/// The headers that are read later on, in memory of their own: a value of a large head would keep the whole.
pub(crate) fn kept(headers: HeaderMap) -> HeaderMap {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes <= SMALL_BYTES {
        return headers;
    }
    let mut kept = HeaderMap::new();
    for name in READ {
        let mut room = VALUE_BYTES;
        for value in headers.get_all(&name) {
            let bytes = value.as_bytes();
            // The last words are the nearest proxies'.
            let end = bytes.get(bytes.len().saturating_sub(room)..).unwrap_or(bytes);
            room -= end.len();
            if let Ok(mut copied) = HeaderValue::from_bytes(end) {
                copied.set_sensitive(value.is_sensitive());
                kept.append(&name, copied);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(headers: &HeaderMap) -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    #[test]
    fn a_small_head_is_kept_and_of_a_large_one_what_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("crates.acme.example"));
        headers.insert("x-other", HeaderValue::from_static("some"));
        assert_eq!(kept(headers.clone()), headers);
        headers.insert("x-other", HeaderValue::from_str(&"a".repeat(30_000)).unwrap());
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.2"));
        let kept = kept(headers);
        assert_eq!((kept.len(), kept[HOST].as_bytes()), (3, &b"crates.acme.example"[..]));
        let proxies: Vec<_> = kept.get_all("x-forwarded-for").iter().collect();
        assert_eq!(proxies, ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn a_header_that_is_read_is_bounded_and_too_long_a_token_stays_too_long() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&"a".repeat(30_000)).unwrap());
        for _ in 0..100 {
            headers.append(ORIGIN, HeaderValue::from_str(&"b".repeat(200)).unwrap());
        }
        let kept = kept(headers);
        assert_eq!(kept[AUTHORIZATION].len(), VALUE_BYTES);
        assert!(bytes(&kept) <= 2 * VALUE_BYTES + 100 * ORIGIN.as_str().len() + 20);
    }
}
