//! What is known of an index file beside its lines, and what the policy made of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;

use crate::licenses::facts::Learned;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Error;
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{Judgement, LicenseFact, Newest, ReadLicense, refusal};

/// What a denied version takes in memory, about, in bytes.
const DENIED_BYTES: usize = 500;
/// What a version whose licence is unread takes in memory, about, in bytes.
const UNREAD_BYTES: usize = 80;

/// What is known of the versions of one index file beside their lines.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The upstream that it is from; `None`: it is hosted.
    pub upstream: Option<String>,
    /// When a version without a `pubtime` was first seen, if not at the first fetch.
    pub first_seen: Arc<BTreeMap<CrateVersion, Timestamp>>,
    /// The pins of versions whose upstream lists them with another checksum now.
    pub changed: Arc<BTreeMap<CrateVersion, Checksum>>,
    /// What the crate files say of their licences, as far as they were read.
    pub licenses: Arc<HashMap<Checksum, LicenseFact>>,
}

/// An index file's facts, and what the policy in force made of it, once somebody asked.
#[derive(Debug, Default)]
pub struct Judging {
    /// What was known when the file was made.
    pub facts: Facts,
    /// What is learned of licences while the file is known.
    pub learned: Learned,
    shown: RwLock<Option<Arc<Shown>>>,
    /// Who judges; the others wait for that.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

/// An index file as the policy shows it.
#[derive(Debug)]
pub struct Shown {
    /// What is sent: the very file where nothing is hidden.
    pub file: Arc<IndexFile>,
    /// The number of the policy that it was judged by.
    pub stamp: u64,
    /// That of the licences that it was judged by.
    pub edition: u64,
    /// When a verdict changes by itself, if one does.
    pub until: Option<Instant>,
    /// Versions that may not be downloaded.
    pub denied: HashMap<CrateVersion, Judgement>,
    /// The newest allowed version, for the sentence of a refusal.
    pub newest: Newest,
    /// Whose licence is to be read: before a download is answered, or when that is at hand.
    pub unread: HashMap<CrateVersion, ReadLicense>,
}

impl Judging {
    /// Of no file: one for all, because absent names are many.
    pub fn of_nothing() -> Arc<Self> {
        static NOTHING: LazyLock<Arc<Judging>> = LazyLock::new(Arc::default);
        Arc::clone(&NOTHING)
    }

    /// Not judged yet.
    pub fn new(facts: Facts) -> Self {
        let learned = Learned::of(Arc::clone(&facts.licenses));
        Self { facts, learned, ..Self::default() }
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        Facts { licenses: self.learned.all(), ..self.facts.clone() }
    }

    /// The upstream that the file is from; `None`: it is hosted.
    pub fn upstream(&self) -> Option<&str> {
        self.facts.upstream.as_deref()
    }

    /// What the policy of this number made of the file, if that still holds.
    pub fn shown(&self, stamp: u64) -> Option<Arc<Shown>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let current = shown.until.is_none_or(|until| Instant::now() < until);
        let informed = shown.edition == self.learned.edition();
        (shown.stamp == stamp && current && informed).then_some(shown)
    }

    /// Keeps what the policy made of the file.
    pub fn keep(&self, shown: Arc<Shown>) {
        let former = {
            let mut place = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            place.replace(shown)
        };
        drop(former); // not under the lock
    }

    /// The memory that it takes beside the file itself, in bytes.
    pub fn weight(&self, file: &Arc<IndexFile>) -> usize {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let other = |shown: &&Arc<Shown>| !Arc::ptr_eq(&shown.file, file);
        let copy = shown.as_ref().filter(other).map_or(0, |shown| shown.file.weight());
        let tables = shown.as_ref().map_or(0, |shown| {
            shown.denied.len() * DENIED_BYTES + shown.unread.len() * UNREAD_BYTES
        });
        copy + tables + self.learned.weight()
    }
}

impl Shown {
    /// Why a version may not be downloaded, if it may not.
    pub fn refusal(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        contact: Option<&str>,
    ) -> Option<Error> {
        let judgement = self.denied.get(version)?;
        Some(Error::forbidden(refusal(name, version, judgement, &self.newest, contact)))
    }

    /// Whether a version may be downloaded, and nothing is to be read for it.
    pub fn lets_pass(&self, version: &CrateVersion) -> bool {
        !self.denied.contains_key(version) && self.read_license(version) == ReadLicense::No
    }

    /// Whether the licence of a version is to be read.
    pub fn read_license(&self, version: &CrateVersion) -> ReadLicense {
        self.unread.get(version).copied().unwrap_or_default()
    }
}
