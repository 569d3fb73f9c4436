//! What the mirror asks of the registry around it: the crates that it hosts itself, and what its administrators
//! decided of pins. The journal is not known here; where the parts are put together it is answered from.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;

use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::version::CrateVersion;

/// The names of the registry's own crates: none of them is ever asked of an upstream.
#[async_trait]
pub trait HostedNames: Debug + Send + Sync {
    /// The number of the last change of a hosted crate; `None`: no such crate is hosted, as far as this
    /// replica knows.
    ///
    /// # Errors
    /// When that cannot be told.
    fn generation(&self, key: &NameKey) -> Result<Option<u64>>;

    /// Whether a name is kept for crates to come.
    fn is_reserved(&self, key: &NameKey) -> bool;

    /// Waits, on behalf of a client, until this replica knows what all replicas have hosted by now.
    ///
    /// # Errors
    /// When that cannot be learned now.
    async fn catch_up(&self, client: ClientKey) -> Result<()>;
}

/// Pins that administrators have corrected.
pub trait PinCorrections: Debug + Send + Sync {
    /// Grows with every correction: what was read of pins is good for one number.
    fn count(&self) -> u64;

    /// The corrected checksums of a crate's versions at one upstream.
    ///
    /// # Errors
    /// When they cannot be read.
    fn of(&self, upstream: &str, name: &CrateName) -> Result<BTreeMap<CrateVersion, Checksum>>;

    /// The checksum that stands for a version: the corrected one, else the one that was pinned.
    ///
    /// # Errors
    /// When corrections cannot be read.
    fn standing(
        &self,
        upstream: &str,
        name: &CrateName,
        version: &CrateVersion,
        pinned: Checksum,
    ) -> Result<Checksum>;
}
