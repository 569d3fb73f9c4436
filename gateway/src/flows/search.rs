//! Search: over hosted crates, and over mirrored ones that were ever asked for. No upstream is
//! asked on its behalf.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::error::{Error, Result};
use crate::flows::index_cache::Place;
use crate::flows::{lookup, mirroring};
use crate::gateway::Gateway;
use crate::model::index::{IndexFile, Listed};
use crate::model::mirrored::{self, OwnRegistries};
use crate::model::name::{CrateName, NameKey};
use crate::stores::catalog::CrateRow;

/// The longest text that is searched for, in characters.
const MAX_QUERY_CHARS: usize = 200;
/// How often the store is asked for the names that other replicas have mirrored, and how soon
/// again when it did not answer.
const LIST_EVERY: Duration = Duration::from_secs(600);
const LIST_AGAIN: Duration = Duration::from_secs(30);
/// How long a search waits for that; it goes on without the search.
const LIST_WAIT: Duration = Duration::from_secs(5);
/// Names that are looked at in one go: whoever takes note of another one waits so long.
const NAMES_AT_ONCE: usize = 1000;
/// Index files that are looked up at one time, for the newest versions of what was found, and
/// how long that may take in all.
const LOOKUPS: usize = 8;
const LOOKUPS_WAIT: Duration = Duration::from_secs(15);

/// One found crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its name.
    pub name: CrateName,
    /// Its newest version.
    pub max_version: String,
    /// Its description, where it is known: index files of mirrored crates have none.
    pub description: Option<String>,
}

/// The names of all mirrored crates that were ever asked for, by this replica or another.
#[derive(Debug, Default)]
pub struct MirroredNames {
    names: RwLock<BTreeSet<CrateName>>,
    /// When the store is to be asked next.
    due: Mutex<Option<Instant>>,
}

impl MirroredNames {
    /// Takes note of a mirrored crate.
    pub fn note(&self, name: &CrateName) {
        let known = |names: &BTreeSet<CrateName>| names.contains(name);
        if !known(&self.names.read().unwrap_or_else(PoisonError::into_inner)) {
            self.names.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
    }

    /// The names that fit and how well they do. Looks at every name: call it off the async threads.
    fn matching(&self, query: &Query) -> Vec<(u8, CrateName)> {
        let mut found = Vec::new();
        let mut after: Option<CrateName> = None;
        loop {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
            let some: Vec<CrateName> = names
                .range::<CrateName, _>((from, Bound::Unbounded))
                .take(NAMES_AT_ONCE)
                .cloned()
                .collect();
            drop(names);
            let Some(last) = some.last() else { return found };
            after = Some(last.clone());
            found.extend(some.into_iter().filter_map(|n| Some((query.rank(&n, None)?, n))));
        }
    }

    /// Asks the store, when it is time to. Its trouble makes a search poorer, not wrong.
    async fn list(&self, gateway: &Arc<Gateway>) {
        let mut due = self.due.lock().await;
        if due.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let listed = mirroring::names(gateway).await;
        let wait = if listed.is_ok() { LIST_EVERY } else { LIST_AGAIN };
        match listed {
            Ok(found) => self.names.write().unwrap_or_else(PoisonError::into_inner).extend(found),
            Err(e) => warn!(error = %e.chain(), "the mirrored names could not be listed"),
        }
        *due = Some(Instant::now() + wait);
    }
}

/// Searches names and descriptions. Gives the best hits, `limit` at the most, and how many
/// there are in all.
///
/// # Errors
/// When the catalog fails, or the versions of what was found cannot be told in time.
pub async fn search(gateway: &Arc<Gateway>, query: &str, limit: usize) -> Result<(Vec<Hit>, u32)> {
    let owned = Arc::clone(gateway);
    let listing = tokio::spawn(async move { owned.mirrored_names.list(&owned).await });
    let _ = timeout(LIST_WAIT, listing).await; // it goes on, for the next search
    let (found, total) = find(gateway, Query::new(query), limit).await?;
    // Collected first: a lazy iterator of futures is not `Send` for every lifetime.
    let best: Vec<_> = found.into_iter().map(|one| hit(gateway, one)).collect();
    let hits = stream::iter(best).buffered(LOOKUPS).collect::<Vec<Option<Hit>>>();
    let too_slow = |_| Error::unavailable("the search took too long: try again shortly");
    let hits = timeout(LOOKUPS_WAIT, hits).await.map_err(too_slow)?;
    Ok((hits.into_iter().flatten().collect(), total))
}

/// A crate that fits, and how well. Hosted ones have a row.
struct Found {
    rank: u8,
    name: CrateName,
    row: Option<CrateRow>,
}

/// The crates that fit best, and how many fit.
async fn find(gateway: &Arc<Gateway>, query: Query, limit: usize) -> Result<(Vec<Found>, u32)> {
    let owned = Arc::clone(gateway);
    let all = move |rows: Vec<CrateRow>| {
        let hosted: HashSet<NameKey> = rows.iter().map(|row| row.name.key()).collect();
        let shown = rows.into_iter().filter(|row| row.shown > 0);
        let mut found: Vec<Found> = shown
            .filter_map(|row| {
                let rank = query.rank(&row.name, row.description.as_deref())?;
                Some(Found { rank, name: row.name.clone(), row: Some(row) })
            })
            .collect();
        // A name that is ours by now may have been mirrored before.
        for (rank, name) in owned.mirrored_names.matching(&query) {
            let key = name.key();
            if !hosted.contains(&key) && !lookup::is_reserved(&owned.config, &key) {
                found.push(Found { rank, name, row: None });
            }
        }
        let total = u32::try_from(found.len()).unwrap_or(u32::MAX);
        found.sort_by(Found::before);
        found.truncate(limit);
        (found, total)
    };
    gateway.catalog.scan(move |view| Ok(all(view.crates()?))).await
}

impl Found {
    fn before(&self, other: &Self) -> Ordering {
        let key = |f: &Self| (f.rank, f.row.is_none());
        key(self).cmp(&key(other)).then_with(|| self.name.cmp(&other.name))
    }
}

async fn hit(gateway: &Arc<Gateway>, found: Found) -> Option<Hit> {
    let lower = CrateName::parse(&found.name.lower()).ok()?;
    let (name, max_version) = match &found.row {
        Some(_) => newest(lookup::lookup(gateway, &lower).await.ok()??.versions())?,
        None => newest_mirrored(gateway, &lower).await?,
    };
    Some(Hit { name, max_version, description: found.row.and_then(|row| row.description) })
}

/// The newest version that was last seen of a mirrored crate, in memory or in the store.
async fn newest_mirrored(gateway: &Gateway, name: &CrateName) -> Option<(CrateName, String)> {
    let key = name.key();
    for (at, upstream) in gateway.upstreams.iter().enumerate() {
        let known = gateway.index.remember(&key, name, Place::Upstream(at));
        let file: Option<Arc<IndexFile>> = known.and_then(|known| known.answer.ok().flatten());
        if let Some(file) = file {
            return newest(file.versions());
        }
        if let Ok(Some(kept)) = gateway.mirror.index(upstream.name(), name).await {
            let name = name.clone();
            let read = move || mirrored::read(&kept.body, &name, &OwnRegistries::default());
            return newest(spawn_blocking(read).await.ok()?.ok()?.versions.iter());
        }
    }
    None
}

/// The newest version, a stable one that is not yanked before all others.
fn newest<'a>(versions: impl Iterator<Item = &'a Listed>) -> Option<(CrateName, String)> {
    let best = versions.max_by(|a, b| {
        let rank = |v: &Listed| (!v.yanked, !v.version.is_prerelease());
        rank(a).cmp(&rank(b)).then_with(|| a.version.cmp(&b.version))
    })?;
    Some((best.name.clone(), best.version.to_string()))
}

/// What is searched for: every word must stand in the name or the description.
struct Query {
    words: Vec<String>,
}

impl Query {
    fn new(text: &str) -> Self {
        let bounded: String = text.chars().take(MAX_QUERY_CHARS).collect();
        let words: BTreeSet<_> = bounded.split_whitespace().map(fold).collect();
        Self { words: words.into_iter().collect() }
    }

    /// How well a crate fits, the best first: 0 is the very name.
    fn rank(&self, name: &CrateName, description: Option<&str>) -> Option<u8> {
        let (name, description) = (fold(name.as_str()), fold(description.unwrap_or_default()));
        let in_name = |word: &String| name.contains(word.as_str());
        let in_either = |word: &String| in_name(word) || description.contains(word.as_str());
        match &self.words[..] {
            [word] if *word == name => Some(0),
            [word] if name.starts_with(word.as_str()) => Some(1),
            words if words.iter().all(in_name) => Some(2),
            words if words.iter().all(in_either) => Some(3),
            _ => None,
        }
    }
}

fn fold(text: &str) -> String {
    text.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(query: &str, name: &str, description: &str) -> Option<u8> {
        Query::new(query).rank(&CrateName::parse(name).unwrap(), Some(description))
    }

    #[test]
    fn the_very_name_comes_before_a_part_of_it_and_that_before_the_description() {
        assert_eq!(rank("foo_bar", "Foo-Bar", ""), Some(0));
        assert_eq!(rank("foo", "foo-bar", ""), Some(1));
        assert_eq!(rank("bar foo", "foo-bar", ""), Some(2));
        assert_eq!(rank("bar parser", "foo-bar", "A Parser"), Some(3));
        assert_eq!(rank("baz", "foo-bar", "A parser"), None);
    }

    #[test]
    fn an_empty_query_finds_everything() {
        assert_eq!(rank("", "foo", ""), Some(2));
    }
}
