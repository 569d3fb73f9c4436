//! The index file of a crate: hosted, reserved, or from the chain of upstreams, in this order.
//! A name that is hosted or reserved, in whatever spelling, is never asked of an upstream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use crate::flows::access::reader::Reader;
use crate::flows::access::visibility::Visibility;
use crate::flows::registry::hosting::{Hosting, NameOf};
use crate::flows::registry::views::Views;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::deadline;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_core::threads::aside;
use cratehouse_journal::catalog::{CrateRow, VersionRow};
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::cache::{
    Answered, CachedLookup, IndexCache, LookupKey, Outcome, Place, landed,
};
use cratehouse_mirror::index::chain::Chain;
use cratehouse_mirror::index::judged::{Facts, Judging};
use cratehouse_mirror::judge::Judge;
use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::CrateName;
use cratehouse_package::view::View;
use cratehouse_policy::LicenseFact;

/// What finds index files.
#[derive(Debug)]
pub struct Lookup {
    /// Those in memory.
    pub index: IndexCache,
    /// Which names are ours, and their crates.
    pub hosting: Arc<Hosting>,
    /// Mirrored crates.
    pub chain: Arc<Chain>,
    /// What judges them.
    pub judge: Arc<Judge>,
    /// What each view of the index shows.
    pub views: Arc<Views>,
    /// Which crates exist for whom.
    pub visibility: Arc<Visibility>,
    /// How long a lookup may take.
    pub wait: Duration,
    /// Where lookups count.
    pub metrics: Metrics,
}

impl Lookup {
    /// The index file of a crate, hosted or mirrored, as the policy shows it; `None` when there is
    /// definitely no such crate. `name` is lower case here: it comes from an index path.
    ///
    /// # Errors
    /// When the catalog fails, or an upstream did not answer and nothing is known from before;
    /// unavailable, when it takes longer than `limits.fill_wait` (the work goes on).
    pub async fn find(self: &Arc<Self>, name: &CrateName) -> Result<Option<Arc<IndexFile>>> {
        let answered = self.known_in(&Reader::OWN, None, name).await;
        self.judged(name, answered).await
    }

    /// The same in one view of the index, on behalf of a reader: what it asks upstreams for takes its
    /// share of their places, and what none of them has is charged to it. What does not exist for it is answered as
    /// what does not exist.
    ///
    /// # Errors
    /// As [`find`](Self::find); throttled, when the client has asked for too much that nobody has.
    pub async fn find_for(
        self: &Arc<Self>,
        reader: &Reader,
        view: View,
        name: &CrateName,
    ) -> Result<Option<Arc<IndexFile>>> {
        if let Some(found) = self.at_hand(reader, view, name) {
            return Ok(found);
        }
        let answered = self.known_in(reader, Some(view), name).await;
        if let Ok(answered) = &answered {
            self.count_unified(view, answered);
        }
        self.judged(name, answered).await
    }

    async fn judged(
        &self,
        name: &CrateName,
        answered: Result<Answered>,
    ) -> Result<Option<Arc<IndexFile>>> {
        let outcome = answered.as_ref().map_or(Outcome::Error, |answered| answered.known.outcome);
        self.metrics.index_lookups.with_label_values(&[outcome.label()]).inc();
        let known = answered?.known;
        match &known.answer {
            Ok(Some(file)) => self.judge.file_of(name, &known, Arc::clone(file)).await.map(Some),
            other => other.clone(),
        }
    }

    /// The same as [`find_for`](Self::find_for), if memory alone can tell: `None` where something would
    /// have to be asked, made or waited for. Most lookups end here.
    pub fn at_hand(
        &self,
        reader: &Reader,
        view: View,
        name: &CrateName,
    ) -> Option<Option<Arc<IndexFile>>> {
        self.visibility.exists_for(reader, name).ok().filter(|exists| *exists)?;
        let answered = self.index.answer(&name.key(), name, self.views.chain(view))?;
        let answered = self.views.shown(Some(view), answered);
        let known = &answered.known;
        let file = match &known.answer {
            Ok(Some(file)) => Some(self.judge.at_hand(known, file)?),
            Ok(None) => None,
            Err(_) => return None,
        };
        self.metrics.index_lookups.with_label_values(&[known.outcome.label()]).inc();
        self.count_unified(view, &answered);
        Some(file)
    }

    fn count_unified(&self, view: View, answered: &Answered) {
        let is_file = matches!(answered.known.answer, Ok(Some(_)));
        if is_file && self.views.only_unified(view, answered.from) {
            self.metrics.unified_lookups.inc();
        }
    }

    /// What is known of a crate, wherever it is from, before the policy.
    ///
    /// # Errors
    /// As [`find_for`](Self::find_for).
    pub(crate) async fn known(
        self: &Arc<Self>,
        reader: &Reader,
        name: &CrateName,
    ) -> Result<Answered> {
        self.known_in(reader, None, name).await
    }

    /// The same in a view; `None`: wherever it is from.
    async fn known_in(
        self: &Arc<Self>,
        reader: &Reader,
        view: Option<View>,
        name: &CrateName,
    ) -> Result<Answered> {
        if !self.visibility.exists_for(reader, name)? {
            self.read_where_shown(reader.client(), view).await?;
            if !self.visibility.exists_for(reader, name)? {
                return Ok(Answered::nowhere(CachedLookup::absent(None)));
            }
        }
        let client = reader.client();
        let chain = view.map_or(self.chain.len(), |view| self.views.chain(view));
        let answered = match self.index.answer(&name.key(), name, chain) {
            Some(answered) => answered,
            None => {
                let finding = self.ask(client, name, (view, chain));
                let finding = timeout(deadline::at_most(self.wait), finding);
                finding.await.unwrap_or_else(|_| Err(on_its_way(name)))?
            }
        };
        Ok(self.views.shown(view, answered))
    }

    async fn ask(
        self: &Arc<Self>,
        client: ClientKey,
        name: &CrateName,
        (view, chain): (Option<View>, usize),
    ) -> Result<Answered> {
        let key = &name.key();
        let ours = async |row| match self.views.hosts(view) {
            true => {
                let known = self.hosted(client, name, row).await;
                Answered { known, from: Place::Hosted }
            }
            false => Answered::nowhere(CachedLookup::absent(None)),
        };
        let began = Instant::now();
        let (known, at) = match self.hosting.whose(key)? {
            NameOf::Hosted(row) => return Ok(ours(row).await),
            NameOf::Reserved => (CachedLookup::absent(None), chain),
            NameOf::Others => self.chain.find(client, name, chain).await,
        };
        if known.is_absent() && known.read_from.is_none_or(|at| at < began) {
            self.read_where_shown(client, view).await?;
        }
        // The name may have been published while the upstreams were asked: from then on it is ours.
        match self.hosting.whose(key)? {
            NameOf::Hosted(row) => Ok(ours(row).await),
            _ => Ok(Answered { known, from: Place::Upstream(at) }),
        }
    }

    /// Reads on before something is said to be absent; where hosted crates are not shown, nothing depends on it.
    async fn read_where_shown(&self, client: ClientKey, view: Option<View>) -> Result<()> {
        let read = self.read_on(client).await;
        if self.views.hosts(view) { read } else { Ok(()) }
    }

    /// Another replica may have published a name that is nowhere: where hosted crates are shown, it is
    /// absent only after a read of the journal.
    ///
    /// # Errors
    /// Unavailable, when the journal cannot be read now; nobody waits until it can.
    async fn read_on(&self, client: ClientKey) -> Result<()> {
        if self.hosting.journal.lag().is_none_or(|lag| !lag.is_zero()) {
            return Err(Error::unavailable(
                "whether this registry has that crate cannot be told now; try again in a few seconds",
            ));
        }
        self.hosting.catch_up(client).await
    }

    async fn hosted(
        self: &Arc<Self>,
        client: ClientKey,
        name: &CrateName,
        row: CrateRow,
    ) -> CachedLookup {
        let key = LookupKey {
            name: name.clone(),
            place: Place::Hosted,
            generation: Some(row.changed),
            force: false,
        };
        let (owned, name) = (Arc::clone(self), name.clone());
        let work = || async move {
            let made = owned.make_hosted(&name, &row).await;
            made.unwrap_or_else(|e| CachedLookup::failed(e, Duration::ZERO))
        };
        match self.index.single_flight.join_for(client, key, work).await {
            Ok(result) => landed(result),
            Err(crowded) => {
                self.metrics.requests_refused.inc();
                CachedLookup::failed(crowded, Duration::ZERO)
            }
        }
    }

    /// What is known of a hosted crate's file, by its name as it was published.
    pub(crate) async fn hosted_file_of(
        self: &Arc<Self>,
        client: ClientKey,
        row: CrateRow,
    ) -> Result<CachedLookup> {
        let name: CrateName = row.name.lower().parse().map_err(Error::internal)?;
        match self.index.recall(&name.key(), &name, Place::Hosted) {
            Some(known) => Ok(known),
            None => Ok(self.hosted(client, &name, row).await),
        }
    }

    /// Renders a hosted crate's file and puts it into memory, unless the crate has changed meanwhile.
    async fn make_hosted(&self, name: &CrateName, row: &CrateRow) -> Result<CachedLookup> {
        self.chain.admit_within(self.wait).await?;
        let key = name.key();
        let mut known = CachedLookup::absent(None);
        if row.name.lower() == name.as_str() {
            let (catalog, wanted) = (self.hosting.catalog.clone(), key.clone());
            let read = move || {
                let versions = catalog.versions(&wanted)?;
                Ok::<_, Error>(hosted_file(&versions)?.map(|file| (file, hosted_facts(&versions))))
            };
            if let Some((file, facts)) = aside(read).await?? {
                known = CachedLookup {
                    answer: Ok(Some(self.index.counted(file))),
                    outcome: Outcome::Miss,
                    judging: Arc::new(Judging::new(facts)),
                    ..known
                };
            }
        }
        let (generation, what) = (Some(row.changed), (name, Place::Hosted));
        let now = || self.hosting.generation(&key);
        self.index.put(&key, generation, what, known.clone(), now);
        Ok(known)
    }
}

fn on_its_way(name: &CrateName) -> Error {
    Error::unavailable(format_args!(
        "the index file of `{name}` is still on its way to the registry; try again in a few seconds"
    ))
}

/// The index file of a hosted crate: a line for each version that was not removed, in the order
/// of their publication; `None` without any.
fn hosted_file(versions: &[VersionRow]) -> Result<Option<IndexFile>> {
    let (mut lines, mut listed) = (Vec::new(), Vec::new());
    for row in versions.iter().filter(|row| !row.removed) {
        let line = &row.line;
        serde_json::to_writer(&mut lines, line).map_err(Error::internal)?;
        lines.push(b'\n');
        listed.push(Listed {
            name: line.name.clone(),
            version: line.vers.clone(),
            cksum: line.cksum,
            yanked: line.yanked,
            pubtime: line.pubtime.as_deref().and_then(|time| time.parse().ok()),
        });
    }
    let any = !listed.is_empty();
    Ok(any.then(|| IndexFile::new(Bytes::from(lines), listed)))
}

/// What the policy asks of hosted versions: their metadata tells it.
fn hosted_facts(versions: &[VersionRow]) -> Facts {
    let license = |row: &VersionRow| {
        let (license, file) = (&row.metadata.license, &row.metadata.license_file);
        (row.line.cksum, LicenseFact::of(license.as_deref(), file.as_deref()))
    };
    Facts { licenses: Arc::new(versions.iter().map(license).collect()), ..Facts::default() }
}

#[cfg(test)]
mod new_names;
#[cfg(test)]
mod tests;
