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

use spdx::{Expression, LicenseReq, ParseMode};

use crate::evaluation::Evaluation;
use crate::facts::{LicenseFact, MAX_LICENSE_BYTES};
use crate::judgement::Rule;
use crate::license_name::LicenseName;
use crate::schema::{LicenseException, Licensing};
use crate::words::Verdict;

/// As crates write it, but for ids that nobody knows.
const MODE: ParseMode = ParseMode { allow_unknown: false, ..ParseMode::LAX };

/// For a version whose licence is known.
pub(crate) fn check(rule: &Licensing, fact: &LicenseFact, evaluation: &mut Evaluation<'_>) {
    if !evaluation.among(rule.hosted, &rule.upstreams) || rule.exempts(evaluation) {
        return;
    }
    let (action, reason) = match fact {
        LicenseFact::Missing => (rule.missing, "it states no licence".to_owned()),
        LicenseFact::FileOnly => {
            (rule.missing, "it has a licence file and states no licence".to_owned())
        }
        LicenseFact::Stated(text) => match read(text) {
            None => (rule.unparsable, format!("its licence `{text}` is no SPDX expression")),
            Some(expression) => {
                let exceptions = rule.exceptions_for(evaluation).filter_map(|e| e.allow.as_ref());
                let extra: Vec<_> = exceptions.flatten().collect();
                if expression.evaluate(|leaf| rule.is_good(leaf, &extra)) {
                    return;
                }
                (Some(rule.action), format!("its licence `{text}` is not allowed"))
            }
        },
    };
    evaluation.find(Rule::License, action.unwrap_or(rule.action), rule.mode, reason);
}

impl Licensing {
    /// The most severe action that an enforced reading of a licence could lead to.
    pub(crate) fn worst(&self) -> Verdict {
        let others = [self.missing, self.unparsable];
        others.into_iter().flatten().fold(self.action, Verdict::max)
    }

    /// Whether the licence of this version does not matter.
    pub(crate) fn exempts(&self, evaluation: &Evaluation<'_>) -> bool {
        self.exceptions_for(evaluation).any(|exception| exception.allow.is_none())
    }

    fn exceptions_for(
        &self,
        evaluation: &Evaluation<'_>,
    ) -> impl Iterator<Item = &LicenseException> {
        self.exceptions.iter().filter(|e| evaluation.covers(&e.name, &e.version))
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
