//! The store, the journal and the mirror: what `cratehouse journal`, `pulls`, `checkpoint`, `format`, `gc`, `pin`,
//! `prefetch`, `advisories`, `policy diff` and `doctor` do, over HTTPS.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::flows::access::reader::Reader;
use crate::flows::open::{advisories_in, pulls_in};
use crate::flows::policy::advisories::{self, Fetcher};
use crate::flows::policy::trying::{Trial, advised};
use crate::flows::pulls::log::{page as pulls, start};
use crate::flows::registry::pins::{self, Former, Listed};
use crate::flows::registry::policy_check::{Allowance, Reach};
use crate::flows::registry::prefetch::{Told, Wanted};
use crate::flows::store::doctor::Finding;
use crate::flows::store::sweeping::{Outcome, Sweep, sweep};
use crate::flows::store::upkeep::{Enabled, Levels};
use crate::flows::store::{doctor, trail_page, verifying};
use crate::flows::works::Work;
use crate::gateway::Gateway;
use crate::http::api::call::Call;
use crate::http::ops::own_look;
use crate::http::request::body::Largest;
use crate::http::request::body::budget::Owner;
use crate::http::request::route::{AskedPulls, Upkeep};
use crate::http::response::respond::{self, Answer};
use crate::model::pull::{Selection, Subject};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_journal::authorize::{Action, authorize};
use cratehouse_journal::checkpoint_store::FOLDER;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::Principal;
use cratehouse_journal::writer::Waiter;
use cratehouse_journal::{format, owners};
use cratehouse_package::lock_file::MAX_LOCK_BYTES;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::format_level::Level;

/// How long a lock file may take that is judged by policies which are sent. What was learned by then stays, so that
/// another try gets further.
const TRIAL_WAIT: Duration = Duration::from_secs(600);
/// Crates that one request may want ahead of need, beside those of lock files.
const MOST_SUBJECTS: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLevel {
    level: Level,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Correction {
    checksum: Checksum,
    reason: String,
    upstream: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ahead {
    #[serde(default)]
    locks: Vec<Lock>,
    #[serde(default)]
    crates: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    name: String,
    text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fetch {
    force: bool,
}

#[derive(Debug, Serialize)]
struct Checkpoint {
    checkpoint: String,
}

/// Does what an administrator asks for, or tells an auditor: the gate has checked that it is one.
///
/// # Errors
/// Those of the flow and of the body; unavailable, while such work is under way already.
pub(super) async fn answer(
    call: Call<'_>,
    (who, by): (Arc<Principal>, CommandActor),
    what: Upkeep,
    owner: Owner,
) -> Result<Answer> {
    let (gateway, responses) = (call.gateway(), call.responses());
    // Each that is long stands by itself, so that the short ones do not take its memory.
    match what {
        Upkeep::Journal(asked) => {
            responses.admit()?;
            let _turn = gateway.turns.pages.turn(responses.client()).await?;
            let upkeep = &gateway.upkeep;
            let page =
                trail_page::page(upkeep.journal(), upkeep.registry(), &gateway.journal, &asked);
            responses.json(&Box::pin(page).await?)
        }
        Upkeep::Pulls(asked) => {
            responses.admit()?;
            let _turn = gateway.turns.pages.turn(responses.client()).await?;
            let is_there = gateway.visibility.exists_for(&call.reader(), &asked.subject.name)?;
            let page = Box::pin(pulls_of(gateway, *asked)).await?;
            // Of what does not exist for who asks nothing was ever pulled.
            responses.json(&if is_there { page } else { page.hidden() })
        }
        Upkeep::Verify => responses.json(&Box::pin(verify(gateway)).await?),
        Upkeep::Checkpoint => {
            respond::json(&Checkpoint { checkpoint: write_checkpoint(gateway).await? })
        }
        Upkeep::Format => {
            let enabled = format::enabled(&gateway.journal)?;
            respond::json(&Levels { enabled, known: Level::KNOWN })
        }
        Upkeep::EnableFormat => {
            let NewLevel { level } = call.upload.read_json(&call.app.bodies, owner).await?;
            respond::json(&Box::pin(enable(gateway, by, level)).await?)
        }
        Upkeep::Sweep => {
            let what = call.upload.read_json(&call.app.bodies, owner).await?;
            responses.json(&swept(gateway, by, what).await?)
        }
        Upkeep::Pins(name, version) => {
            let pins = pins::of((&gateway.mirror, &gateway.hosting), &name, &version);
            let pins: Vec<_> = Box::pin(pins).await?.into_iter().map(Listed::from).collect();
            responses.json(&pins)
        }
        Upkeep::CorrectPin(name, version) => {
            let correction = call.upload.read_json(&call.app.bodies, owner).await?;
            respond::json(&Box::pin(correct(gateway, by, (&name, &version), correction)).await?)
        }
        Upkeep::Prefetch => {
            let ahead = read_large(call, owner).await?;
            responses.json(&Box::pin(prefetch(gateway, ahead)).await?)
        }
        Upkeep::Doctor => responses.json(&Box::pin(examine(gateway)).await?),
        Upkeep::Advisories => {
            let advisories = advisories_in(&gateway.upkeep.objects);
            respond::json(&Box::pin(advisories.current()).await?)
        }
        Upkeep::FetchAdvisories => {
            let Fetch { force } = call.upload.read_json(&call.app.bodies, owner).await?;
            let fetcher = Fetcher::new(&gateway.config, advisories_in(&gateway.upkeep.objects));
            let fetching =
                move |_| async move { fetcher.fetch(force).await.map(advisories::Told::from) };
            responses.json(&gateway.upkeep.works.to_the_end(Work::Advisories, fetching).await?)
        }
        Upkeep::TryPolicy => Box::pin(try_policy(call, &who, owner)).await,
        Upkeep::Owners(name) => {
            responses.admit()?;
            responses.json(&owners::list(&gateway.journal, Waiter::Authenticated, &name).await?)
        }
    }
}

async fn swept(gateway: &Arc<Gateway>, by: CommandActor, what: Sweep) -> Result<Outcome> {
    let owned = Arc::clone(gateway);
    let sweeping = move |stop: CancellationToken| async move {
        let go_on = |_, _| match stop.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        sweep(&owned.upkeep.objects, &owned.journal, &by, &what, go_on).await
    };
    gateway.upkeep.works.to_the_end(Work::Sweep, sweeping).await
}

async fn correct(
    gateway: &Gateway,
    by: CommandActor,
    of: (&CrateName, &CrateVersion),
    correction: Correction,
) -> Result<Former> {
    let Correction { checksum, reason, upstream } = correction;
    if reason.is_empty() {
        return Err(Error::invalid("`reason` is empty: say why, for the journal"));
    }
    let parts = (&gateway.mirror, &*gateway.hosting);
    let was = pins::correct(parts, by, of, upstream.as_deref(), checksum, &reason).await?;
    Ok(Former::from(was))
}

async fn examine(gateway: &Gateway) -> Result<Vec<Finding>> {
    let looking = async {
        let config = &gateway.config;
        let mut findings =
            vec![own_look::of_server(config).await, own_look::of_certificate(config)];
        findings.extend(doctor::examine_running(gateway).await?);
        Ok(findings)
    };
    gateway.upkeep.works.while_waited_for(Work::Examine, looking).await
}

async fn pulls_of(gateway: &Gateway, asked: AskedPulls) -> Result<pulls::Page> {
    let AskedPulls { subject, since, user, token, limit, after } = asked;
    let since = match since {
        Some(since) => Some(start(gateway.upkeep.journal(), since).await?),
        None => None,
    };
    let selection = Selection { subject, since, user, token };
    let store = pulls_in(&gateway.upkeep.objects);
    let page = pulls::page(&store, &pulls::Asked { selection, limit, after }).await?;
    let config = &gateway.config.pulls;
    let flush_seconds = config.retention_days.map(|_| config.flush.as_secs());
    Ok(pulls::Page { flush_seconds, ..page })
}

async fn verify(gateway: &Gateway) -> Result<verifying::Verified> {
    let upkeep = &gateway.upkeep;
    let catalog = &gateway.config.catalog.path;
    let verifying = verifying::verify(&upkeep.objects, upkeep.registry(), catalog, |_, _, _| ());
    upkeep.works.while_waited_for(Work::Verify, verifying).await
}

/// The path in the store of the one that was written.
async fn write_checkpoint(gateway: &Arc<Gateway>) -> Result<String> {
    let owned = Arc::clone(gateway);
    // Cut off, it leaves nothing behind, or a whole checkpoint.
    let writing = move |stop: CancellationToken| async move {
        let stopped = || Error::unavailable("this server is stopping: ask again shortly");
        let written = stop.run_until_cancelled(owned.upkeep.write_checkpoint()).await;
        let name = written.unwrap_or_else(|| Err(stopped()))?;
        Ok(format!("{FOLDER}/{name}"))
    };
    gateway.upkeep.works.to_the_end(Work::Checkpoint, writing).await
}

async fn enable(gateway: &Arc<Gateway>, by: CommandActor, level: Level) -> Result<Enabled> {
    let new = format::enable(&gateway.journal, by, level).await?;
    // Those from before are not believed any more; this one comes from the journal alone.
    let checkpoint = match gateway.catalog.head()?.level >= Level::NAMED_CHECKPOINTS {
        true => Some(write_checkpoint(gateway).await?),
        false => None,
    };
    Ok(Enabled { new, checkpoint })
}

async fn prefetch(gateway: &Gateway, ahead: Ahead) -> Result<Told> {
    if ahead.crates.len() > MOST_SUBJECTS {
        return Err(Error::invalid(format!("`crates`: name {MOST_SUBJECTS} at the most")));
    }
    let subject = |text: String| {
        let subject: Result<Subject, _> = text.parse();
        subject.map_err(|e| Error::invalid(format!("`crates`: {}: {e}", excerpt(&text))))
    };
    let wanted = Wanted {
        locks: ahead.locks.into_iter().map(|lock| (lock.name, lock.text)).collect(),
        crates: ahead.crates.into_iter().map(subject).collect::<Result<_>>()?,
    };
    // What was begun to be fetched comes to its end by itself, and is there when it is asked for again.
    let filling = async { gateway.prefetcher.prefetch(&wanted, |_, _| ()).await.map(Told::from) };
    gateway.upkeep.works.while_waited_for(Work::Prefetch, filling).await
}

/// Reports by policies that are sent. To download for it takes an administrator.
async fn try_policy(call: Call<'_>, who: &Principal, owner: Owner) -> Result<Answer> {
    let (gateway, responses) = (call.gateway(), call.responses());
    let reader = Reader::Client(call.client.trusted(), call.who.clone());
    let trial: Trial = read_large(call, owner).await?;
    let fetch = trial.fetch;
    if fetch {
        authorize(who, Action::Administer)?;
    }
    let _turn = gateway.turns.checks.turn(responses.client()).await?;
    let (lock, policies) = trial.read(&gateway.config).await?;
    let policies = advised(&advisories_in(&gateway.upkeep.objects), policies).await?;
    let (reach, allowance) = (Reach::Upstreams(reader), Allowance::of_command(fetch));
    let judging = gateway.checks.check(&reach, &lock, &policies, &allowance, |_, _| ());
    match timeout(TRIAL_WAIT, judging).await {
        Ok(reports) => responses.json(&reports?),
        Err(_) => Err(Error::unavailable(format_args!(
            "the lock file was not judged within {} s; what was learned is kept: try again",
            TRIAL_WAIT.as_secs()
        ))),
    }
}

/// A body with the text of a lock file in it.
async fn read_large<T: DeserializeOwned>(call: Call<'_>, owner: Owner) -> Result<T> {
    let bodies = &call.app.bodies;
    let permit = bodies.policy_check.reserve(owner);
    let body = call.upload.read(permit, Largest::fixed(MAX_LOCK_BYTES), bodies.arrival).await?;
    serde_json::from_slice(&body).map_err(|e| {
        let why = excerpt(&e.to_string());
        Error::invalid(format!("the body is not the JSON that is wanted: {why}"))
    })
}
