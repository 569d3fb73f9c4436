//! Where an upstream's answers may lead us: a redirect or a `dl` to another origin reaches
//! public addresses alone, so that nobody outside can point us at services inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Whether a URL may be asked although the configuration does not name its origin. Its host's
/// addresses are judged when they are resolved, by [`PublicOnly`].
///
/// # Errors
/// The reason, for the log.
pub(super) fn check_foreign(url: &Url) -> Result<(), String> {
    let address = match url.host() {
        Some(Host::Domain(host)) => return check_name(&plain_name(host)),
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        None => return Err("a URL without a host".to_owned()),
    };
    match is_public(address) {
        true => Ok(()),
        false => Err(format!("{address} is a private address, and `private_dl` is not set")),
    }
}

/// A proxy resolves names by itself, so those that need no resolver to be judged are judged here.
fn check_name(host: &str) -> Result<(), String> {
    if host == "localhost" || host.ends_with(".localhost") {
        return Err(format!("{host} is this machine (RFC 6761)"));
    }
    match proxy_hosts().iter().any(|proxy| proxy == host) {
        true => Err(format!("{host} is the outgoing proxy itself")),
        false => Ok(()),
    }
}

/// A host name in the one spelling in which it is compared.
fn plain_name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Resolves names to public addresses alone.
#[derive(Debug)]
pub(super) struct PublicOnly {
    /// The outgoing proxy's own names: it is configured, and resolves what it is asked for.
    proxies: Vec<String>,
}

impl PublicOnly {
    pub(super) fn new() -> Self {
        Self { proxies: proxy_hosts() }
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let any = self.proxies.contains(&plain_name(&host));
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> =
                found.filter(|address| any || is_public(address.ip())).collect();
            match usable.is_empty() {
                true => Err(format!("{host} has no public address, and `private_dl` is not set"))?,
                false => Ok(Box::new(usable.into_iter()) as Addrs),
            }
        })
    }
}

/// The hosts of `HTTP_PROXY` and `HTTPS_PROXY`.
fn proxy_hosts() -> Vec<String> {
    let matcher = Matcher::from_system();
    ["http://any.invalid/", "https://any.invalid/"]
        .iter()
        .filter_map(|url| matcher.intercept(&url.parse().ok()?))
        .filter_map(|proxy| proxy.uri().host().map(plain_name))
        .collect()
}

/// Whether an address is none of: loopback, private (RFC 1918), shared (RFC 6598), link-local
/// and of protocols (cloud metadata services among them), benchmarking (RFC 2544), unique local,
/// unspecified, multicast, reserved; also when it is an IPv4 address inside an IPv6 one.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let this_network = a == 0;
    let shared = a == 100 && (64..128).contains(&b);
    let reserved = a >= 224;
    let protocols = (a, b, c) == (192, 0, 0);
    let benchmarking = a == 198 && (b == 18 || b == 19);
    !(this_network
        || shared
        || reserved
        || protocols
        || benchmarking
        || v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local())
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [s0, s1, s2, ..] = v6.segments();
    let site_local = s0 & 0xffc0 == 0xfec0;
    let local_nat64 = (s0, s1, s2) == (0x64, 0xff9b, 1); // RFC 8215
    !(site_local
        || local_nat64
        || v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.is_multicast())
}

/// The IPv4 address in a mapped (`::ffff:0:0/96`), translated (`::ffff:0:0:0/96`), compatible
/// (`::/96`), NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) one.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (s0, s1, [s2, s3, s4], s5) {
        (0, 0, [0, 0, 0], 0 | 0xffff) | (0, 0, [0, 0, 0xffff], 0) => Some(join(s6, s7)),
        (0x64, 0xff9b, [0, 0, 0], 0) => Some(join(s6, s7)),
        (0x2002, ..) => Some(join(s1, s2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_not_public_in_any_notation() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1.1.1.1",
            "2002:a00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "203.0.113.7", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn literal_addresses_are_judged_before_anything_is_asked() {
        let check = |url: &str| check_foreign(&url.parse().unwrap());
        for private in ["http://127.1/", "http://2130706433/", "http://[::1]/", "http://0x7f.1/x"] {
            assert!(check(private).is_err(), "{private}");
        }
        for here in ["http://localhost/", "http://LocalHost.:80/", "https://a.localhost/"] {
            assert!(check(here).is_err(), "{here}: it might go through a proxy");
        }
        assert!(check("https://203.0.113.7/x").is_ok());
        assert!(check("https://dl.example/x").is_ok());
    }

    #[tokio::test]
    async fn names_of_private_addresses_do_not_resolve() {
        let guard = PublicOnly { proxies: Vec::new() };
        assert!(guard.resolve("localhost".parse().unwrap()).await.is_err());
        let guard = PublicOnly { proxies: vec!["localhost".to_owned()] };
        assert!(guard.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
