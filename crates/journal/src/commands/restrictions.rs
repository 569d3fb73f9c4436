//! Who may read crates of which names.

use super::checks::{MAX_SUBJECTS, lagging, named_by, subjects};
use super::{CommandActor, Judged, Refusal};
use crate::authorize::Action;
use crate::catalog::{RuleRow, Tables, View};
use crate::entry::EventKind;
use crate::subject::{Subject, SubjectName};
use cratehouse_core::error::Error;
use cratehouse_package::name::NamePattern;

/// Rules of one kind at the most.
pub(super) const MAX_RULES: usize = 10_000;

pub(super) fn restrict<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    pattern: &NamePattern,
    readers: &[SubjectName],
) -> Judged {
    by.authorize(Action::Administer)?;
    let rule = view.restriction(pattern)?;
    if rule.is_none() && view.restrictions()?.len() >= MAX_RULES {
        return Err(lagging(Error::invalid(format!(
            "there are {MAX_RULES} rules already: a pattern such as `acme-*` covers many crates"
        ))));
    }
    let (is_new, known) = (rule.is_none(), rule.map(|rule| rule.subjects).unwrap_or_default());
    let mut readers = subjects(view, readers)?;
    readers.retain(|reader| !known.contains(reader));
    room_for(&known, &readers)?;
    Ok(match is_new || !readers.is_empty() {
        true => vec![EventKind::CrateRestricted { pattern: pattern.clone(), readers }],
        false => Vec::new(),
    })
}

pub(super) fn remove_readers<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    pattern: &NamePattern,
    readers: &[SubjectName],
) -> Judged {
    by.authorize(Action::Administer)?;
    let rule = existing(view, pattern)?;
    let named = named_by(view, &rule, readers, |name| {
        Error::invalid(format!("`{name}` is not among the readers of the rule `{pattern}`"))
    })?;
    Ok(match named.is_empty() {
        true => Vec::new(),
        false => vec![EventKind::ReadersRemoved { pattern: pattern.clone(), readers: named }],
    })
}

pub(super) fn open<T: Tables>(view: &View<T>, by: &CommandActor, pattern: &NamePattern) -> Judged {
    by.authorize(Action::Administer)?;
    existing(view, pattern)?;
    Ok(vec![EventKind::CrateOpened { pattern: pattern.clone() }])
}

fn existing<T: Tables>(view: &View<T>, pattern: &NamePattern) -> Judged<RuleRow> {
    let none = || {
        lagging(Error::invalid(format!(
            "there is no restriction `{pattern}`: `cratehouse crate list` shows those that there are"
        )))
    };
    view.restriction(pattern)?.ok_or_else(none)
}

/// What one rule names is bounded.
pub(super) fn room_for(known: &[Subject], more: &[Subject]) -> Result<(), Refusal> {
    match known.len() + more.len() <= MAX_SUBJECTS {
        true => Ok(()),
        false => Err(lagging(Error::invalid(format!(
            "a rule names {MAX_SUBJECTS} users and teams at the most: make a team of them"
        )))),
    }
}
