//! Which host a request is for. One that names two is refused: what stands between us and the client
//! may have read the other (RFC 9112 §3.2, RFC 9113 §8.3.1).

use hyper::Version;
use hyper::header::HOST;
use hyper::http::request::Parts;

use crate::http::request::route::Refused;

/// Refuses a request with two `Host` headers, one that differs from the URL's own host (`:authority` of
/// HTTP/2, the absolute form of HTTP/1.1), and one of HTTP/1.1 without any.
///
/// # Errors
/// [`Refused::Malformed`].
pub(crate) fn check(head: &Parts) -> Result<(), Refused> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else {
        return match head.version {
            Version::HTTP_11 => {
                Err(Refused::Malformed("the request has no Host header: send one".to_owned()))
            }
            _ => Ok(()),
        };
    };
    if hosts.next().is_some() {
        return Err(Refused::Malformed("the request has two Host headers: send one".to_owned()));
    }
    let differs = |authority: &hyper::http::uri::Authority| {
        !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    };
    match head.uri.authority().is_some_and(differs) {
        true => Err(Refused::Malformed("the Host header differs from the URL's host".to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn passes(uri: &str, hosts: &[&str]) -> bool {
        passes_in(Version::HTTP_2, uri, hosts)
    }

    fn passes_in(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let request = Request::builder().version(version).uri(uri);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn http_1_1_names_its_host() {
        assert!(!passes_in(Version::HTTP_11, "/a", &[]));
        assert!(passes_in(Version::HTTP_11, "/a", &["x"]));
        assert!(passes_in(Version::HTTP_11, "/a", &[""]), "an empty one is one");
        assert!(passes_in(Version::HTTP_10, "/a", &[]));
    }

    #[test]
    fn one_host_or_none_is_fine_and_two_are_not() {
        assert!(passes("/a", &[]) && passes("/a", &["x:8443"]));
        assert!(passes("https://x:8443/a", &[]) && passes("https://x/a", &["X"]));
        assert!(!passes("/a", &["x", "x"]) && !passes("/a", &["x", "y"]));
        for host in ["y", "", "x:443", "x.y"] {
            assert!(!passes("https://x/a", &[host]), "{host}");
        }
    }
}
