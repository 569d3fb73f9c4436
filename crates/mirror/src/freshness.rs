//! Whether a mirrored copy may be served without asking its upstream.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How far another replica's clock may be ahead of ours before its copies count as unchecked.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// For how much longer a copy is fresh that was checked at `checked`; `None` when its upstream
/// must be asked.
///
/// A copy is fresh for at most `fresh` from now, whatever the clocks say: one that seems to have
/// been checked in the future (a clock was set back, or another replica's is wrong) is asked
/// about again.
pub fn left(checked: Timestamp, now: Timestamp, fresh: Duration) -> Option<Duration> {
    let age = now.duration_since(checked);
    if age.is_negative() {
        let ahead = age.unsigned_abs();
        return (ahead <= CLOCK_SKEW && !fresh.is_zero()).then_some(fresh);
    }
    let fresh = SignedDuration::try_from(fresh).unwrap_or(SignedDuration::MAX);
    let left = fresh.checked_sub(age).filter(SignedDuration::is_positive)?;
    Some(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn a_copy_is_fresh_until_its_time_is_over() {
        assert_eq!(left(at(0), at(0), FRESH), Some(FRESH));
        assert_eq!(left(at(0), at(59), FRESH), Some(Duration::from_secs(1)));
        assert_eq!(left(at(0), at(60), FRESH), None);
        assert_eq!(left(at(0), at(0), Duration::ZERO), None);
        assert!(left(at(0), at(100), Duration::MAX).is_some());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_a_copy_fresh() {
        assert_eq!(left(at(3600), at(0), FRESH), None);
        assert_eq!(left(at(6), at(0), FRESH), None);
    }

    #[test]
    fn a_slightly_wrong_clock_of_another_replica_is_tolerated_but_gains_nothing() {
        assert_eq!(left(at(2), at(0), FRESH), Some(FRESH));
        assert_eq!(left(at(2), at(0), Duration::ZERO), None);
    }
}
