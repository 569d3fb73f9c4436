//! Which mirrored crate files this replica has served, written down for eviction.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use jiff::civil::Date;
use rand::RngExt;

use crate::files::uses_store::UsesStore;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};

/// Checksums that a replica notes in one day; more make the order of eviction coarser, no more.
const MAX_NOTED: usize = 200_000;
/// What this replica has used, and where it writes that down.
#[derive(Debug)]
pub struct Uses {
    /// Where all replicas write.
    pub store: UsesStore,
    /// The replica's name and a random number: no two processes share a list.
    replica: String,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    day: Option<Date>,
    used: BTreeSet<Checksum>,
    changed: bool,
}

impl Uses {
    /// Nothing used yet.
    pub fn new(store: UsesStore, replica: &str) -> Self {
        let number: u32 = rand::rng().random();
        Self { store, replica: format!("{replica}-{number:08x}"), noted: Mutex::default() }
    }

    /// Takes note that a mirrored crate file was served.
    pub fn note(&self, cksum: &Checksum) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.used.len() < MAX_NOTED {
            noted.changed |= noted.used.insert(*cksum);
        }
    }

    /// Writes down what was used on this day. On the next one a new list begins.
    pub async fn write(&self, today: Date) -> Result<()> {
        let (day, used) = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if !noted.changed {
                return Ok(());
            }
            noted.changed = false;
            let day = *noted.day.get_or_insert(today);
            let used = noted.used.clone();
            if day != today {
                *noted = Noted::default();
            }
            (day, used)
        };
        self.store.put(day, &self.replica, &used).await.map_err(Error::store)
    }
}
