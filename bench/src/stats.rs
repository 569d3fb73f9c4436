//! What is made of many measurements.

use std::time::Duration;

/// Waits of one kind, in order.
#[derive(Debug, Default)]
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    /// Of any order.
    pub(crate) fn new(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self(waits)
    }

    /// The least wait that this part of all (0 to 1) does not exceed: the nearest rank. Zero when
    /// there are none.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let rank = (part.clamp(0.0, 1.0) * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        self.quantile(1.0)
    }
}

/// The middle of some numbers, between two of them where their count is even; `NAN` of none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |nth: usize| sorted.get(nth).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => at(half),
        _ => (at(half.wrapping_sub(1)) + at(half)) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(millis: impl IntoIterator<Item = u64>) -> Waits {
        Waits::new(millis.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn a_quantile_is_a_wait_that_occurred() {
        let hundred = waits((1..=100).rev());
        let at = |part: f64| hundred.quantile(part).as_millis();
        assert_eq!([at(0.0), at(0.5), at(0.99), at(0.991), at(1.0)], [1, 50, 99, 100, 100]);
        assert_eq!(waits([7]).quantile(0.5).as_millis(), 7);
        assert_eq!(waits([3, 1, 2]).longest().as_millis(), 3);
    }

    #[test]
    fn nobody_waits_where_there_is_nobody() {
        assert_eq!(Waits::default().quantile(0.5), Duration::ZERO);
        assert_eq!(Waits::default().longest(), Duration::ZERO);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
