//! The admin API: what `cratehouse user`, `token`, `remove`, `mirror` and `names` do, over HTTPS.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::config::TokenLife;
use crate::flows::registry::clashes;
use crate::gateway::Gateway;
use crate::http::api::call::Call;
use crate::http::api::{access, upkeep};
use crate::http::request::route::Administer;
use crate::http::response::respond::{self, Answer};
use crate::http::response::responses::Responses;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::fair_queue::with_turn;
use cratehouse_core::fair_share::Share;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::{
    CratePattern, Grant, Principal, PrincipalKind, Scope, TokenId,
};
use cratehouse_journal::token_expiry::Expiry;
use cratehouse_journal::tokens::Selection;
use cratehouse_journal::{tokens, users};
use cratehouse_mirror::index::copies;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    login: String,
    #[serde(default)]
    kind: PrincipalKind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    user: String,
    #[serde(default)]
    name: String,
    scopes: Option<BTreeSet<Scope>>,
    #[serde(default)]
    crates: Vec<CratePattern>,
    #[serde(default)]
    read_only_crates: Vec<CratePattern>,
    /// In the words of the command line: `90d`, a date, a time.
    expires: Option<Expiry>,
}

/// How long the former token goes on, in the words of the command line: `24h`, `7d`, a date, a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    overlap: Expiry,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    reason: String,
}

/// Does what an administrator asks for, or tells an auditor: the gate has checked that it is one.
///
/// # Errors
/// Those of the flow and of the body.
pub async fn administer(call: Call<'_>, what: Administer) -> Result<Answer> {
    let who = call.holder()?;
    let owner = call.owner(Some(&who));
    let by = CommandActor::Principal(Principal::clone(&who));
    let (app, gateway, responses) = (call.app, call.gateway(), call.responses());
    let (budgets, upload) = (&app.bodies, &mut *call.upload);
    match what {
        Administer::Access(what) => access::answer(call, by, what, owner).await,
        // Apart, so that no other request takes the memory of the longest of them.
        Administer::Upkeep(what) => Box::pin(upkeep::answer(call, (who, by), what, owner)).await,
        Administer::Users => {
            let (turn, owned) = (app.long_answer(responses).await?, Arc::clone(gateway));
            let listing = async move { users::list(&owned.journal).await };
            let (users, _turn) = with_turn(turn, listing).await?;
            responses.json(&users)
        }
        Administer::CreateUser => {
            let new: NewUser = upload.read_json(budgets, owner).await?;
            let user = users::create(&gateway.journal, by, &new.login, new.kind).await?;
            respond::json(&user)
        }
        Administer::DisableUser(login) => {
            users::disable(&gateway.journal, by, &login).await?;
            respond::done(None)
        }
        Administer::Tokens(selection) => {
            let turn = app.long_answer(responses).await?;
            list_tokens(gateway, responses, turn, *selection).await
        }
        Administer::CreateToken => {
            create_token(gateway, by, upload.read_json(budgets, owner).await?).await
        }
        Administer::RevokeToken(id) => {
            tokens::revoke(&gateway.journal, by, id).await?;
            respond::done(None)
        }
        Administer::RotateToken(id) => {
            let rotation: Rotation = upload.read_json(budgets, owner).await?;
            rotate(gateway, by, id, rotation).await
        }
        Administer::Remove(name, version) => {
            let removal: Removal = upload.read_json(budgets, owner).await?;
            cratehouse_journal::remove::remove(
                &gateway.journal,
                by,
                &name,
                &version,
                &removal.reason,
            )
            .await?;
            respond::done(None)
        }
        Administer::Refresh(name) => {
            respond::done(Some(&copies::refresh(&gateway.mirror.chain, &name).await?))
        }
        Administer::Purge(name, version) => {
            let told = copies::purge(
                &gateway.mirror.chain,
                &gateway.mirror.files,
                &name,
                version.as_ref(),
            )
            .await?;
            respond::done(Some(&told))
        }
        Administer::Audit => {
            responses.admit()?;
            let clashes = clashes::names(&gateway.hosting, &gateway.mirror.chain).await?;
            responses.json(&clashes)
        }
        Administer::Head => {
            let head = gateway.catalog.head()?;
            respond::json(&json!({ "seq": head.seq, "sha256": head.hash }))
        }
    }
}

async fn list_tokens(
    gateway: &Arc<Gateway>,
    responses: Responses<'_>,
    turn: Share,
    selection: Selection,
) -> Result<Answer> {
    let owned = Arc::clone(gateway);
    let listing = async move {
        let uses = owned.last_uses.for_selection(&selection).await?;
        tokens::list(&owned.journal, &selection, &uses).await
    };
    let (listed, _turn) = with_turn(turn, listing).await?;
    responses.json(&listed)
}

async fn create_token(gateway: &Gateway, by: CommandActor, new: NewToken) -> Result<Answer> {
    let (user, name, grant) = new.checked(&gateway.config.token_life, Timestamp::now())?;
    let (id, secret) = tokens::create(&gateway.journal, by, &user, &name, grant).await?;
    respond::json(&json!({ "id": id, "token": secret.reveal() }))
}

/// Makes a token in place of another.
pub(super) async fn rotate(
    gateway: &Gateway,
    by: CommandActor,
    id: TokenId,
    rotation: Rotation,
) -> Result<Answer> {
    let until = rotation.overlap.end(Timestamp::now());
    let until = until.map_err(|why| Error::invalid(format!("`overlap`: {why}")))?;
    let longest = gateway.config.token_life.longest;
    let (id, secret) = tokens::rotate(&gateway.journal, by, id, until, longest).await?;
    respond::json(&json!({ "id": id, "token": secret.reveal() }))
}

impl NewToken {
    fn checked(self, life: &TokenLife, now: Timestamp) -> Result<(String, String, Grant)> {
        let scopes = self.scopes.unwrap_or_else(|| Grant::usual().scopes);
        let expires = self.expires.map(|expiry| expiry.end(now)).transpose();
        let expires = expires.map_err(|why| Error::invalid(format!("`expires`: {why}")))?;
        let expires = life.end(expires, None, now)?;
        let grant = Grant { scopes, crates: self.crates, reads: self.read_only_crates, expires };
        if grant.scopes.is_empty() {
            return Err(Error::invalid(
                "`scopes` is empty: name at least one, or leave it out for all but `admin`",
            ));
        }
        Ok((self.user, self.name, grant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::error::Kind;

    fn checked(text: &str) -> Result<(String, String, Grant)> {
        let new: NewToken = serde_json::from_str(text).unwrap();
        new.checked(&TokenLife::default(), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_token_without_scopes_gets_the_usual_ones() {
        let (user, name, grant) = checked(r#"{"user":"alice"}"#).unwrap();
        assert_eq!((user.as_str(), name.as_str(), grant), ("alice", "", Grant::usual()));
    }

    #[test]
    fn a_token_is_limited_as_the_body_says() {
        let (_, name, grant) = checked(
            r#"{"user":"alice","name":"ci","scopes":["yank"],"crates":["corp-*"],
                "expires":"2027-01-01T00:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(name, "ci");
        assert_eq!(grant.scopes, BTreeSet::from([Scope::Yank]));
        assert_eq!(grant.crates, ["corp-*".parse().unwrap()]);
        assert_eq!(grant.expires, Some("2027-01-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_token_that_is_good_for_nothing_is_refused() {
        for text in [
            r#"{"user":"alice","scopes":[]}"#,
            r#"{"user":"alice","expires":"2025-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(checked(text).unwrap_err().kind, Kind::Invalid, "{text}");
        }
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        for text in [
            r#"{"user":"alice","scope":["yank"]}"#,
            r#"{"user":"alice","scopes":["everything"]}"#,
            r#"{"user":"alice","crates":["a*b"]}"#,
            r#"{"user":"alice","expires":"soon"}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<NewToken>(text).is_err(), "{text}");
        }
    }
}
