//! Format levels: how the journal learns new words while several releases read it.
//!
//! What stands in an entry, a kind of event or a field of one, belongs to a level. It is written
//! only behind an entry that enables its level, and a release that does not know a level stops
//! at the entry that enables it. So an operator first gives every replica the new release, and
//! then enables the level.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format level of the journal; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(u32);

/// Why a level is not enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody could read what comes behind it.
    #[error(
        "this release knows format levels up to {known}: format level {asked} needs a newer one, here and on every replica"
    )]
    Unknown {
        /// What was asked for.
        asked: Level,
        /// What this release knows.
        known: Level,
    },
    /// What was written cannot be unwritten.
    #[error("format level {enabled} is enabled, and there is no way back to {asked}")]
    Backwards {
        /// What was asked for.
        asked: Level,
        /// What is enabled.
        enabled: Level,
    },
}

/// Something needs a level that is not enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this needs format level {needed} of the journal, and {enabled} is enabled: when every replica runs a release that knows level {needed}, an operator enables it with `cratehouse format enable {needed}`"
)]
pub struct NotEnabled {
    /// What it needs.
    pub needed: Level,
    /// What is enabled.
    pub enabled: Level,
}

impl Level {
    /// The level of every journal until another is enabled.
    pub const FIRST: Self = Self(1);
    /// The level of corrected pins.
    pub const SECOND: Self = Self(2);
    /// The highest level that this release reads and writes. Raise it together with the first
    /// kind or form of event that `EventKind::level` of the journal gives the new level.
    pub const KNOWN: Self = Self(2);
    /// From this level on a checkpoint counts only when an entry names its hash, and an entry says the
    /// level at which it was written.
    pub const NAMED_CHECKPOINTS: Self = Self(2);

    /// The one behind it.
    #[cfg(any(test, feature = "test-util"))]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Whether it is the one that needs no mention.
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether what needs the level `needed` may be written where this one is enabled.
    ///
    /// # Errors
    /// [`NotEnabled`] when it may not yet.
    pub fn admit(self, needed: Self) -> Result<(), NotEnabled> {
        match needed <= self {
            true => Ok(()),
            false => Err(NotEnabled { needed, enabled: self }),
        }
    }

    /// Whether enabling `asked` where this one is enabled changes anything, by a release that
    /// knows levels up to `known`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn raises(self, asked: Self, known: Self) -> Result<bool, Refused> {
        match (asked > known, asked < self) {
            (true, _) => Err(Refused::Unknown { asked, known }),
            (false, true) => Err(Refused::Backwards { asked, enabled: self }),
            (false, false) => Ok(asked > self),
        }
    }
}

/// What a row or a header says that was written before there were levels.
impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Level {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map(Self).ok_or("write a format level, such as 2")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_level_waits_until_it_is_enabled() {
        assert_eq!(Level(2).admit(Level(1)), Ok(()));
        assert_eq!(Level(2).admit(Level(2)), Ok(()));
        let refusal = Level(2).admit(Level(3)).unwrap_err();
        assert_eq!(refusal, NotEnabled { needed: Level(3), enabled: Level(2) });
        assert!(refusal.to_string().contains("`cratehouse format enable 3`"), "{refusal}");
    }

    #[test]
    fn a_level_is_enabled_once_never_taken_back_and_never_unknown() {
        let known = Level(3);
        assert_eq!(Level(1).raises(Level(2), known), Ok(true));
        assert_eq!(Level(1).raises(Level(3), known), Ok(true), "two at once");
        assert_eq!(Level(2).raises(Level(2), known), Ok(false));
        let backwards = Refused::Backwards { asked: Level(1), enabled: Level(2) };
        assert_eq!(Level(2).raises(Level(1), known), Err(backwards));
        let unknown = Refused::Unknown { asked: Level(4), known };
        assert_eq!(Level(1).raises(Level(4), known), Err(unknown));
    }

    #[test]
    fn a_level_is_a_positive_number() {
        assert_eq!("2".parse(), Ok(Level(2)));
        for bad in ["0", "-1", "two", "", "4294967296"] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
    }
}
