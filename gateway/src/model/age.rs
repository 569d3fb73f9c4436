//! How long ago something was.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// A span before now, such as `7d`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Age(Span);

impl Age {
    /// The instant that lies so long before `now`. Days have 24 hours.
    ///
    /// # Errors
    /// When it lies after `now`, or too far away.
    pub fn before(&self, now: Timestamp) -> Result<Timestamp, String> {
        let start = now.to_zoned(TimeZone::UTC).checked_sub(self.0);
        let start = start.map_err(|error| format!("the span is too long: {error}"))?.timestamp();
        if start > now { Err("the span is negative".to_owned()) } else { Ok(start) }
    }
}

impl FromStr for Age {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "write a span such as `7d` or `12h`")
    }
}

impl TryFrom<String> for Age {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Age> for String {
    fn from(grace: Age) -> Self {
        grace.to_string()
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Default for Age {
    /// A week.
    fn default() -> Self {
        Self(Span::new().days(7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_lies_in_the_past() {
        let before = |text: &str| {
            text.parse::<Age>().unwrap().before("2026-01-31T12:00:00Z".parse().unwrap())
        };
        assert_eq!(before("7d").unwrap(), "2026-01-24T12:00:00Z".parse().unwrap());
        assert_eq!(before("0s").unwrap(), "2026-01-31T12:00:00Z".parse().unwrap());
        assert!(before("-1d").unwrap_err().contains("negative"));
        assert!(before("19000y").unwrap_err().contains("too long"));
        assert!("soon".parse::<Age>().unwrap_err().contains("write a span"));
    }

    #[test]
    fn an_age_is_the_same_when_it_was_sent() {
        for text in ["7d", "12h", "0s", "1d 6h"] {
            let sent = serde_json::to_string(&text.parse::<Age>().unwrap()).unwrap();
            let read: Age = serde_json::from_str(&sent).unwrap();
            let now = "2026-01-31T12:00:00Z".parse().unwrap();
            assert_eq!(read.before(now), text.parse::<Age>().unwrap().before(now), "{sent}");
        }
    }
}
