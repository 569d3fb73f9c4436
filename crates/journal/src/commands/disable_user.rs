//! Disable a user: none of their tokens counts until they are enabled again.

use jiff::Timestamp;

use super::checks::known;
use super::roles::not_the_last_admin;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    now: Timestamp,
) -> Judged {
    by.authorize(Action::Administer)?;
    let user = known(view, login)?;
    if user.disabled {
        return Ok(Vec::new());
    }
    not_the_last_admin(view, &user, now)?;
    Ok(vec![EventKind::UserDisabled { user: user.id }])
}
