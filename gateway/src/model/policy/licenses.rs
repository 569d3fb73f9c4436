//! Licences: what a manifest states, and whether it is good.
//!
//! A licence is read as an SPDX expression in the forgiving way that crates need: `MIT/Apache-2.0`
//! of older crates is `MIT OR Apache-2.0`, and deprecated ids count. It is good when some choice
//! of its `OR`s has good licences only. A licence is good that the allow list has (all are,
//! without one) and that the deny list has not; an exception makes more of them good.
//!
//! The allow list means what it says, as in cargo-deny: `Apache-2.0` is not `Apache-2.0 WITH
//! LLVM-exception`, and `GPL-3.0-only` is not `GPL-3.0-or-later`. The deny list is wider:
//! `GPL-3.0-only` denies `GPL-3.0`, `GPL-3.0+` and `GPL-3.0-or-later` too, with or without an
//! exception, and one that names an exception denies that combination alone.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use super::judge::{Hearing, Rule};
use super::schema::{LicenseException, Licensing};
use super::words::{Verdict, text};

/// The longest licence that is read, in bytes; a longer one is not an expression.
const MAX_LICENSE_BYTES: usize = 4096;

/// As crates write it, but for ids that nobody knows.
const MODE: ParseMode = ParseMode { allow_unknown: false, ..ParseMode::LAX };

/// As policies write it: ids alone, the deprecated ones too.
const NAME_MODE: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };

/// What a crate file says about its licence; kept in the store by checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenseFact {
    /// `package.license`, as it stands there.
    Stated(String),
    /// Only `package.license-file`.
    FileOnly,
    /// Nothing.
    Missing,
}

impl LicenseFact {
    /// From the two keys of a manifest's `[package]`; the expression counts where both are there.
    pub fn of(license: Option<&str>, license_file: Option<&str>) -> Self {
        match (license.map(str::trim), license_file) {
            (Some(license), _) if !license.is_empty() => Self::Stated(license.to_owned()),
            (_, Some(_)) => Self::FileOnly,
            _ => Self::Missing,
        }
    }
}

/// A licence in a list of the policy: an SPDX id, `WITH` an exception or without, or a
/// `LicenseRef-…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct LicenseName {
    text: String,
    licensee: Licensee,
}

impl LicenseName {
    fn allows(&self, leaf: &LicenseReq) -> bool {
        self.licensee.satisfies(leaf)
    }

    fn denies(&self, leaf: &LicenseReq) -> bool {
        let mine = self.licensee.clone().into_req();
        let addition = mine.addition.is_none() || mine.addition == leaf.addition;
        addition && plain_name(&mine) == plain_name(leaf)
    }
}

/// The licence and its version, whoever may choose which versions.
fn plain_name(leaf: &LicenseReq) -> String {
    let text = leaf.license.to_string();
    let text = text.trim_end_matches('+');
    let text =
        text.strip_suffix("-or-later").or_else(|| text.strip_suffix("-only")).unwrap_or(text);
    text.to_ascii_lowercase()
}

impl FromStr for LicenseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // One id, or three words with a `WITH`: spdx reads no further than that.
        let whole = matches!(text.split_whitespace().count(), 1 | 3);
        match Licensee::parse_mode(text, NAME_MODE) {
            Ok(licensee) if whole => Ok(Self { text: text.to_owned(), licensee }),
            _ => Err(format!(
                "`{}` is not one licence: write an SPDX id such as `MIT`, `GPL-3.0-or-later` or \
                 `Apache-2.0 WITH LLVM-exception`, or a `LicenseRef-…`",
                text.chars().take(100).collect::<String>()
            )),
        }
    }
}

impl<'de> Deserialize<'de> for LicenseName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer)
    }
}

impl From<LicenseName> for String {
    fn from(name: LicenseName) -> String {
        name.text
    }
}

impl Licensing {
    /// The most severe action that an enforced reading of a licence could lead to.
    pub(super) fn worst(&self) -> Verdict {
        let others = [self.missing, self.unparsable];
        others.into_iter().flatten().fold(self.action, Verdict::max)
    }

    /// Whether the licence of this version does not matter.
    pub(super) fn exempts(&self, hearing: &Hearing<'_>) -> bool {
        self.exceptions_for(hearing).any(|exception| exception.allow.is_none())
    }

    fn exceptions_for(&self, hearing: &Hearing<'_>) -> impl Iterator<Item = &LicenseException> {
        self.exceptions.iter().filter(|e| hearing.covers(&e.name, &e.version))
    }

    pub(super) fn hear(&self, fact: &LicenseFact, hearing: &mut Hearing<'_>) {
        if self.exempts(hearing) {
            return;
        }
        let (action, reason) = match fact {
            LicenseFact::Missing => (self.missing, "it states no licence".to_owned()),
            LicenseFact::FileOnly => {
                (self.missing, "it has a licence file and states no licence".to_owned())
            }
            LicenseFact::Stated(text) => match read(text) {
                None => (self.unparsable, format!("its licence `{text}` is no SPDX expression")),
                Some(expression) => {
                    let exceptions = self.exceptions_for(hearing).filter_map(|e| e.allow.as_ref());
                    let extra: Vec<_> = exceptions.flatten().collect();
                    if expression.evaluate(|leaf| self.is_good(leaf, &extra)) {
                        return;
                    }
                    (Some(self.action), format!("its licence `{text}` is not allowed"))
                }
            },
        };
        hearing.find(Rule::License, action.unwrap_or(self.action), self.mode, reason);
    }

    fn is_good(&self, leaf: &LicenseReq, exceptions: &[&LicenseName]) -> bool {
        let listed = |list: &[LicenseName]| list.iter().any(|name| name.allows(leaf));
        exceptions.iter().any(|name| name.allows(leaf))
            || (self.allow.as_deref().is_none_or(listed)
                && !self.deny.iter().any(|name| name.denies(leaf)))
    }
}

/// A licence as crates state it; `None`: it is no expression.
fn read(text: &str) -> Option<Expression> {
    let text = Some(text).filter(|text| text.len() <= MAX_LICENSE_BYTES)?;
    Expression::parse_mode(text, MODE).ok()
}
