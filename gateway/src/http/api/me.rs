//! `GET /api/v1/me`: who holds the token that is shown, and what it may do.

use serde_json::{Value, json};

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::Result;
use cratehouse_journal::principal::Principal;

/// The holder.
///
/// # Errors
/// None.
pub fn get(call: Call<'_>) -> Result<Answer> {
    respond::json(&holder(&*call.holder()?))
}

/// As crates.io's answer at this URL begins.
fn holder(who: &Principal) -> Value {
    let Principal { user, login, token, grant, kind, role, teams: _ } = who;
    json!({
        "user": { "id": user, "login": login, "kind": kind, "role": role },
        "token": {
            "id": token,
            "scopes": grant.scopes,
            "crates": grant.crates,
            "read_only_crates": grant.reads,
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
        let who =
            Principal { user: UserId(3), login, token: TokenId(7), grant, ..Principal::sample() };
        let scopes = ["read", "publish-new", "publish-update", "yank", "change-owners"];
        let token = json!({ "id": 7, "scopes": scopes, "crates": [],
            "read_only_crates": [], "expires": "2027-01-31T00:00:00Z" });
        let user = json!({ "id": 3, "login": "alice", "kind": "person", "role": "admin" });
        assert_eq!(holder(&who), json!({ "user": user, "token": token }));
    }
}
