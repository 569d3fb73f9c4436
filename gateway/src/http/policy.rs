//! Questions about the policy in force: what `cratehouse policy` tells, over HTTPS.

use std::time::Duration;

use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::flows::policy_check;
use crate::http::body::{self, Upload};
use crate::http::dispatch::Door;
use crate::http::respond::Answer;
use crate::http::responses::Responses;
use crate::http::route::Ask;
use crate::model::lock::MAX_LOCK_BYTES;
use crate::model::policy::Waivers;

/// Lock files that are judged at one time; more wait.
pub const CHECKS_AT_ONCE: usize = 4;
/// How long a check waits for that.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// How long a lock file may take. What was learned by then stays in memory, so that another try
/// gets further.
const CHECK_WAIT: Duration = Duration::from_secs(120);

/// Answers a question; the caller has checked that whoever asks may read.
///
/// # Errors
/// Those of the flow and of the body; unavailable, when too many ask or it takes too long.
pub async fn answer(
    door: &Door,
    responses: Responses<'_>,
    what: Ask,
    upload: &mut Upload<Incoming>,
) -> Result<Answer> {
    let gateway = &door.gateway;
    match what {
        Ask::Check => check(door, responses, upload).await,
        Ask::Explain(name, which) => {
            let turn = door.long_answer(responses);
            responses.json(&policy_check::explain(gateway, &name, which, turn).await?)
        }
        Ask::Waivers => {
            let (book, in_force) = (&gateway.rulebook, gateway.rulebook.in_force());
            responses.json(&Waivers::of(in_force.policy.waivers(), book.now()))
        }
    }
}

async fn check(
    door: &Door,
    responses: Responses<'_>,
    upload: &mut Upload<Incoming>,
) -> Result<Answer> {
    let gateway = &door.gateway;
    let _room = upload.room(&door.body_memory, MAX_LOCK_BYTES, body::MEMORY_WAIT).await?;
    let lock = upload.read(MAX_LOCK_BYTES, gateway.config.limits.body).await?;
    let lock = std::str::from_utf8(&lock)
        .map_err(|e| Error::invalid(format_args!("this is not a Cargo.lock: {e}")))?;
    // After the body, so that nobody keeps others waiting who sends slowly.
    let Ok(Ok(_turn)) = timeout(TURN_WAIT, door.checks.acquire()).await else {
        return Err(Error::unavailable("too many lock files are being judged: try again shortly"));
    };
    let policies = [gateway.rulebook.in_force()];
    let judging = policy_check::check(gateway, lock, &policies, |_, _| ());
    match timeout(CHECK_WAIT, judging).await {
        Ok(reports) => responses.json(&reports?.first()),
        Err(_) => Err(Error::unavailable(format_args!(
            "the lock file was not judged within {} s; what was learned is kept: try again",
            CHECK_WAIT.as_secs()
        ))),
    }
}
