//! The advisory database that the store keeps for all replicas: fetched by a command or on a schedule, taken
//! up by every replica.
//!
//! **What is fetched is judged before it is kept.** It must be read to its end, have no fewer advisories than
//! `policy.advisories_least`, nor nine tenths of what is kept, and not be older: a server that gives half a
//! database, or one of last year, does not take advisories out of force. Who knows better says `--force`.
//!
//! **The schedule** is each replica's own. Before it asks, a replica looks in the store whether another one
//! has, so that the URL is asked once in `policy.advisories_hours`, about, whatever their number.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::config::Config;
use crate::flows::policy::store::{Kept, PolicyStore};
use crate::flows::reread::Reread;
pub use crate::stores::advisories::Current;
use crate::stores::advisories::{AdvisoryStore, Damaged, Database, Remote, ask, read_archive};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::{aside, aside_in_time};

/// Of ten advisories that are kept, so many must still be there.
const TENTHS: usize = 9;
/// After an attempt in vain the next one comes after this time at the earliest.
const RETRY: Duration = Duration::from_secs(1800);
/// A replica waits for up to this long before it asks, so that others need not.
const SPREAD: Duration = Duration::from_secs(20);
/// A `checked` this far in the future is of a wrong clock.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(10);
/// An archive that is not named any more is deleted when it is so old.
const SWEPT_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// How long a start waits for the store's database, which it can do without.
const START_WAIT: Duration = Duration::from_secs(15);
/// How often the store is looked at, as a number of looks at the policy.
const LOOKS: u32 = 15;
/// The largest file that is read as an archive, in bytes.
const MAX_FILE_BYTES: u64 = crate::stores::advisories::MAX_ARCHIVE_BYTES;

/// Where a database comes from, where it goes, and what it must have.
#[derive(Debug, Clone)]
pub struct Fetcher {
    store: AdvisoryStore,
    url: Url,
    least: usize,
    extra_ca: Option<PathBuf>,
}

/// What came of fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Another database counts from now on.
    New {
        /// It.
        current: Current,
        /// Files of it that cannot be read.
        damaged: Damaged,
    },
    /// The one that counted is the newest.
    Same(Current),
}

/// The same, as a server tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether another database counts from now on.
    pub new: bool,
    /// The one that counts.
    pub current: Current,
    /// Files of it that cannot be read, as far as they are named.
    #[serde(default)]
    pub damaged: Vec<String>,
}

impl From<Fetched> for Told {
    fn from(fetched: Fetched) -> Self {
        match fetched {
            Fetched::New { current, damaged } => {
                Self { new: true, current, damaged: damaged.lines().collect() }
            }
            Fetched::Same(current) => Self { new: false, current, damaged: Vec::new() },
        }
    }
}

impl Fetcher {
    /// By the configuration, into this store.
    pub fn new(config: &Config, store: AdvisoryStore) -> Self {
        Self {
            store,
            url: config.policy.advisories_url.clone(),
            least: config.policy.advisories_least,
            extra_ca: config.outgoing_ca.clone(),
        }
    }

    /// Asks the URL, and keeps what it has, if that is good. `force`: also where it has fewer advisories than
    /// what is kept, or older ones.
    ///
    /// # Errors
    /// That the URL or the store does not answer; what is wrong with what it gave. Then what was kept counts.
    pub async fn fetch(&self, force: bool) -> Result<Fetched> {
        let former = self.former(force).await?;
        let url = self.url.to_string();
        // Whatever else stands there, with the same address it is the same thing as long as its server says so.
        let etag = match former.as_ref().filter(|former| former.from == url && !force) {
            // Of what is lost or damaged, the whole is wanted again.
            Some(former) if self.store.archive(former).await.is_ok() => former.etag.clone(),
            _ => None,
        };
        let (bytes, etag) = match ask(&self.url, self.extra_ca.as_deref(), etag.as_deref()).await? {
            Remote::Archive { bytes, etag } => (bytes, etag),
            Remote::Same => {
                let former = former.ok_or_else(|| Error::unavailable("try again"))?;
                self.is_still(Some(&former), force).await?;
                return self.same(former, Some(Timestamp::now())).await;
            }
        };
        self.keep(former, bytes, (url, etag), Some(Timestamp::now()), force).await
    }

    /// What is kept; where that is damaged, by force nothing.
    async fn former(&self, force: bool) -> Result<Option<Current>> {
        match self.store.current().await {
            Err(error) if force && error.kind == Kind::Internal => Ok(None),
            former => former,
        }
    }

    /// Keeps an archive that is in a file, as [`Fetcher::fetch`] does. Nobody says that it is the newest there
    /// is: it is as new as what is in it.
    ///
    /// # Errors
    /// As there; [`Kind::Invalid`] when the file cannot be read.
    pub async fn take(&self, file: &Path, force: bool) -> Result<Fetched> {
        let former = self.former(force).await?;
        let path = file.to_owned();
        let bytes = aside(move || read_file(&path)).await??;
        self.keep(former, bytes, (file.display().to_string(), None), None, force).await
    }

    async fn keep(
        &self,
        former: Option<Current>,
        bytes: Bytes,
        (from, etag): (String, Option<String>),
        checked: Option<Timestamp>,
        force: bool,
    ) -> Result<Fetched> {
        let now = Timestamp::now();
        let archive = Checksum::of(&bytes);
        if let Some(former) = former.as_ref().filter(|former| former.archive == archive) {
            self.store.put_archive(&archive, bytes).await?; // it may be lost or damaged there
            self.is_still(Some(former), force).await?;
            return self.same(Current { from, etag, ..former.clone() }, checked).await;
        }
        let Database { advisories, damaged, newest, .. } = parsed(from.clone(), &bytes).await?;
        let current = Current {
            archive,
            bytes: bytes.len() as u64,
            advisories: advisories.len(),
            newest,
            from,
            etag,
            fetched: now,
            checked: checked.or(newest).unwrap_or(now),
        };
        if !force && let Some(why) = objection(&current, former.as_ref(), self.least) {
            return Err(Error::new(
                Kind::BadUpstream,
                format!(
                    "the advisory database of {} is not kept: {why}; if that is right, run \
                     `cratehouse advisories fetch --force`",
                    current.from
                ),
            ));
        }
        self.store.put_archive(&current.archive, bytes).await?;
        self.is_still(former.as_ref(), force).await?;
        self.store.name(&current).await?;
        let before = now.saturating_sub(SWEPT_AFTER).unwrap_or(Timestamp::MIN);
        // A replica may be about to read the one that counted until now.
        let mut named = vec![current.archive];
        named.extend(former.map(|former| former.archive));
        if let Err(error) = self.store.sweep(&named, before).await {
            warn!(error = error.chain(), "former archives of advisories stay in the store for now");
        }
        Ok(Fetched::New { current, damaged })
    }

    /// Fetching takes minutes: what another one kept meanwhile is newer than what was found, or meant so.
    async fn is_still(&self, former: Option<&Current>, force: bool) -> Result<()> {
        let archive = |current: &Current| current.archive;
        let now = self.former(force).await?;
        match now.as_ref().map(archive) == former.map(archive) {
            true => Ok(()),
            false => Err(Error::unavailable(
                "another advisory database was kept meanwhile, and counts now: `cratehouse advisories show` tells \
                 which; fetch again if it is the wrong one",
            )),
        }
    }

    async fn same(&self, former: Current, checked: Option<Timestamp>) -> Result<Fetched> {
        let current = Current { checked: checked.unwrap_or(former.checked), ..former };
        self.store.name(&current).await?;
        Ok(Fetched::Same(current))
    }
}

/// What speaks against keeping a database in place of another.
fn objection(new: &Current, former: Option<&Current>, least: usize) -> Option<String> {
    let (has, at) = (new.advisories, |time: Option<Timestamp>| time.map(|at| at.as_second()));
    if has < least {
        return Some(format!("it has {has} advisories, and `policy.advisories_least` is {least}"));
    }
    let former = former?;
    if has * 10 < former.advisories * TENTHS {
        return Some(format!(
            "it has {has} advisories, and the one that is kept {}",
            former.advisories
        ));
    }
    if let (Some(new), Some(old)) = (at(new.newest), at(former.newest))
        && new < old
    {
        return Some("it is older than the one that is kept".to_owned());
    }
    None
}

async fn parsed(from: String, bytes: &Bytes) -> Result<Database> {
    let bytes = bytes.clone();
    let read = aside(move || read_archive(&from, &bytes)).await?;
    read.map_err(|e| Error::new(Kind::BadUpstream, e.to_string()))
}

fn read_file(path: &Path) -> Result<Bytes> {
    let refuse =
        |e: std::io::Error| Error::invalid(format_args!("{} cannot be read: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(refuse)?.len();
    if size > MAX_FILE_BYTES {
        let text = format!("{} has more than {MAX_FILE_BYTES} bytes", path.display());
        return Err(Error::invalid(text));
    }
    std::fs::read(path).map(Bytes::from).map_err(refuse)
}

/// The database that the store keeps, read.
///
/// # Errors
/// When the store does not answer, or what it keeps is damaged.
pub async fn kept(store: &AdvisoryStore) -> Result<Option<Kept>> {
    let Some(current) = store.current().await? else { return Ok(None) };
    read_kept(store, &current).await.map(Some)
}

async fn read_kept(store: &AdvisoryStore, current: &Current) -> Result<Kept> {
    let bytes = store.archive(current).await?;
    let from = format!("in the store, advisories/{}.tar.gz,", current.archive);
    let Database { advisories, damaged, .. } = parsed(from, &bytes).await?;
    for damaged in damaged.lines() {
        warn!(damaged, "an advisory is damaged and left out");
    }
    let (archive, checked) = (current.archive, current.checked);
    Ok(Kept { archive, checked, advisories: Arc::new(advisories) })
}

/// Whether the store's database has any part in a configuration.
pub(crate) fn counts(config: &Config) -> bool {
    config.policy.dir.is_some() && config.policy.advisories.is_none()
}

/// What a start has of it: it waits for a moment only, and does without.
pub(crate) async fn at_start(config: &Config, store: &AdvisoryStore) -> Option<Kept> {
    if !counts(config) {
        return None;
    }
    let why = match timeout(START_WAIT, kept(store)).await {
        Ok(Ok(kept)) => return kept,
        Ok(Err(error)) => error.chain(),
        Err(_) => "the store did not answer in time".to_owned(),
    };
    warn!(%why, "the advisories in the store cannot be used yet");
    None
}

/// Keeps a replica at the database in the store, and that at the one of the URL.
#[derive(Debug)]
pub(crate) struct Keeper {
    fetcher: Fetcher,
    policy_store: Arc<PolicyStore>,
    metrics: Metrics,
    every: Option<Duration>,
    /// When the URL may be asked again.
    not_before: Instant,
    /// The archive that was last read, and whether it was good.
    seen: Option<Checksum>,
    failure: Option<String>,
}

impl Keeper {
    /// `None`: there is nothing to keep.
    pub(crate) fn new(
        config: &Config,
        store: AdvisoryStore,
        policy_store: Arc<PolicyStore>,
        metrics: &Metrics,
    ) -> Option<Self> {
        let every = config.policy.advisories_every;
        if config.policy.advisories.is_some() || (config.policy.dir.is_none() && every.is_none()) {
            return None;
        }
        Some(Self {
            fetcher: Fetcher::new(config, store),
            seen: policy_store.kept_archive(),
            policy_store,
            metrics: metrics.clone(),
            every,
            not_before: Instant::now(),
            failure: None,
        })
    }

    /// Works until told to stop; a wish to read everything again is heard.
    pub(crate) async fn run(
        mut self,
        look_at_policy: Duration,
        mut reread: Reread,
        stop: CancellationToken,
    ) {
        let mut look = interval(look_at_policy * LOOKS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reread.asked() => (),
                _ = look.tick() => (),
            }
            let work = async {
                self.take_up().await;
                if self.fetch_if_due().await {
                    self.take_up().await;
                }
                self.policy_store.tell_of_missing_advisories(self.every.is_some());
            };
            if stop.run_until_cancelled(work).await.is_none() {
                return;
            }
        }
    }

    /// Has the policy applied with what the store keeps now.
    async fn take_up(&mut self) {
        let store = &self.fetcher.store;
        let outcome = match store.current().await {
            Ok(None) => return,
            Ok(Some(current)) if self.seen == Some(current.archive) && self.failure.is_none() => {
                return self.policy_store.checked_advisories(current.checked);
            }
            Ok(Some(current)) => {
                read_kept(store, &current).await.map(|kept| (current.archive, kept))
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok((archive, kept)) => {
                let store = Arc::clone(&self.policy_store);
                match aside_in_time(move || store.keep(Ok(kept))).await {
                    Ok(()) => (self.seen, self.failure) = (Some(archive), None),
                    Err(e) => warn!(error = e.chain(), "taking up the advisories crashed"),
                }
            }
            Err(error) => self.note(&error).await,
        }
    }

    /// Trouble with the store has metrics of its own; a database that is damaged has not.
    async fn note(&mut self, error: &Error) {
        let why = error.chain();
        if self.failure.as_ref() == Some(&why) {
            return;
        }
        if error.kind == Kind::Unavailable {
            warn!(%why, "the advisories in the store cannot be looked at");
            self.failure = Some(why);
            return;
        }
        let (store, text) = (Arc::clone(&self.policy_store), why.clone());
        match aside_in_time(move || store.keep(Err(text))).await {
            Ok(()) => self.failure = Some(why),
            Err(e) => warn!(error = e.chain(), "noting a failure of the advisories crashed"),
        }
    }

    /// Whether anything came of it.
    async fn fetch_if_due(&mut self) -> bool {
        let Some(every) = self.every.filter(|_| Instant::now() >= self.not_before) else {
            return false;
        };
        if !self.is_due(every).await {
            return false;
        }
        let moment = rand::rng().random_range(Duration::ZERO..SPREAD);
        sleep(moment).await;
        if !self.is_due(every).await {
            return false; // another replica was first
        }
        let fetched = self.fetcher.fetch(false).await;
        let outcome = match &fetched {
            Ok(Fetched::New { current, .. }) => {
                let Current { advisories, from, .. } = current;
                info!(advisories, from, "a new advisory database is kept in the store");
                "new"
            }
            Ok(Fetched::Same(_)) => "same",
            Err(error) => {
                warn!(error = error.chain(), "the advisory database could not be fetched");
                self.not_before = Instant::now() + RETRY.min(every);
                "failed"
            }
        };
        self.metrics.advisories_fetches.with_label_values(&[outcome]).inc();
        fetched.is_ok()
    }

    async fn is_due(&self, every: Duration) -> bool {
        // While the store is away nothing could be kept.
        let Ok(current) = self.fetcher.store.current().await else { return false };
        is_due(current.as_ref(), every, Timestamp::now())
    }
}

fn is_due(current: Option<&Current>, every: Duration, now: Timestamp) -> bool {
    let Some(current) = current else { return true };
    let age = now.duration_since(current.checked);
    let every = SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX);
    age >= every || age < -CLOCKS_DIFFER
}

#[cfg(test)]
mod tests;
