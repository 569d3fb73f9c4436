//! Enable a user who was disabled: their tokens count again.

use super::checks::known;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;

pub(super) fn judge<T: Tables>(view: &View<T>, by: &CommandActor, login: &str) -> Judged {
    by.authorize(Action::Administer)?;
    let user = known(view, login)?;
    Ok(match user.disabled {
        false => Vec::new(),
        true => vec![EventKind::UserEnabled { user: user.id }],
    })
}
