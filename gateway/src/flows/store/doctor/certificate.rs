//! The server's certificate: until when it is good, and for which names.

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;
use crate::model::certificate::{Certificate, CertificateError};

/// Who has the certificate from elsewhere should have another one by then.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
const CHECK: &str = "certificate";

/// Judges it for a host, which is that of our URL. `is_renewed`: a server makes another one by itself, by its
/// local CA.
pub fn judge(certificate: &Certificate, is_renewed: bool, host: &str, now: Timestamp) -> Finding {
    let ends = certificate.ends;
    let cure = match is_renewed {
        true => "start the server: it makes another one by its local CA",
        false => {
            "have another one issued and put it in place of the files of `tls.cert` and `tls.key`: a running server takes it within seconds"
        }
    };
    match certificate.good_for(host, now) {
        Err(why @ CertificateError::NotYet(_)) => Finding::wrong(
            CHECK,
            why.to_string(),
            "look at this machine's clock, or have another one issued",
        ),
        Err(why) => Finding::wrong(CHECK, format!("{why}: clients refuse it"), cure),
        Ok(()) if !is_renewed && ends.duration_since(now) < SOON => {
            Finding::mind(CHECK, format!("it ends soon, at {ends:.0}"), cure)
        }
        Ok(()) => Finding::fine(CHECK, format!("good for `{host}` until {ends:.0}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn a_certificate_is_of_today_and_for_our_host() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let made = |from, to| Certificate {
            begins: days(from),
            ends: days(to),
            names: ["localhost".to_owned()].into(),
        };
        let judged = |from, to, host| judge(&made(from, to), false, host, now).gravity;
        assert_eq!(judged(-1, 30, "localhost"), Gravity::Fine);
        assert_eq!(judged(-1, 13, "localhost"), Gravity::Mind);
        assert_eq!(judged(-1, 0, "localhost"), Gravity::Wrong);
        assert_eq!(judged(1, 30, "localhost"), Gravity::Wrong);
        assert_eq!(judged(-1, 30, "evil.example"), Gravity::Wrong);
        assert_eq!(judge(&made(-1, 13), true, "localhost", now).gravity, Gravity::Fine);
    }
}
