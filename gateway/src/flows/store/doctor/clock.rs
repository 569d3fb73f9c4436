//! The clock, beside those of the store and of whoever wrote the journal.

use jiff::{SignedDuration, Timestamp};

use super::finding::Finding;

/// What is told: the ends of tokens and the ages of a policy are off by as much.
const NOTABLE: SignedDuration = SignedDuration::from_secs(30);
/// What breaks things: S3 refuses a request whose time is off by a quarter of an hour, and certificates
/// and tokens count too early or too late.
const TOO_MUCH: SignedDuration = SignedDuration::from_mins(5);
const CURE: &str =
    "let this machine keep time by NTP (`timedatectl set-ntp true`), and look at the others";

/// Compares this clock with that of the store.
pub fn judge(ours: Timestamp, stores: Timestamp) -> Finding {
    let off = ours.duration_since(stores);
    let seconds = off.as_secs().unsigned_abs();
    let which = if off.is_negative() { "behind" } else { "ahead of" };
    let found = format!("this machine's clock is {seconds} s {which} the store's");
    match off.abs() {
        off if off > TOO_MUCH => Finding::wrong("clock", found, CURE),
        off if off > NOTABLE => Finding::mind("clock", found, CURE),
        _ => Finding::fine("clock", "this machine and the store agree on the time"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let stores: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let judged = |off| judge(stores + SignedDuration::from_secs(off), stores);
        assert_eq!([29, -29].map(|off| judged(off).gravity), [Gravity::Fine; 2]);
        assert_eq!([31, -300].map(|off| judged(off).gravity), [Gravity::Mind; 2]);
        assert_eq!([301, -4000].map(|off| judged(off).gravity), [Gravity::Wrong; 2]);
        assert!(judged(-4000).found.contains("4000 s behind"), "{:?}", judged(-4000));
        assert!(judged(60).found.contains("60 s ahead of"));
    }
}
