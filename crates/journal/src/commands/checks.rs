//! What several commands ask of the state.

use super::{Judged, Refusal};
use crate::authorize;
use crate::catalog::{CrateRow, RuleRow, Tables, TeamRow, UserRow, VersionRow, View};
use crate::subject::{Subject, SubjectName};
use cratehouse_core::error::Error;
use cratehouse_core::excerpt;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};

/// The longest user name, in bytes.
pub(super) const MAX_LOGIN_BYTES: usize = 64;
/// Users and teams that one rule or one command names at the most.
pub(super) const MAX_SUBJECTS: usize = 1000;
/// The longest name of a token and the longest reason, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 1000;

/// The crate of exactly this name.
pub(super) fn hosted(row: Option<CrateRow>, name: &CrateName) -> Judged<CrateRow> {
    let absent = || lagging(authorize::absent(name));
    row.filter(|row| row.name == *name).ok_or_else(absent)
}

/// The version of exactly this name. Another one of its number is there for ever, so that no lag
/// explains why this one is not.
pub(super) fn present<T: Tables>(
    view: &View<T>,
    name: &CrateName,
    version: &CrateVersion,
) -> Judged<VersionRow> {
    let absent = |instead| Error::absent(no_such_version(name, version, instead));
    match view.version(&name.key(), version)?.filter(|row| !row.removed) {
        Some(row) if row.line.vers == *version => Ok(row),
        Some(other) => Err(absent(Some(&other.line.vers)).into()),
        None => Err(lagging(absent(None))),
    }
}

pub(super) fn known<T: Tables>(view: &View<T>, login: &str) -> Judged<UserRow> {
    let unknown = || {
        let shown: String = login.chars().take(MAX_LOGIN_BYTES).collect();
        lagging(Error::invalid(format!(
            "there is no user `{shown}`: an administrator creates one with `cratehouse user add`"
        )))
    };
    view.login(login)?.ok_or_else(unknown)
}

/// A user who is not disabled.
pub(super) fn enabled<T: Tables>(view: &View<T>, login: &str) -> Judged<UserRow> {
    let user = known(view, login)?;
    match user.disabled {
        false => Ok(user),
        true => Err(lagging(Error::invalid(format!("the user `{login}` is disabled")))),
    }
}

pub(super) fn known_team<T: Tables>(view: &View<T>, name: &str) -> Judged<TeamRow> {
    let unknown = || {
        let shown: String = name.chars().take(MAX_LOGIN_BYTES).collect();
        lagging(Error::invalid(format!(
            "there is no team `{shown}`: an administrator creates one with its first member, by `cratehouse team add`"
        )))
    };
    view.team_named(name)?.ok_or_else(unknown)
}

/// The user or team of a name.
pub(super) fn subject<T: Tables>(view: &View<T>, name: &SubjectName) -> Judged<Subject> {
    Ok(match name {
        SubjectName::User(login) => Subject::User(enabled(view, login)?.id),
        SubjectName::Team(team) => Subject::Team(known_team(view, team)?.id),
    })
}

/// Whom a rule may name already: also a user who is disabled, or else they would be named when they are enabled.
fn known_subject<T: Tables>(view: &View<T>, name: &SubjectName) -> Judged<Subject> {
    Ok(match name {
        SubjectName::User(login) => Subject::User(known(view, login)?.id),
        SubjectName::Team(team) => Subject::Team(known_team(view, team)?.id),
    })
}

/// The users and teams of some names, each once; not too many for one rule.
pub(super) fn subjects<T: Tables>(view: &View<T>, names: &[SubjectName]) -> Judged<Vec<Subject>> {
    each_once(names.iter().map(|name| subject(view, name)))
}

/// Those of some names that a rule names, each once; `other` says that it does not name one.
pub(super) fn named_by<T: Tables>(
    view: &View<T>,
    rule: &RuleRow,
    names: &[SubjectName],
    other: impl Fn(&SubjectName) -> Error,
) -> Judged<Vec<Subject>> {
    each_once(names.iter().map(|name| {
        let subject = known_subject(view, name)?;
        rule.subjects.contains(&subject).then_some(subject).ok_or_else(|| lagging(other(name)))
    }))
}

fn each_once(found: impl Iterator<Item = Judged<Subject>>) -> Judged<Vec<Subject>> {
    let mut found = found.collect::<Judged<Vec<_>>>()?;
    found.sort();
    found.dedup();
    match found.len() <= MAX_SUBJECTS {
        true => Ok(found),
        false => Err(Error::invalid(format!(
            "{MAX_SUBJECTS} users and teams at the most: make a team of them"
        ))
        .into()),
    }
}

/// What a principal or a team may be called.
pub(super) fn fits_as_name(what: &str, name: &str) -> Judged<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name.len() <= MAX_LOGIN_BYTES && name.chars().all(fits) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "a {what}'s name has 1 to {MAX_LOGIN_BYTES} ASCII letters, digits, `-`, `_` and `.`"
        ))
        .into()),
    }
}

/// A reason that the journal keeps.
pub(super) fn stated(reason: &str) -> Judged<String> {
    match reason.trim().is_empty() {
        true => Err(Error::invalid("say why: the journal keeps the reason for ever").into()),
        false => short_text("reason", reason),
    }
}

pub(super) fn short_text(what: &str, text: &str) -> Judged<String> {
    match text.len() <= MAX_TEXT_BYTES && !text.contains(excerpt::acts) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid(format!(
            "the {what} has {MAX_TEXT_BYTES} characters at most, and none that acts on a terminal or on the direction of text"
        ))
        .into()),
    }
}

pub(super) fn lagging(error: Error) -> Refusal {
    Refusal { error, lag_could_explain: true }
}
