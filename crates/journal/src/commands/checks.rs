//! What several commands ask of the state.

use super::{Judged, Refusal};
use crate::authorize::OfCrate;
use crate::catalog::{CrateRow, Tables, UserRow, VersionRow, View};
use cratehouse_core::error::Error;
use cratehouse_core::excerpt;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};

/// The longest user name, in bytes.
pub(super) const MAX_LOGIN_BYTES: usize = 64;
/// The longest name of a token and the longest reason, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 1000;

/// A crate, for the question who may change it.
pub(super) fn of<'a>(krate: &'a CrateName, row: Option<&'a CrateRow>) -> OfCrate<'a> {
    OfCrate { krate, owners: row.filter(|row| row.name == *krate).map(|row| &*row.owners) }
}

/// The crate of exactly this name.
pub(super) fn hosted(row: Option<CrateRow>, name: &CrateName) -> Judged<CrateRow> {
    let absent = || lagging(Error::absent(format!("`{name}` is not a crate that is hosted here")));
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
