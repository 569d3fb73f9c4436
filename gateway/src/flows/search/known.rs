//! What search knows of mirrored crates.

use std::collections::HashMap;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::names::Names;
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::{CrateName, NameKey};

/// Newest versions of hosted crates, each with the entry that last touched its crate.
type Hosted = HashMap<NameKey, (u64, Option<Box<str>>)>;

/// What search knows: mirrored crates with their newest versions, and how far the store has them.
#[derive(Debug)]
pub struct MirroredNames {
    pub(super) names: Arc<Names>,
    pub(super) syncing: Syncing,
    /// The newest versions of hosted crates, by the entries that last touched them.
    pub(super) hosted: Mutex<Hosted>,
    /// Who looks up versions that are not known yet.
    pub(super) learning: Arc<Semaphore>,
}

impl Default for MirroredNames {
    fn default() -> Self {
        let (names, syncing, hosted) = (Arc::default(), Syncing::default(), Mutex::default());
        Self { names, syncing, hosted, learning: Arc::new(Semaphore::new(1)) }
    }
}

impl MirroredNames {
    /// Takes note of an index file of the upstream at this place of the chain.
    pub(in crate::flows) fn note(&self, at: usize, file: &IndexFile) {
        self.names.note(at, file);
    }

    /// The same, for work that outlives whoever waits for it.
    pub(in crate::flows) fn noter(&self) -> impl FnOnce(usize, &IndexFile) + Send + use<> {
        let names = Arc::clone(&self.names);
        move |at, file| names.note(at, file)
    }

    /// The same, before the policy was asked: it counts where nothing better is known.
    pub(in crate::flows) fn note_unjudged(&self, at: usize, name: &CrateName, file: &IndexFile) {
        if !self.names.has(&name.key()) {
            self.names.note(at, file);
        }
    }

    /// The upstream at this place of the chain does not have a crate, or its copy was purged.
    pub(in crate::flows) fn forget(&self, at: usize, name: &CrateName) {
        self.names.forget(at, &name.key());
    }

    /// Whether something of a mirrored crate is held, as far as its name says that without the store;
    /// `None`: the names are not all known yet, or there are too many.
    pub(in crate::flows) fn holds(&self, key: &NameKey) -> Option<bool> {
        let is_whole =
            || self.syncing.is_loaded.load(atomic::Ordering::Acquire) && self.names.is_whole();
        match self.names.has(key) {
            true => Some(true),
            false => is_whole().then_some(false),
        }
    }

    /// How many mirrored crates are known, and the memory that they take, in bytes.
    pub fn size(&self) -> (usize, usize) {
        self.names.size()
    }
}

/// How far memory and store are the same.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    pub(super) lists: Arc<tokio::sync::Mutex<Lists>>,
    /// Whether the lists were read once.
    pub(super) is_loaded: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Of the list of each upstream that was last read or written.
    pub(super) etags: Vec<Option<String>>,
    /// When they were last read in vain.
    pub(super) failed: Option<tokio::time::Instant>,
}
