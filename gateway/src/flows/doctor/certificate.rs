//! The server's certificate: until when it is good, and for which names.

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;

/// Who has the certificate from elsewhere should have another one by then.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What is known of a certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Whether a server makes another one by itself, by its local CA.
    pub is_renewed: bool,
}

/// Judges it for a host, which is that of our URL.
pub fn judge(certificate: &Certificate, host: &str, now: Timestamp) -> Finding {
    let Certificate { begins, ends, names, is_renewed } = certificate;
    let cure = match is_renewed {
        true => "start the server: it makes another one by its local CA",
        false => {
            "have another one issued and put it in place of the files of `tls.cert` and `tls.key`: a running server takes it within seconds"
        }
    };
    if *begins > now {
        let found = format!("the certificate is not good before {begins:.0}");
        return Finding::wrong(
            "certificate",
            found,
            "look at this machine's clock, or have another one issued",
        );
    }
    if *ends <= now {
        return Finding::wrong(
            "certificate",
            format!("the certificate has ended at {ends:.0}"),
            cure,
        );
    }
    if !names.iter().any(|name| is_for(name, host)) {
        let found = format!(
            "the certificate is for {}, and not for `{host}`, which `server.url` names: clients refuse it",
            listed(names)
        );
        return Finding::wrong("certificate", found, cure);
    }
    if !is_renewed && ends.duration_since(now) < SOON {
        return Finding::mind(
            "certificate",
            format!("the certificate ends soon, at {ends:.0}"),
            cure,
        );
    }
    Finding::fine("certificate", format!("good for `{host}` until {ends:.0}"))
}

/// Whether a name of a certificate covers a host: `*` stands for one label (RFC 9525 §6.3).
fn is_for(name: &str, host: &str) -> bool {
    let rest = name.strip_prefix("*.");
    let below = host.split_once('.').map(|(_, rest)| rest);
    name.eq_ignore_ascii_case(host)
        || rest.zip(below).is_some_and(|(rest, below)| rest.eq_ignore_ascii_case(below))
}

fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(10).map(|name| format!("`{name}`")).collect();
    if shown.is_empty() { "no name".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn a_certificate_is_of_today_and_for_our_host() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let made = |from, to, is_renewed| Certificate {
            begins: days(from),
            ends: days(to),
            names: vec!["localhost".to_owned(), "*.acme.example".to_owned()],
            is_renewed,
        };
        let judged = |from, to, host| judge(&made(from, to, false), host, now).gravity;
        assert_eq!(judged(-1, 30, "crates.acme.example"), Gravity::Fine);
        assert_eq!(judged(-1, 30, "LOCALHOST"), Gravity::Fine);
        assert_eq!(judged(-1, 13, "localhost"), Gravity::Mind);
        assert_eq!(judged(-1, 0, "localhost"), Gravity::Wrong);
        assert_eq!(judged(1, 30, "localhost"), Gravity::Wrong);
        for other in ["acme.example", "a.b.acme.example", "evil.example"] {
            assert_eq!(judged(-1, 30, other), Gravity::Wrong, "{other}");
        }
        assert_eq!(judge(&made(-1, 13, true), "localhost", now).gravity, Gravity::Fine);
    }
}
