//! Questions about the policy in force: what `cratehouse policy` tells, over HTTPS.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::flows::policy_check::{Allowance, Reach};
use crate::gateway::Gateway;
use crate::http::app::App;
use crate::http::auth;
use crate::http::body::budget::Owner;
use crate::http::body::{Largest, Upload};
use crate::http::respond::Answer;
use crate::http::responses::Responses;
use crate::http::route::Ask;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::principal::Scope;
use cratehouse_package::lock_file::MAX_LOCK_BYTES;
use cratehouse_policy::Waivers;

/// How long a lock file may take. What was learned by then stays in memory, so that another try
/// gets further.
const CHECK_WAIT: Duration = Duration::from_secs(120);

/// Answers a question; the caller has checked that whoever asks may read.
///
/// # Errors
/// Those of the flow and of the body; unavailable, when too many ask or it takes too long.
pub async fn answer(
    app: &App,
    responses: Responses<'_>,
    what: Ask,
    (headers, owner): (&HeaderMap, Owner),
    upload: &mut Upload<Incoming>,
) -> Result<Answer> {
    let gateway = &app.gateway;
    let client = owner.client;
    match what {
        Ask::Check => {
            let reach = reach(gateway, client, headers).await;
            check(app, responses, (reach, owner), upload).await
        }
        Ask::Explain(name, which) => {
            let turn = app.long_answer(responses);
            responses.json(&gateway.checks.explain(client, &name, which, turn).await?)
        }
        Ask::Waivers => {
            let (book, in_force) =
                (gateway.policy_store.in_force(), gateway.policy_store.generation());
            responses.json(&Waivers::of(in_force.policy.waivers(), book.now()))
        }
    }
}

/// What a check may look up. One request names ten thousand crates: that upstreams are asked for those
/// of which nothing is held here takes a token that may change something. Where reads are open, a token
/// that was meant for another registry is as good as none.
async fn reach(gateway: &Gateway, client: ClientKey, headers: &HeaderMap) -> Reach {
    match auth::caller(gateway, headers, client).await {
        Ok(who) if who.grant.scopes.iter().any(|scope| *scope != Scope::Read) => {
            Reach::Upstreams(client.trusted())
        }
        _ => Reach::Held(client),
    }
}

async fn check(
    app: &App,
    responses: Responses<'_>,
    (reach, owner): (Reach, Owner),
    upload: &mut Upload<Incoming>,
) -> Result<Answer> {
    let gateway = &app.gateway;
    let room = app.bodies.policy_check.room(owner);
    let lock = upload.read(room, Largest::fixed(MAX_LOCK_BYTES), app.bodies.arrival).await?;
    let lock = std::str::from_utf8(&lock)
        .map_err(|e| Error::invalid(format_args!("this is not a Cargo.lock: {e}")))?;
    // After the body, so that nobody keeps others waiting who sends slowly.
    let _turn = gateway.turns.checks.turn(responses.client()).await?;
    let policies = [gateway.policy_store.generation()];
    let allowance = Allowance::of_client();
    let judging = gateway.checks.check(reach, lock, &policies, &allowance, |_, _| ());
    match timeout(CHECK_WAIT, judging).await {
        Ok(reports) => responses.json(&reports?.first()),
        Err(_) => Err(Error::unavailable(format_args!(
            "the lock file was not judged within {} s; what was learned is kept: try again",
            CHECK_WAIT.as_secs()
        ))),
    }
}
