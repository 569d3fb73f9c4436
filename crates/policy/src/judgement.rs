//! What the rules say of a version: a verdict, and every finding with its reason.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::words::{Day, Mode, Verdict};

/// Declares the rules that speak of versions. Their list, their words and their numbers come from here alone.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $label:literal),+ $(,)?) => {
        /// The rules that speak of versions, as findings and metrics name them; in this order where nothing
        /// else decides.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Rule {
            $($(#[$doc])* $rule),+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$rule),+];

            /// The word, as findings and metrics have it.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$rule => $label),+
                }
            }
        }
    };
}

rules! {
    /// `[[ban]]`.
    Ban = "ban",
    /// `[allow_list]`.
    AllowList = "allow_list",
    /// `[age]`.
    Age = "age",
    /// `[advisories]`, but for `yanked`.
    Advisory = "advisory",
    /// `[advisories] yanked`.
    Yanked = "yanked",
    /// `[licenses]`.
    License = "license",
    /// `[integrity]`.
    Integrity = "integrity",
}

/// What the policy says of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// Every rule that spoke against it, enforced ones first, then the most severe.
    pub findings: Vec<Finding>,
    /// The waiver that is in force for it, the one that ends last.
    pub waiver: Option<WaiverInForce>,
    /// The `[[allow]]` that names it, if any does.
    pub allowed_by: Option<String>,
    /// The next instant at which this judgement can change without a change of any fact or rule.
    pub changes_at: Option<Timestamp>,
    /// Whether its licence is to be read.
    pub read_license: ReadLicense,
    /// Whether that may make the verdict a worse one.
    #[serde(skip)]
    pub is_open: bool,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What it wants done.
    pub action: Verdict,
    /// Whether that is done.
    pub mode: Mode,
    /// Why, as the end of a sentence about the version.
    pub reason: String,
    /// The advisory's id, where one is the reason.
    pub advisory: Option<String>,
    /// Since when: of an advisory its report, of a young version its publication.
    pub since: Option<Timestamp>,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
}

/// Whether a version's crate file is to be read for its licence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadLicense {
    /// It is known, or does not matter.
    #[default]
    No,
    /// It should be noted when the file is at hand; its download need not wait for a verdict.
    WhenAtHand,
    /// Before its download is answered: it may have to be refused.
    BeforeDownload,
}

/// A waiver that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverInForce {
    /// Its pattern and requirement, as they are written.
    pub of: String,
    /// Its last day.
    pub last_day: Day,
    /// The instant at which it ends.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub who: String,
}

impl Judgement {
    /// The findings that made the verdict, or would have without a waiver.
    pub fn enforced(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.mode == Mode::Enforce)
    }

    /// What the verdict would be without a waiver and with every rule enforced.
    pub fn unmitigated(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.action).max().unwrap_or_default()
    }
}

impl Verdict {
    /// Whether a version of this verdict appears as yanked.
    pub fn hides(self) -> bool {
        self >= Self::Hold
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
