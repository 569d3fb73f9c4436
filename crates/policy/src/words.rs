//! The words that values of the policy files are written in.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, ToSpan, civil};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::requirement::Requirement;
use cratehouse_package::name::NamePattern;

/// What may be done with a version, from the mildest to the most severe; also what a rule wants
/// done with it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is in its way. As a rule's action: the rule is off.
    #[default]
    Allow,
    /// It appears as yanked: new resolutions pass it over, lock files still build.
    Hold,
    /// It appears as yanked, and its download is refused.
    Deny,
}

impl Verdict {
    /// The word, as files and metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Whether a rule acts, or is only heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// It is counted and logged, and changes nothing.
    Observe,
}

impl Mode {
    /// The word, as files and metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }

    /// Enforced only where both say so.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        match other {
            Some(Self::Observe) => Self::Observe,
            _ => self,
        }
    }
}

/// A length of time such as `3d`; days have 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Length(SignedDuration);

impl Length {
    /// The length.
    pub fn duration(self) -> SignedDuration {
        self.0
    }
}

/// Longer lengths are a mistake, and would leave jiff's range of times.
const MAX_LENGTH: SignedDuration = SignedDuration::from_hours(100 * 366 * 24);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: Option<Span> = text.parse().ok();
        let length = span.and_then(|s| s.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        length
            .filter(|length| (SignedDuration::ZERO..=MAX_LENGTH).contains(length))
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "`{}` is not a length of time: write hours, days or weeks, such as `36h`, `3d` \
                     or `2w`",
                    text.chars().take(100).collect::<String>()
                )
            })
    }
}

impl TryFrom<String> for Length {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Length> for String {
    fn from(length: Length) -> String {
        length.to_string()
    }
}

/// In days where it is whole ones.
impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.0.as_hours();
        match hours % 24 == 0 && self.0 == SignedDuration::from_hours(hours) && hours > 0 {
            true if hours == 24 => f.write_str("1 day"),
            true => write!(f, "{} days", hours / 24),
            false => write!(f, "{:#}", self.0),
        }
    }
}

/// A day, in UTC: `2027-01-31`, quoted or as TOML's own date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(civil::Date);

impl Day {
    /// Its first instant.
    pub fn begin(self) -> Timestamp {
        self.0.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
    }

    /// Its end: the first instant of the next day.
    pub fn end(self) -> Timestamp {
        self.0.checked_add(1.day()).map_or(Timestamp::MAX, |next| Self(next).begin())
    }
}

impl FromStr for Day {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a day such as 2027-01-31 was expected")]
        enum Written {
            Toml(toml::value::Datetime),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Toml(datetime) => datetime.to_string(),
            Written::Text(text) => text,
        };
        let day = Some(&text).filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
        let shown = text.chars().take(100).collect::<String>();
        day.map(Self)
            .ok_or_else(|| de::Error::custom(format!("`{shown}` is not a day: write 2027-01-31")))
    }
}

/// A text that is parsed while its place is still known, so that an error inside a list tells its
/// own line.
pub(super) fn text<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    struct Written<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Written<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text in quotes")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    from.deserialize_str(Written(PhantomData))
}

/// A list of name patterns, see [`text`].
pub(super) fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NamePattern>, D::Error> {
    #[derive(Deserialize)]
    struct Pattern(#[serde(deserialize_with = "text")] NamePattern);

    let list = Vec::<Pattern>::deserialize(from)?;
    Ok(list.into_iter().map(|Pattern(pattern)| pattern).collect())
}

/// Some crates: a name pattern, or a table of a pattern and a version requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Crates {
    /// Which names.
    pub name: NamePattern,
    /// Which versions; every one without.
    pub version: Requirement,
    /// Why, for whoever reads the file.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CratesTable {
    #[serde(alias = "crate")]
    name: NamePattern,
    #[serde(default)]
    version: Requirement,
    reason: Option<String>,
}

impl<'de> Deserialize<'de> for Crates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Crates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name pattern such as \"acme-*\", or { name = …, version = … }")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Crates, E> {
                let name = name.parse().map_err(E::custom)?;
                Ok(Crates { name, version: Requirement::default(), reason: None })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Crates, M::Error> {
                let table = CratesTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Crates { name: table.name, version: table.version, reason: table.reason })
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// An advisory by its id or one of its aliases: the id alone, or a table of it and a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ignored {
    /// `RUSTSEC-2024-0001`, `CVE-…` or `GHSA-…`.
    pub id: String,
    /// Why, for whoever reads the file.
    pub reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoredTable {
    id: String,
    reason: Option<String>,
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = Ignored;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an advisory such as \"RUSTSEC-2024-0001\", or { id = …, reason = … }")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Ignored, E> {
                ignored(id.to_owned(), None)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Ignored, M::Error> {
                let table = IgnoredTable::deserialize(MapAccessDeserializer::new(map))?;
                ignored(table.id, table.reason)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// A misspelled id would ignore nothing, or, emptied, look as if it did.
fn ignored<E: de::Error>(id: String, reason: Option<String>) -> Result<Ignored, E> {
    let known = ["RUSTSEC-", "CVE-", "GHSA-", "MAL-"].iter().any(|kind| id.starts_with(kind));
    match known {
        true => Ok(Ignored { id, reason }),
        false => Err(E::custom(format!(
            "`{}` is not the id of an advisory: write RUSTSEC-…, CVE-…, GHSA-… or MAL-…",
            id.chars().take(100).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_hours_days_or_weeks() {
        let shown = |text: &str| text.parse::<Length>().map(|length| length.to_string());
        assert_eq!(shown("3d").unwrap(), "3 days");
        assert_eq!(shown("1 week").unwrap(), "7 days");
        assert_eq!(shown("24h").unwrap(), "1 day");
        assert_eq!(shown("36h").unwrap(), "36h");
        assert_eq!(shown("0d").unwrap(), "0s");
        for bad in ["", "3", "1 month", "-1d", "99999y", "5000000d"] {
            assert!(shown(bad).unwrap_err().contains("36h"), "{bad}");
        }
    }

    #[test]
    fn a_day_lasts_until_the_next_begins() {
        let day = Day("2026-12-31".parse().unwrap());
        assert_eq!(day.begin().to_string(), "2026-12-31T00:00:00Z");
        assert_eq!(day.end().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(Day(civil::Date::MAX).end(), Timestamp::MAX);
    }
}
