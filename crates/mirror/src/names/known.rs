//! What search knows of mirrored crates.

use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};

use crate::names::table::{Names, Seen};
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::{CrateName, NameKey};

/// The mirrored crates with their newest versions, and how far the store has them.
#[derive(Debug, Default)]
pub struct MirroredNames {
    pub(crate) table: Arc<Names>,
    pub(crate) syncing: Syncing,
}

impl MirroredNames {
    /// Takes note of an index file of the upstream at this place of the chain.
    pub(crate) fn note(&self, at: usize, file: &IndexFile) {
        self.table.note(at, file);
    }

    /// The same, for work that outlives the requests that wait for it.
    pub(crate) fn noter(&self) -> impl FnOnce(usize, &IndexFile) + Send + use<> {
        let names = Arc::clone(&self.table);
        move |at, file| names.note(at, file)
    }

    /// The same, before the policy was asked: it counts where nothing better is known.
    pub(crate) fn note_unjudged(&self, at: usize, name: &CrateName, file: &IndexFile) {
        if !self.table.has(&name.key()) {
            self.table.note(at, file);
        }
    }

    /// The upstream at this place of the chain does not have a crate, or its copy was purged.
    pub(crate) fn forget(&self, at: usize, name: &CrateName) {
        self.table.forget(at, &name.key());
    }

    /// Whether something of a mirrored crate is held, as far as its name says that without the store;
    /// `None`: the names are not all known yet, or there are too many.
    pub(crate) fn holds(&self, key: &NameKey) -> Option<bool> {
        let is_whole =
            || self.syncing.is_loaded.load(atomic::Ordering::Acquire) && self.table.is_whole();
        match self.table.has(key) {
            true => Some(true),
            false => is_whole().then_some(false),
        }
    }

    /// Shows each that is known, in the order of their names.
    pub fn each(&self, show: impl FnMut(Seen<'_>)) {
        self.table.each(show);
    }

    /// How many mirrored crates are known, and the memory that they take, in bytes.
    pub fn size(&self) -> (usize, usize) {
        self.table.size()
    }
}

/// How far memory and store are the same.
#[derive(Debug, Default)]
pub(crate) struct Syncing {
    pub(crate) lists: Arc<tokio::sync::Mutex<Lists>>,
    /// Whether the lists were read once.
    pub(crate) is_loaded: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Of the list of each upstream that was last read or written.
    pub(crate) etags: Vec<Option<String>>,
    /// When they were last read in vain.
    pub(crate) failed: Option<tokio::time::Instant>,
}
