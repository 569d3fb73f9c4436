//! Questions about the policy in force: what `cratehouse policy` tells, over HTTPS.

use std::time::Duration;

use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::flows::policy_check;
use crate::http::body::Upload;
use crate::http::body::budget::Owner;
use crate::http::dispatch::Door;
use crate::http::respond::{self, Answer};
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
    what: Ask,
    owner: Owner,
    upload: &mut Upload<Incoming>,
) -> Result<Answer> {
    let gateway = &door.gateway;
    match what {
        Ask::Check => check(door, owner, upload).await,
        Ask::Explain(name, version) => {
            let why = policy_check::explain(gateway, &name, version.as_ref()).await?;
            respond::json(&why)
        }
        Ask::Waivers => {
            let (book, in_force) = (&gateway.rulebook, gateway.rulebook.in_force());
            respond::json(&Waivers::of(in_force.policy.waivers(), book.now()))
        }
    }
}

async fn check(door: &Door, owner: Owner, upload: &mut Upload<Incoming>) -> Result<Answer> {
    let gateway = &door.gateway;
    let room = door.bodies.policy_check.room(owner);
    let lock = upload.read(room, MAX_LOCK_BYTES, door.bodies.arrival).await?;
    let lock = std::str::from_utf8(&lock)
        .map_err(|e| Error::invalid(format_args!("this is not a Cargo.lock: {e}")))?;
    // After the body, so that nobody keeps others waiting who sends slowly.
    let Ok(Ok(_turn)) = timeout(TURN_WAIT, door.checks.acquire()).await else {
        return Err(Error::unavailable("too many lock files are being judged: try again shortly"));
    };
    let policies = [gateway.rulebook.in_force()];
    let judging = policy_check::check(gateway, lock, &policies, |_, _| ());
    match timeout(CHECK_WAIT, judging).await {
        Ok(reports) => respond::json(&reports?.first()),
        Err(_) => Err(Error::unavailable(format_args!(
            "the lock file was not judged within {} s; what was learned is kept: try again",
            CHECK_WAIT.as_secs()
        ))),
    }
}
