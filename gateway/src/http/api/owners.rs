//! `/api/v1/crates/{name}/owners`. Source: Cargo book, "Web API", Owners.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::catalog::UserRow;
use cratehouse_journal::owners;
use cratehouse_journal::principal::Principal;
use cratehouse_package::name::CrateName;

/// `{"users":["alice"]}`; crates.io takes the older word `owners` too.
#[derive(Debug, Deserialize)]
struct Logins {
    #[serde(alias = "owners")]
    users: Vec<String>,
}

/// Who owns a crate.
///
/// # Errors
/// When it is not hosted here; those of the token.
pub async fn list(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    call.reader().await?;
    let (gateway, responses) = (call.gateway(), call.responses());
    responses.admit()?;
    let waiter = gateway.hosting.reader(call.reading_client());
    responses.json(&shown(&owners::list(&gateway.journal, waiter, name).await?))
}

/// Makes users owners.
///
/// # Errors
/// Those of the journal, of the token and of the body.
pub async fn add(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    let journal = &call.gateway().journal;
    let who = call.caller().await?;
    owners::may_change(journal, &who, name).await?;
    let logins = logins(call, &who).await?;
    respond::done(Some(&owners::add(journal, &who, name, &logins).await?))
}

/// Makes users owners no more.
///
/// # Errors
/// Those of the journal, of the token and of the body.
pub async fn remove(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    let journal = &call.gateway().journal;
    let who = call.caller().await?;
    owners::may_change(journal, &who, name).await?;
    let logins = logins(call, &who).await?;
    respond::done(Some(&owners::remove(journal, &who, name, &logins).await?))
}

async fn logins(call: Call<'_>, who: &Principal) -> Result<Vec<String>> {
    let owner = call.owner(Some(who));
    let logins: Logins = call.upload.read_json(&call.app.bodies, owner).await?;
    if logins.users.is_empty() {
        return Err(Error::invalid("`users` is empty: name at least one user"));
    }
    Ok(logins.users)
}

fn shown(users: &[UserRow]) -> Value {
    let users: Vec<_> = users
        .iter()
        .map(|user| json!({ "id": user.id, "login": user.login, "name": null }))
        .collect();
    json!({ "users": users })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_journal::principal::UserId;

    #[test]
    fn cargo_finds_the_fields_that_it_reads() {
        let alice = UserRow { id: UserId(3), login: "alice".to_owned(), disabled: false };
        assert_eq!(
            shown(&[alice]),
            json!({ "users": [{ "id": 3, "login": "alice", "name": null }] })
        );
    }

    #[test]
    fn both_words_for_owners_are_read() {
        for text in [r#"{"users":["a"]}"#, r#"{"owners":["a"]}"#] {
            let logins: Logins = serde_json::from_str(text).unwrap();
            assert_eq!(logins.users, ["a"]);
        }
    }
}
