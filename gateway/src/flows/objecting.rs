//! What the policy has against a publish: it is refused, or counted and logged where the rule is
//! only observed. Judged once, before anything is stored; the scribe does not ask again.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::model::entry::Published;
use crate::model::name::CrateName;
use crate::model::policy::{Mode, Objection};

/// Whether a publish meets `[publish]`; `readme`: whether the crate has one.
///
/// # Errors
/// [`crate::error::Kind::Invalid`], with everything that is wrong.
pub(super) fn to_publish(gateway: &Gateway, published: &Published, readme: bool) -> Result<()> {
    let in_force = gateway.rulebook.in_force();
    let objection = in_force.policy.objection_to_publish(published, readme);
    settled(gateway, "publish", &published.line.name, objection)
}

/// Whether a first publish under this name meets `[names]`. Every hosted name is compared, those
/// whose versions were all removed included; of two look-alikes that are published at the same
/// moment neither sees the other.
///
/// # Errors
/// [`crate::error::Kind::Invalid`], with the name that it resembles; that the catalog fails.
pub(super) async fn to_name(gateway: &Arc<Gateway>, name: &CrateName) -> Result<()> {
    let in_force = gateway.rulebook.in_force();
    if !in_force.policy.compares_names() {
        return Ok(());
    }
    let (catalog, new) = (gateway.catalog.clone(), name.clone());
    let compare = move || {
        let hosted = catalog.names()?;
        Ok::<_, Error>(in_force.policy.objection_to_name(&new, &hosted))
    };
    let objection = spawn_blocking(compare).await.map_err(Error::internal)??;
    settled(gateway, "names", name, objection)
}

fn settled(
    gateway: &Gateway,
    section: &'static str,
    name: &CrateName,
    objection: Option<Objection>,
) -> Result<()> {
    let Some(Objection { mode, sentence }) = objection else { return Ok(()) };
    gateway.metrics.policy_objections.with_label_values(&[section, mode.label()]).inc();
    match mode {
        Mode::Enforce => Err(Error::invalid(sentence)),
        Mode::Observe => {
            tracing::info!(krate = %name, section, why = sentence,
                "the policy would have refused this publish");
            Ok(())
        }
    }
}
