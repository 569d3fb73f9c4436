//! `GET /api/v1/me`: who holds the token that is shown, and what it may do.

use serde_json::{Value, json};

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::Result;
use cratehouse_journal::principal::Principal;

/// The holder.
///
/// # Errors
/// Those of the token.
pub async fn get(call: Call<'_>) -> Result<Answer> {
    respond::json(&holder(&*call.caller().await?))
}

/// As crates.io's answer at this URL begins.
fn holder(who: &Principal) -> Value {
    let Principal { user, login, token, grant } = who;
    json!({
        "user": { "id": user, "login": login },
        "token": {
            "id": token,
            "scopes": grant.scopes,
            "crates": grant.crates,
            "expires": grant.expires,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_journal::principal::{Grant, TokenId, UserId};

    #[test]
    fn a_holder_is_told_what_the_token_may_do_and_nothing_of_it() {
        let grant =
            Grant { expires: Some("2027-01-31T00:00:00Z".parse().unwrap()), ..Grant::usual() };
        let login = "alice".to_owned();
        let who = Principal { user: UserId(3), login, token: TokenId(7), grant };
        let scopes = ["read", "publish-new", "publish-update", "yank", "change-owners"];
        let token =
            json!({ "id": 7, "scopes": scopes, "crates": [], "expires": "2027-01-31T00:00:00Z" });
        assert_eq!(holder(&who), json!({ "user": { "id": 3, "login": "alice" }, "token": token }));
    }
}
