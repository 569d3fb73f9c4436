//! Policies that are tried, and the advisories that they are applied with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::flows::policy::advisories::kept;
use crate::flows::policy::store::try_texts;
use crate::stores::advisories::AdvisoryStore;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::threads::aside;
use cratehouse_policy::{PolicyGeneration, PolicyText};

/// Policies at one time: one, or the former and the latter of a change.
const MOST_POLICIES: usize = 2;

/// What is asked of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The text of the lock file.
    pub lock: String,
    /// The files of each policy.
    pub policies: Vec<Vec<PolicyText>>,
    /// Whether crate files are fetched, where their licence decides.
    #[serde(default)]
    pub fetch: bool,
}

impl Trial {
    /// Its policies, read as those of a folder are.
    ///
    /// # Errors
    /// Invalid, when one is broken, with file and line, or there are too many.
    pub async fn read(self, config: &Arc<Config>) -> Result<(String, Vec<PolicyGeneration>)> {
        if self.policies.is_empty() || self.policies.len() > MOST_POLICIES {
            return Err(Error::invalid("`policies`: name one, or two that are compared"));
        }
        let (config, policies) = (Arc::clone(config), self.policies);
        let read = move || policies.iter().map(|texts| try_texts(&config, texts)).collect();
        let read: Result<_> = aside(read).await?;
        Ok((self.lock, read?))
    }
}

/// The same policies with the advisories that the store keeps, where the configuration names none.
///
/// # Errors
/// When the store does not answer, or what it keeps is damaged.
pub async fn advised(
    store: &AdvisoryStore,
    mut policies: Vec<PolicyGeneration>,
) -> Result<Vec<Arc<PolicyGeneration>>> {
    let lacks = |by: &PolicyGeneration| by.policy.wants_advisories() && by.advisories.is_none();
    if policies.iter().any(lacks) {
        let kept = kept(store).await?.map(|kept| kept.advisories);
        policies.iter_mut().filter(|by| lacks(by)).for_each(|by| by.advisories.clone_from(&kept));
    }
    Ok(policies.into_iter().map(Arc::new).collect())
}
