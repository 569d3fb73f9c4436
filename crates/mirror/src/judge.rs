//! What the policy makes of an index file: worked out once for each file and policy, and again
//! when a verdict changes by itself; never for a request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::index::cache::{CachedLookup, IndexCache};
use crate::index::judged::{Facts, Shown};
use crate::licenses::reader::LicenseReader;
use crate::names::known::MirroredNames;
use crate::upstream::Upstream;
use cratehouse_core::error::Result;
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;
use cratehouse_policy::{
    AgeFact, IntegrityFact, Judgement, PolicyGeneration, PolicyInForce, ReadLicense, Source,
    Subject, Verdict, hide, newest_allowed,
};

/// A verdict that changes by itself is looked at after this time at the latest: a clock may be set.
const LONGEST: Duration = Duration::from_secs(3600);

/// What applies the policy in force to index files.
#[derive(Debug)]
pub struct Judge {
    /// What it applies.
    pub policy: Arc<PolicyInForce>,
    /// What it learns licences from.
    pub licenses: Arc<LicenseReader>,
    pub(crate) index: IndexCache,
    pub(crate) names: Arc<MirroredNames>,
    pub(crate) upstreams: Arc<[Arc<Upstream>]>,
    pub(crate) metrics: Metrics,
}

impl Judge {
    /// The file that is sent of what is known; the same one where the policy has nothing to say.
    ///
    /// # Errors
    /// When judging crashed, which is our own fault.
    pub async fn file_of(
        &self,
        name: &CrateName,
        known: &CachedLookup,
        file: Arc<IndexFile>,
    ) -> Result<Arc<IndexFile>> {
        match self.shown(name, known, &file).await? {
            Some(shown) => Ok(Arc::clone(&shown.file)),
            None => Ok(file),
        }
    }

    /// The same, if it was judged already.
    pub fn at_hand(&self, known: &CachedLookup, file: &Arc<IndexFile>) -> Option<Arc<IndexFile>> {
        let shown = self.shown_already(known, file)?;
        Some(Arc::clone(shown.as_ref().map_or(file, |shown| &shown.file)))
    }

    /// What the policy in force made of a file: `None` when nobody asked yet, `Some(None)` when it has
    /// nothing to say at all.
    pub fn shown_already(
        &self,
        known: &CachedLookup,
        file: &Arc<IndexFile>,
    ) -> Option<Option<Arc<Shown>>> {
        // A version that changed is spoken of without any policy too.
        if self.policy.is_silent() && known.judging.facts.changed.is_empty() {
            return Some(None);
        }
        let shown = known.judging.shown(self.policy.stamp())?;
        if !shown.unread.is_empty() {
            self.licenses.look_again(&known.judging, file);
        }
        Some(Some(shown))
    }

    /// What the policy in force makes of a file; `None`: it has nothing to say at all.
    ///
    /// # Errors
    /// When judging crashed, which is our own fault.
    pub async fn shown(
        &self,
        name: &CrateName,
        known: &CachedLookup,
        file: &Arc<IndexFile>,
    ) -> Result<Option<Arc<Shown>>> {
        if let Some(shown) = self.shown_already(known, file) {
            return Ok(shown);
        }
        let turn = Arc::clone(&known.judging.turn).lock_owned().await;
        let in_force = self.policy.generation();
        if let Some(shown) = known.judging.shown(in_force.stamp) {
            return Ok(Some(shown));
        }
        if in_force.policy.wants_licenses() {
            self.licenses.begin(&known.judging, file).await;
        }
        let edition = known.judging.learned.edition(); // before the facts, which may know more by then
        let (facts, file, now) = (known.judging.facts(), Arc::clone(file), self.policy.now());
        let (metrics, owned, index) = (self.metrics.clone(), name.clone(), self.index.clone());
        let (at, note) = (self.upstream_at(known), self.names.noter());
        let judging = Arc::clone(&known.judging);
        // Whether anybody still waits for it or not: so that a file is judged once, and by one at a time.
        let work = move || {
            let _turn = turn;
            let shown = judge_file(&in_force, &facts, &file, now, &owned, &metrics, &index);
            let shown = Arc::new(Shown { edition, ..shown });
            if let Some(at) = at {
                note(at, &shown.file);
            }
            judging.keep(Arc::clone(&shown));
            index.weigh_again(&owned.key());
            shown
        };
        aside(work).await.map(Some)
    }

    /// Whether a version may be downloaded, and whether its licence is still to be read.
    ///
    /// # Errors
    /// Forbidden, with the reason, when it is denied; when judging crashed, or there is no index file to
    /// judge it by: what cannot be judged is not let through.
    pub async fn admit(
        &self,
        name: &CrateName,
        version: &CrateVersion,
        known: &CachedLookup,
    ) -> Result<ReadLicense> {
        let Some(file) = known.answer.clone()? else { return Ok(ReadLicense::No) };
        let shown = self.shown(name, known, &file).await?;
        let Some(shown) = shown else { return Ok(ReadLicense::No) };
        let in_force = self.policy.generation();
        match shown.refusal(name, version, in_force.policy.contact()) {
            None => Ok(shown.read_license(version)),
            Some(refusal) => {
                self.metrics.policy_denials.inc();
                Err(refusal)
            }
        }
    }

    /// The place in the chain of the upstream that a file is from; `None`: it is hosted.
    pub fn upstream_at(&self, known: &CachedLookup) -> Option<usize> {
        let upstream = known.judging.upstream()?;
        self.upstreams.iter().position(|one| one.name() == upstream)
    }
}

/// Each version of a file with its judgement, by any policy: for who asks why.
pub fn judge_all(
    in_force: &PolicyGeneration,
    facts: &Facts,
    file: &IndexFile,
    now: Timestamp,
) -> Vec<(Listed, Judgement)> {
    let Some(first) = file.versions().next() else { return Vec::new() };
    let rules = in_force.policy.about(&first.name); // all its lines spell one name
    let advisories = in_force.advisories.as_deref();
    let judge = |listed: &Listed| {
        let judgement = rules.judge(&subject(facts, listed), advisories, now);
        (listed.clone(), judgement)
    };
    file.versions().map(judge).collect()
}

fn subject<'a>(facts: &'a Facts, listed: &'a Listed) -> Subject<'a> {
    let source = match &facts.upstream {
        Some(upstream) => Source::Mirrored { upstream },
        None => Source::Hosted,
    };
    let age = match (listed.pubtime, facts.first_seen.get(&listed.version)) {
        (Some(published), _) => AgeFact::Published(published),
        (None, Some(seen)) => AgeFact::FirstSeen(*seen),
        (None, None) => AgeFact::Old,
    };
    Subject {
        name: &listed.name,
        version: &listed.version,
        source,
        age,
        yanked: listed.yanked,
        license: facts.licenses.get(&listed.cksum),
        integrity: match facts.changed.contains_key(&listed.version) {
            true => IntegrityFact::ChecksumChanged,
            false => IntegrityFact::Sound,
        },
    }
}

fn judge_file(
    in_force: &PolicyGeneration,
    facts: &Facts,
    file: &Arc<IndexFile>,
    now: Timestamp,
    name: &CrateName,
    metrics: &Metrics,
    index: &IndexCache,
) -> Shown {
    let judged = judge_all(in_force, facts, file, now);
    count(&judged, name, metrics);
    let changes_at = judged.iter().filter_map(|(_, judgement)| judgement.changes_at).min();
    let until = changes_at.map(|at| {
        let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        Instant::now() + left.clamp(Duration::from_millis(1), LONGEST)
    });
    let allowed = judged.iter().filter(|(listed, _)| !listed.yanked);
    let newest = newest_allowed(allowed.map(|(listed, judged)| (&listed.version, judged)));
    let hidden = judged.iter().filter(|(l, judgement)| judgement.verdict.hides() && !l.yanked);
    let hidden: HashSet<_> = hidden.map(|(listed, _)| listed.version.clone()).collect();
    let (mut denied, mut unread) = (HashMap::new(), HashMap::new());
    let mut listed = Vec::with_capacity(judged.len());
    for (mut version, judgement) in judged {
        version.yanked |= judgement.verdict.hides();
        if judgement.read_license != ReadLicense::No {
            unread.insert(version.version.clone(), judgement.read_license);
        }
        if judgement.verdict == Verdict::Deny {
            denied.insert(version.version.clone(), judgement);
        }
        listed.push(version);
    }
    let file = match hidden.is_empty() {
        true => Arc::clone(file),
        false => index.counted(IndexFile::new(hide(&file.identity.bytes, &hidden), listed)),
    };
    Shown { file, stamp: in_force.stamp, edition: 0, until, denied, newest, unread }
}

/// Verdicts and findings are counted and logged when they are made.
fn count(judged: &[(Listed, Judgement)], name: &CrateName, metrics: &Metrics) {
    let (mut held, mut denied, mut observed) = (0, 0, 0);
    for (_, judgement) in judged {
        metrics.verdicts.with_label_values(&[judgement.verdict.label()]).inc();
        held += u32::from(judgement.verdict == Verdict::Hold);
        denied += u32::from(judgement.verdict == Verdict::Deny);
        for finding in &judgement.findings {
            let labels = [finding.rule.label(), finding.action.label(), finding.mode.label()];
            metrics.policy_findings.with_label_values(&labels).inc();
        }
        observed += u32::from(judgement.enforced().count() < judgement.findings.len());
    }
    if held + denied + observed > 0 {
        let versions = judged.len();
        tracing::info!(krate = %name, versions, held, denied, observed, "the policy spoke");
    }
}
