//! Whose share of a limit a request takes.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A client has the whole of such a network: what an IPv6 host chooses its addresses from
/// (RFC 4291 §2.5.1, RFC 8981).
const V6_PREFIX_BITS: u8 = 64;
/// What one customer is usually given (RFC 6177): a site. It is 65,536 clients.
const SITE_PREFIX_BITS: u8 = 48;
const V4_PREFIX_BITS: u8 = 32;

/// The client that a request counts for, where a limit is shared between clients.
///
/// It is known by its address: the peer's, or the one that a trusted proxy names. All addresses of
/// one IPv6 /64 are one client, because a single host has them all. A request is exempt
/// - from an address of `limits.exempt_networks`,
/// - from a trusted proxy's own address (it names no client: a health check, or an omission),
/// - when TLS is off and no proxy header is configured: what stands in front names no client, and
///   every request would have its address,
/// - when `limits.per_address_percent` is 100.
///
/// An exempt request is bounded by the limit as a whole only.
///
/// A request whose token counts has the share of its address all the same, but does not stand behind
/// those of its address that show none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// No client that could be told from the others.
    Exempt,
    /// An IPv4 address (/32), or an IPv6 network (/64).
    Network(IpNet),
    /// A client whose token counts, by its network (`None`: it is exempt); and the server itself.
    Trusted(Option<IpNet>),
}

impl ClientKey {
    /// The server's own work.
    pub const OWN: Self = Self::Trusted(None);

    /// The key of an address; an IPv4 address that an IPv6 socket shows is that IPv4 address.
    pub fn of(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, V4_PREFIX_BITS)),
            IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, V6_PREFIX_BITS).trunc()),
        })
    }

    /// The same client, which has shown a token that counts.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self::Trusted(self.network())
    }

    /// Whose share it takes; `None`: it is bounded by the whole only.
    pub fn network(self) -> Option<IpNet> {
        match self {
            Self::Exempt => None,
            Self::Network(network) => Some(network),
            Self::Trusted(network) => network,
        }
    }

    /// The IPv6 site (/48) that a client belongs to.
    pub fn site(self) -> Option<IpNet> {
        let Some(IpNet::V6(network)) = self.network() else { return None };
        Some(IpNet::V6(Ipv6Net::new_assert(network.addr(), SITE_PREFIX_BITS).trunc()))
    }

    /// All clients of its IPv6 site, as one.
    pub fn of_site(self) -> Option<Self> {
        self.site().map(Self::Network)
    }

    /// Whether it is the server itself, or a client whose token counts.
    pub fn is_trusted(self) -> bool {
        matches!(self, Self::Trusted(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> ClientKey {
        ClientKey::of(address.parse().unwrap())
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        assert_eq!(key("203.0.113.7"), key("::ffff:203.0.113.7"));
        assert_ne!(key("203.0.113.7"), key("203.0.113.8"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        let ClientKey::Network(network) = key("2001:db8:0:1::1") else { panic!() };
        assert_eq!(network.to_string(), "2001:db8:0:1::/64");
    }

    #[test]
    fn a_token_that_counts_changes_nobodys_share() {
        let client = key("203.0.113.7");
        assert_eq!(client.trusted().network(), client.network());
        assert_eq!(ClientKey::Exempt.trusted(), ClientKey::OWN);
        assert!(client.trusted().is_trusted() && !client.is_trusted());
        assert!(!ClientKey::Exempt.is_trusted());
    }

    #[test]
    fn a_site_is_an_ipv6_network_of_48_bits() {
        assert_eq!(key("2001:db8:0:1::1").site(), key("2001:db8:0:ff::1").site());
        assert_ne!(key("2001:db8:0:1::1").site(), key("2001:db8:1:1::1").site());
        assert_eq!((key("203.0.113.7").site(), ClientKey::Exempt.site()), (None, None));
    }
}
