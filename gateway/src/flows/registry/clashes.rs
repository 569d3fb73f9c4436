//! Looks for hosted names that a stranger has taken at an upstream since (dependency confusion).

use futures_util::{StreamExt, TryStreamExt, future, stream};
use serde::{Deserialize, Serialize};

use crate::flows::registry::hosting::Hosting;
use cratehouse_core::error::Result;
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::chain::Chain;
use cratehouse_package::name::CrateName;

/// Names that are asked about at one time.
const NAMES_AT_ONCE: usize = 4;

/// A hosted name that an upstream has too.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
/// The first failure of an upstream: half an audit would look like a clean one.
pub async fn names(hosting: &Hosting, chain: &Chain) -> Result<Vec<Clash>> {
    let mut hosted = hosting.catalog.names()?;
    // A reserved name is never asked of an upstream.
    hosted.retain(|name| !hosting.is_reserved(&name.key()));
    // Collected first: a lazy iterator of futures is not `Send` for every lifetime.
    let questions: Vec<_> = hosted.into_iter().map(|name| clash(chain, name)).collect();
    let mut clashes: Vec<Clash> = stream::iter(questions)
        .buffer_unordered(NAMES_AT_ONCE)
        .try_filter_map(|found| future::ready(Ok(found)))
        .try_collect()
        .await?;
    clashes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(clashes)
}

async fn clash(chain: &Chain, name: CrateName) -> Result<Option<Clash>> {
    let taken = chain.taken(&name).await?;
    Ok(taken.map(|(upstream, spelling)| Clash { name, upstream, spelling }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::fixture::{Public, TestGateway, limits, memory};

    #[tokio::test]
    async fn names_that_strangers_have_taken_are_found_and_reserved_ones_are_not_asked_about() {
        let public = Public::start(b"theirs").await;
        let server = TestGateway::open(&memory(), &[&public], limits()).await;
        for name in ["Foo", "tool", "acme-x"] {
            server.publish(name, "1.0.0", b"ours").await;
        }
        let clashes = names(&server.gateway.hosting, &server.gateway.mirror.chain).await.unwrap();
        let [clash] = &clashes[..] else { panic!("{clashes:?}") };
        assert_eq!((clash.name.as_str(), clash.upstream.as_str()), ("Foo", "up1"));
        assert!(public.server.paths().iter().all(|path| !path.contains("acme")));
    }
}
