//! When a token ends, in the words of whoever asks for one.

use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, civil};
use serde::Deserialize;

/// When a token ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub enum Expiry {
    /// After a span (`90d`; the ISO 8601 `P90D` too).
    In(Span),
    /// At an instant; a date alone is its midnight in UTC.
    At(Timestamp),
}

impl Expiry {
    /// The instant, which is after `now`. Days have 24 hours, months and years are those of the
    /// calendar, in UTC.
    ///
    /// # Errors
    /// Says why there is no such instant.
    pub fn end(&self, now: Timestamp) -> Result<Timestamp, String> {
        let end = match self {
            Self::At(end) => *end,
            Self::In(span) => {
                let end = now.to_zoned(TimeZone::UTC).checked_add(*span);
                end.map_err(|error| format!("the end is too far away: {error}"))?.timestamp()
            }
        };
        if end <= now {
            return Err(format!("the end {end} is not in the future"));
        }
        Ok(end)
    }
}

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (instant(text), text.parse::<Span>()) {
            (Ok(at), _) => Ok(Self::At(at)),
            (_, Ok(span)) => Ok(Self::In(span)),
            _ => Err("write a span such as `90d` or `1 year`, a date such as 2027-01-31, or a \
                      time such as 2027-01-31T12:00Z"),
        }
    }
}

/// A time, or a date alone, which is its midnight in UTC.
///
/// # Errors
/// jiff's words for what is neither.
pub fn instant(text: &str) -> Result<Timestamp, jiff::Error> {
    let midnight = |date: civil::Date| date.to_zoned(TimeZone::UTC).map(|z| z.timestamp());
    text.parse::<Timestamp>().or_else(|error| match text.contains('T') {
        true => Err(error),
        false => text.parse::<civil::Date>().and_then(midnight),
    })
}

impl TryFrom<String> for Expiry {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Result<String, String> {
        let now = "2026-01-31T12:00:00Z".parse().unwrap();
        text.parse::<Expiry>()?.end(now).map(|end| end.to_string())
    }

    #[test]
    fn expiry_is_a_span_a_date_or_a_time_in_the_future() {
        assert_eq!(end("90d").unwrap(), "2026-05-01T12:00:00Z");
        assert_eq!(end("12h").unwrap(), "2026-02-01T00:00:00Z");
        assert_eq!(end("1 month").unwrap(), "2026-02-28T12:00:00Z");
        assert_eq!(end("2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        assert_eq!(end("2027-01-31T12:00Z").unwrap(), "2027-01-31T12:00:00Z");
        assert!(end("2025-01-31").unwrap_err().contains("future"));
        assert!(end("-1d").unwrap_err().contains("future"));
        assert!(end("0d").unwrap_err().contains("future"));
        assert!(end("19000y").unwrap_err().contains("too far"));
        assert!(end("90").is_err() && end("").is_err() && end("2027-01-31T12:00").is_err());
    }
}
