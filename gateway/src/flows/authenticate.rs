//! Who holds a token.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::gateway::Gateway;
use crate::model::checksum::Checksum;
use crate::model::principal::Principal;

/// For how long tokens are honoured without a look at the journal: a replica that is cut off from
/// the store does not honour revoked ones for ever.
const HONOURED: Duration = Duration::from_secs(300);
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// Who holds this token: the bare text, without any scheme. A token that another replica, or
/// the command line, has just made is found too: unknown is said only after another look at
/// the journal.
///
/// # Errors
/// [`Kind::Unauthenticated`] when it is nobody's, or no longer counts; [`Kind::Unavailable`]
/// when it is unknown here, or the journal was not read for long, and it cannot be read now.
pub async fn authenticate(gateway: &Gateway, token: &str) -> Result<Principal> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(unknown());
    }
    let hash = Checksum::of(token.as_bytes());
    let current = gateway.journal.read_age().is_some_and(|age| age < HONOURED);
    if let Some(who) = gateway.catalog.principal(&hash)?.filter(|_| current) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStore;

    use super::*;
    use crate::config::Limits;
    use crate::flows::command::Command;
    use crate::flows::fixture::{House, memory};
    use crate::model::principal::{Grant, TokenSecret};
    use crate::stores::faulty::{Fault, FaultyStore};

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_cut_off_honours_tokens_for_a_while_only() {
        let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
        let shared: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
        let house = House::open(&shared, &[], Limits::default()).await;
        let (login, secret) = ("alice".to_owned(), TokenSecret::random());
        house.order(Command::CreateUser { login: login.clone() }).await;
        let (name, hash, grant) = (String::new(), secret.hash(), Grant::usual());
        house.order(Command::CreateToken { login, name, hash, grant }).await;
        let known = || authenticate(&house.gateway, secret.reveal());
        known().await.unwrap();
        store.plan(Box::new(|_, _| Fault::Before));
        tokio::time::sleep(HONOURED / 2).await;
        known().await.unwrap();
        tokio::time::sleep(HONOURED).await;
        assert_eq!(known().await.unwrap_err().kind, Kind::Unavailable);
        store.plan(Box::new(|_, _| Fault::None));
        known().await.unwrap();
    }
}
