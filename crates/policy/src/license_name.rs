//! A licence as policies list it.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use spdx::{LicenseReq, Licensee, ParseMode};

use crate::words::text;

/// As policies write it: ids alone, the deprecated ones too.
const NAME_MODE: ParseMode = ParseMode { allow_deprecated: true, ..ParseMode::STRICT };

/// A licence in a list of the policy: an SPDX id, `WITH` an exception or without, or a
/// `LicenseRef-…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct LicenseName {
    text: String,
    licensee: Licensee,
}

impl LicenseName {
    /// Whether it is good because of this name.
    pub(crate) fn allows(&self, leaf: &LicenseReq) -> bool {
        self.licensee.satisfies(leaf)
    }

    /// Whether it is bad because of this name, which then names its later versions too.
    pub(crate) fn denies(&self, leaf: &LicenseReq) -> bool {
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
