//! Search: over hosted crates, and over mirrored ones that were ever asked for. No upstream is
//! asked on its behalf, and no file is read.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::flows::access::reader::Reader;
use crate::flows::access::visibility::Visibility;
use crate::flows::registry::hosting::Hosting;
use crate::flows::registry::lookup::Lookup;
use crate::flows::registry::views::Views;
use crate::flows::turns::Turns;
use cratehouse_core::error::Result;
use cratehouse_journal::catalog::{CrateRow, Tables, View};
use cratehouse_mirror::hosting::HostedNames as _;
use cratehouse_mirror::index::cache::{IndexCache, Place};
use cratehouse_mirror::judge::Judge;
use cratehouse_mirror::names::keeper::NameKeeper;
use cratehouse_mirror::names::table::Seen;
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::newest::{folded, newest};
use cratehouse_package::view::View as IndexView;

/// The longest text that is searched for, in characters.
const MAX_QUERY_CHARS: usize = 200;
/// The longest description in an answer, in characters.
const MAX_DESCRIPTION_CHARS: usize = 1000;
/// Hosted crates whose newest version is remembered, some 150 bytes each.
const MAX_HOSTED: usize = 10_000;

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

/// Which of the hits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many better ones are passed over.
    pub skip: usize,
    /// How many follow, at the most.
    pub size: usize,
}

/// Newest versions of hosted crates, each with the entry that last touched its crate.
type HostedVersions = HashMap<NameKey, (u64, Option<Box<str>>)>;

/// What searches.
#[derive(Debug)]
pub struct Search {
    names: Arc<NameKeeper>,
    hosting: Arc<Hosting>,
    index: IndexCache,
    judge: Arc<Judge>,
    views: Arc<Views>,
    turns: Arc<Turns>,
    visibility: Arc<Visibility>,
    /// How many upstreams there are.
    upstreams: usize,
    hosted: Mutex<HostedVersions>,
}

impl Search {
    /// What finds hosted crates and those whose names are kept, as a lookup sees them.
    pub fn new(names: Arc<NameKeeper>, lookup: &Lookup, turns: Arc<Turns>) -> Self {
        Self {
            names,
            hosting: Arc::clone(&lookup.hosting),
            index: lookup.index.clone(),
            judge: Arc::clone(&lookup.judge),
            views: Arc::clone(&lookup.views),
            turns,
            visibility: Arc::clone(&lookup.visibility),
            upstreams: lookup.chain.len(),
            hosted: Mutex::default(),
        }
    }

    /// Searches names and descriptions of what our own index lists. Gives a page of the hits, the best first, and how many there are in
    /// all. The pages before it are found again: who asks bounds how far that goes.
    ///
    /// # Errors
    /// When the catalog fails; unavailable, when too many search.
    pub async fn search(
        self: &Arc<Self>,
        reader: &Reader,
        query: &str,
        page: Page,
    ) -> Result<(Vec<Hit>, u32)> {
        self.names.load().await;
        let turn = self.turns.searches.turn(reader.client()).await?;
        let (owned, query, reader) = (Arc::clone(self), Query::new(query), reader.clone());
        let finding = self.hosting.catalog.scan(move |view| {
            let _turn = turn; // until it is over, whether a request still waits for it or not
            owned.find(view, &reader, &query, page)
        });
        let Found { hits, total, unknown } = finding.await?;
        self.names.learn(unknown);
        Ok((hits, total))
    }

    fn find(
        &self,
        view: &View<impl Tables>,
        reader: &Reader,
        query: &Query,
        page: Page,
    ) -> Result<Found> {
        // What cannot be told is not shown.
        let exists = |name: &CrateName| self.visibility.exists_for(reader, name).unwrap_or(false);
        let mut best = Best::new(page.skip.saturating_add(page.size));
        let mut hosted: HashSet<NameKey> = HashSet::new();
        view.each_crate(|row| {
            let key = row.name.key();
            let rank = query.rank(&key, row.description.as_deref()).filter(|_| row.shown > 0);
            let rank = rank.filter(|_| exists(&row.name));
            if let Some(rank) = rank {
                best.offer(rank, false, &row.name.clone(), || Kind::Hosted(row));
            }
            hosted.insert(key);
        })?;
        self.names.names.each(|Seen { key, name, version, at }| {
            let Some(rank) = query.rank(key, None) else { return };
            if !self.views.shows(IndexView::Own, Place::Upstream(at)) {
                return; // `cargo add --registry` would not find it
            }
            // A name that is ours by now may have been mirrored before.
            if !hosted.contains(key) && !self.hosting.is_reserved(key) && exists(name) {
                best.offer(rank, true, name, || Kind::Mirrored(at, version.map(Into::into)));
            }
        });
        let (total, mut hits, mut unknown) = (best.total, Vec::new(), Vec::new());
        for Candidate { name, kind, .. } in best.heap.into_sorted_vec().into_iter().skip(page.skip)
        {
            match kind {
                Kind::Mirrored(at, None) => unknown.push((at, name)),
                Kind::Mirrored(_, Some(version)) => {
                    hits.push(Hit { name, max_version: version.into(), description: None });
                }
                Kind::Hosted(row) => hits.extend(self.hosted_hit(view, row)?),
            }
        }
        Ok(Found { hits, total, unknown })
    }

    /// A hosted crate with its newest version: as the policy shows it where that is in memory, else as
    /// the catalog has it.
    fn hosted_hit(&self, view: &View<impl Tables>, row: CrateRow) -> Result<Option<Hit>> {
        let key = row.name.key();
        let version = match self.shown_version(&key, &row.name) {
            Some(version) => Some(version),
            None => self.catalog_version(view, &key, row.changed)?,
        };
        let cut = |text: String| text.chars().take(MAX_DESCRIPTION_CHARS).collect();
        let (name, description) = (row.name, row.description.map(cut));
        Ok(version.map(|version| Hit { name, max_version: version.into(), description }))
    }

    fn shown_version(&self, key: &NameKey, name: &CrateName) -> Option<Box<str>> {
        let lower = CrateName::parse(&name.lower()).ok()?;
        let known = self.index.answer(key, &lower, self.upstreams)?.known;
        let file = known.answer.as_ref().ok()?.as_ref()?;
        let shown = self.judge.at_hand(&known, file)?;
        newest(shown.versions()).map(|best| best.version.to_string().into())
    }

    fn catalog_version(
        &self,
        view: &View<impl Tables>,
        key: &NameKey,
        changed: u64,
    ) -> Result<Option<Box<str>>> {
        let remembered = || self.hosted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, version)) = remembered().get(key)
            && *at == changed
        {
            return Ok(version.clone());
        }
        let listed = view.listed(key)?;
        let version: Option<Box<str>> =
            newest(listed.iter()).map(|best| best.version.to_string().into());
        let mut hosted = remembered();
        if hosted.len() >= MAX_HOSTED {
            hosted.clear();
        }
        hosted.insert(key.clone(), (changed, version.clone()));
        Ok(version)
    }
}

/// What came of a search.
struct Found {
    hits: Vec<Hit>,
    total: u32,
    /// Crates that fit, of which nothing but the name is known.
    unknown: Vec<(usize, CrateName)>,
}

/// The best of many: as many as are wanted, and how many there were.
struct Best {
    heap: BinaryHeap<Candidate>,
    limit: usize,
    total: u32,
}

/// A crate that fits. The greatest is the worst.
struct Candidate {
    rank: u8,
    is_mirrored: bool,
    name: CrateName,
    kind: Kind,
}

enum Kind {
    Hosted(CrateRow),
    Mirrored(usize, Option<Box<str>>),
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(limit + 1), limit, total: 0 }
    }

    /// Nothing is made of what is too bad anyway.
    fn offer(
        &mut self,
        rank: u8,
        is_mirrored: bool,
        name: &CrateName,
        kind: impl FnOnce() -> Kind,
    ) {
        self.total = self.total.saturating_add(1);
        let order = (rank, is_mirrored, name);
        let is_full = self.heap.len() >= self.limit;
        if is_full && self.heap.peek().is_none_or(|worst| order >= worst.order()) {
            return;
        }
        self.heap.push(Candidate { rank, is_mirrored, name: name.clone(), kind: kind() });
        if is_full {
            self.heap.pop();
        }
    }
}

impl Candidate {
    fn order(&self) -> (u8, bool, &CrateName) {
        (self.rank, self.is_mirrored, &self.name)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// What is searched for: every word must stand in the name or the description.
struct Query {
    words: Vec<String>,
}

impl Query {
    fn new(text: &str) -> Self {
        let bounded: String = text.chars().take(MAX_QUERY_CHARS).collect();
        let words: BTreeSet<_> =
            bounded.split_whitespace().map(|word| folded(word).into_owned()).collect();
        Self { words: words.into_iter().collect() }
    }

    /// How well a crate fits, the best first: 0 is the very name.
    fn rank(&self, key: &NameKey, description: Option<&str>) -> Option<u8> {
        let name = key.as_str();
        let in_name = |word: &String| name.contains(word.as_str());
        match &self.words[..] {
            [word] if *word == name => return Some(0),
            [word] if name.starts_with(word.as_str()) => return Some(1),
            words if words.iter().all(in_name) => return Some(2),
            _ => {}
        }
        let description = folded(description?);
        let in_either = |word: &String| in_name(word) || description.contains(word.as_str());
        self.words.iter().all(in_either).then_some(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(query: &str, name: &str, description: &str) -> Option<u8> {
        Query::new(query).rank(&CrateName::parse(name).unwrap().key(), Some(description))
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

    #[test]
    fn the_best_are_kept_and_all_are_counted() {
        let mut best = Best::new(3);
        for n in (0..100_u8).rev() {
            let name = CrateName::parse(&format!("a{n:02}")).unwrap();
            best.offer(2 - u8::from(n % 50 == 0), true, &name, || Kind::Mirrored(0, None));
        }
        let names: Vec<_> =
            best.heap.into_sorted_vec().into_iter().map(|it| it.name.to_string()).collect();
        assert_eq!((names.join(" "), best.total), ("a00 a50 a01".to_owned(), 100));
        let mut none = Best::new(0);
        none.offer(0, true, &CrateName::parse("a").unwrap(), || Kind::Mirrored(0, None));
        assert_eq!((none.heap.len(), none.total), (0, 1));
    }
}
