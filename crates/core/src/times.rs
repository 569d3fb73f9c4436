//! Times as people read them.

use jiff::Timestamp;

/// A time to the second, as sentences and lists show it: `2027-01-31T12:00:00Z`.
pub fn to_the_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_without_parts_of_a_second() {
        let at: Timestamp = "2027-01-31T12:00:00.123456789Z".parse().unwrap();
        assert_eq!(to_the_second(at).to_string(), "2027-01-31T12:00:00Z");
    }
}
