//! Search: over hosted crates, and over mirrored ones that were ever asked for.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::error::Result;
use crate::flows::{lookup, mirroring};
use crate::gateway::Gateway;
use crate::model::index::IndexFile;
use crate::model::name::CrateName;
use crate::stores::catalog::CrateRow;

/// The longest text that is searched for, in bytes.
const MAX_QUERY_BYTES: usize = 200;
/// How often the store is asked for the names that other replicas have mirrored.
const LIST_EVERY: Duration = Duration::from_secs(600);
/// Index files that are looked up at one time, for the newest versions of what was found.
const LOOKUPS: usize = 8;

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
    listed: Mutex<Option<Instant>>,
}

impl MirroredNames {
    /// Takes note of a mirrored crate.
    pub fn note(&self, name: &CrateName) {
        let known = |names: &BTreeSet<CrateName>| names.contains(name);
        if !known(&self.names.read().unwrap_or_else(PoisonError::into_inner)) {
            self.names.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
    }

    fn matching(&self, query: &Query) -> Vec<CrateName> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|name| query.rank(name, None).is_some()).cloned().collect()
    }

    /// Asks the store, now and then. Its trouble makes a search poorer, not wrong.
    async fn list(&self, gateway: &Arc<Gateway>) {
        let mut listed = self.listed.lock().await;
        if listed.is_some_and(|at| at.elapsed() < LIST_EVERY) {
            return;
        }
        match mirroring::names(gateway).await {
            Ok(found) => {
                let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
                names.extend(found);
                drop(names);
                *listed = Some(Instant::now());
            }
            Err(e) => warn!(error = %e.chain(), "the mirrored names could not be listed"),
        }
    }
}

/// Searches names and descriptions. Gives the best hits, `limit` at the most, and how many
/// there are in all.
///
/// # Errors
/// When the catalog fails.
pub async fn search(gateway: &Arc<Gateway>, query: &str, limit: usize) -> Result<(Vec<Hit>, u32)> {
    let query = Query::new(query);
    gateway.mirrored_names.list(gateway).await;
    let mut found = Vec::new();
    for row in gateway.catalog.view()?.crates()? {
        if let Some(rank) = query.rank(&row.name, row.description.as_deref()) {
            found.push((rank, row.name.clone(), Some(row)));
        }
    }
    for name in gateway.mirrored_names.matching(&query) {
        if let Some(rank) = query.rank(&name, None).filter(|_| !found.iter().any(|f| f.1 == name)) {
            found.push((rank, name, None));
        }
    }
    found.sort_by(|a, b| (a.0, a.2.is_none(), &a.1).cmp(&(b.0, b.2.is_none(), &b.1)));
    let total = u32::try_from(found.len()).unwrap_or(u32::MAX);
    // Collected first: a lazy iterator of futures is not `Send` for every lifetime.
    let best: Vec<_> =
        found.into_iter().take(limit).map(|(_, name, row)| hit(gateway, name, row)).collect();
    let hits: Vec<Option<Hit>> = stream::iter(best).buffered(LOOKUPS).collect().await;
    Ok((hits.into_iter().flatten().collect(), total))
}

async fn hit(gateway: &Arc<Gateway>, name: CrateName, row: Option<CrateRow>) -> Option<Hit> {
    let lower = CrateName::parse(&name.lower()).ok()?;
    let file = lookup::lookup(gateway, &lower).await.ok().flatten()?;
    let newest = newest(&file)?;
    Some(Hit {
        max_version: newest.1,
        name: newest.0,
        description: row.and_then(|r| r.description),
    })
}

/// The newest version, a stable one that is not yanked before all others.
fn newest(file: &IndexFile) -> Option<(CrateName, String)> {
    let best = file.versions().max_by(|a, b| {
        let rank = |v: &crate::model::index::Listed| (!v.yanked, !v.version.is_prerelease());
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
        let bounded: String = text.chars().take(MAX_QUERY_BYTES).collect();
        Self { words: bounded.split_whitespace().map(fold).collect() }
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
