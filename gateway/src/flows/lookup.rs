//! The index file of a crate: hosted, reserved, or from the chain of upstreams, in this order.
//! A name that is hosted or reserved, in whatever spelling, is never asked of an upstream.

use crate::flows::index_cache::landed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use crate::flows::index_cache::{Answered, CachedLookup, Flight, Outcome, Place};
use crate::flows::judged::{Facts, Judging};
use crate::flows::{judging, mirroring};
use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::threads::aside;
use cratehouse_journal::catalog::{CrateRow, VersionRow};
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::view::View;
use cratehouse_policy::LicenseFact;

pub use crate::flows::index_cache::IndexCache;

/// The index file of a crate, hosted or mirrored, as the policy shows it; `None` when there is
/// definitely no such crate. `name` is lower case here: it comes from an index path.
///
/// # Errors
/// When the catalog fails, or an upstream did not answer and nothing is known from before;
/// unavailable, when it takes longer than `limits.fill_wait` (the work goes on).
pub async fn lookup(gateway: &Arc<Gateway>, name: &CrateName) -> Result<Option<Arc<IndexFile>>> {
    let answered = look_in(gateway, ClientKey::OWN, None, name).await;
    judged(gateway, name, answered).await
}

/// The same in one view of the index, on behalf of a client: what it asks upstreams for takes its share
/// of their places, and what none of them has is charged to it.
///
/// # Errors
/// As [`lookup`]; throttled, when the client has asked for too much that nobody has.
pub async fn lookup_for(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    view: View,
    name: &CrateName,
) -> Result<Option<Arc<IndexFile>>> {
    let answered = look_in(gateway, client, Some(view), name).await;
    if let Ok(answered) = &answered {
        count_unified(gateway, view, answered);
    }
    judged(gateway, name, answered).await
}

async fn judged(
    gateway: &Arc<Gateway>,
    name: &CrateName,
    answered: Result<Answered>,
) -> Result<Option<Arc<IndexFile>>> {
    let outcome = answered.as_ref().map_or(Outcome::Error, |answered| answered.known.outcome);
    gateway.metrics.index_lookups.with_label_values(&[outcome.label()]).inc();
    let known = answered?.known;
    match &known.answer {
        Ok(Some(file)) => judging::file_of(gateway, name, &known, Arc::clone(file)).await.map(Some),
        other => other.clone(),
    }
}

/// The same as [`lookup_for`], if memory alone can tell: `None` where something would have to be asked,
/// made or waited for. Most lookups end here.
pub fn at_hand(gateway: &Gateway, view: View, name: &CrateName) -> Option<Option<Arc<IndexFile>>> {
    let answered = gateway.index.answer(&name.key(), name, gateway.views.chain(view))?;
    let answered = gateway.views.shown(Some(view), answered);
    let known = &answered.known;
    let file = match &known.answer {
        Ok(Some(file)) => Some(judging::at_hand(gateway, known, file)?),
        Ok(None) => None,
        Err(_) => return None,
    };
    gateway.metrics.index_lookups.with_label_values(&[known.outcome.label()]).inc();
    count_unified(gateway, view, &answered);
    Some(file)
}

fn count_unified(gateway: &Gateway, view: View, answered: &Answered) {
    let is_file = matches!(answered.known.answer, Ok(Some(_)));
    if is_file && gateway.views.only_unified(view, answered.from) {
        gateway.metrics.unified_lookups.inc();
    }
}

/// What is known of a crate, before the policy.
///
/// # Errors
/// As [`lookup`].
pub(super) async fn look(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
) -> Result<Answered> {
    look_in(gateway, client, None, name).await
}

/// The same in a view; `None`: wherever it is from.
async fn look_in(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    view: Option<View>,
    name: &CrateName,
) -> Result<Answered> {
    let chain = view.map_or(gateway.upstreams.len(), |view| gateway.views.chain(view));
    let answered = match gateway.index.answer(&name.key(), name, chain) {
        Some(answered) => answered,
        None => {
            let wait = deadline::at_most(gateway.config.limits.fill_wait);
            let finding = timeout(wait, find(gateway, client, name, (view, chain)));
            finding.await.unwrap_or_else(|_| Err(on_its_way(name)))?
        }
    };
    Ok(gateway.views.shown(view, answered))
}

fn on_its_way(name: &CrateName) -> Error {
    Error::unavailable(format_args!(
        "the index file of `{name}` is still on its way to the registry; try again in a few seconds"
    ))
}

async fn find(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    (view, chain): (Option<View>, usize),
) -> Result<Answered> {
    let key = &name.key();
    let ours = async |row| match gateway.views.hosts(view) {
        true => {
            let known = hosted(gateway, client, name, row).await;
            Answered { known, from: Place::Hosted }
        }
        false => Answered::nowhere(CachedLookup::absent(None)),
    };
    if let Some(row) = gateway.catalog.krate(key)? {
        return Ok(ours(row).await);
    }
    let began = Instant::now();
    let (known, at) = match gateway.config.is_reserved(key) {
        true => (CachedLookup::absent(None), chain),
        false => mirroring::chain(gateway, client, name, chain).await,
    };
    if known.is_absent() && known.read_from.is_none_or(|at| at < began) {
        let read = read_on(gateway, client).await;
        if gateway.views.hosts(view) {
            read?;
        }
    }
    // The name may have been published while the upstreams were asked: from then on it is ours.
    match gateway.catalog.krate(key)? {
        Some(row) => Ok(ours(row).await),
        None => Ok(Answered { known, from: Place::Upstream(at) }),
    }
}

/// Another replica may have published a name that is nowhere: where hosted crates are shown, it is absent
/// only after a read of the journal.
///
/// # Errors
/// Unavailable, when the journal cannot be read now; nobody waits until it can.
async fn read_on(gateway: &Gateway, client: ClientKey) -> Result<()> {
    if gateway.journal.lag().is_none_or(|lag| !lag.is_zero()) {
        return Err(Error::unavailable(
            "whether this registry has that crate cannot be told now; try again in a few seconds",
        ));
    }
    gateway.journal.catch_up_for(gateway.reader(client)).await
}

async fn hosted(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    name: &CrateName,
    row: CrateRow,
) -> CachedLookup {
    let flight = Flight {
        name: name.clone(),
        place: Place::Hosted,
        generation: Some(row.changed),
        force: false,
    };
    let (owned, name) = (Arc::clone(gateway), name.clone());
    let work = || async move {
        let made = make_hosted(&owned, &name, &row).await;
        made.unwrap_or_else(|e| CachedLookup::trouble(e, Duration::ZERO))
    };
    match gateway.index.flights.join_for(client, flight, work).await {
        Ok(result) => landed(result),
        Err(crowded) => {
            gateway.metrics.requests_refused.inc();
            CachedLookup::trouble(crowded, Duration::ZERO)
        }
    }
}

/// What is known of a hosted crate's file, by its name as it was published.
pub(super) async fn hosted_file_of(
    gateway: &Arc<Gateway>,
    client: ClientKey,
    row: CrateRow,
) -> Result<CachedLookup> {
    let name: CrateName = row.name.lower().parse().map_err(Error::internal)?;
    match gateway.index.recall(&name.key(), &name, Place::Hosted) {
        Some(known) => Ok(known),
        None => Ok(hosted(gateway, client, &name, row).await),
    }
}

/// Renders a hosted crate's file and puts it into memory, unless the crate has changed meanwhile.
async fn make_hosted(gateway: &Gateway, name: &CrateName, row: &CrateRow) -> Result<CachedLookup> {
    mirroring::admit_within(gateway, gateway.config.limits.fill_wait).await?;
    let key = name.key();
    let mut known = CachedLookup::absent(None);
    if row.name.lower() == name.as_str() {
        let (catalog, wanted) = (gateway.catalog.clone(), key.clone());
        let read = move || {
            let versions = catalog.versions(&wanted)?;
            Ok::<_, Error>(hosted_file(&versions)?.map(|file| (file, hosted_facts(&versions))))
        };
        if let Some((file, facts)) = aside(read).await?? {
            known = CachedLookup {
                answer: Ok(Some(gateway.index.counted(file))),
                outcome: Outcome::Miss,
                judging: Arc::new(Judging::new(facts)),
                ..known
            };
        }
    }
    let (generation, what) = (Some(row.changed), (name, Place::Hosted));
    let now = || gateway.generation(&key);
    gateway.index.put(&key, generation, what, known.clone(), now);
    Ok(known)
}

/// The index file of a hosted crate: a line for each version that was not removed, in the order
/// of their publication; `None` without any.
fn hosted_file(versions: &[VersionRow]) -> Result<Option<IndexFile>> {
    let (mut lines, mut listed) = (Vec::new(), Vec::new());
    for row in versions.iter().filter(|row| !row.removed) {
        let line = &row.line;
        serde_json::to_writer(&mut lines, line).map_err(Error::internal)?;
        lines.push(b'\n');
        listed.push(Listed {
            name: line.name.clone(),
            version: line.vers.clone(),
            cksum: line.cksum,
            yanked: line.yanked,
            pubtime: line.pubtime.as_deref().and_then(|time| time.parse().ok()),
        });
    }
    let any = !listed.is_empty();
    Ok(any.then(|| IndexFile::new(Bytes::from(lines), listed)))
}

/// What the policy asks of hosted versions: their metadata tells it.
fn hosted_facts(versions: &[VersionRow]) -> Facts {
    let license = |row: &VersionRow| {
        let (license, file) = (&row.metadata.license, &row.metadata.license_file);
        (row.line.cksum, LicenseFact::of(license.as_deref(), file.as_deref()))
    };
    Facts { licenses: Arc::new(versions.iter().map(license).collect()), ..Facts::default() }
}

#[cfg(test)]
mod new_names;
#[cfg(test)]
mod tests;
