//! When a token was last used, as coarsely as whoever cleans up needs to know it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::principal::TokenId;

/// What is kept of an IPv4 address, in bits.
const V4_PREFIX_BITS: u8 = 24;
/// What is kept of an IPv6 address, in bits.
const V6_PREFIX_BITS: u8 = 48;

/// The last day on which a token was used, and from which network first on that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// The day (UTC).
    pub day: Date,
    /// The network: a /24 of IPv4 or a /48 of IPv6.
    pub from: IpNet,
}

/// The last uses of some tokens.
pub type TokenUses = BTreeMap<TokenId, TokenUse>;

impl TokenUse {
    /// One at an instant from an address.
    pub fn new(at: Timestamp, address: IpAddr) -> Self {
        let from = match address.to_canonical() {
            IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, V4_PREFIX_BITS).trunc()),
            IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, V6_PREFIX_BITS).trunc()),
        };
        Self { day: at.to_zoned(TimeZone::UTC).date(), from }
    }
}

/// Adds other uses; of each token the later one stays.
pub fn merge(uses: &mut TokenUses, others: impl IntoIterator<Item = (TokenId, TokenUse)>) {
    for (token, other) in others {
        let kept = uses.entry(token).or_insert(other);
        if other.day > kept.day {
            *kept = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_tells_a_day_and_a_network_and_the_later_one_counts() {
        let used = |at: &str, from: &str| TokenUse::new(at.parse().unwrap(), from.parse().unwrap());
        let first = used("2026-01-31T23:59:59Z", "192.0.2.77");
        assert_eq!(
            serde_json::to_string(&first).unwrap(),
            r#"{"day":"2026-01-31","from":"192.0.2.0/24"}"#
        );
        let second = used("2026-02-01T00:00:00Z", "2001:db8:1:2::3");
        assert_eq!(second.from.to_string(), "2001:db8:1::/48");
        assert_eq!(used("2026-01-31T00:00:00Z", "::ffff:192.0.2.1"), first);
        for (one, other) in [(first, second), (second, first)] {
            let mut uses = TokenUses::from([(TokenId(1), one)]);
            merge(&mut uses, [(TokenId(1), other), (TokenId(2), first)]);
            assert_eq!(uses, [(TokenId(1), second), (TokenId(2), first)].into());
        }
    }
}
