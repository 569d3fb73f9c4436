//! Questions about the policy in force: what `cratehouse policy` tells, over HTTPS.

use std::time::Duration;

use tokio::time::timeout;

use crate::flows::access::reader::Reader;
use crate::flows::registry::policy_check::{Allowance, Reach};
use crate::http::api::call::Call;
use crate::http::request::authenticate;
use crate::http::request::body::Largest;
use crate::http::request::route::Ask;
use crate::http::response::respond::Answer;
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::principal::{Principal, Scope};
use cratehouse_package::lock_file::MAX_LOCK_BYTES;
use cratehouse_policy::Waivers;

/// How long a lock file may take. What was learned by then stays in memory, so that another try
/// gets further.
const CHECK_WAIT: Duration = Duration::from_secs(120);

/// Answers a question of whoever may read.
///
/// # Errors
/// Those of the flow and of the body; unavailable, when too many ask or it takes too long.
pub async fn answer(call: Call<'_>, what: Ask) -> Result<Answer> {
    let (app, gateway, who) = (call.app, call.gateway(), call.who.clone());
    let responses = call.responses();
    match what {
        Ask::Check => {
            let reach = reach(&call).await;
            check(call, (reach, who.as_deref())).await
        }
        Ask::Explain(name, which) => {
            let turn = app.long_answer(responses);
            let reader = Reader::Client(call.client, who);
            responses.json(&gateway.checks.explain(&reader, &name, which, turn).await?)
        }
        Ask::Waivers => {
            let (policy, in_force) =
                (gateway.policy_store.in_force(), gateway.policy_store.generation());
            responses.json(&Waivers::of(in_force.policy.waivers(), policy.now()))
        }
    }
}

/// What a check may look up. One request names ten thousand crates: that upstreams are asked for those
/// of which nothing is held here takes a token that may change something. Where reads are open, a token
/// that was meant for another registry is as good as none.
async fn reach(call: &Call<'_>) -> Reach {
    let shown = authenticate::shown(call.gateway(), call.headers, call.client).await;
    let reader = |client| Reader::Client(client, call.who.clone());
    match shown {
        Ok(who) if who.grant.scopes.iter().any(|scope| *scope != Scope::Read) => {
            Reach::Upstreams(reader(call.client.trusted()))
        }
        _ => Reach::Held(reader(call.client)),
    }
}

async fn check(call: Call<'_>, (reach, who): (Reach, Option<&Principal>)) -> Result<Answer> {
    let (gateway, responses, bodies) = (call.gateway(), call.responses(), &call.app.bodies);
    let permit = bodies.policy_check.reserve(call.owner(who));
    let lock = call.upload.read(permit, Largest::fixed(MAX_LOCK_BYTES), bodies.arrival).await?;
    let lock = std::str::from_utf8(&lock)
        .map_err(|e| Error::invalid(format_args!("this is not a Cargo.lock: {e}")))?;
    // After the body, so that nobody keeps others waiting who sends slowly.
    let _turn = gateway.turns.checks.turn(responses.client()).await?;
    let policies = [gateway.policy_store.generation()];
    let allowance = Allowance::of_client();
    let judging = gateway.checks.check(&reach, lock, &policies, &allowance, |_, _| ());
    match timeout(CHECK_WAIT, judging).await {
        Ok(reports) => responses.json(&reports?.first()),
        Err(_) => Err(Error::unavailable(format_args!(
            "the lock file was not judged within {} s; what was learned is kept: try again",
            CHECK_WAIT.as_secs()
        ))),
    }
}
