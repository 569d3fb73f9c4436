//! Networks of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Some networks; an address is in them or not. An IPv4 address that an IPv6 socket shows
/// (`::ffff:10.0.0.1`) is that IPv4 address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Those.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Bits before the IPv4 address in `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Reads a network (`10.0.0.0/8`, `fd00::/8`) or an address, which is a network of one.
///
/// # Errors
/// Says what is allowed.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    const ALLOWED: &str = "write a network such as 10.0.0.0/8, or an IP address";
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse().or_else(|_| one()).map_err(|_| ALLOWED)?;
    Ok(unmapped(network).unwrap_or(network))
}

/// A network of mapped IPv4 addresses, as what it means.
fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return None };
    let v4: Ipv4Addr = Ipv6Addr::to_ipv4_mapped(&v6.addr())?;
    Ipv4Net::new(v4, v6.prefix_len().checked_sub(MAPPED_BITS)?).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| network(text).unwrap()).collect())
    }

    fn contains(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_inside_or_outside() {
        let inside = networks(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:172.16.0.0/108"]);
        let yes = ["10.255.0.1", "192.0.2.7", "fd12::1", "::ffff:10.0.0.1", "172.31.255.255"];
        for address in yes {
            assert!(contains(&inside, address), "{address}");
        }
        for address in ["11.0.0.1", "192.0.2.8", "fe80::1", "::10.0.0.1", "172.32.0.0"] {
            assert!(!contains(&inside, address), "{address}");
        }
        assert!(!contains(&Networks::default(), "127.0.0.1"));
        assert!(contains(&networks(&["0.0.0.0/0"]), "::ffff:1.2.3.4"));
        assert!(!contains(&networks(&["0.0.0.0/0"]), "fd00::1"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "balancer.example", "10.0.0.1:80", "fd00::/129"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
