//! What a running replica is asked through.

use cratehouse_journal::catalog::Catalog;
use cratehouse_journal::publish::VersionWriter;
use cratehouse_journal::writer::JournalHandle;

/// A running replica.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) catalog: Catalog,
    pub(crate) journal: JournalHandle,
    pub(crate) versions: VersionWriter,
}
