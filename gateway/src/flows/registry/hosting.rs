//! What the journal says of this registry's own names, for those who do not know the journal.

use std::collections::BTreeMap;

use async_trait::async_trait;

use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_journal::catalog::{Catalog, CrateRow};
use cratehouse_journal::writer::{JournalHandle, Waiter};
use cratehouse_mirror::hosting::{HostedNames, PinCorrections};
use cratehouse_package::name::{CrateName, NameKey, NamePattern};
use cratehouse_package::version::CrateVersion;

/// Hosted and reserved names, and corrected pins.
#[derive(Debug, Clone)]
pub struct Hosting {
    /// The journal, applied.
    pub catalog: Catalog,
    /// The way into the journal.
    pub journal: JournalHandle,
    /// Names that are kept for crates to come.
    pub reserved: Vec<NamePattern>,
    /// Whether reads need a token.
    pub auth_required: bool,
}

/// Whose a name is. Every path that may ask an upstream begins with this question.
#[derive(Debug)]
pub enum NameOf {
    /// A crate that is hosted here.
    Hosted(CrateRow),
    /// Ours, without a crate yet.
    Reserved,
    /// Not ours, as far as this replica knows: upstreams may have it.
    Others,
}

impl Hosting {
    /// Whose a name is, as far as this replica knows.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn whose(&self, key: &NameKey) -> Result<NameOf> {
        Ok(match self.catalog.krate(key)? {
            Some(row) => NameOf::Hosted(row),
            None if self.is_reserved(key) => NameOf::Reserved,
            None => NameOf::Others,
        })
    }

    /// For whom a read of the journal is waited for by a flow that hears of no token: where reads need
    /// one, it was looked at before.
    pub fn reader(&self, client: ClientKey) -> Waiter {
        match self.auth_required || client.is_trusted() {
            true => Waiter::Authenticated,
            false => Waiter::Unauthenticated(client),
        }
    }
}

#[async_trait]
impl HostedNames for Hosting {
    fn generation(&self, key: &NameKey) -> Result<Option<u64>> {
        Ok(self.catalog.krate(key)?.map(|row| row.changed))
    }

    fn is_reserved(&self, key: &NameKey) -> bool {
        self.reserved.iter().any(|pattern| pattern.covers(key))
    }

    async fn catch_up(&self, client: ClientKey) -> Result<()> {
        self.journal.catch_up_for(self.reader(client)).await
    }
}

impl PinCorrections for Hosting {
    fn count(&self) -> u64 {
        self.catalog.corrections()
    }

    fn of(&self, upstream: &str, name: &CrateName) -> Result<BTreeMap<CrateVersion, Checksum>> {
        let corrected = self.catalog.view()?.corrected_pins(upstream, name)?;
        Ok(corrected.into_iter().map(|(version, row)| (version, row.cksum)).collect())
    }

    fn standing(
        &self,
        upstream: &str,
        name: &CrateName,
        version: &CrateVersion,
        pinned: Checksum,
    ) -> Result<Checksum> {
        self.catalog.standing_pin(upstream, name, version, pinned)
    }
}
