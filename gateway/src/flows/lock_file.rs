//! The packages of a Cargo.lock, each with whether it is looked up here.

use std::collections::BTreeSet;

use url::Url;

use crate::config::crates_io_index;
use crate::error::Result;
use crate::flows::prefetch::parse_aside;
use crate::gateway::Gateway;
use crate::model::lock::{KnownRegistries, Locked};
use crate::model::registries::OurUrls;

/// The packages of a Cargo.lock. Those that it has from a registry which is neither crates.io nor
/// this one nor one of the upstreams are marked as such: their names must be asked nowhere.
///
/// # Errors
/// Invalid, when the text is no Cargo.lock, or too large.
pub(super) async fn packages(gateway: &Gateway, lock: &str) -> Result<BTreeSet<Locked>> {
    Ok(known_registries(gateway).mark(parse_aside(lock).await?))
}

fn known_registries(gateway: &Gateway) -> KnownRegistries {
    let config = &gateway.config;
    let upstreams = config.upstreams.iter().map(|upstream| upstream.index.clone());
    let indexes: Vec<Url> = upstreams.chain([crates_io_index()]).collect();
    KnownRegistries::new(OurUrls::new(&gateway.url, &config.server.aliases), &indexes)
}
