//! Which mirrored crate files to give up: those that were used longest ago.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use cratehouse_core::checksum::Checksum;

/// A mirrored crate file in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its checksum, which is also its name.
    pub cksum: Checksum,
    /// Its size.
    pub bytes: u64,
    /// When it was put there.
    pub stored: Timestamp,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// All of them together, in bytes.
    pub bytes: Option<u64>,
    /// Days since the last use of each.
    pub age_days: Option<u32>,
}

/// When crate files were last used, by any replica, to the day (UTC).
#[derive(Debug, Clone, Default)]
pub struct LastUses(HashMap<Checksum, Date>);

impl LastUses {
    /// Takes note of a use.
    pub fn note(&mut self, cksum: Checksum, day: Date) {
        let last = self.0.entry(cksum).or_insert(day);
        *last = (*last).max(day);
    }

    /// The day of the last use; of one that nobody has noted, the day on which it was stored.
    fn of(&self, kept: &Kept) -> Date {
        let stored = day_of(kept.stored);
        self.0.get(&kept.cksum).map_or(stored, |used| stored.max(*used))
    }
}

/// The day of an instant (UTC).
pub fn day_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// Chooses what to give up: all that is too old, then of the rest those used longest ago (of one
/// day, the larger first) until what stays is within the bound.
pub fn victims(mut kept: Vec<Kept>, uses: &LastUses, bounds: Bounds, now: Timestamp) -> Vec<Kept> {
    kept.sort_by_key(|one| (uses.of(one), std::cmp::Reverse(one.bytes)));
    let today = day_of(now);
    let oldest = bounds.age_days.and_then(|days| today.checked_sub(i64::from(days).days()).ok());
    let mut left: u64 = kept.iter().map(|one| one.bytes).sum();
    let mut given_up = Vec::new();
    for one in kept {
        let too_old = oldest.is_some_and(|oldest| uses.of(&one) < oldest);
        let too_much = bounds.bytes.is_some_and(|most| left > most);
        if !too_old && !too_much {
            break;
        }
        left -= one.bytes;
        given_up.push(one);
    }
    given_up
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn kept(name: &str, bytes: u64, stored: &str) -> Kept {
        Kept { cksum: Checksum::of(name.as_bytes()), bytes, stored: stored.parse().unwrap() }
    }

    fn all() -> Vec<Kept> {
        vec![
            kept("new", 10, "2026-11-22T01:00:00Z"),
            kept("old", 10, "2026-01-01T00:00:00Z"),
            kept("old but used", 10, "2026-01-01T00:00:00Z"),
            kept("older", 10, "2025-01-01T00:00:00Z"),
        ]
    }

    fn chosen(bytes: Option<u64>, age_days: Option<u32>) -> Vec<Kept> {
        let mut uses = LastUses::default();
        uses.note(Checksum::of(b"old but used"), "2026-11-21".parse().unwrap());
        uses.note(Checksum::of(b"old but used"), "2026-06-01".parse().unwrap());
        victims(all(), &uses, Bounds { bytes, age_days }, NOW.parse().unwrap())
    }

    #[test]
    fn without_a_bound_nothing_is_given_up() {
        assert_eq!(chosen(None, None), []);
        assert_eq!(chosen(Some(40), Some(1000)), []);
    }

    #[test]
    fn those_used_longest_ago_go_first_and_no_more_than_needed() {
        assert_eq!(chosen(Some(35), None), [all()[3].clone()]);
        assert_eq!(chosen(Some(10), None), [3, 1, 2].map(|n| all()[n].clone()));
    }

    #[test]
    fn what_nobody_has_used_for_too_long_goes() {
        assert_eq!(chosen(None, Some(30)), [3, 1].map(|n| all()[n].clone()));
        assert_eq!(chosen(Some(5), Some(30)).len(), 4);
    }
}
