//! What a server's certificate says, and whether clients take it.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// The most names that are told.
const SHOWN: usize = 10;

/// What we want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// When it begins to be good.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// The hosts and addresses that it is for.
    pub names: BTreeSet<String>,
}

/// Why clients refuse a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It begins later.
    #[error("it is not good before {0:.0}: is this machine's clock right?")]
    NotYet(Timestamp),
    /// It is over.
    #[error("it has ended at {0:.0}: replace it")]
    Ended(Timestamp),
    /// It is for others.
    #[error("it is not for `{host}`, the host of `server.url`, but for {names}")]
    OtherNames {
        /// The host that clients ask for.
        host: String,
        /// Those that it is for, as a sentence has them.
        names: String,
    },
}

impl Certificate {
    /// Whether it is good now, and for this host, which may be an address in brackets.
    ///
    /// # Errors
    /// Why it is not.
    pub fn good_for(&self, host: &str, now: Timestamp) -> Result<(), CertificateError> {
        let Self { begins, ends, names } = self;
        if now < *begins {
            return Err(CertificateError::NotYet(*begins));
        }
        if now >= *ends {
            return Err(CertificateError::Ended(*ends));
        }
        let host = host.trim_matches(['[', ']']);
        match names.iter().any(|name| is_for(name, host)) {
            true => Ok(()),
            false => {
                Err(CertificateError::OtherNames { host: host.to_owned(), names: listed(names) })
            }
        }
    }
}

/// Whether a name of a certificate covers a host: `*` stands for one label (RFC 9525 §6.3).
fn is_for(name: &str, host: &str) -> bool {
    let rest = name.strip_prefix("*.");
    let below = host.split_once('.').map(|(_, rest)| rest);
    name.eq_ignore_ascii_case(host)
        || rest.zip(below).is_some_and(|(rest, below)| rest.eq_ignore_ascii_case(below))
}

fn listed(names: &BTreeSet<String>) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match (shown.is_empty(), names.len().saturating_sub(SHOWN)) {
        (true, _) => "no name".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn it_is_good_in_its_time_and_for_its_names() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let names = ["localhost", "*.acme.example", "::1"].map(str::to_owned);
        let certificate = |from, to| Certificate {
            begins: days(from),
            ends: days(to),
            names: names.clone().into(),
        };
        let good = certificate(-1, 30);
        for host in ["crates.acme.example", "LOCALHOST", "[::1]"] {
            assert_eq!(good.good_for(host, now), Ok(()), "{host}");
        }
        for other in ["acme.example", "a.b.acme.example", "evil.example"] {
            let why = good.good_for(other, now).unwrap_err();
            assert!(matches!(why, CertificateError::OtherNames { .. }), "{other}: {why}");
        }
        let ended = certificate(-1, 0).good_for("localhost", now);
        assert_eq!(ended, Err(CertificateError::Ended(now)));
        let early = certificate(1, 30).good_for("localhost", now);
        assert_eq!(early, Err(CertificateError::NotYet(days(1))));
    }

    #[test]
    fn not_every_name_of_many_is_told() {
        assert_eq!(listed(&BTreeSet::new()), "no name");
        let many = (0..12).map(|n| n.to_string()).collect();
        assert!(listed(&many).ends_with("and 2 more"));
    }
}
