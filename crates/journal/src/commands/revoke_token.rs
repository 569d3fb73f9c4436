//! Revoke a token.

use super::checks::lagging;
use super::{CommandActor, Judged};
use crate::authorize::Action;
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::principal::TokenId;
use cratehouse_core::error::Error;

pub(super) fn judge<T: Tables>(view: &View<T>, by: &CommandActor, token: TokenId) -> Judged {
    let row = view.token(token)?;
    let row = row.ok_or_else(|| lagging(Error::absent(format!("there is no token {token}"))))?;
    by.authorize(Action::RevokeToken { of: row.user, token })?;
    Ok(match row.revoked {
        true => Vec::new(),
        false => vec![EventKind::TokenRevoked { token }],
    })
}
