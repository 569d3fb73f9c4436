//! A scanner found a token where others read it: it is revoked, whoever says so. Who has it may do as much with it.

use super::checks::lagging;
use super::{CommandActor, Judged};
use crate::catalog::{Tables, View};
use crate::entry::EventKind;
use crate::principal::TokenId;
use cratehouse_core::error::Error;
use cratehouse_core::excerpt::excerpt;

pub(super) fn judge<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    token: TokenId,
    place: &str,
) -> Judged {
    let row = view.token(token)?;
    let row = row.ok_or_else(|| lagging(Error::absent(format!("there is no token {token}"))))?;
    if let CommandActor::Principal(_) = by {
        let text = "a report is judged by the token that it shows, not by who sends it";
        return Err(Error::forbidden(text).into());
    }
    Ok(match row.revoked {
        true => Vec::new(),
        false => vec![EventKind::TokenReported { token, place: excerpt(place).to_string() }],
    })
}
