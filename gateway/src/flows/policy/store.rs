//! The policy in force: read at the start, looked at again every few seconds, and replaced as a
//! whole. What is broken is never taken: the last good policy stays, and says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config;
use crate::flows::reread::Reread;
use crate::stores::advisories::{self, Database};
use crate::stores::policy_files;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside_in_time;
use cratehouse_policy::{
    Advisories, Policy, PolicyGeneration, PolicyInForce, PolicySwitch, PolicyText, Waiver,
};

/// The advisory database is looked at every so many times that the policy is, and whenever that has
/// changed: it has thousands of files.
const LOOKS_BETWEEN_DATABASES: u32 = 15;
/// Waivers that end within this time are counted, so that somebody is warned.
const ENDING_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The policy in force, and where it comes from.
#[derive(Debug)]
pub struct PolicyStore {
    sources: Sources,
    switch: PolicySwitch,
    /// What was last read, and found good or bad.
    seen: Mutex<Seen>,
    /// What the store keeps, where the configuration names no database.
    kept: Mutex<KeptOrTrouble>,
    /// Held while the files are read anew.
    reloading: Mutex<()>,
    metrics: Metrics,
}

/// The advisory database that the store keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The SHA-256 of its archive.
    pub archive: Checksum,
    /// When it was last found to be the newest there is.
    pub checked: Timestamp,
    /// What it says.
    pub advisories: Arc<Advisories>,
}

/// The database, or what is wrong with it.
type KeptOrTrouble = Result<Option<Kept>, String>;

#[derive(Debug, Clone)]
struct Sources {
    dir: Option<PathBuf>,
    advisories: Option<PathBuf>,
    /// The upstreams that a rule may name.
    upstreams: Vec<String>,
}

/// Fingerprints of what was last read, so that a change is noticed and a failure is logged once.
#[derive(Debug, Default)]
struct Seen {
    policy: Option<Read>,
    advisories: Option<Read>,
    failure: [Option<String>; 2],
    /// Looks since the database was looked at.
    looks: u32,
    /// Whether it was told that there is no database.
    told_missing: bool,
}

/// What files of this fingerprint came to: what is wrong with them, if anything is.
type Read = (Checksum, Option<String>);

impl PolicyStore {
    /// Reads the policy for the first time; `kept` is the database in the store. Blocks.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Invalid`] when the policy is broken: there is no last good one yet.
    /// Advisories that cannot be read only turn their rule off.
    pub fn open(config: &config::Config, metrics: Metrics, kept: Option<Kept>) -> Result<Self> {
        Self::open_at(Timestamp::now, config, metrics, kept)
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_at(
        clock: fn() -> Timestamp,
        config: &config::Config,
        metrics: Metrics,
        kept: Option<Kept>,
    ) -> Result<Self> {
        let store = Self {
            sources: Sources::of(config),
            switch: PolicySwitch::new(clock),
            seen: Mutex::default(),
            kept: Mutex::new(Ok(kept)),
            reloading: Mutex::default(),
            metrics,
        };
        store.reload(true)?;
        Ok(store)
    }

    /// The policy in force.
    pub fn in_force(&self) -> &Arc<PolicyInForce> {
        self.switch.in_force()
    }

    /// The generation of the policy in force.
    pub fn generation(&self) -> Arc<PolicyGeneration> {
        self.in_force().generation()
    }

    /// Looks for changes until told to stop, and whenever somebody asks; then at the advisories too.
    pub async fn watch(
        self: Arc<Self>,
        every: std::time::Duration,
        mut reread: Reread,
        stop: CancellationToken,
    ) {
        let mut look = interval(every);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reread.asked() => self.seen().looks = 0,
                _ = look.tick() => (),
            }
            let store = Arc::clone(&self);
            if let Err(e) = aside_in_time(move || store.reload(false)).await {
                error!(error = %e, "looking at the policy crashed; what was read before stays in force");
            }
        }
    }

    /// Takes up what the store keeps now, or what is wrong with it. Blocks.
    pub(crate) fn keep(&self, kept: Result<Kept, String>) {
        *self.kept() = kept.map(Some);
        self.seen().looks = 0;
        if let Err(error) = self.reload(false) {
            error!(error = error.chain(), "the advisories were not taken up");
        }
    }

    /// The archive of the database that was taken up.
    pub(crate) fn kept_archive(&self) -> Option<Checksum> {
        self.kept().as_ref().ok()?.as_ref().map(|kept| kept.archive)
    }

    /// Notes that the database in the store was found to be the newest at this time.
    pub(crate) fn checked_advisories(&self, at: Timestamp) {
        if let Ok(Some(kept)) = &mut *self.kept() {
            kept.checked = at;
        }
        if self.generation().advisories.is_some() {
            self.metrics.advisories_newest.set(at.as_second());
        }
    }

    /// Says once that a rule is off for want of a database, which is no failure: nobody has lost anything.
    pub(crate) fn tell_of_missing_advisories(&self, scheduled: bool) {
        let in_force = self.generation();
        let missing = in_force.policy.wants_advisories() && in_force.advisories.is_none();
        let told = std::mem::replace(&mut self.seen().told_missing, missing);
        if missing && !told {
            let more = match scheduled {
                true => "",
                false => ", and so does every server by itself with `policy.advisories_hours`",
            };
            warn!(
                "the policy has `[advisories]`, and there is no database: that rule is off. `cratehouse \
                 advisories fetch` brings RustSec's into the store{more}"
            );
        }
    }

    /// Takes up what has changed. Blocks; two tasks call it, and what one takes up the other must not lose.
    fn reload(&self, at_start: bool) -> Result<()> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = self.changed_policy();
        let policy = match (policy, at_start) {
            (Err(why), true) => return Err(Error::invalid(why)),
            (policy, _) => self.settled("policy", 0, policy).flatten(),
        };
        let former = self.generation();
        // Another comment, or another order of the files, is no other policy.
        let policy = policy.filter(|new| at_start || new.version() != former.policy.version());
        let advisories = match policy.is_some() || self.database_is_due() {
            true => {
                let wanted = policy.as_ref().unwrap_or(&former.policy).wants_advisories();
                self.settled("advisories", 1, self.changed_advisories(wanted)).flatten()
            }
            false => None,
        };
        if policy.is_some() || advisories.is_some() {
            let next = PolicyGeneration {
                policy: policy.unwrap_or_else(|| former.policy.clone()),
                advisories: advisories.or_else(|| former.advisories.clone()),
                stamp: former.stamp + 1,
            };
            self.put(next, at_start);
        }
        self.count_waivers();
        Ok(())
    }

    fn put(&self, next: PolicyGeneration, at_start: bool) {
        let version = next.policy.version().to_owned();
        let silent = next.is_silent();
        let advisories = next.advisories.as_ref().map_or(0, |all| all.len());
        self.switch.put(next);
        self.metrics.policy_info.reset();
        self.metrics.policy_info.with_label_values(&[&version]).set(1);
        self.metrics.policy_loaded.set(self.in_force().now().as_second());
        self.metrics.advisories.set(i64::try_from(advisories).unwrap_or(i64::MAX));
        if !(at_start && silent) {
            info!(policy = version, advisories, "this policy is in force from now on");
        }
    }

    fn database_is_due(&self) -> bool {
        let mut seen = self.seen();
        seen.looks = (seen.looks + 1) % LOOKS_BETWEEN_DATABASES;
        seen.looks == 1
    }

    /// The policy, if its files are others than last time.
    fn changed_policy(&self) -> Result<Option<Policy>, String> {
        let Some(dir) = &self.sources.dir else { return Ok(None) };
        let files = policy_files::read(dir).map_err(|e| e.to_string())?;
        if let Some(former) = as_before(&self.seen().policy, files.fingerprint) {
            return former;
        }
        let read = Policy::parse(&files.texts).map_err(|e| e.to_string());
        let read = read.and_then(|policy| {
            self.sources.knows_upstreams_of(&policy)?;
            Ok(policy)
        });
        self.seen().policy = Some((files.fingerprint, read.as_ref().err().cloned()));
        read.map(Some)
    }

    /// The advisories, if their files are others than last time.
    fn changed_advisories(&self, wanted: bool) -> Result<Option<Arc<Advisories>>, String> {
        let path = match &self.sources.advisories {
            _ if !wanted => return Ok(None),
            Some(path) => path,
            None => return self.changed_in_store(),
        };
        let fingerprint = advisories::fingerprint(path).map_err(|e| e.to_string())?;
        if let Some(former) = as_before(&self.seen().advisories, fingerprint) {
            return former;
        }
        let read = advisories::read(path).map_err(|e| e.to_string());
        self.seen().advisories = Some((fingerprint, read.as_ref().err().cloned()));
        let Database { advisories, damaged, newest, .. } = read?;
        for damaged in damaged.lines() {
            warn!(damaged, "an advisory is damaged and left out");
        }
        self.metrics.advisories_newest.set(newest.map_or(0, Timestamp::as_second));
        Ok(Some(Arc::new(advisories)))
    }

    /// The same of those in the store. That there are none is no failure.
    fn changed_in_store(&self) -> Result<Option<Arc<Advisories>>, String> {
        let Some(kept) = self.kept().clone()? else { return Ok(None) };
        if let Some(former) = as_before(&self.seen().advisories, kept.archive) {
            return former;
        }
        self.seen().advisories = Some((kept.archive, None));
        self.metrics.advisories_newest.set(kept.checked.as_second());
        Ok(Some(kept.advisories))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, KeptOrTrouble> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a failure once, and its end.
    fn settled<T>(&self, what: &str, at: usize, outcome: Result<T, String>) -> Option<T> {
        let mut seen = self.seen();
        let failure = seen.failure.get_mut(at)?;
        let broken = self.metrics.policy_broken.with_label_values(&[what]);
        broken.set(i64::from(outcome.is_err()));
        match outcome {
            Ok(good) => {
                if failure.take().is_some() {
                    info!("the {what} can be read again");
                }
                Some(good)
            }
            Err(why) => {
                if failure.as_ref() != Some(&why) {
                    error!(%why, "the {what} cannot be used; what was read before stays in force");
                    *failure = Some(why);
                }
                None
            }
        }
    }

    fn count_waivers(&self) {
        let (now, in_force) = (self.in_force().now(), self.generation());
        let left = |waiver: &Waiver| waiver.until.end().duration_since(now);
        let begun = |waiver: &&Waiver| waiver.from.is_none_or(|day| day.begin() <= now);
        let live = in_force.policy.waivers().iter().filter(begun).map(left);
        let live: Vec<_> = live.filter(|left| left.is_positive()).collect();
        let ending = live.iter().filter(|left| **left <= ENDING_SOON).count();
        for (state, count) in [("in_force", live.len()), ("ending", ending)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.waivers.with_label_values(&[state]).set(count);
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to say of files that are as they were: nothing new.
fn as_before<T>(former: &Option<Read>, now: Checksum) -> Option<Result<Option<T>, String>> {
    let (_, fault) = former.as_ref().filter(|(fingerprint, _)| *fingerprint == now)?;
    Some(fault.clone().map_or(Ok(None), Err))
}

impl Sources {
    fn of(config: &config::Config) -> Self {
        Self {
            dir: config.policy.dir.clone(),
            advisories: config.policy.advisories.clone(),
            upstreams: config.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
        }
    }

    fn knows_upstreams_of(&self, policy: &Policy) -> Result<(), String> {
        let known = |name: &&str| self.upstreams.iter().any(|upstream| upstream == name);
        match policy.upstreams().into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "a rule names the upstream `{name}`, and there is none: choose among {}",
                self.upstreams.join(", ")
            )),
        }
    }
}

/// Reads the policy of a folder, for who only wants to try it, with the advisories of the path that is
/// configured; of no folder, the policy that allows everything. Blocks.
///
/// # Errors
/// [`cratehouse_core::error::Kind::Invalid`] when the policy is broken, with file and line, or the advisories
/// that it wants are: who tries a policy must not take silence for an answer.
pub fn try_policy(config: &config::Config, dir: Option<&Path>) -> Result<PolicyGeneration> {
    match dir {
        Some(dir) => {
            let files = policy_files::read(dir).map_err(Error::invalid)?;
            try_texts(config, &files.texts)
        }
        None => tried(config, Policy::default()),
    }
}

/// The same of files whose texts are here. Blocks.
///
/// # Errors
/// As [`try_policy`].
pub fn try_texts(config: &config::Config, texts: &[PolicyText]) -> Result<PolicyGeneration> {
    tried(config, Policy::parse(texts).map_err(Error::invalid)?)
}

fn tried(config: &config::Config, policy: Policy) -> Result<PolicyGeneration> {
    let sources = Sources::of(config);
    sources.knows_upstreams_of(&policy).map_err(Error::invalid)?;
    let wanted = sources.advisories.filter(|_| policy.wants_advisories());
    let database = wanted.map(|path| advisories::read(&path)).transpose();
    let advisories = database.map_err(Error::invalid)?.map(|read| Arc::new(read.advisories));
    Ok(PolicyGeneration { policy, advisories, stamp: 0 })
}
