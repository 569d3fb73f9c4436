//! Who holds a token.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::flows::access::throttle::FailedCredentials;
use crate::flows::access::token_cache::TokenCache;
use crate::flows::registry::hosting::Hosting;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::times::to_the_second;
use cratehouse_journal::principal::{Principal, UserId};
use cratehouse_journal::token_secret::{self, NotWhole};
use cratehouse_journal::writer::Waiter;

/// For how long tokens are honoured without a look at the journal: a replica that is cut off from
/// the store does not honour revoked ones for ever.
const HONOURED: Duration = Duration::from_secs(300);
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 1024;

/// What knows who holds a token.
#[derive(Debug)]
pub struct Authenticator {
    /// The journal, applied, and the way into it.
    pub hosting: Arc<Hosting>,
    /// The holders of the tokens that are in use.
    pub holders: TokenCache,
    /// Those that do not count.
    pub failed: FailedCredentials,
}

impl Authenticator {
    /// Who holds this token: the bare text, without any scheme. A token that another replica, or
    /// the command line, has just made is found too: unknown is said only after another look at
    /// the journal.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`] when it is nobody's, or no longer counts; [`Kind::Unavailable`]
    /// when it is unknown here, or the journal was not read for long, and it cannot be read now;
    /// [`Kind::Throttled`] after too many such of one address or account.
    pub async fn authenticate(&self, client: ClientKey, token: &str) -> Result<Arc<Principal>> {
        // Before anything is looked up: a guess is refused for nothing.
        let form = match token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            true => Err(unknown()),
            false => token_secret::check_form(token).map_err(not_whole),
        };
        if let Err(refused) = form {
            self.failed.admit(client, None)?;
            self.failed.note(client, None);
            return Err(refused);
        }
        let hash = Checksum::of(token.as_bytes());
        let current = self.is_current(); // before the holder, who may be of a catalog that is read anew by then
        let waiter = match self.holder(&hash)? {
            Some(who) if current => return Ok(who),
            Some(_) => Waiter::Authenticated,
            None => Waiter::Unauthenticated(client),
        };
        let user = match waiter {
            Waiter::Authenticated => None,
            Waiter::Unauthenticated(_) => {
                let user = self.user_of(&hash)?;
                self.failed.admit(client, user)?;
                user
            }
        };
        self.hosting.journal.catch_up_for(waiter).await?;
        match self.holder(&hash)? {
            Some(who) => Ok(who),
            None => {
                self.failed.note(client, user);
                Err(self.refusal(&hash)?)
            }
        }
    }

    /// The same for a token that is shown where none is needed: what does not count is no failure.
    ///
    /// # Errors
    /// Those of [`Authenticator::authenticate`], but for the last.
    pub async fn recognise(&self, client: ClientKey, token: &str) -> Result<Arc<Principal>> {
        if let Some(who) = self.at_hand(token) {
            return Ok(who);
        }
        if token.len() > MAX_TOKEN_BYTES || token_secret::check_form(token).is_err() {
            return Err(unknown());
        }
        self.hosting.journal.catch_up_for(Waiter::Unauthenticated(client)).await?;
        self.holder(&Checksum::of(token.as_bytes()))?.ok_or_else(unknown)
    }

    /// The same, if this replica is sure by itself.
    pub fn at_hand(&self, token: &str) -> Option<Arc<Principal>> {
        let looked_at = self.is_current() && token.len() <= MAX_TOKEN_BYTES;
        looked_at.then(|| self.holder(&Checksum::of(token.as_bytes())).ok())??
    }

    /// Whether the journal was read a short time ago.
    fn is_current(&self) -> bool {
        self.hosting.journal.read_age().is_some_and(|age| age < HONOURED)
    }

    /// Who holds the token of this hash, as far as this replica knows.
    fn holder(&self, hash: &Checksum) -> Result<Option<Arc<Principal>>> {
        let catalog = &self.hosting.catalog;
        let changes = catalog.changes(); // before the catalog, which may know more by then
        if let Some(who) = self.holders.recall(hash, changes) {
            let ended = who.grant.expires.is_some_and(|end| end <= Timestamp::now());
            return Ok((!ended).then_some(who));
        }
        let who = catalog.principal(hash)?.map(Arc::new);
        if let Some(who) = &who {
            self.holders.remember(*hash, changes, Arc::clone(who));
        }
        Ok(who)
    }

    /// Whose it was, if it is one that counts no more.
    fn user_of(&self, hash: &Checksum) -> Result<Option<UserId>> {
        Ok(self.hosting.catalog.view()?.token_shown(hash)?.map(|(_, user)| user.id))
    }

    /// Why a token does not count. Only who has it learns more than that.
    fn refusal(&self, hash: &Checksum) -> Result<Error> {
        let Some((token, user)) = self.hosting.catalog.view()?.token_shown(hash)? else {
            return Ok(unknown());
        };
        let (id, login) = (token.id, excerpt(&user.login));
        let another = format!(
            "ask an administrator for another (`cratehouse token create --user {login}`), then run `cargo \
         login --registry cratehouse` with it"
        );
        let ended = token.grant.expires.filter(|_| !token.grant.is_live(Timestamp::now()));
        Ok(Error::new(
            Kind::Unauthenticated,
            match (user.disabled, token.revoked, ended) {
                (true, ..) => format!(
                    "the user `{login}` of this token is disabled, and none of their tokens counts: if that is a \
             mistake, ask an administrator"
                ),
                (_, true, _) if token.reported.is_some() => {
                    let place = token.reported.filter(|place| !place.is_empty());
                    let place = place.map(|place| format!(" ({})", excerpt(&place)));
                    format!(
                        "this token (number {id}, of `{login}`) was found where others read it{}, and was revoked: \
                         {another}",
                        place.unwrap_or_default()
                    )
                }
                (_, true, _) => {
                    format!("this token (number {id}, of `{login}`) was revoked: {another}")
                }
                (_, _, Some(end)) => {
                    format!(
                        "this token (number {id}, of `{login}`) ended at {}: {another}",
                        to_the_second(end)
                    )
                }
                _ => return Ok(unknown()), // it counts again by now
            },
        ))
    }
}

fn not_whole(why: NotWhole) -> Error {
    let text = format!("{why}: run `cargo login --registry cratehouse` with the whole of it");
    Error::new(Kind::Unauthenticated, text)
}

fn unknown() -> Error {
    Error::new(
        Kind::Unauthenticated,
        "this token is unknown to this registry: perhaps it was cut off when it was copied, or belongs to \
         another registry; ask an administrator for one (`cratehouse token create`), then run `cargo login \
         --registry cratehouse` with it",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStore;

    use super::*;
    use crate::config::Limits;
    use crate::flows::access::token_cache::{MAX_HOLDERS, TokenCache};
    use crate::flows::fixture::{TestGateway, memory};
    use cratehouse_journal::commands::Command;
    use cratehouse_journal::principal::{Grant, TokenId};
    use cratehouse_journal::token_secret::{TokenKind, TokenSecret};
    use cratehouse_storage::test_util::{Fault, FaultyStore};

    struct Alice {
        server: TestGateway,
        secret: TokenSecret,
    }

    impl Alice {
        async fn with(grant: Grant) -> Self {
            let server = TestGateway::open(&memory(), &[], Limits::default()).await;
            let (login, secret) = ("alice".to_owned(), TokenSecret::random(TokenKind::Person));
            server.command(Command::create_user(login.clone())).await;
            let (name, hash) = (String::new(), secret.hash());
            server.command(Command::CreateToken { login, name, hash, grant }).await;
            Self { server, secret }
        }

        async fn shows_it(&self) -> Result<Arc<Principal>, Kind> {
            let shown = self
                .server
                .gateway
                .tokens
                .authenticate(ClientKey::Exempt, self.secret.reveal())
                .await;
            shown.map_err(|error| error.kind)
        }
    }

    #[tokio::test]
    async fn a_holder_is_read_once_and_again_after_every_change() {
        let alice = Alice::with(Grant::usual()).await;
        let first = alice.shows_it().await.unwrap();
        assert!(Arc::ptr_eq(&first, &alice.shows_it().await.unwrap()));
        alice.server.command(Command::create_user("bob".to_owned())).await;
        let second = alice.shows_it().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(first, second);
    }

    #[tokio::test]
    async fn where_reads_are_open_a_token_that_counts_is_a_way_past_strangers() {
        let server = TestGateway::open(&memory(), &[], Limits::default()).await;
        let reader = |client| server.gateway.hosting.reader(client);
        for stranger in [ClientKey::of([192, 0, 2, 1].into()), ClientKey::Exempt] {
            assert_eq!(reader(stranger), Waiter::Unauthenticated(stranger));
            assert_eq!(reader(stranger.trusted()), Waiter::Authenticated);
        }
        assert_eq!(reader(ClientKey::OWN), Waiter::Authenticated, "our own work");
    }

    #[tokio::test]
    async fn a_token_that_was_shown_counts_no_more_once_it_is_revoked_or_its_user_disabled() {
        let alice = Alice::with(Grant::usual()).await;
        let token = alice.shows_it().await.unwrap().token;
        alice.server.command(Command::RevokeToken { token }).await;
        assert_eq!(alice.shows_it().await, Err(Kind::Unauthenticated));
        let alice = Alice::with(Grant::usual()).await;
        alice.shows_it().await.unwrap();
        alice.server.command(Command::DisableUser { login: "alice".to_owned() }).await;
        assert_eq!(alice.shows_it().await, Err(Kind::Unauthenticated));
    }

    #[tokio::test]
    async fn who_shows_a_token_that_does_not_count_is_told_why_and_nobody_else() {
        let ended =
            Grant { expires: Some("2026-01-31T12:00:00.5Z".parse().unwrap()), ..Grant::usual() };
        let alice = Alice::with(ended).await;
        let why = async |alice: &Alice, token: &str| {
            let shown = alice.server.gateway.tokens.authenticate(ClientKey::Exempt, token).await;
            shown.unwrap_err().message
        };
        let told = why(&alice, alice.secret.reveal()).await;
        assert!(told.contains("(number 1, of `alice`) ended at 2026-01-31T12:00:00Z: "), "{told}");
        assert!(told.contains("`cratehouse token create --user alice`"), "{told}");
        alice.server.command(Command::RevokeToken { token: TokenId(1) }).await;
        let told = why(&alice, alice.secret.reveal()).await;
        assert!(told.contains("(number 1, of `alice`) was revoked: ask"), "{told}");
        alice.server.command(Command::DisableUser { login: "alice".to_owned() }).await;
        let told = why(&alice, alice.secret.reveal()).await;
        assert!(told.starts_with("the user `alice` of this token is disabled"), "{told}");
        for unknown in
            ["", "crh_x", &"x".repeat(2000), TokenSecret::random(TokenKind::Person).reveal()]
        {
            let told = why(&alice, unknown).await;
            assert!(told.starts_with("this token is unknown to this registry"), "{told}");
            assert!(!told.contains("alice"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_remembered_ends_all_the_same() {
        let alice = Alice::with(Grant::usual()).await;
        let who = alice.shows_it().await.unwrap();
        let (gateway, hash) = (&alice.server.gateway, alice.secret.hash());
        let mut ended = Principal::clone(&who);
        ended.grant.expires = Some(Timestamp::UNIX_EPOCH);
        gateway.tokens.holders.remember(hash, gateway.catalog.changes(), Arc::new(ended));
        assert_eq!(alice.shows_it().await, Err(Kind::Unauthenticated));
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let alice = Alice::with(Grant::usual()).await;
        let (holders, who) = (TokenCache::default(), alice.shows_it().await.unwrap());
        let hash = |nth: usize| Checksum::of(&nth.to_le_bytes());
        holders.remember(hash(0), 7, Arc::clone(&who));
        holders.remember(hash(1), 6, Arc::clone(&who));
        assert_eq!(holders.recall(&hash(0), 7), Some(Arc::clone(&who)));
        assert_eq!([holders.recall(&hash(1), 7), holders.recall(&hash(0), 8)], [None, None]);
        for nth in 0..=MAX_HOLDERS {
            holders.remember(hash(nth), 8, Arc::clone(&who));
        }
        assert_eq!(holders.0.read().unwrap().holders.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_cut_off_honours_tokens_for_a_while_only() {
        let store = Arc::new(FaultyStore::new(memory(), Box::new(|_, _| Fault::None)));
        let shared: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
        let server = TestGateway::open(&shared, &[], Limits::default()).await;
        let (login, secret) = ("alice".to_owned(), TokenSecret::random(TokenKind::Person));
        server.command(Command::create_user(login.clone())).await;
        let (name, hash, grant) = (String::new(), secret.hash(), Grant::usual());
        server.command(Command::CreateToken { login, name, hash, grant }).await;
        let known = || server.gateway.tokens.authenticate(ClientKey::Exempt, secret.reveal());
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
