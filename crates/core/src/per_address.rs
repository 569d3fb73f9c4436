//! `[limits] per_address_percent` and `exempt_networks`.

use crate::networks::Networks;

/// How much of a limit one client address may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerAddress {
    /// Of the whole, in percent: 1 to 100; 100 switches the bounds off.
    pub percent: u8,
    /// Addresses that are bounded by the whole only.
    pub exempt: Networks,
}

/// The default of `limits.per_address_percent`.
pub const PER_ADDRESS_PERCENT: u8 = 25;

impl PerAddress {
    /// The share of a limit that one client may take, at least 1; `None`: all of it.
    pub fn share_of(&self, whole: usize) -> Option<usize> {
        let percent = usize::from(self.percent);
        let share = whole / 100 * percent + whole % 100 * percent / 100;
        (self.percent < 100).then_some(share.max(1))
    }
}

impl Default for PerAddress {
    fn default() -> Self {
        Self { percent: PER_ADDRESS_PERCENT, exempt: Networks::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_the_whole_and_never_nothing() {
        let share =
            |percent, whole| PerAddress { percent, exempt: Networks::default() }.share_of(whole);
        assert_eq!(share(25, 10_000), Some(2500));
        assert_eq!(share(25, 256), Some(64));
        assert_eq!(share(33, 10), Some(3));
        assert_eq!(share(1, 3), Some(1));
        assert_eq!(share(99, usize::MAX), Some(usize::MAX / 100 * 99 + 14));
        assert_eq!(share(100, 10), None);
    }
}
