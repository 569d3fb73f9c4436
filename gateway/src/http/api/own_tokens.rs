//! `/api/v1/me/tokens` and `/api/v1/tokens/current`: what a token's holder does with tokens of their own.
//! Source: crates.io, `src/controllers/token.rs` (its names of fields, and its statuses).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::TokenLife;
use crate::gateway::Gateway;
use crate::http::api::admin;
use crate::http::api::call::Call;
use crate::http::request::route::Own;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::authorize::{Action, authorize};
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::{CratePattern, Grant, Principal, Scope, TokenId};
use cratehouse_journal::tokens::{self, Listed, Selection};

#[derive(Debug, Deserialize)]
struct NewToken {
    api_token: Wanted,
}

/// As crates.io has it; `read_only_crates` is ours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    #[serde(default)]
    crate_scopes: Option<Vec<CratePattern>>,
    #[serde(default)]
    endpoint_scopes: Option<BTreeSet<Scope>>,
    #[serde(default)]
    read_only_crates: Option<Vec<CratePattern>>,
    #[serde(default)]
    expired_at: Option<Timestamp>,
}

/// Does what a token's holder asks for.
///
/// # Errors
/// Those of the journal and of the body; forbidden, where the token does not allow it.
pub async fn answer(call: Call<'_>, what: Own) -> Result<Answer> {
    let who = call.holder()?;
    let (gateway, owner) = (call.gateway(), call.owner(Some(&who)));
    let by = CommandActor::Principal(Principal::clone(&who));
    match what {
        Own::Tokens => {
            authorize(&who, Action::ListTokens { of: who.user })?;
            let responses = call.responses();
            let _turn = call.app.long_answer(responses).await?;
            let uses = gateway.last_uses.for_list().await;
            let listed = tokens::list(&gateway.journal, &Selection::of(&who.login), &uses).await?;
            let shown: Vec<_> = listed.into_iter().map(Listed::to_the_second).map(shown).collect();
            responses.json(&json!({ "api_tokens": shown }))
        }
        Own::CreateToken => {
            // Before the body, whatever it asks for.
            authorize(&who, Action::CreateToken { of: who.user, grant: &nothing(&who) })?;
            let NewToken { api_token: wanted } =
                call.upload.read_json(&call.app.bodies, owner).await?;
            let life = &gateway.config.token_life;
            let (name, grant) =
                (wanted.name.clone(), wanted.within(&who.grant, life, Timestamp::now())?);
            let (id, secret) =
                tokens::create(&gateway.journal, by, &who.login, &name, grant.clone()).await?;
            let mut made = json!({
                "id": id, "name": name, "token": secret.reveal(), "revoked": false,
                "created_at": Timestamp::now(), "last_used_at": null,
            });
            if let (Some(made), Value::Object(rights)) = (made.as_object_mut(), rights(&grant)) {
                made.extend(rights);
            }
            respond::json(&json!({ "api_token": made }))
        }
        Own::RotateToken(id) => {
            authorize(&who, Action::CreateToken { of: who.user, grant: &nothing(&who) })?;
            let rotation = call.upload.read_json(&call.app.bodies, owner).await?;
            is_own(gateway, &who, id).await?;
            admin::rotate(gateway, by, id, rotation).await
        }
        Own::RevokeToken(id) => {
            is_own(gateway, &who, id).await?;
            tokens::revoke(&gateway.journal, by, id).await?;
            respond::done(None)
        }
        // It needs no token: `http/dispatch.rs` sends it to `report`.
        Own::Report => Err(Error::internal(std::io::Error::other("a report has no holder"))),
        Own::RevokeThis => {
            tokens::revoke(&gateway.journal, by, who.token).await?;
            respond::done(None)
        }
    }
}

/// Refuses a number that is no token of theirs, after another look: it may have just been made elsewhere.
async fn is_own(gateway: &Gateway, who: &Principal, id: TokenId) -> Result<()> {
    let look = || {
        let token = gateway.catalog.view()?.token(id)?;
        Ok::<_, Error>(token.is_some_and(|token| token.user == who.user))
    };
    if !look()? {
        gateway.journal.catch_up().await?;
    }
    match look()? {
        true => Ok(()),
        false => Err(Error::absent(format_args!("you have no token {id}"))),
    }
}

/// A grant that any other is wider than.
fn nothing(who: &Principal) -> Grant {
    Grant { scopes: BTreeSet::new(), ..who.grant.clone() }
}

impl Wanted {
    /// What is asked for; what is not said is as the maker's own, but for its power over tokens and the registry.
    fn within(self, own: &Grant, life: &TokenLife, now: Timestamp) -> Result<Grant> {
        if self.expired_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("`expired_at` is in the past"));
        }
        let powers = [Scope::Admin, Scope::Audit, Scope::Tokens];
        let usual = || own.scopes.iter().copied().filter(|scope| !powers.contains(scope)).collect();
        Ok(Grant {
            scopes: self.endpoint_scopes.unwrap_or_else(usual),
            crates: self.crate_scopes.unwrap_or_else(|| own.crates.clone()),
            reads: self.read_only_crates.unwrap_or_else(|| own.reads.clone()),
            expires: life.end(self.expired_at, own.expires, now)?,
        })
    }
}

fn rights(grant: &Grant) -> Value {
    json!({
        "crate_scopes": grant.crates,
        "endpoint_scopes": grant.scopes,
        "read_only_crates": grant.reads,
        "expired_at": grant.expires,
    })
}

fn shown(token: Listed) -> Value {
    let Listed {
        id,
        name,
        scopes,
        crates,
        read_only_crates,
        expires,
        created,
        revoked,
        reported,
        last_used,
        ..
    } = token;
    json!({
        "id": id, "name": name, "crate_scopes": crates, "endpoint_scopes": scopes,
        "read_only_crates": read_only_crates, "expired_at": expires, "created_at": created,
        "revoked": revoked, "reported": reported, "last_used_at": last_used.map(|used| used.day),
        "last_used_from": last_used.map(|used| used.from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(text: &str, own: &Grant) -> Result<Grant> {
        let NewToken { api_token } = serde_json::from_str(text).unwrap();
        api_token.within(own, &TokenLife::default(), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn what_is_not_said_is_as_the_makers_own_without_its_powers() {
        let mut own =
            Grant { expires: Some("2027-01-01T00:00:00Z".parse().unwrap()), ..Grant::usual() };
        own.crates = vec!["acme-*".parse().unwrap()];
        own.scopes.extend([Scope::Admin, Scope::Tokens]);
        let made = within(r#"{"api_token":{"name":"ci"}}"#, &own).unwrap();
        assert_eq!(made, Grant { scopes: Grant::usual().scopes, ..own.clone() });
        let text = r#"{"api_token":{"name":"ci","endpoint_scopes":["yank"],"crate_scopes":["acme-x"],
                       "expired_at":"2026-02-01T00:00:00Z"}}"#;
        let made = within(text, &own).unwrap();
        assert_eq!((made.scopes, made.crates.len()), ([Scope::Yank].into(), 1));
        assert_eq!(made.expires, Some("2026-02-01T00:00:00Z".parse().unwrap()));
        let past = r#"{"api_token":{"name":"ci","expired_at":"2025-02-01T00:00:00Z"}}"#;
        assert!(within(past, &own).is_err());
    }
}
