//! Remove a version for ever.

use super::checks::{hosted, present, stated};
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
    reason: &str,
) -> Judged {
    by.authorize(Action::Administer)?;
    let reason = stated(reason)?;
    let row = hosted(view.krate(&krate.key())?, krate)?;
    let found = present(view, krate, version)?;
    Ok(vec![EventKind::Removed { krate: row.name, version: found.line.vers, reason }])
}
