//! Create a user.

use super::checks::MAX_LOGIN_BYTES;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use cratehouse_core::error::Error;

pub(super) fn judge<T: Tables>(view: &View<T>, by: &CommandActor, login: &str) -> Judged {
    by.authorize(Action::Administer)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if login.is_empty() || login.len() > MAX_LOGIN_BYTES || !login.chars().all(fits) {
        let text = format!(
            "a user's name has 1 to {MAX_LOGIN_BYTES} ASCII letters, digits, `-`, `_` and `.`"
        );
        return Err(Error::invalid(text).into());
    }
    if view.login(login)?.is_some() {
        return Err(Error::invalid(format!("there is a user `{login}` already")).into());
    }
    let user = view.next_ids()?.0;
    Ok(vec![EventKind::UserCreated { user, login: login.to_owned() }])
}
