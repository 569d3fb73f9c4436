//! Who may create crates of which names.

use super::checks::{lagging, named_by, subjects};
use super::restrictions::{MAX_RULES, room_for};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::subject::SubjectName;
use cratehouse_core::error::Error;
use cratehouse_package::name::NamePattern;

pub(super) fn add<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    pattern: &NamePattern,
    creators: &[SubjectName],
) -> Judged {
    by.authorize(Action::Administer)?;
    if creators.is_empty() {
        let text = "name at least one user or team: `user:alice`, `team:core`";
        return Err(Error::invalid(text).into());
    }
    let rule = view.creator_rule(pattern)?;
    if rule.is_none() && view.creator_rules()?.len() >= MAX_RULES {
        return Err(lagging(Error::invalid(format!("there are {MAX_RULES} rules already"))));
    }
    let known = rule.map(|rule| rule.subjects).unwrap_or_default();
    let mut creators = subjects(view, creators)?;
    creators.retain(|creator| !known.contains(creator));
    room_for(&known, &creators)?;
    Ok(match creators.is_empty() {
        true => Vec::new(),
        false => vec![EventKind::CreatorsAdded { pattern: pattern.clone(), creators }],
    })
}

pub(super) fn remove<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    pattern: &NamePattern,
    creators: &[SubjectName],
) -> Judged {
    by.authorize(Action::Administer)?;
    let none = || {
        lagging(Error::invalid(format!("there is no rule `{pattern}` about who creates crates")))
    };
    let rule = view.creator_rule(pattern)?.ok_or_else(none)?;
    let creators = match creators {
        [] => rule.subjects,
        named => {
            let named = named_by(view, &rule, named, |name| {
                Error::invalid(format!("the rule `{pattern}` does not name `{name}`"))
            })?;
            if named.len() == rule.subjects.len() {
                return Err(lagging(Error::invalid(format!(
                    "that would end the rule `{pattern}`, and everybody could create crates of its names: add another \
                     first, or end it by naming nobody (`cratehouse creators remove '{pattern}'`)"
                ))));
            }
            named
        }
    };
    Ok(vec![EventKind::CreatorsRemoved { pattern: pattern.clone(), creators }])
}
