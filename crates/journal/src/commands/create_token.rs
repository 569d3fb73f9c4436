//! Create a token.

use jiff::Timestamp;

use super::checks::{known, lagging, short_text};
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::principal::{Grant, Scope};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Error;

/// Tokens of one user that still count (crates.io: 500).
pub(super) const MAX_TOKENS: usize = 500;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    name: &str,
    hash: &Checksum,
    grant: &Grant,
    now: Timestamp,
) -> Judged {
    by.authorize(Action::Administer)?;
    let name = short_text("name", name)?;
    let user = known(view, login)?;
    if user.disabled {
        return Err(Error::invalid(format!("the user `{login}` is disabled")).into());
    }
    if grant.scopes.is_empty() {
        return Err(Error::invalid("a token without any scope would be of no use").into());
    }
    if grant.scopes.contains(&Scope::Admin) && !grant.crates.is_empty() {
        let text = "a token with the scope `admin` cannot be limited to crates: it could make itself another";
        return Err(Error::invalid(text).into());
    }
    if view.live_tokens(user.id, now)? >= MAX_TOKENS {
        let text = format!("`{login}` has {MAX_TOKENS} tokens: revoke some first");
        return Err(lagging(Error::invalid(text)));
    }
    let token = view.next_ids()?.1;
    let (hash, grant) = (*hash, grant.clone());
    Ok(vec![EventKind::TokenCreated { token, user: user.id, name, hash, grant }])
}
