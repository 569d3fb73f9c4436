//! Yank a version, or undo it.

use super::checks::{hosted, present};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    version: &CrateVersion,
    yanked: bool,
) -> Judged {
    let rights = view.rights(&krate.key())?;
    by.authorize(Action::Yank(rights.of(krate)))?;
    let row = hosted(rights.krate, krate)?;
    let found = present(view, krate, version)?;
    let (krate, version) = (row.name, found.line.vers);
    Ok(match (found.line.yanked, yanked) {
        (false, true) => vec![EventKind::Yanked { krate, version }],
        (true, false) => vec![EventKind::Unyanked { krate, version }],
        _ => Vec::new(),
    })
}
