//! What a running replica is asked through.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::reads::Knowing;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_journal::authorize::may_read;
use cratehouse_journal::catalog::{Catalog, Rights, Tables, View};
use cratehouse_journal::principal::Principal;
use cratehouse_journal::publish::VersionWriter;
use cratehouse_journal::writer::JournalHandle;
use cratehouse_package::name::CrateName;
use cratehouse_package::test_util::name;
use jiff::Timestamp;

/// A running replica.
pub(crate) struct Process {
    pub(crate) catalog: Catalog,
    pub(crate) journal: JournalHandle,
    pub(crate) versions: VersionWriter,
    pub(crate) memory: Memory,
}

/// What a replica remembers of who may read what. As it should be, nothing: it looks at its catalog each time, or
/// keeps what it found until that changes, which is the same.
pub(crate) enum Memory {
    Nothing,
    /// The catalog as it was when the process began.
    Beginning(Look),
    /// The holders of tokens as they were when they came for the first time.
    Holders(Mutex<BTreeMap<Checksum, Principal>>),
}

/// Who holds a token, and the rights to a crate.
type Looked = Result<Option<(Principal, Rights)>>;
type Look = Box<dyn Fn(&Checksum, &CrateName) -> Looked + Send + Sync>;

fn look<T: Tables>(view: &View<T>, token: &Checksum, krate: &CrateName) -> Looked {
    match view.principal(token, Timestamp::now())? {
        Some(who) => Ok(Some((who, view.rights(&krate.key())?))),
        None => Ok(None),
    }
}

/// Which of them a replica remembers by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembers {
    Beginning,
    Holders,
}

impl Memory {
    pub(crate) fn new(remembers: Option<Remembers>, catalog: &Catalog) -> Self {
        match remembers {
            None => Self::Nothing,
            Some(Remembers::Beginning) => {
                let then = catalog.view().unwrap();
                Self::Beginning(Box::new(move |token, krate| look(&then, token, krate)))
            }
            Some(Remembers::Holders) => Self::Holders(Mutex::default()),
        }
    }
}

impl Process {
    /// The last entry that it has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.catalog.head().unwrap().seq
    }

    /// Who holds a token, if it counts as far as this replica knows.
    pub(crate) fn holder(&self, token: &Checksum) -> Result<Option<Principal>> {
        self.catalog.principal(token)
    }

    /// Who holds a token: that it does not count is said only after another look at the journal, as requests do it.
    pub(crate) async fn authenticate(&self, token: &Checksum) -> Result<Option<Principal>> {
        if let Some(who) = self.holder(token)? {
            return Ok(Some(who));
        }
        self.journal.catch_up().await?;
        self.holder(token)
    }

    /// Whether who shows a token is let read a crate, as far as this replica knows.
    pub(crate) fn lets_read(&self, token: &Checksum, krate: &str) -> Result<bool> {
        let krate = name(krate);
        let view = self.catalog.view()?;
        let looked = match &self.memory {
            Memory::Beginning(then) => then(token, &krate)?,
            Memory::Nothing | Memory::Holders(_) => look(&view, token, &krate)?,
        };
        let Some((who, rights)) = looked else { return Ok(false) };
        let who = match &self.memory {
            Memory::Holders(known) => known.lock().unwrap().entry(*token).or_insert(who).clone(),
            Memory::Nothing | Memory::Beginning(_) => who,
        };
        // What is there is read from the catalog in any case.
        let is_there = view.krate(&krate.key())?.is_some_and(|row| row.name == krate);
        Ok(is_there && may_read(Some(&who), rights.of(&krate)))
    }

    /// Answers a reader.
    pub(crate) async fn read(
        &self,
        token: &Checksum,
        krate: &str,
        knowing: Knowing,
    ) -> Result<bool> {
        if knowing == Knowing::AllThereIs {
            self.journal.catch_up().await?;
        }
        let seen = self.lets_read(token, krate)?;
        if seen || knowing != Knowing::WhatItHas {
            return Ok(seen);
        }
        self.journal.catch_up().await?;
        self.lets_read(token, krate)
    }
}
