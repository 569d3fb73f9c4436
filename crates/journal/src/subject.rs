//! Who a rule names: a user or a team, by number in the journal and by name for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::principal::{Principal, TeamId, UserId};

/// A user or a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One user.
    User(UserId),
    /// Whoever is a member of a team.
    Team(TeamId),
}

/// A user or a team, as people write it: `alice`, `user:alice`, `team:core`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// A user's name.
    User(String),
    /// A team's name.
    Team(String),
}

impl Subject {
    /// Whether a principal is meant.
    pub fn is(self, who: &Principal) -> bool {
        match self {
            Self::User(user) => who.user == user,
            Self::Team(team) => who.teams.binary_search(&team).is_ok(),
        }
    }
}

impl FromStr for SubjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| match name.is_empty() || name.contains(':') {
            true => Err(format!("`{text}` names nobody: write `user:NAME` or `team:NAME`")),
            false => Ok(name.to_owned()),
        };
        match text.split_once(':') {
            None => named(text).map(Self::User),
            Some(("user", name)) => named(name).map(Self::User),
            Some(("team", name)) => named(name).map(Self::Team),
            Some(_) => Err(format!("`{text}` names nobody: write `user:NAME` or `team:NAME`")),
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Team(name) => write!(f, "team:{name}"),
        }
    }
}

impl Serialize for SubjectName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SubjectName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_written_in_three_ways_and_nothing_else_is_one() {
        let user = |name: &str| Ok(SubjectName::User(name.to_owned()));
        assert_eq!("alice".parse(), user("alice"));
        assert_eq!("user:alice".parse(), user("alice"));
        assert_eq!("team:core".parse(), Ok(SubjectName::Team("core".to_owned())));
        for bad in ["", "team:", "user:", "github:org:team", "team:a:b", ":a"] {
            let refused = bad.parse::<SubjectName>().unwrap_err();
            assert!(refused.contains("`user:NAME` or `team:NAME`"), "{bad}: {refused}");
        }
    }
}
