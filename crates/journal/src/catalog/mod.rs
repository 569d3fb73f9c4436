//! The catalog: the journal, applied, in one redb file. It may be deleted at any time.
//!
//! Reads of single rows are look-ups of microseconds and are called directly, also by async code;
//! those of many rows go through [`Catalog::scan`], writes through [`Catalog::work`], off the
//! async threads.

mod access;
mod apply;
mod dump;
#[cfg(test)]
mod fixture;
mod rows;
mod view;

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase};

pub use self::rows::{
    CondemnedRow, CorrectedPin, CrateRow, Decided, Head, RuleRow, TeamRow, TokenRow, UserRow,
    VersionRow,
};
pub use self::view::{Rights, Tables, View};
use crate::checkpoint_format::{Name, Reader};
use crate::entry::{Actor, Entry, EventKind};
use crate::principal::Principal;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::threads;
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::version::CrateVersion;

/// Bumped when the form or the meaning of a row, or of [`Catalog::apply`], changes: older files
/// are rebuilt, and checkpoints of another schema are passed over.
pub const SCHEMA: u32 = 3;

/// What redb keeps twice of a catalog in memory, in bytes.
const MEMORY_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// One replica's view of the hosted state.
#[derive(Clone)]
pub struct Catalog {
    db: Arc<Database>,
    /// See [`Catalog::changes`].
    changes: Arc<AtomicU64>,
    /// See [`Catalog::corrections`].
    corrections: Arc<AtomicU64>,
    /// See [`Catalog::restrictions`].
    restrictions: Arc<AtomicU64>,
    /// Nothing that a catalog in memory does waits for a disk.
    in_memory: bool,
}

/// What was found where the catalog should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A catalog of this registry: it follows on from where it stands.
    Reused,
    /// Nothing.
    Created,
    /// Something damaged, of another release, or an empty one of another registry; it was thrown away.
    Replaced,
}

/// What applying entries told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The crates that they touch.
    pub touched: Vec<NameKey>,
    /// Events by actors that no earlier one made, or that one ended. They are applied like all others.
    pub strangers: Vec<Stranger>,
}

/// An event's actor that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The entry.
    pub seq: u64,
    /// Who it says that acted.
    pub by: Actor,
}

impl Catalog {
    /// Opens a registry's catalog file, or begins it anew where it cannot be used.
    ///
    /// # Errors
    /// When the folder cannot be written, another process holds the file, or it is of another registry:
    /// only an operator says which of the two is the right one.
    pub fn open(path: &Path, cache_bytes: usize, registry: &str) -> Result<(Self, Opened)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| unusable(path, &e))?;
        }
        let existed = path.exists();
        match Self::try_open(path, cache_bytes) {
            Ok(catalog) => match catalog.begin(registry) {
                Ok(true) => Ok((catalog, if existed { Opened::Reused } else { Opened::Created })),
                Ok(false) | Err(_) => {
                    if let Some((other, seq)) = catalog.registry().filter(|(it, _)| it != registry)
                    {
                        let why = format!(
                            "it is of registry {other} up to entry {seq}, and the store holds registry {registry}. Is the store's folder mounted, and the right one? If so, delete the catalog"
                        );
                        return Err(unusable(path, &why));
                    }
                    drop(catalog);
                    Self::replace(path, cache_bytes, registry)
                }
            },
            Err(redb::Error::DatabaseAlreadyOpen) => Err(held(path)),
            Err(redb::Error::Io(e)) if !existed => Err(unusable(path, &e)),
            Err(_) => Self::replace(path, cache_bytes, registry),
        }
    }

    /// Whether another process holds the catalog: asked before anything else of its data folder is touched.
    ///
    /// # Errors
    /// When one does. Where the file system knows no locks, [`open`](Self::open) has the last word.
    pub fn refuse_if_held(path: &Path) -> Result<()> {
        let Ok(file) = File::open(path) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(held(path)),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// A catalog in memory, for command-line work and tests.
    ///
    /// # Errors
    /// When redb fails, which memory does not give it cause to.
    pub fn in_memory(registry: &str) -> Result<Self> {
        let backend = redb::backends::InMemoryBackend::new();
        let mut builder = Database::builder();
        builder.set_cache_size(MEMORY_CACHE_BYTES); // the default is 1 GiB, beside the memory itself
        let db = builder.create_with_backend(backend).map_err(Error::internal)?;
        let catalog = Self::over(db, true);
        catalog.begin(registry)?;
        Ok(catalog)
    }

    /// The catalog file of a registry as it is, to be looked at; `None` where there is none that can be
    /// compared: none at all, one of another registry or release, or one that another process holds.
    ///
    /// # Errors
    /// When redb fails.
    pub fn look_at(path: &Path, registry: &str) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let Ok(catalog) = Self::try_open(path, MEMORY_CACHE_BYTES) else { return Ok(None) };
        Ok(catalog.begin(registry)?.then_some(catalog))
    }

    /// The registry that a catalog file is of, and its last entry; `None` where there is no file that tells,
    /// or nothing in it.
    pub fn registry_in(path: &Path) -> Option<(String, u64)> {
        let existing = path.exists().then(|| Self::try_open(path, MEMORY_CACHE_BYTES).ok());
        existing.flatten()?.registry()
    }

    fn registry(&self) -> Option<(String, u64)> {
        let registry = self.view().ok()?.registry()?;
        let seq = self.head().ok()?.seq;
        (seq > 0).then_some((registry, seq))
    }

    fn try_open(path: &Path, cache_bytes: usize) -> Result<Self, redb::Error> {
        let mut builder = Database::builder();
        // Without the check a file that somebody or some disk has altered is believed, or makes
        // redb panic. It reads the file once: far quicker than the journal.
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
        Ok(Self::over(builder.create(path)?, false))
    }

    fn over(db: Database, in_memory: bool) -> Self {
        let (changes, corrections, restrictions) = Default::default();
        Self { db: Arc::new(db), changes, corrections, restrictions, in_memory }
    }

    fn replace(path: &Path, cache_bytes: usize, registry: &str) -> Result<(Self, Opened)> {
        std::fs::remove_file(path).map_err(|e| unusable(path, &e))?;
        let catalog = Self::try_open(path, cache_bytes).map_err(|e| unusable(path, &e))?;
        catalog.begin(registry)?;
        Ok((catalog, Opened::Replaced))
    }

    /// Makes the tables; `false` when the file is of another registry or schema.
    fn begin(&self, registry: &str) -> Result<bool> {
        let txn = self.db.begin_write().map_err(Error::internal)?;
        let fits = apply::begin(&txn, SCHEMA, registry)?;
        txn.commit().map_err(Error::internal)?;
        Ok(fits)
    }

    /// A consistent view of the state as it is now.
    ///
    /// # Errors
    /// When redb fails.
    pub fn view(&self) -> Result<View<redb::ReadTransaction>> {
        Ok(View::new(self.db.begin_read().map_err(Error::internal)?))
    }

    /// A view that can be changed in thought: what would be, after some events. Dropped, never
    /// committed. There is one at a time.
    ///
    /// # Errors
    /// When redb fails.
    pub fn draft(&self) -> Result<View<redb::WriteTransaction>> {
        let mut txn = self.db.begin_write().map_err(Error::internal)?;
        // A draft is dropped in any case; this only spares it needless work.
        txn.set_durability(Durability::None).map_err(Error::internal)?;
        Ok(View::new(txn))
    }

    /// Applies entries, in order, in one transaction. Not on
    /// disk yet when it returns: after a crash the journal is read again from where
    /// [`Catalog::flush`] left it. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// When redb fails; then nothing was applied.
    pub fn apply(&self, entries: &[(Entry, Checksum)]) -> Result<Applied> {
        let mut txn = self.db.begin_write().map_err(Error::internal)?;
        txn.set_durability(Durability::None).map_err(Error::internal)?;
        let mut applied = Applied::default();
        for (entry, hash) in entries {
            apply::entry(&txn, entry, hash, &mut applied)?;
        }
        self.commit(txn)?;
        if entries.iter().any(|(entry, _)| corrects_a_pin(entry)) {
            self.corrections.fetch_add(1, Ordering::Release);
        }
        if entries.iter().any(|(entry, _)| changes_restrictions(entry)) {
            self.restrictions.fetch_add(1, Ordering::Release);
        }
        applied.touched.sort();
        applied.touched.dedup();
        Ok(applied)
    }

    /// Empties it: the journal is read from its beginning then. Blocks.
    ///
    /// # Errors
    /// When redb fails; then nothing has changed.
    pub fn empty(&self, registry: &str) -> Result<()> {
        let txn = self.db.begin_write().map_err(Error::internal)?;
        dump::empty(&txn, registry)?;
        self.commit(txn)?;
        self.restrictions.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The whole state as it is now, as a checkpoint. Reads from a transaction of its own, and so
    /// holds up nobody who writes. Blocks.
    ///
    /// # Errors
    /// When redb fails.
    pub fn dump(&self) -> Result<(Name, Bytes)> {
        dump::dump(self.db.begin_read().map_err(Error::internal)?)
    }

    /// Replaces the whole state by that of a checkpoint, in one transaction, and puts it on disk;
    /// `heard` is told the rows that are done and all that there are. `proven`: an entry names it. Blocks.
    ///
    /// # Errors
    /// When the checkpoint turns out not to be what its name says, or redb fails; then nothing
    /// has changed.
    pub fn restore(
        &self,
        checkpoint: &mut Reader,
        proven: bool,
        heard: impl FnMut(u64, u64),
    ) -> Result<Head> {
        let txn = self.db.begin_write().map_err(Error::internal)?;
        let head = dump::restore(&txn, checkpoint, proven, heard)?; // or else dropped, uncommitted
        self.commit(txn)?;
        self.corrections.fetch_add(1, Ordering::Release);
        self.restrictions.fetch_add(1, Ordering::Release);
        Ok(head)
    }

    fn commit(&self, txn: redb::WriteTransaction) -> Result<()> {
        let committed = txn.commit().map_err(Error::internal);
        self.changes.fetch_add(1, Ordering::Release); // whatever came of it
        committed
    }

    /// How often the state may have changed since it was opened. What was read after one look at
    /// this number still holds while another finds the same, up to a change that nobody has been
    /// told of yet: the number rises before [`Catalog::apply`] returns.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// How often pins may have been corrected since it was opened: what was learned of a pin holds
    /// while this number stays. It rises before [`Catalog::apply`] returns.
    pub fn corrections(&self) -> u64 {
        self.corrections.load(Ordering::Acquire)
    }

    /// How often the rules about who may read crates may have changed since it was opened; as
    /// [`corrections`](Self::corrections).
    pub fn restrictions(&self) -> u64 {
        self.restrictions.load(Ordering::Acquire)
    }

    /// The checksum that counts for a mirrored version that is pinned with `pinned`.
    ///
    /// # Errors
    /// When redb fails.
    pub fn standing_pin(
        &self,
        upstream: &str,
        krate: &CrateName,
        version: &CrateVersion,
        pinned: Checksum,
    ) -> Result<Checksum> {
        let corrected = self.view()?.corrected_pin(upstream, krate, version)?;
        Ok(corrected.map_or(pinned, |row| row.cksum))
    }

    /// Puts all that was applied on disk. Blocks.
    ///
    /// # Errors
    /// When redb fails.
    pub fn flush(&self) -> Result<()> {
        let mut txn = self.db.begin_write().map_err(Error::internal)?;
        txn.set_durability(Durability::Immediate).map_err(Error::internal)?;
        txn.commit().map_err(Error::internal)
    }

    /// Asks what takes reading many rows, off the async threads.
    ///
    /// # Errors
    /// When redb fails.
    pub async fn scan<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&View<redb::ReadTransaction>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.in_memory {
            return ask(&self.view()?);
        }
        let catalog = self.clone();
        threads::aside(move || ask(&catalog.view()?)).await?
    }

    /// Does what blocks off the async threads; where the catalog is in memory, at once.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.in_memory {
            return work(self);
        }
        let catalog = self.clone();
        threads::aside_in_time(move || work(&catalog)).await?
    }

    /// The hosted crate of this key, in any spelling. There even when all its versions were removed.
    ///
    /// # Errors
    /// When redb fails.
    pub fn krate(&self, key: &NameKey) -> Result<Option<CrateRow>> {
        self.view()?.krate(key)
    }

    /// All versions of a hosted crate in the order of their publication, removed ones included.
    ///
    /// # Errors
    /// When redb fails.
    pub fn versions(&self, key: &NameKey) -> Result<Vec<VersionRow>> {
        self.view()?.versions(key)
    }

    /// The version of this number, whatever its build metadata.
    ///
    /// # Errors
    /// When redb fails.
    pub fn version(&self, key: &NameKey, version: &CrateVersion) -> Result<Option<VersionRow>> {
        self.view()?.version(key, version)
    }

    /// Who holds the token of this hash, if it still counts.
    ///
    /// # Errors
    /// When redb fails.
    pub fn principal(&self, hash: &Checksum) -> Result<Option<Principal>> {
        self.view()?.principal(hash, jiff::Timestamp::now())
    }

    /// All hosted crate names.
    ///
    /// # Errors
    /// When redb fails.
    pub fn names(&self) -> Result<Vec<CrateName>> {
        Ok(self.view()?.crates()?.into_iter().map(|row| row.name).collect())
    }

    /// The last applied entry.
    ///
    /// # Errors
    /// When redb fails.
    pub fn head(&self) -> Result<Head> {
        self.view()?.head()
    }
}

fn corrects_a_pin(entry: &Entry) -> bool {
    entry.events.iter().any(|event| matches!(event.what, EventKind::PinCorrected { .. }))
}

fn changes_restrictions(entry: &Entry) -> bool {
    entry.events.iter().any(|event| {
        matches!(
            event.what,
            EventKind::CrateRestricted { .. }
                | EventKind::ReadersRemoved { .. }
                | EventKind::CrateOpened { .. }
        )
    })
}

fn held(path: &Path) -> Error {
    let text = format!(
        "another server runs on this data folder: it holds the catalog {}. Stop that server, or give this one a folder of its own (`--data`)",
        path.display()
    );
    Error::new(cratehouse_core::error::Kind::Internal, text)
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> Error {
    let text = format!("the catalog {} cannot be used: {why}", path.display());
    Error::new(cratehouse_core::error::Kind::Internal, text)
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Catalog")
    }
}

#[cfg(test)]
mod tests;
