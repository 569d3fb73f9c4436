//! Who holds a token.

use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::model::checksum::Checksum;
use crate::model::principal::Principal;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// Who holds this token: the bare text, without any scheme. A token that another replica, or
/// the command line, has just made is found too: unknown is said only after another look at
/// the journal.
///
/// # Errors
/// [`Kind::Unauthenticated`] when it is nobody's, or no longer counts; [`Kind::Unavailable`]
/// when it is unknown here and the journal cannot be asked.
pub async fn authenticate(gateway: &Gateway, token: &str) -> Result<Principal> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(unknown());
    }
    let hash = Checksum::of(token.as_bytes());
    if let Some(who) = gateway.catalog.principal(&hash)? {
        return Ok(who);
    }
    gateway.journal.catch_up().await?;
    gateway.catalog.principal(&hash)?.ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "this token is unknown, revoked or past its end: ask an administrator for another (`cratehouse token create`)",
    )
}
