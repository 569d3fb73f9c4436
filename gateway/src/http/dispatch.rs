//! The one match from a route to a flow.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::flows;
use crate::flows::download::{Download, Part};
use crate::flows::publish::PublishAnswer;
use crate::flows::search::Hit;
use crate::http::app::App;
use crate::http::body::budget::Owner;
use crate::http::body::{Largest, Upload};
use crate::http::respond::{self, Answer};
use crate::http::responses::Responses;
use crate::http::route::Route;
use crate::http::{auth, forwarded, manage, pages, policy};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::authorize::{Action, authorize_principal};
use cratehouse_journal::catalog::UserRow;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::Principal;
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// What the record of a download wants to know of a request, beside its token.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Who is connected, as far as the connection knows.
    pub peer: SocketAddr,
    /// Whether it takes the answer's body: a `HEAD` does not.
    pub takes_body: bool,
}

/// `{"users":["alice"]}`; crates.io takes the older word `owners` too.
#[derive(Debug, Deserialize)]
struct Logins {
    #[serde(alias = "owners")]
    users: Vec<String>,
}

impl App {
    /// Answers a request from memory, if that is possible at once: the way of nearly all of them.
    /// Nothing is noted or logged where it is not; a body that its client has no share for is counted as
    /// a lookup here and on the long way.
    pub fn at_hand(
        &self,
        route: &Route,
        headers: &HeaderMap,
        asker: Asker,
    ) -> Option<Result<Answer>> {
        let gateway = &self.gateway;
        match route {
            Route::IndexFile(view, name) => {
                auth::reader_at_hand(gateway, headers)?;
                let found = gateway.lookup.at_hand(*view, name)?;
                match self.index_file(name, found, headers) {
                    Ok(answer) if asker.takes_body => {
                        let client = || forwarded::client_key(&gateway.config, asker.peer, headers);
                        let is_scarce = gateway.lookup.index.is_scarce();
                        self.outgoing.index.at_once(answer, is_scarce, client).map(Ok)
                    }
                    answer => Some(answer),
                }
            }
            Route::IndexConfig(view) => {
                auth::reader_at_hand(gateway, headers)?;
                Some(respond::index_config(*view, &gateway.url, gateway.config.auth_required))
            }
            Route::Download(name, version) => {
                let who = auth::reader_at_hand(gateway, headers)?;
                let Download { file, cksum, .. } = gateway.downloads.at_hand(name, version)?;
                let answer =
                    respond::crate_file(file.into(), &cksum, headers, gateway.config.auth_required);
                if !asker.takes_body {
                    return Some(Ok(answer));
                }
                let client = || forwarded::client_key(&gateway.config, asker.peer, headers);
                let is_scarce = gateway.mirror.files.cache.is_scarce();
                let answer = self.outgoing.crates.at_once(answer, is_scarce, client)?;
                self.record((name, version, cksum), who.as_deref(), (asker, headers));
                Some(Ok(answer))
            }
            _ => None,
        }
    }

    /// Answers a request, or says why not. `client`: whose share of limits it takes.
    ///
    /// # Errors
    /// Those of the flow, of the token and of the body.
    pub async fn dispatch(
        &self,
        route: Route,
        headers: &HeaderMap,
        (asker, client): (Asker, ClientKey),
        upload: &mut Upload<Incoming>,
    ) -> Result<Answer> {
        let gateway = &self.gateway;
        let responses = Responses::to(gateway, client);
        match route {
            Route::Home => Ok(pages::home(gateway)),
            Route::Me => Ok(pages::me(gateway)),
            Route::Whose => respond::json(&holder(&*auth::caller(gateway, headers, client).await?)),
            Route::IndexConfig(view) => {
                auth::reader(gateway, headers, client).await?;
                respond::index_config(view, &gateway.url, gateway.config.auth_required)
            }
            Route::IndexFile(view, name) => {
                auth::reader(gateway, headers, client).await?;
                let client = auth::client(gateway, headers, client);
                let find = || async {
                    let found = gateway.lookup.find_for(client, view, &name).await?;
                    Ok((self.index_file(&name, found, headers)?, ()))
                };
                if !asker.takes_body {
                    return find().await.map(|(answer, ())| answer);
                }
                let is_scarce = || gateway.lookup.index.is_scarce();
                let (answer, ()) = self.outgoing.index.admit(client, is_scarce, find).await?;
                Ok(answer)
            }
            Route::Download(name, version) => {
                let who = auth::reader(gateway, headers, client).await?;
                let part = if asker.takes_body { Part::Bytes } else { Part::Head };
                let client = auth::client(gateway, headers, client);
                let find = || async {
                    let got = gateway.downloads.get_for(client, &name, &version, part).await?;
                    let private = gateway.config.auth_required;
                    let Download { file, cksum, .. } = got;
                    Ok((respond::crate_file(file.into(), &cksum, headers, private), cksum))
                };
                if !asker.takes_body {
                    return find().await.map(|(answer, _)| answer);
                }
                let is_scarce = || gateway.mirror.files.cache.is_scarce();
                let (answer, cksum) = self.outgoing.crates.admit(client, is_scarce, find).await?;
                self.record((&name, &version, cksum), who.as_deref(), (asker, headers));
                Ok(answer)
            }
            Route::Search { query, page } => {
                auth::reader(gateway, headers, client).await?;
                let (hits, total) = gateway.search.search(client, &query, page).await?;
                responses.json(&found(&hits, total))
            }
            Route::Owners(name) => {
                auth::reader(gateway, headers, client).await?;
                responses.admit()?;
                let client = auth::client(gateway, headers, client);
                responses.json(&owners(
                    &cratehouse_journal::owners::list(
                        &gateway.journal,
                        gateway.hosting.reader(client),
                        &name,
                    )
                    .await?,
                ))
            }
            Route::Publish => {
                let who = auth::caller(gateway, headers, client).await?;
                self.publish(&who, owner(Some(&who), client), upload).await
            }
            Route::Yank(name, version) => self.yank((headers, client), &name, &version, true).await,
            Route::Unyank(name, version) => {
                self.yank((headers, client), &name, &version, false).await
            }
            Route::AddOwners(name) => {
                let who = auth::caller(gateway, headers, client).await?;
                cratehouse_journal::owners::may_change(&gateway.journal, &who, &name).await?;
                let owner = owner(Some(&who), client);
                let logins = self.logins(owner, upload).await?;
                let sentence =
                    cratehouse_journal::owners::add(&gateway.journal, &who, &name, &logins).await?;
                respond::done(Some(&sentence))
            }
            Route::RemoveOwners(name) => {
                let who = auth::caller(gateway, headers, client).await?;
                cratehouse_journal::owners::may_change(&gateway.journal, &who, &name).await?;
                let owner = owner(Some(&who), client);
                let logins = self.logins(owner, upload).await?;
                let sentence =
                    cratehouse_journal::owners::remove(&gateway.journal, &who, &name, &logins)
                        .await?;
                respond::done(Some(&sentence))
            }
            Route::Policy(what) => {
                let who = auth::reader(gateway, headers, client).await?;
                let owner = owner(who.as_deref(), client);
                policy::answer(self, responses, what, (headers, owner), upload).await
            }
            Route::Manage(what) => {
                let who = auth::administrator(gateway, headers, client).await?;
                let owner = owner(Some(&who), client);
                let by = CommandActor::Principal(Arc::unwrap_or_clone(who));
                manage::manage(self, responses, by, what, owner, upload).await
            }
        }
    }

    fn index_file(
        &self,
        name: &CrateName,
        found: Option<Arc<IndexFile>>,
        headers: &HeaderMap,
    ) -> Result<Answer> {
        match found {
            Some(file) => {
                Ok(respond::index_file(&file, headers, self.gateway.config.auth_required))
            }
            None => Err(Error::absent(format_args!("there is no crate `{name}`"))),
        }
    }

    /// A cache in between that has the file already and is told so (304) hands it to its own client: that
    /// is a download too.
    fn record(
        &self,
        (name, version, cksum): (&CrateName, &CrateVersion, Checksum),
        who: Option<&Principal>,
        (asker, headers): (Asker, &HeaderMap),
    ) {
        let proxies = self.gateway.config.server.proxies.as_ref();
        let address = forwarded::client(proxies, asker.peer, headers).address;
        self.gateway.pulls.record(name, version, cksum, who, address);
    }

    async fn publish(
        &self,
        who: &Principal,
        owner: Owner,
        upload: &mut Upload<Incoming>,
    ) -> Result<Answer> {
        let gateway = &self.gateway;
        let frame = self.frame(who, owner, upload).await;
        let frame = frame.inspect_err(|e| gateway.publisher.count_refusal(e))?;
        let answer = gateway.publisher.publish((who, owner.client), frame).await?;
        respond::json(&published(&answer))
    }

    /// The body of a publish, if it may be: judged by the token before it is read, and by what it
    /// publishes before its archive is.
    async fn frame(
        &self,
        who: &Principal,
        owner: Owner,
        upload: &mut Upload<Incoming>,
    ) -> Result<Bytes> {
        authorize_principal(who, Action::Publish)?;
        let (gateway, limits) = (&self.gateway, &self.gateway.config.limits);
        let (room, largest) =
            (self.bodies.publish.room(owner), flows::publish::frame_bytes(limits));
        let largest = Largest::configured(largest, "limits.publish_crate_kib");
        let mut body = upload.arriving(room, largest, self.bodies.arrival)?;
        let head_bytes = |begun: &[u8]| flows::publish::head_bytes(begun, limits);
        let wanted = head_bytes(body.at_least(0).await?)?;
        let wanted = head_bytes(body.at_least(wanted).await?)?;
        head_bytes(body.at_least(wanted).await?)?;
        let begun = Instant::now();
        let named =
            body.lend(|begun| flows::publish::named(&gateway.parsers, owner.client, begun)).await?;
        gateway.publisher.admit(who, &named).await?;
        body.excuse(begun.elapsed());
        body.whole().await
    }

    async fn yank(
        &self,
        (headers, client): (&HeaderMap, ClientKey),
        name: &CrateName,
        version: &CrateVersion,
        yanked: bool,
    ) -> Result<Answer> {
        let who = auth::caller(&self.gateway, headers, client).await?;
        cratehouse_journal::yank::yank(&self.gateway.journal, &who, name, version, yanked).await?;
        respond::done(None)
    }

    async fn logins(&self, owner: Owner, upload: &mut Upload<Incoming>) -> Result<Vec<String>> {
        let logins: Logins = upload.read_json(&self.bodies, owner).await?;
        if logins.users.is_empty() {
            return Err(Error::invalid("`users` is empty: name at least one user"));
        }
        Ok(logins.users)
    }
}

/// Whose share of the budgets a request's body takes.
fn owner(who: Option<&Principal>, client: ClientKey) -> Owner {
    Owner { client, token: who.map(|who| who.token) }
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

fn published(answer: &PublishAnswer) -> Value {
    json!({
        "warnings": { "invalid_categories": [], "invalid_badges": [], "other": answer.warnings }
    })
}

fn found(hits: &[Hit], total: u32) -> Value {
    let crates: Vec<_> = hits
        .iter()
        .map(|hit| {
            json!({
                "name": hit.name,
                "max_version": hit.max_version,
                "description": hit.description,
            })
        })
        .collect();
    json!({ "crates": crates, "meta": { "total": total } })
}

fn owners(users: &[UserRow]) -> Value {
    let users: Vec<_> = users
        .iter()
        .map(|user| json!({ "id": user.id, "login": user.login, "name": null }))
        .collect();
    json!({ "users": users })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_journal::principal::{Grant, TokenId, UserId};

    #[test]
    fn cargo_finds_the_fields_that_it_reads() {
        let answer = PublishAnswer { warnings: vec!["mind the name".to_owned()] };
        assert_eq!(published(&answer)["warnings"]["other"][0], "mind the name");

        let hit = Hit {
            name: CrateName::parse("foo").unwrap(),
            max_version: "1.0.0".to_owned(),
            description: None,
        };
        let found = found(&[hit], 7);
        assert_eq!(found["crates"][0]["name"], "foo");
        assert_eq!(found["crates"][0]["max_version"], "1.0.0");
        assert_eq!(found["meta"]["total"], 7);

        let alice = UserRow { id: UserId(3), login: "alice".to_owned(), disabled: false };
        assert_eq!(
            owners(&[alice]),
            json!({ "users": [{ "id": 3, "login": "alice", "name": null }] })
        );
    }

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

    #[test]
    fn both_words_for_owners_are_read() {
        for text in [r#"{"users":["a"]}"#, r#"{"owners":["a"]}"#] {
            let logins: Logins = serde_json::from_str(text).unwrap();
            assert_eq!(logins.users, ["a"]);
        }
    }
}
