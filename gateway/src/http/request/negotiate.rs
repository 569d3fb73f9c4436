//! What a request's headers say about the answer that its client can use: pure functions over
//! `Accept-Encoding` (RFC 9110 §12.5.3) and `If-None-Match` (§13.1.2).

use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, IF_NONE_MATCH};

/// Weights are kept as thousandths, as finely as they can be written.
const FULL_WEIGHT: u16 = 1000;
/// What cargo sends, through curl, and what others do: read at a glance.
const USUAL: [&[u8]; 2] = [b"deflate, gzip", b"gzip"];

/// Whether a gzip body is acceptable and not liked less than a plain one.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(ACCEPT_ENCODING).iter();
    match (all.next(), all.next()) {
        (None, _) => return false,
        (Some(only), None) if USUAL.contains(&only.as_bytes()) => return true,
        _ => {}
    }
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for (coding, weight) in values(headers, ACCEPT_ENCODING).filter_map(weighted) {
        let slot = match coding {
            c if c.eq_ignore_ascii_case("gzip") || c.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            c if c.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        slot.get_or_insert(weight);
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Whether the client has the representation with this ETag already. Weak comparison, as the
/// header demands: a proxy may have marked our strong ETag as weak.
pub fn has_already(headers: &HeaderMap, etag: impl AsRef<[u8]>) -> bool {
    let etag = etag.as_ref();
    let stands_in = |list: &str| list.trim() == "*" || tags(list).any(|t| t.as_bytes() == etag);
    headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        // Cargo sends what it was sent; all else is a list.
        value.as_bytes() == etag || value.to_str().is_ok_and(stands_in)
    })
}

/// One member of `Accept-Encoding`; `None` when its weight is nonsense.
fn weighted(member: &str) -> Option<(&str, u16)> {
    let (coding, parameter) = member.split_once(';').unwrap_or((member, ""));
    let weight = match parameter.trim() {
        "" => FULL_WEIGHT,
        text => thousandths(text.strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('=')?.trim())?,
    };
    Some((coding.trim(), weight))
}

/// `qvalue` of RFC 9110 §12.4.2.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.bytes().chain(*b"000").take(3);
    let fraction = fraction.fold(0, |sum, digit| 10 * sum + u16::from(digit - b'0'));
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(FULL_WEIGHT),
        _ => None,
    }
}

/// The quoted tags of a list, without `W/`. A comma may stand inside the quotes.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.find('"')?;
        let length = rest.get(start + 1..)?.find('"')? + 2;
        let tag = rest.get(start..start + length)?;
        rest = rest.get(start + length..)?;
        Some(tag)
    })
}

fn values(headers: &HeaderMap, name: hyper::header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn headers(name: hyper::header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn gzip_is_sent_to_those_who_offer_it() {
        for yes in [
            "gzip",
            "deflate, gzip",
            "GZIP;q=0.5",
            "x-gzip",
            "*",
            "br, *;q=0.1",
            "gzip; q=1.000, identity; q=0.5",
            "identity;q=0, gzip",
        ] {
            assert!(accepts_gzip(&headers(ACCEPT_ENCODING, &[yes])), "{yes}");
        }
        assert!(accepts_gzip(&headers(ACCEPT_ENCODING, &["br", "gzip"])));
    }

    #[test]
    fn gzip_is_not_sent_to_those_who_do_not() {
        for no in [
            "",
            "br",
            "identity",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=0, *",
            "*;q=0",
            "gzip;q=0.1, identity",
            "gzip;q=nonsense",
            "gzip;q=2",
            "gzip;q=0.1234",
            "gzipped",
        ] {
            assert!(!accepts_gzip(&headers(ACCEPT_ENCODING, &[no])), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn an_etag_matches_in_a_list_weakly_or_by_a_star() {
        for yes in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*", " * ", "\"x,y\",W/\"a\""] {
            assert!(has_already(&headers(IF_NONE_MATCH, &[yes]), "\"a\""), "{yes}");
        }
        for no in ["", "a", "\"b\"", "\"", "\"ab\"", "\"a", "\"x\"a\"y\""] {
            assert!(!has_already(&headers(IF_NONE_MATCH, &[no]), "\"a\""), "{no}");
        }
        assert!(has_already(&headers(IF_NONE_MATCH, &["\"b\"", "\"a\""]), "\"a\""));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,60}|[\"W/,*;q=0.1a ]{0,40}") {
            let _ = accepts_gzip(&headers(ACCEPT_ENCODING, &[&text]));
            let _ = has_already(&headers(IF_NONE_MATCH, &[&text]), "\"a\"");
        }
    }
}
