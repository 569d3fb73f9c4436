//! What is known of an index file beside its lines, and what the policy made of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;

use crate::flows::license_facts::Learned;
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
pub(super) struct Facts {
    /// The upstream that it is from; `None`: it is hosted.
    pub(super) upstream: Option<String>,
    /// When a version without a `pubtime` was first seen, if not at the first fetch.
    pub(super) first_seen: Arc<BTreeMap<CrateVersion, Timestamp>>,
    /// The pins of versions whose upstream lists them with another checksum now.
    pub(super) changed: Arc<BTreeMap<CrateVersion, Checksum>>,
    /// What the crate files say of their licences, as far as they were read.
    pub(super) licenses: Arc<HashMap<Checksum, LicenseFact>>,
}

/// An index file's facts, and what the policy in force made of it, once somebody asked.
#[derive(Debug, Default)]
pub(super) struct Judging {
    pub(super) facts: Facts,
    /// What is learned of licences while the file is known.
    pub(super) learned: Learned,
    shown: RwLock<Option<Arc<Shown>>>,
    /// Who judges; the others wait for that.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// An index file as the policy shows it.
#[derive(Debug)]
pub(super) struct Shown {
    /// What is sent: the very file where nothing is hidden.
    pub(super) file: Arc<IndexFile>,
    pub(super) stamp: u64,
    /// That of the licences that it was judged by.
    pub(super) edition: u64,
    pub(super) until: Option<Instant>,
    pub(super) denied: HashMap<CrateVersion, Judgement>,
    /// The newest allowed version, for the sentence of a refusal.
    pub(super) newest: Newest,
    /// Whose licence is to be read: before a download is answered, or when that is at hand.
    pub(super) unread: HashMap<CrateVersion, ReadLicense>,
}

impl Judging {
    /// Of no file: one for all, because absent names are many.
    pub(super) fn of_nothing() -> Arc<Self> {
        static NOTHING: LazyLock<Arc<Judging>> = LazyLock::new(Arc::default);
        Arc::clone(&NOTHING)
    }

    pub(super) fn new(facts: Facts) -> Self {
        let learned = Learned::of(Arc::clone(&facts.licenses));
        Self { facts, learned, ..Self::default() }
    }

    /// What is known now.
    pub(super) fn facts(&self) -> Facts {
        Facts { licenses: self.learned.all(), ..self.facts.clone() }
    }

    /// The upstream that the file is from; `None`: it is hosted.
    pub(super) fn upstream(&self) -> Option<&str> {
        self.facts.upstream.as_deref()
    }

    pub(super) fn shown(&self, stamp: u64) -> Option<Arc<Shown>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let current = shown.until.is_none_or(|until| Instant::now() < until);
        let informed = shown.edition == self.learned.edition();
        (shown.stamp == stamp && current && informed).then_some(shown)
    }

    pub(super) fn keep(&self, shown: Arc<Shown>) {
        let former = {
            let mut place = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            place.replace(shown)
        };
        drop(former); // not under the lock
    }

    /// The memory that it takes beside the file itself, in bytes.
    pub(super) fn weight(&self, file: &Arc<IndexFile>) -> usize {
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
    pub(super) fn refusal(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        contact: Option<&str>,
    ) -> Option<Error> {
        let judgement = self.denied.get(version)?;
        Some(Error::forbidden(refusal(name, version, judgement, &self.newest, contact)))
    }

    /// Whether a version may be downloaded, and nothing is to be read for it.
    pub(super) fn lets_pass(&self, version: &CrateVersion) -> bool {
        !self.denied.contains_key(version) && self.read_license(version) == ReadLicense::No
    }

    /// Whether the licence of a version is to be read.
    pub(super) fn read_license(&self, version: &CrateVersion) -> ReadLicense {
        self.unread.get(version).copied().unwrap_or_default()
    }
}
