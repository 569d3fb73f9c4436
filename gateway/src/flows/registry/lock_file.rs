//! The packages of a Cargo.lock, each with whether it is looked up here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::{Config, crates_io_index};
use crate::flows::turns::ClientParsers;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::lock_file::{self, KnownRegistries, Locked};
use cratehouse_package::registries::{OurUrls, PublicUrls};

/// What reads lock files.
#[derive(Debug)]
pub struct LockFiles {
    parsers: Arc<ClientParsers>,
    known: KnownRegistries,
}

impl LockFiles {
    /// Those of builds that use the registry of this configuration and URL.
    pub fn new(config: &Config, url: &str, parsers: Arc<ClientParsers>) -> Self {
        let aliases = &config.server.aliases;
        let upstreams = config.upstreams.iter().map(|upstream| upstream.index.clone());
        let known = KnownRegistries::new(
            OurUrls::new(url, aliases),
            PublicUrls::new(url, aliases),
            &crates_io_index(),
            &upstreams.collect::<Vec<_>>(),
        );
        Self { parsers, known }
    }

    /// The packages of a Cargo.lock. Those that it has from a registry which is neither crates.io nor
    /// this one nor one of the upstreams are marked as such: their names must be asked nowhere.
    ///
    /// # Errors
    /// Invalid, when the text is no Cargo.lock, or too large; unavailable, when too many are being read.
    pub(crate) async fn packages(&self, client: ClientKey, lock: &str) -> Result<BTreeSet<Locked>> {
        let (text, known) = (lock.to_owned(), self.known.clone());
        let parse = move || lock_file::packages(&text).map(|packages| known.mark(packages));
        self.parsers.locks.parse(client, parse).await?.map_err(Error::invalid)
    }
}
