//! `/api/v1/crates/{name}/owners`. Source: Cargo book, "Web API", Owners.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::api::call::Call;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::authorize::absent;
use cratehouse_journal::owners::{self, Listed};
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
/// When it is not hosted here, as far as who asks may know.
pub async fn list(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    let (gateway, responses, reader) = (call.gateway(), call.responses(), call.reader());
    responses.admit()?;
    let waiter = gateway.hosting.reader(reader.client());
    if !gateway.visibility.exists_for(&reader, name)? {
        gateway.journal.catch_up_for(waiter).await?;
        if !gateway.visibility.exists_for(&reader, name)? {
            return Err(absent(name));
        }
    }
    responses.json(&shown(&owners::list(&gateway.journal, waiter, name).await?))
}

/// Makes users owners.
///
/// # Errors
/// Those of the journal and of the body.
pub async fn add(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    let journal = &call.gateway().journal;
    let who = call.holder()?;
    owners::may_change(journal, &who, name).await?;
    let logins = logins(call, &who).await?;
    respond::done(Some(&owners::add(journal, &who, name, &logins).await?))
}

/// Makes users owners no more.
///
/// # Errors
/// Those of the journal and of the body.
pub async fn remove(call: Call<'_>, name: &CrateName) -> Result<Answer> {
    let journal = &call.gateway().journal;
    let who = call.holder()?;
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

fn shown(owners: &[Listed]) -> Value {
    let users: Vec<_> = owners
        .iter()
        .map(|one| json!({ "id": one.id, "login": one.login, "kind": one.kind, "name": null }))
        .collect();
    json!({ "users": users })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_journal::owners::OwnerKind;

    #[test]
    fn cargo_finds_the_fields_that_it_reads() {
        let alice = Listed { id: 3, login: "alice".to_owned(), kind: OwnerKind::User };
        let wanted = json!({ "id": 3, "login": "alice", "kind": "user", "name": null });
        assert_eq!(shown(&[alice]), json!({ "users": [wanted] }));
    }

    #[test]
    fn both_words_for_owners_are_read() {
        for text in [r#"{"users":["a"]}"#, r#"{"owners":["a"]}"#] {
            let logins: Logins = serde_json::from_str(text).unwrap();
            assert_eq!(logins.users, ["a"]);
        }
    }
}
