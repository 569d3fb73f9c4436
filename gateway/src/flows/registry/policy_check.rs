//! Trying a policy: what it makes of a Cargo.lock, and why it judges a crate as it does. Index files are asked
//! for as any lookup asks; licences are read from crate files that the mirror has, and nothing is downloaded
//! unless that is asked for.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use jiff::Timestamp;

use crate::flows::access::reader::Reader;
use crate::flows::registry::hosting::Hosting;
use crate::flows::registry::lock_file::LockFiles;
use crate::flows::registry::lookup::Lookup;
use crate::flows::turns::Turns;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::excerpt::excerpt;
use cratehouse_core::threads::aside;
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::cache::{Answered, CachedLookup};
use cratehouse_mirror::index::chain::lowered;
use cratehouse_mirror::judge::{Judge, judge_all};
pub use cratehouse_mirror::licenses::search::Allowance;
use cratehouse_mirror::licenses::search::LicenseSearch;
use cratehouse_mirror::settings::Identity;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::lock_file::{Locked, LockedSource, misplaced};
use cratehouse_package::name::CrateName;
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_policy::{Explanation, Judgement, PolicyGeneration, Report, Row, Which};

/// Packages whose index files are looked up at one time.
const PACKAGES_AT_ONCE: usize = 16;

/// Which index files a check may have looked up.
#[derive(Debug, Clone)]
pub enum Reach {
    /// Any, on behalf of this reader.
    Upstreams(Reader),
    /// Those of which something is held here; the others are told as unknown.
    Held(Reader),
}

impl Reach {
    fn reader(&self) -> &Reader {
        let (Self::Upstreams(reader) | Self::Held(reader)) = self;
        reader
    }

    fn client(&self) -> ClientKey {
        self.reader().client()
    }
}

/// What tries policies.
#[derive(Debug)]
pub struct PolicyChecks {
    /// What reads lock files.
    pub locks: Arc<LockFiles>,
    /// What finds index files.
    pub lookup: Arc<Lookup>,
    /// Which names are ours.
    pub hosting: Arc<Hosting>,
    /// What applies the policy in force.
    pub judge: Arc<Judge>,
    /// What reads licences for it.
    pub licenses: Arc<LicenseSearch>,
    /// Turns to judge.
    pub turns: Arc<Turns>,
    /// Our own base URL.
    pub url: String,
}

impl PolicyChecks {
    /// What each of some policies makes of the packages of a Cargo.lock (its text), at one time and by
    /// the same index files: a report for each policy, the packages in the same order.
    /// `progress(done, total)` is called after each package; `allowance` says what may be read for licences.
    ///
    /// A package that cannot be judged, because an upstream is failing for instance, is told in its
    /// row, and fails no other.
    ///
    /// # Errors
    /// Invalid, when the text is no Cargo.lock.
    pub async fn check(
        &self,
        reach: &Reach,
        lock: &str,
        policies: &[Arc<PolicyGeneration>],
        allowance: &Allowance,
        progress: impl Fn(usize, usize),
    ) -> Result<Vec<Report>> {
        let packages = self.locks.packages(reach.client(), lock).await?;
        let (total, now) = (packages.len(), self.judge.policy.now());
        let mut columns = vec![Vec::with_capacity(total); policies.len()];
        let (mut waiting, mut under_way) = (packages.into_iter(), FuturesOrdered::new());
        for done in 1..=total {
            let free = PACKAGES_AT_ONCE.saturating_sub(under_way.len());
            let next = waiting.by_ref().take(free);
            let on = |package| self.rows(reach, package, policies, allowance, now);
            under_way.extend(next.map(on));
            let rows = under_way.next().await.unwrap_or_default();
            columns.iter_mut().zip(rows).for_each(|(column, row)| column.push(row));
            progress(done, total);
        }
        let reports = policies.iter().zip(columns);
        Ok(reports
            .map(|(by, rows)| Report::of(&by.policy, by.advisories.as_deref(), rows))
            .collect())
    }

    /// Why the versions of a crate, or one of them, are judged as they are by the policy in force.
    /// Upper and lower case of the name do not matter. `turn` is awaited when the crate is known, and before
    /// its versions are judged; it ends with that, whether a request still waits for it or not.
    ///
    /// # Errors
    /// Absent, when there is no such crate or version; else as a lookup.
    pub async fn explain<T: Send + 'static>(
        &self,
        reader: &Reader,
        name: &CrateName,
        which: Which,
        turn: impl Future<Output = Result<T>>,
    ) -> Result<Explanation> {
        let (in_force, now) = (self.judge.policy.generation(), self.judge.policy.now());
        let licenses_wanted = in_force.policy.wants_licenses();
        let Some(Seen { file, known, .. }) =
            self.seen(reader, &lowered(name), licenses_wanted).await?
        else {
            return Err(no_crate(name));
        };
        let (turn, name, facts) = (turn.await?, name.clone(), known.judging.facts());
        let explaining = move || {
            let _turn = turn;
            let judged = judge_all(&in_force, &facts, &file, now);
            let by = (&in_force.policy, in_force.advisories.as_deref());
            let explain = |only| Explanation::of(by, name.clone(), facts.upstream, judged, only);
            match &which {
                Which::One(version) => explain(Some(version)).ok_or_else(|| {
                    Error::absent(no_such_version(&name, version, file.same_number(version)))
                }),
                Which::Page { before, most } => {
                    let all = explain(None).ok_or_else(|| no_crate(&name))?;
                    Ok(all.page(before.as_ref(), *most))
                }
            }
        };
        aside(explaining).await?
    }

    /// A package's row in the report of each policy.
    async fn rows(
        &self,
        reach: &Reach,
        package: Locked,
        policies: &[Arc<PolicyGeneration>],
        allowance: &Allowance,
        now: Timestamp,
    ) -> Vec<Row> {
        let same = |row: Row| vec![row; policies.len()];
        if package.source != LockedSource::Registry {
            let misplaced = self.hosted_elsewhere(reach.reader(), &package);
            return same(Row { misplaced, ..Row::outside(&package) });
        }
        let Seen { file, known, identity } = match self.found(reach, &package, policies).await {
            Ok(found) => found,
            Err(why) => return same(Row::unknown(&package, why.message)),
        };
        let mut search = self.licenses.begin(reach.client(), &known, allowance);
        let judged = loop {
            match self.judged(reach, &file, &known, policies, now).await {
                Ok(judged) if search.goes_on(&package.version, &judged).await => (),
                answer => break answer,
            }
        };
        let unread = search.end().await;
        match judged {
            Ok(judged) => {
                let misplaced = misplaced(&package, identity == Identity::Ours);
                let row = |all: &Vec<_>| {
                    let row = Row::of(&package, all, unread.as_deref());
                    Row { misplaced: misplaced.clone(), ..row }
                };
                judged.iter().map(row).collect()
            }
            Err(why) => same(Row::unknown(&package, why.message)),
        }
    }

    /// A crate of ours that is locked under a registry which is not known to be this one: perhaps it is, by a URL that
    /// nobody has told.
    fn hosted_elsewhere(&self, reader: &Reader, package: &Locked) -> Option<String> {
        let (name, registry) = (CrateName::parse(&package.name).ok()?, package.registry.as_ref()?);
        self.lookup.visibility.exists_for(reader, &name).ok().filter(|exists| *exists)?;
        self.hosting.catalog.krate(&name.key()).ok()??;
        Some(format!(
            "it was not judged: a crate of that name is hosted here, and this one is locked under `{}`, which is taken for \
         another registry than this one ({}). If it is this one, name its URL: `server.url` (`--url`), or \
         `server.aliases`",
            excerpt(registry),
            self.url
        ))
    }

    /// The judgements of each policy on all versions of a file.
    async fn judged(
        &self,
        reach: &Reach,
        file: &Arc<IndexFile>,
        known: &CachedLookup,
        policies: &[Arc<PolicyGeneration>],
        now: Timestamp,
    ) -> Result<Vec<Vec<(Listed, Judgement)>>> {
        // For each of them, and after the look-up: so that a check waits for no upstream with it.
        let turn = self.turns.judged.turn(reach.client()).await?;
        let (judges, file, facts) = (policies.to_vec(), Arc::clone(file), known.judging.facts());
        let judge = move || {
            let _turn = turn;
            judges.iter().map(|by| judge_all(by, &facts, &file, now)).collect()
        };
        aside(judge).await
    }

    async fn found(
        &self,
        reach: &Reach,
        package: &Locked,
        policies: &[Arc<PolicyGeneration>],
    ) -> Result<Seen> {
        let name = CrateName::parse(&package.name).map_err(Error::invalid)?;
        package.version.parse::<CrateVersion>().map_err(Error::invalid)?;
        let licenses_wanted = policies.iter().any(|by| by.policy.wants_licenses());
        let lower = lowered(&name);
        if matches!(reach, Reach::Held(_)) && !self.is_held(reach.reader(), &lower).await? {
            return Err(never_asked_for(&name));
        }
        self.seen(reach.reader(), &lower, licenses_wanted).await?.ok_or_else(|| no_crate(&name))
    }

    async fn seen(
        &self,
        reader: &Reader,
        lower: &CrateName,
        licenses_wanted: bool,
    ) -> Result<Option<Seen>> {
        let Answered { known, from } = self.lookup.known(reader, lower).await?;
        let Some(file) = known.answer.clone()? else { return Ok(None) };
        if licenses_wanted {
            self.judge.licenses.begin(&known.judging, &file).await;
        }
        Ok(Some(Seen { file, known, identity: self.lookup.views.identity(from) }))
    }

    /// Whether a crate can be judged without an upstream being asked for what is new to it.
    /// Of what does not exist for a reader it is said what is said of a name that nobody has.
    async fn is_held(&self, reader: &Reader, lower: &CrateName) -> Result<bool> {
        let chain = &self.lookup.chain;
        if !self.lookup.visibility.exists_for(reader, lower)? {
            return Ok(self.hosting.is_reserved(&lower.key()));
        }
        Ok(chain.is_ours(&lower.key())? || chain.is_held(lower).await)
    }
}

/// The index file of a crate before any policy, with what else is known of its versions, and whose they are.
struct Seen {
    file: Arc<IndexFile>,
    known: CachedLookup,
    identity: Identity,
}

fn never_asked_for(name: &CrateName) -> Error {
    Error::absent(format_args!(
        "nothing is held of `{name}` here yet: a build that needs it or `cratehouse prefetch` brings \
         it in, and a check with a token that may publish looks it up"
    ))
}

fn no_crate(name: &CrateName) -> Error {
    Error::absent(format_args!("there is no crate `{name}`"))
}
