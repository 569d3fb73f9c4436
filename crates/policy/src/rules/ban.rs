//! `[[ban]]` and `[[allow]]`: versions that are named, one by one.

use crate::evaluation::{Evaluation, described};
use crate::judgement::Rule;
use crate::schema::{Allow, Ban};

/// The first entry that allows this version, as its author wrote it. Bans then do not count, and the allow list
/// is satisfied.
pub(crate) fn allowed_by(allows: &[&Allow], evaluation: &Evaluation<'_>) -> Option<String> {
    let allow = allows.iter().find(|a| evaluation.is_meant(&a.version, &a.upstream))?;
    Some(described(&allow.name, &allow.version, allow.reason.as_deref()))
}

/// Every ban that means this version.
pub(crate) fn check(bans: &[&Ban], evaluation: &mut Evaluation<'_>) {
    for ban in bans {
        if evaluation.is_meant(&ban.version, &ban.upstream) {
            evaluation.find(Rule::Ban, ban.action, ban.mode, ban.said());
        }
    }
}

impl Ban {
    /// Its reason, or itself where it gives none.
    fn said(&self) -> String {
        match self.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty()) {
            Some(reason) => reason.to_owned(),
            None => format!("{} is banned", described(&self.name, &self.version, None)),
        }
    }
}
