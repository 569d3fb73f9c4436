//! What the policy has against a publish: it is refused, or counted and logged where the rule is
//! only observed. Judged once, before anything is stored; the scribe does not ask again.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::model::entry::Published;
use crate::model::name::CrateName;
use crate::model::policy::{Mode, Objection};
use crate::threads::aside;

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
    let objection = aside(compare).await??;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::flows::fixture::{House, line, memory, name};
    use crate::model::entry::Metadata;

    const RULES: &str = "[names]\n[publish]\nrequire = [\"description\"]\n";

    fn published() -> Published {
        Published { line: line("Foo", "1.0.0", b""), size: 1, metadata: Metadata::default() }
    }

    fn objections(house: &House, section: &str, mode: &str) -> u64 {
        house.gateway.metrics.policy_objections.with_label_values(&[section, mode]).get()
    }

    #[tokio::test]
    async fn an_objection_refuses_and_says_why() {
        let house = House::ruled(&memory(), &[], RULES).await;
        house.publish("tokio", "1.0.0", b"x").await;
        let refused = to_publish(&house.gateway, &published(), true).unwrap_err();
        assert!(refused.kind == Kind::Invalid && refused.message.contains("a `description`"));
        let refused = to_name(&house.gateway, &name("tokoi")).await.unwrap_err();
        assert!(refused.kind == Kind::Invalid && refused.message.contains("`tokio`"));
        to_name(&house.gateway, &name("unlike")).await.unwrap();
        let counted = ["publish", "names"].map(|section| objections(&house, section, "enforce"));
        assert_eq!(counted, [1, 1]);
    }

    #[tokio::test]
    async fn what_is_observed_is_counted_and_nothing_else() {
        let house = House::ruled(&memory(), &[], &format!("mode = \"observe\"\n{RULES}")).await;
        house.publish("tokio", "1.0.0", b"x").await;
        to_publish(&house.gateway, &published(), true).unwrap();
        to_name(&house.gateway, &name("tokoi")).await.unwrap();
        let counted = ["publish", "names"].map(|section| objections(&house, section, "observe"));
        assert_eq!(counted, [1, 1]);
    }

    #[tokio::test]
    async fn without_rules_nobody_objects() {
        let house = House::ruled(&memory(), &[], "").await;
        house.publish("tokio", "1.0.0", b"x").await;
        to_publish(&house.gateway, &published(), false).unwrap();
        to_name(&house.gateway, &name("tokoi")).await.unwrap();
    }
}
