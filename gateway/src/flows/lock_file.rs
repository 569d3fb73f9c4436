//! The packages of a Cargo.lock, each with whether it is looked up here.

use std::collections::BTreeSet;

use crate::config::crates_io_index;
use crate::gateway::Gateway;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::lock_file::{self, KnownRegistries, Locked};
use cratehouse_package::registries::{OurUrls, PublicUrls};

/// The packages of a Cargo.lock. Those that it has from a registry which is neither crates.io nor
/// this one nor one of the upstreams are marked as such: their names must be asked nowhere.
///
/// # Errors
/// Invalid, when the text is no Cargo.lock, or too large; unavailable, when too many are being read.
pub(super) async fn packages(
    gateway: &Gateway,
    client: ClientKey,
    lock: &str,
) -> Result<BTreeSet<Locked>> {
    let (text, known) = (lock.to_owned(), known_registries(gateway));
    let parse = move || lock_file::packages(&text).map(|packages| known.mark(packages));
    gateway.parsers.locks.parse(client, parse).await?.map_err(Error::invalid)
}

fn known_registries(gateway: &Gateway) -> KnownRegistries {
    let (url, aliases) = (&gateway.url, &gateway.config.server.aliases);
    let upstreams = gateway.config.upstreams.iter().map(|upstream| upstream.index.clone());
    KnownRegistries::new(
        OurUrls::new(url, aliases),
        PublicUrls::new(url, aliases),
        &crates_io_index(),
        &upstreams.collect::<Vec<_>>(),
    )
}
