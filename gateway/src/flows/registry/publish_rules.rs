//! What the policy has against a publish: it is refused, or counted and logged where the rule is
//! only observed. Judged once, before anything is stored; the writer does not ask again.

use std::sync::Arc;

use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside;
use cratehouse_journal::authorize::taken;
use cratehouse_journal::catalog::Catalog;
use cratehouse_package::name::CrateName;
use cratehouse_package::published::Published;
use cratehouse_policy::{
    AgeFact, IntegrityFact, Judgement, LicenseFact, Mode, PolicyGeneration, PolicyInForce, Source,
    Subject, Verdict, Violation, refusal_of_new, said,
};
use jiff::Timestamp;

/// What holds publishes against the policy in force.
#[derive(Debug)]
pub struct PublishRules {
    /// The policy.
    pub policy: Arc<PolicyInForce>,
    /// The hosted names.
    pub catalog: Catalog,
    /// Our own base URL, for whoever wants to know more.
    pub url: String,
    /// Where violations count.
    pub metrics: Metrics,
}

impl PublishRules {
    /// Whether a publish meets `[publish]`; `readme`: whether the crate has one.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Invalid`], with everything that is wrong.
    pub(crate) fn to_publish(&self, published: &Published, readme: bool) -> Result<()> {
        let in_force = self.policy.generation();
        let objection = in_force.policy.objection_to_publish(published, readme);
        self.settled("publish", &published.line.name, objection)
    }

    /// Whether a first publish under this name meets `[names]`. Every hosted name is compared, those
    /// whose versions were all removed included; of two look-alikes that are published at the same
    /// moment neither sees the other.
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Invalid`], with the name that it resembles; forbidden, in the words for a name
    /// that is not theirs, where that crate does not exist for who asks; that the catalog fails.
    pub(crate) async fn to_name(
        &self,
        name: &CrateName,
        exists: impl Fn(&CrateName) -> Result<bool> + Send + 'static,
    ) -> Result<()> {
        let in_force = self.policy.generation();
        if !in_force.policy.compares_names() {
            return Ok(());
        }
        let (catalog, new) = (self.catalog.clone(), name.clone());
        let compare = move || {
            let mut hosted = catalog.names()?;
            let Some(objection) = in_force.policy.objection_to_name(&new, &hosted) else {
                return Ok::<_, Error>((None, None));
            };
            // It must not name what does not exist for who asks.
            let mut seen = Vec::new();
            for name in hosted.drain(..) {
                if exists(&name)? {
                    seen.push(name);
                }
            }
            Ok((Some(objection), in_force.policy.objection_to_name(&new, &seen)))
        };
        let (objection, seen) = aside(compare).await??;
        match (objection.is_some(), seen.is_some()) {
            (true, false) => self.settled("names", name, objection).map_err(|_| taken(name)),
            _ => self.settled("names", name, seen),
        }
    }

    /// What the policy makes of a version that is being published. Nobody could ever download a denied
    /// one, so it is refused; one that is held is published with a warning: it appears as yanked, and
    /// cargo, which looks for its version in the index and passes over what is yanked, waits for it in
    /// vain for a minute (cargo: `ops/registry/publish.rs`).
    ///
    /// # Errors
    /// [`cratehouse_core::error::Kind::Forbidden`], with the rules that deny it.
    pub(crate) async fn to_version(&self, published: &Published) -> Result<Option<String>> {
        if self.policy.is_silent() {
            return Ok(None);
        }
        let (in_force, now) = (self.policy.generation(), self.policy.now());
        let owned = published.clone();
        let judge = move || judged(&in_force, &owned, now);
        let judgement = aside(judge).await?;
        let line = &published.line;
        match judgement.verdict {
            Verdict::Allow => Ok(None),
            Verdict::Hold => Ok(Some(self.held(published, &judgement))),
            Verdict::Deny => {
                let mode = Mode::Enforce.label();
                self.metrics.policy_objections.with_label_values(&["verdict", mode]).inc();
                let policy = &self.policy.generation().policy;
                Err(Error::forbidden(format!(
                    "nothing was published, because nobody could download it: {}",
                    refusal_of_new(&line.name, &line.vers, &judgement, policy.contact())
                )))
            }
        }
    }

    fn held(&self, published: &Published, judgement: &Judgement) -> String {
        let (name, version) = (&published.line.name, &published.line.vers);
        let holding: Vec<_> = judgement.enforced().map(said).collect();
        format!(
            "`{name}` {version} is published, and the policy of this registry holds it ({}): it appears \
         as yanked, so that cargo does not see it. cargo may now wait for it for a minute and say \
         that this timed out; there is no need to wait. {}/api/v1/policy/explain/{name}/{version} \
         tells more",
            holding.join("; and "),
            self.url
        )
    }

    fn settled(
        &self,
        section: &'static str,
        name: &CrateName,
        objection: Option<Violation>,
    ) -> Result<()> {
        let Some(Violation { mode, sentence }) = objection else { return Ok(()) };
        self.metrics.policy_objections.with_label_values(&[section, mode.label()]).inc();
        match mode {
            Mode::Enforce => Err(Error::invalid(sentence)),
            Mode::Observe => {
                tracing::info!(krate = %name, section, why = sentence,
                "the policy would have refused this publish");
                Ok(())
            }
        }
    }
}

fn judged(in_force: &PolicyGeneration, published: &Published, now: Timestamp) -> Judgement {
    let (line, metadata) = (&published.line, &published.metadata);
    let license = LicenseFact::of(metadata.license.as_deref(), metadata.license_file.as_deref());
    let subject = Subject {
        name: &line.name,
        version: &line.vers,
        source: Source::Hosted,
        age: AgeFact::Published(now),
        yanked: false,
        license: Some(&license),
        integrity: IntegrityFact::Sound,
    };
    in_force.policy.judge(&subject, in_force.advisories.as_deref(), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::fixture::{TestGateway, line, memory, name};
    use cratehouse_core::error::Kind;
    use cratehouse_package::published::Metadata;

    const RULES: &str = "[names]\n[publish]\nrequire = [\"description\"]\n";

    fn published() -> Published {
        Published { line: line("Foo", "1.0.0", b""), size: 1, metadata: Metadata::default() }
    }

    fn objections(server: &TestGateway, section: &str, mode: &str) -> u64 {
        server.gateway.metrics.policy_objections.with_label_values(&[section, mode]).get()
    }

    #[tokio::test]
    async fn an_objection_refuses_and_says_why() {
        let server = TestGateway::ruled(&memory(), &[], RULES).await;
        server.publish("tokio", "1.0.0", b"x").await;
        let refused = server.gateway.publisher.rules.to_publish(&published(), true).unwrap_err();
        assert!(refused.kind == Kind::Invalid && refused.message.contains("a `description`"));
        let refused =
            server.gateway.publisher.rules.to_name(&name("tokoi"), |_| Ok(true)).await.unwrap_err();
        assert!(refused.kind == Kind::Invalid && refused.message.contains("`tokio`"));
        server.gateway.publisher.rules.to_name(&name("unlike"), |_| Ok(true)).await.unwrap();
        let counted = ["publish", "names"].map(|section| objections(&server, section, "enforce"));
        assert_eq!(counted, [1, 1]);
    }

    #[tokio::test]
    async fn what_is_observed_is_counted_and_nothing_else() {
        let server =
            TestGateway::ruled(&memory(), &[], &format!("mode = \"observe\"\n{RULES}")).await;
        server.publish("tokio", "1.0.0", b"x").await;
        server.gateway.publisher.rules.to_publish(&published(), true).unwrap();
        server.gateway.publisher.rules.to_name(&name("tokoi"), |_| Ok(true)).await.unwrap();
        let counted = ["publish", "names"].map(|section| objections(&server, section, "observe"));
        assert_eq!(counted, [1, 1]);
    }

    #[tokio::test]
    async fn a_denied_version_is_refused_and_a_held_one_is_told() {
        let rules = "contact = \"#crates\"\n[[ban]]\nname = \"foo\"\nversion = \"=1.0.0+b\"\n\
                     reason = \"leaks\"\n[[ban]]\nname = \"foo\"\nversion = \"=2.0.0\"\n\
                     action = \"hold\"\nreason = \"too new\"\n";
        let server = TestGateway::ruled(&memory(), &[], rules).await;
        let judged = async |version: &str| {
            let line = line("Foo", version, b"");
            let published = Published { line, size: 1, metadata: Metadata::default() };
            server.gateway.publisher.rules.to_version(&published).await
        };
        assert_eq!(judged("1.0.0+a").await.unwrap(), None, "another version of that number");
        let refused = judged("1.0.0+b").await.unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        assert!(refused.message.contains("rule `ban`: leaks; ask #crates"), "{refused:?}");
        let told = judged("2.0.0").await.unwrap().unwrap();
        assert!(told.contains("rule `ban`: too new") && told.contains("as yanked"), "{told}");
        assert_eq!(objections(&server, "verdict", "enforce"), 1);
    }

    #[tokio::test]
    async fn without_rules_nobody_objects() {
        let server = TestGateway::ruled(&memory(), &[], "").await;
        server.publish("tokio", "1.0.0", b"x").await;
        server.gateway.publisher.rules.to_publish(&published(), false).unwrap();
        server.gateway.publisher.rules.to_name(&name("tokoi"), |_| Ok(true)).await.unwrap();
        assert_eq!(server.gateway.publisher.rules.to_version(&published()).await.unwrap(), None);
    }
}
