//! Looks for hosted names that a stranger has taken at an upstream since (dependency confusion).

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::Result;
use crate::flows::mirroring;
use crate::gateway::Gateway;
use crate::model::name::{CrateName, NamePattern};

/// Names that are asked about at one time.
const NAMES_AT_ONCE: usize = 4;

/// A hosted name that an upstream has too.
#[derive(Debug, Clone)]
pub struct Clash {
    /// The hosted crate.
    pub name: CrateName,
    /// The upstream that has it.
    pub upstream: String,
    /// How that upstream spells it.
    pub spelling: CrateName,
}

/// Asks the upstreams, on purpose, for every hosted name that is not reserved. The clashes come
/// sorted by name.
///
/// # Errors
/// The first trouble of an upstream: half an audit would look like a clean one.
pub async fn names(gateway: &Arc<Gateway>) -> Result<Vec<Clash>> {
    let hosted = unreserved(gateway.catalog.names()?, &gateway.config.reserved);
    let mut clashes: Vec<Clash> = stream::iter(hosted)
        .map(|name| clash(gateway, name))
        .buffer_unordered(NAMES_AT_ONCE)
        .try_filter_map(async |found| Ok(found))
        .try_collect()
        .await?;
    clashes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(clashes)
}

/// The names that nothing but luck protects: a reserved one is never asked of an upstream.
fn unreserved(names: Vec<CrateName>, reserved: &[NamePattern]) -> Vec<CrateName> {
    let open = |name: &CrateName| !reserved.iter().any(|pattern| pattern.covers(&name.key()));
    names.into_iter().filter(open).collect()
}

async fn clash(gateway: &Arc<Gateway>, name: CrateName) -> Result<Option<Clash>> {
    let taken = mirroring::taken_upstream(gateway, &name).await?;
    Ok(taken.map(|(upstream, spelling)| Clash { name, upstream, spelling }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_not_asked_about() {
        let names = ["acme-a", "ACME_b", "tool"].map(|n| CrateName::parse(n).unwrap());
        let left = unreserved(names.to_vec(), &["acme-*".parse().unwrap()]);
        assert_eq!(left, [CrateName::parse("tool").unwrap()]);
    }
}
