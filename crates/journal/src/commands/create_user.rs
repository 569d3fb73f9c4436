//! Create a user.

use super::checks::fits_as_name;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::principal::PrincipalKind;
use cratehouse_core::error::Error;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    kind: PrincipalKind,
) -> Judged {
    by.authorize(Action::Administer)?;
    fits_as_name("user", login)?;
    if view.login(login)?.is_some() {
        return Err(Error::invalid(format!("there is a user `{login}` already")).into());
    }
    let user = view.next_ids()?.0;
    Ok(vec![EventKind::UserCreated { user, login: login.to_owned(), kind }])
}
