//! `config check --connect`: whether what the configuration names is there and answers. Nothing is made, and
//! nothing is written.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::config::Config;
use crate::flows::store::founded;
use crate::stores::advisories::{Remote, ask};
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_mirror::upstream::Upstream;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::url::StoreUrl;

/// How long each of them may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was tried, and what came of it.
#[derive(Debug)]
pub struct Tried {
    /// The store, an upstream …
    pub what: String,
    /// A sentence, or the failure.
    pub outcome: Result<String>,
}

impl Tried {
    /// From its parts.
    pub fn new(what: impl Display, outcome: Result<String>) -> Self {
        Self { what: what.to_string(), outcome }
    }
}

/// Tries the store, every upstream, and the URL of the advisories where a server would ask it.
///
/// # Errors
/// When a client cannot be made at all.
pub async fn try_out(config: &Config) -> Result<Vec<Tried>> {
    let metrics = Metrics::new().map_err(Error::internal)?;
    let extra_ca = config.outgoing_ca.as_deref();
    let store = format!("store {}", founded::shown(&config.store.url));
    let mut tried = vec![Tried::new(store, in_time(store_of(config)).await)];
    let open = |one| {
        Upstream::new(one, &config.limits.of_upstream(), extra_ca, metrics.clone()).map(Arc::new)
    };
    let upstreams: Vec<_> = config.upstreams.iter().map(open).collect::<Result<_>>()?;
    let asking = upstreams.iter().map(|one| async move {
        let what = format!("upstream `{}` at {}", one.name(), one.config().index);
        Tried::new(what, in_time(answers(one)).await)
    });
    tried.extend(join_all(asking).await);
    let policy = &config.policy;
    if policy.advisories_every.is_some() {
        let url = &policy.advisories_url;
        let asked = async {
            ask(url, extra_ca, None).await.map(|answer| match answer {
                Remote::Archive { bytes, .. } => format!("gives {} bytes", bytes.len()),
                Remote::Same => "answers".to_owned(),
            })
        };
        tried.push(Tried::new(format!("advisories at {url}"), in_time(asked).await));
    }
    Ok(tried)
}

async fn in_time(trying: impl Future<Output = Result<String>>) -> Result<String> {
    let late = || Error::unavailable(format!("no answer in {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, trying).await.unwrap_or_else(|_| Err(late()))
}

async fn store_of(config: &Config) -> Result<String> {
    const NONE_YET: &str = "holds no registry yet: the first start makes one";
    if let StoreUrl::Folder(path) = &config.store.url
        && !path.try_exists().unwrap_or(true)
    {
        return Ok("is not there yet: the first start makes it".to_owned());
    }
    let objects = founded::open_existing(config)?;
    objects.refuse_mistakes(&config.store).await?;
    // Not as often as a server would: whoever asks sits and waits.
    let objects = Objects::same(Arc::clone(&objects.commit));
    Ok(match objects.existing().await? {
        Some(registry) => format!("holds registry {registry}"),
        None => NONE_YET.to_owned(),
    })
}

async fn answers(upstream: &Upstream) -> Result<String> {
    upstream.try_out().await?;
    Ok("answers".to_owned())
}
