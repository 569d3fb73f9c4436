//! Where a request comes from, by the words of the proxies before us: `X-Forwarded-For`, or
//! `Forwarded` (RFC 7239). Each proxy adds the address of whoever spoke to it, so they are read
//! from the right, and only for as long as a trusted one has written them.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use hyper::HeaderMap;
use hyper::header::FORWARDED;
use jiff::Timestamp;

use crate::config::{Config, Proxies, ProxyHeader, Tls};
use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::networks::Networks;
use cratehouse_journal::principal::Principal;

/// So many proxies may stand in a row.
const HOPS: usize = 32;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Of whoever is connected to us, or to the balancer.
    port: Option<u16>,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// The client behind a peer: the first address from the right that is no trusted proxy's (the
/// leftmost, where all are). The peer's own where it is not trusted, or where a trusted one passed
/// on what is no address.
pub(crate) fn client(proxies: Option<&Proxies>, peer: SocketAddr, headers: &HeaderMap) -> Client {
    let near = Client { address: peer.ip().to_canonical(), port: Some(peer.port()) };
    let told = proxies.and_then(|Proxies { trusted, header }| {
        is_trusted(proxies, peer).then(|| farthest(*header, headers, trusted))?
    });
    told.map_or(near, |address| Client { address, port: None })
}

/// Whether a peer is a proxy whose headers are believed.
pub(crate) fn is_trusted(proxies: Option<&Proxies>, peer: SocketAddr) -> bool {
    proxies.is_some_and(|Proxies { trusted, header }| {
        *header != ProxyHeader::ProxyV2 && trusted.contains(peer.ip())
    })
}

/// Takes note of the day on which somebody's token is used, and from where.
pub fn note_use(gateway: &Gateway, who: &Principal, peer: SocketAddr, headers: &HeaderMap) {
    let from = || client(gateway.config.server.proxies.as_ref(), peer, headers).address;
    gateway.last_uses.note(who, Timestamp::now(), from);
}

/// Whose share of a limit a request takes, by the rules of [`ClientKey`].
pub fn client_key(config: &Config, peer: SocketAddr, headers: &HeaderMap) -> ClientKey {
    let (proxies, per_address) = (config.server.proxies.as_ref(), &config.limits.per_address);
    let names_no_client = proxies.is_none() && config.tls == Tls::Off;
    if names_no_client || per_address.percent >= 100 {
        return ClientKey::Exempt;
    }
    let Client { address, .. } = client(proxies, peer, headers);
    let is_proxy = proxies.is_some_and(|proxies| proxies.trusted.contains(address));
    match is_proxy || per_address.exempt.contains(address) {
        true => ClientKey::Exempt,
        false => ClientKey::of(address),
    }
}

fn farthest(header: ProxyHeader, headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops(header, headers)?.iter().rev().take(HOPS) {
        let address = match header {
            ProxyHeader::Forwarded => node(for_of(hop)?)?,
            _ => node(hop)?,
        };
        if !trusted.contains(address) {
            return Some(address);
        }
        last = Some(address);
    }
    last
}

/// What each proxy said, in order. `None` where that cannot be told apart.
fn hops(header: ProxyHeader, headers: &HeaderMap) -> Option<Vec<&str>> {
    let mut hops = Vec::new();
    match header {
        ProxyHeader::ProxyV2 => {}
        ProxyHeader::XForwardedFor => {
            for value in headers.get_all("x-forwarded-for") {
                hops.extend(value.to_str().ok()?.split(',').map(str::trim));
            }
        }
        ProxyHeader::Forwarded => {
            for value in headers.get_all(FORWARDED) {
                hops.extend(parts(value.to_str().ok()?, ',')?);
            }
        }
    }
    hops.retain(|hop| !hop.is_empty()); // RFC 9110 §5.6.1.2
    Some(hops)
}

/// The parts of a text between separators that stand in no quoted string (RFC 9110 §5.6.4).
/// `None` where such a string has no end.
fn parts(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let mut separates = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    };
    let parts = text.split(&mut separates).map(str::trim).collect();
    (!quoted).then_some(parts)
}

/// The one `for` of a `Forwarded` element, without its quotes.
fn for_of(element: &str) -> Option<&str> {
    let pairs = parts(element, ';')?;
    let mut found = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("for").then(|| value.trim_start())
    });
    let value = found.next()?;
    if found.next().is_some() {
        return None;
    }
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(inside.unwrap_or(value))
}

/// An address, perhaps with a port (RFC 7239 §6); a bare IPv6 address too, as `X-Forwarded-For`
/// has them. `unknown` and `_hidden` are none.
fn node(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddrV4>().ok().map(|node| IpAddr::V4(*node.ip()));
    let in_brackets = || {
        let (inside, port) = text.strip_prefix('[')?.split_once(']')?;
        let has_port = port.is_empty() || port.starts_with(':');
        has_port.then(|| inside.parse().ok().map(IpAddr::V6))?
    };
    let address = text.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use cratehouse_core::networks::network;
    use hyper::header::HeaderName;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.9:1234";

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| network(text).unwrap());
        Proxies { trusted: Networks::new(trusted.to_vec()), header }
    }

    fn told(header: ProxyHeader, peer: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        let name = match header {
            ProxyHeader::Forwarded => FORWARDED,
            _ => HeaderName::from_static("x-forwarded-for"),
        };
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        client(Some(&proxies(header)), peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_up_to_the_first_stranger() {
        let told = |values: &[&str]| told(ProxyHeader::XForwardedFor, PROXY, values);
        assert_eq!(told(&["203.0.113.7"]), "203.0.113.7");
        assert_eq!(told(&["1.1.1.1, 203.0.113.7"]), "203.0.113.7", "what a client says of itself");
        assert_eq!(told(&["1.1.1.1,203.0.113.7 ,10.1.2.3, fd00::1"]), "203.0.113.7");
        assert_eq!(told(&["1.1.1.1", "203.0.113.7", "10.1.2.3"]), "203.0.113.7");
        assert_eq!(told(&["nonsense, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(told(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1", "all are ours: the farthest");
        for (written, meant) in [
            ("203.0.113.7:8080", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("203.0.113.7,, ,10.0.0.1,", "203.0.113.7"),
        ] {
            assert_eq!(told(&[written]), meant, "{written}");
        }
    }

    #[test]
    fn forwarded_is_read_like_that_too() {
        let told = |values: &[&str]| told(ProxyHeader::Forwarded, PROXY, values);
        assert_eq!(told(&["for=203.0.113.7;proto=https;by=10.0.0.9"]), "203.0.113.7");
        assert_eq!(told(&["proto=https; For = \"[2001:db8::7]:4711\""]), "2001:db8::7");
        assert_eq!(told(&["for=1.1.1.1, for=203.0.113.7", "for=10.1.2.3"]), "203.0.113.7");
        assert_eq!(told(&["for=1.1.1.1;x=\"a,b;for=2.2.2.2\", for=203.0.113.7"]), "203.0.113.7");
        assert_eq!(told(&["for=203.0.113.7;x=\"a\\\",for=2.2.2.2\""]), "203.0.113.7");
    }

    #[test]
    fn where_no_address_is_told_it_is_the_peers() {
        for value in ["", "unknown", "1.2.3", "203.0.113.7, unknown", "203.0.113.7, 10.1.1.1 x"] {
            assert_eq!(told(ProxyHeader::XForwardedFor, PROXY, &[value]), PROXY, "{value}");
        }
        for value in [
            "for=_hidden",
            "for=unknown",
            "by=203.0.113.7",
            "for=203.0.113.7;for=203.0.113.8",
            "for=\"203.0.113.7",
            "for=203.0.113.7, for=\"",
            "203.0.113.7",
        ] {
            assert_eq!(told(ProxyHeader::Forwarded, PROXY, &[value]), PROXY, "{value}");
        }
        assert_eq!(told(ProxyHeader::XForwardedFor, PROXY, &[]), PROXY);
    }

    #[test]
    fn nobody_is_believed_but_a_trusted_peer() {
        let stranger = "198.51.100.1:999";
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            assert_eq!(told(header, stranger, &["203.0.113.7", "for=203.0.113.7"]), stranger);
        }
        assert_eq!(told(ProxyHeader::ProxyV2, PROXY, &["203.0.113.7"]), PROXY);
        let mapped = "[::ffff:10.0.0.9]:1234";
        assert_eq!(told(ProxyHeader::XForwardedFor, mapped, &["203.0.113.7"]), "203.0.113.7");
        let nobody = client(None, PROXY.parse().unwrap(), &HeaderMap::new());
        assert_eq!(nobody.to_string(), PROXY);
    }

    fn config(file: &[(&str, &str)]) -> Config {
        let variables = file.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Config::load(&Flags::default(), variables).unwrap()
    }

    fn key(config: &Config, peer: &str, forwarded_for: &str) -> ClientKey {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded_for.parse().unwrap());
        client_key(config, peer.parse().unwrap(), &headers)
    }

    fn of(address: &str) -> ClientKey {
        ClientKey::of(address.parse().unwrap())
    }

    #[test]
    fn a_share_of_a_limit_belongs_to_the_address_that_a_trusted_proxy_names() {
        let direct = config(&[]);
        assert_eq!(key(&direct, "198.51.100.1:9", "203.0.113.7"), of("198.51.100.1"));
        let behind = config(&[
            ("CRATEHOUSE_TLS__MODE", "off"),
            ("CRATEHOUSE_SERVER__TRUSTED_PROXIES", "10.0.0.0/8"),
            ("CRATEHOUSE_SERVER__PROXY_HEADER", "x-forwarded-for"),
            ("CRATEHOUSE_LIMITS__EXEMPT_NETWORKS", "192.0.2.0/24"),
        ]);
        assert_eq!(key(&behind, PROXY, "203.0.113.7"), of("203.0.113.7"));
        assert_eq!(key(&behind, "198.51.100.1:9", "203.0.113.7"), of("198.51.100.1"));
        assert_eq!(key(&behind, PROXY, "192.0.2.1"), ClientKey::Exempt, "an exempt network");
        assert_eq!(key(&behind, "198.51.100.1:9", "192.0.2.1"), of("198.51.100.1"), "a claim");
        assert_eq!(key(&behind, PROXY, "10.1.1.1"), ClientKey::Exempt, "a proxy's own");
        assert_eq!(key(&behind, PROXY, "unknown"), ClientKey::Exempt, "a proxy that names none");
    }

    #[test]
    fn no_share_is_counted_behind_what_names_no_client_or_where_it_is_switched_off() {
        let nameless = config(&[("CRATEHOUSE_TLS__MODE", "off")]);
        assert_eq!(key(&nameless, PROXY, "203.0.113.7"), ClientKey::Exempt);
        let off = config(&[("CRATEHOUSE_LIMITS__PER_ADDRESS_PERCENT", "100")]);
        assert_eq!(key(&off, PROXY, ""), ClientKey::Exempt);
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_the_peers(text in "[for=\"\\\\;, \\[\\]0-9.:a-f]{0,60}") {
            for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
                let told = told(header, PROXY, &[&text]);
                prop_assert!(told == PROXY || told.parse::<IpAddr>().is_ok(), "{told}");
            }
        }
    }
}
