//! For tests: all that a catalog says, and a disk that can become full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};

use super::Catalog;

/// A disk in memory, and the switch that fills it.
#[derive(Debug)]
struct Disk {
    inner: InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.inner.write(offset, data)
    }
}

impl Catalog {
    /// A catalog, and the switch that fills its disk.
    pub(crate) fn on_a_small_disk(registry: &str) -> (Self, Arc<AtomicBool>) {
        let full = Arc::new(AtomicBool::new(false));
        let disk = Disk { inner: InMemoryBackend::new(), full: Arc::clone(&full) };
        let db = Database::builder().set_cache_size(0).create_with_backend(disk).unwrap();
        let catalog = Self::over(db, true);
        catalog.begin(registry).unwrap();
        (catalog, full)
    }
}
