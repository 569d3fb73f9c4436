//! What is known of the licences of one index file's versions, and who reads them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::store::{Licenses, MirrorStore};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::log_limit::LineLimit;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::parsers::Parsers;
use cratehouse_core::per_address::PerAddress;
use cratehouse_core::single_flight::SingleFlight;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::LicenseFact;

/// Crate files that wait, after their download was answered, to be read; one more is read at its
/// next download. They hold their bytes in memory.
const ASIDE: usize = 16;
/// Crates whose licences are brought to the store, or looked for there, at one time.
const BACKGROUND: usize = 64;
/// After this time the store is asked again for what other replicas have read.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What a licence takes in memory, about, in bytes.
const FACT_BYTES: usize = 120;

/// The licences of one index file's versions, as far as this replica knows them.
#[derive(Debug, Default)]
pub struct Learned {
    facts: RwLock<Arc<HashMap<Checksum, LicenseFact>>>,
    /// Grows with what is known, so that it shows which judgements know less.
    edition: AtomicU64,
    /// When the store is to be asked; `None`: at once, it never was.
    next_look: Mutex<Option<Instant>>,
    /// Whether something here is not in the store yet.
    pub unsaved: AtomicBool,
    /// Who changes the object in the store.
    turn: tokio::sync::Mutex<()>,
}

/// Who reads crate files for their licences.
#[derive(Debug)]
pub struct Readers {
    single_flight: SingleFlight<(CrateName, CrateVersion, Checksum), Result<LicenseFact>>,
    parsers: Arc<Parsers>,
    pub(crate) aside: Arc<Semaphore>,
    pub(crate) background: Arc<Semaphore>,
}

impl Readers {
    /// As many at one time as there are cores: crate files are inflated.
    pub fn new(per_address: &PerAddress, metrics: &Metrics) -> Self {
        Self {
            single_flight: SingleFlight::default(),
            parsers: Arc::new(Parsers::new(per_address, metrics, "license")),
            aside: Arc::new(Semaphore::new(ASIDE)),
            background: Arc::new(Semaphore::new(BACKGROUND)),
        }
    }
}

impl Learned {
    /// With what is known from elsewhere.
    pub(crate) fn of(facts: Arc<HashMap<Checksum, LicenseFact>>) -> Self {
        Self { facts: RwLock::new(facts), ..Self::default() }
    }

    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    pub(crate) fn all(&self) -> Arc<HashMap<Checksum, LicenseFact>> {
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.all().len() * FACT_BYTES
    }

    /// Notes what was not known. Says whether there was anything.
    pub(crate) fn add(&self, more: impl IntoIterator<Item = (Checksum, LicenseFact)>) -> bool {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = more.into_iter().filter(|(sum, _)| !facts.contains_key(sum)).peekable();
        if new.peek().is_none() {
            return false;
        }
        let new: Vec<_> = new.collect();
        Arc::make_mut(&mut facts).extend(new);
        self.edition.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// When the store is to be asked; `None`: at once, it never was.
    pub fn next_look(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store was never asked; from now on it was.
    pub(crate) fn begins(&self) -> bool {
        let mut next = self.next_look();
        next.is_none().then(|| *next = Some(Instant::now() + LOOK_AGAIN)).is_some()
    }

    /// Whether the store is to be asked again; for one of all who see it.
    pub(crate) fn is_due(&self) -> bool {
        let (mut next, now) = (self.next_look(), Instant::now());
        let due = next.is_some_and(|at| at <= now);
        if due {
            *next = Some(now + LOOK_AGAIN);
        }
        due
    }

    /// What the store knows and this does not.
    pub(crate) async fn fetch(
        &self,
        store: Kept<'_>,
        upstream: &str,
        file: &IndexFile,
    ) -> Result<()> {
        let Some(name) = path_name(file) else { return Ok(()) };
        let stored = store.0.licenses(upstream, &name, store.1).await?;
        self.add(listed(file, stored));
        Ok(())
    }

    /// Brings to the store what it lacks.
    pub(crate) async fn save(
        &self,
        store: Kept<'_>,
        upstream: &str,
        file: &IndexFile,
    ) -> Result<()> {
        let _turn = self.turn.lock().await;
        let Some(name) = path_name(file).filter(|_| self.unsaved.swap(false, Ordering::AcqRel))
        else {
            return Ok(()); // saved with another version's
        };
        let saving = async {
            self.add(listed(file, store.0.licenses(upstream, &name, store.1).await?));
            let all: Licenses = self.all().iter().map(|(sum, f)| (*sum, f.clone())).collect();
            store.0.add_licenses(upstream, &name, &all).await
        };
        let saved = saving.await;
        if saved.is_err() {
            self.unsaved.store(true, Ordering::Release);
        }
        saved
    }
}

/// Of a crate's licences those whose version is listed: what is kept never outgrows the index file.
pub(crate) fn listed(
    file: &IndexFile,
    mut all: Licenses,
) -> impl Iterator<Item = (Checksum, LicenseFact)> {
    let sums: Vec<_> = file.versions().map(|listed| listed.cksum).collect();
    sums.into_iter().filter_map(move |sum| all.remove_entry(&sum))
}

/// What the store has of them, and the limit of the lines about that.
pub(crate) type Kept<'a> = (&'a MirrorStore, &'a LineLimit);

/// The name under which a crate's licences are kept, however it is spelled.
pub(crate) fn path_name(file: &IndexFile) -> Option<CrateName> {
    file.versions().next().and_then(|listed| listed.name.lower().parse().ok())
}

impl Readers {
    /// Waits until nothing is read aside or brought to the store any more: a process that ends before that
    /// would have read in vain. The caller bounds the time.
    pub async fn settled(&self) {
        // In this order: what is read aside begins work in the background.
        let _none_aside = self.aside.acquire_many(ASIDE as u32).await;
        let _none_in_background = self.background.acquire_many(BACKGROUND as u32).await;
    }

    /// What a crate file states of its licence. All who ask at the same time share the reading.
    ///
    /// # Errors
    /// Unavailable, when it has no turn in time.
    pub async fn of(
        &self,
        version: &Listed,
        bytes: &Bytes,
        metrics: &Metrics,
    ) -> Result<LicenseFact> {
        let key = (version.name.clone(), version.version.clone(), version.cksum);
        let (parsers, bytes, metrics) = (Arc::clone(&self.parsers), bytes.clone(), metrics.clone());
        let (name, number, _) = key.clone();
        let work = || async move {
            let reading = move || LicenseFact::of_crate_file(&bytes, &name, &number);
            let fact = match parsers.parse(ClientKey::Exempt, reading).await {
                // A reader that crashes has met a file that cannot be read.
                Err(e) if e.kind == Kind::Internal => LicenseFact::Missing,
                read => read?,
            };
            metrics.licenses_read.with_label_values(&[fact.label()]).inc();
            Ok(fact)
        };
        let broke_off =
            || Error::unavailable("reading the licence of a crate file broke off; try again");
        self.single_flight.join(key, work).await.ok_or_else(broke_off)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_package::test_util::{name, version};

    #[test]
    fn only_licences_of_listed_versions_are_known_and_the_store_is_asked_now_and_then() {
        let learned = Learned::default();
        assert!(!learned.is_due() && learned.begins() && !learned.begins());
        assert!(!learned.is_due(), "it was asked just now");
        *learned.next_look() = Some(Instant::now());
        assert!(learned.is_due() && !learned.is_due());

        let listed_one = Listed {
            name: name("Foo"),
            version: version("1.0.0"),
            cksum: Checksum::of(b"listed"),
            yanked: false,
            pubtime: None,
        };
        let file = IndexFile::new(Bytes::new(), vec![listed_one]);
        let sums = [Checksum::of(b"listed"), Checksum::of(b"removed")];
        let stored = sums.into_iter().map(|sum| (sum, LicenseFact::Missing)).collect();
        assert!(learned.add(listed(&file, stored)));
        let known: Vec<_> = learned.all().keys().copied().collect();
        assert_eq!((known, learned.edition()), (vec![sums[0]], 1));
        assert!(!learned.add([(sums[0], LicenseFact::FileOnly)]), "a fact never changes");
    }
}
