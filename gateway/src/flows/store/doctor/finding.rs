//! What a look at one thing came to.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: Cow<'static, str>,
    /// How bad it is.
    pub gravity: Gravity,
    /// What was found.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// As it should be.
    Fine,
    /// It works, and somebody should know.
    Mind,
    /// It does not work, or will not.
    Wrong,
}

impl Gravity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Mind => "mind",
            Self::Wrong => "wrong",
        }
    }
}

impl Finding {
    /// As it should be.
    pub fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self { check: check.into(), gravity: Gravity::Fine, found: found.into(), cure: None }
    }

    /// Somebody should know.
    pub fn mind(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        let (found, cure) = (found.into(), Some(cure.into()));
        Self { check: check.into(), gravity: Gravity::Mind, found, cure }
    }

    /// Something is wrong.
    pub fn wrong(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { gravity: Gravity::Wrong, ..Self::mind(check, found, cure) }
    }
}
