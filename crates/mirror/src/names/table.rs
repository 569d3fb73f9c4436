//! The mirrored crates that are known, each with its newest version: in memory, where a search finds
//! them. They are learned when an index file is read, and one object of the store has them for the
//! next start and for other replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cratehouse_package::index::{IndexFile, Listed};
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::newest::{newest, read_line, write_line};

/// The memory that names may take, in bytes: some 400,000 of them, twice what crates.io has. Further
/// ones are not found by a search.
const MAX_BYTES: usize = 64 << 20;
/// What a name takes beside its texts, in bytes: its row in the table, and what malloc adds.
const NAME_BYTES: usize = 120;
/// Names that are looked at in one go: what takes note of another one waits so long.
const AT_ONCE: usize = 1000;

/// The mirrored crates that are known.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<NameKey, KnownCrate>,
    bytes: usize,
    /// Upstreams, by their place in the chain, whose list in the store is to be written.
    unsaved: BTreeSet<usize>,
    /// How many lists were read.
    lists: u32,
    /// Whether a name found no room since the start.
    is_cut: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownCrate {
    /// As its newest line spells it; in lower case, where only its path is known.
    name: CrateName,
    version: Option<Box<str>>,
    /// The place of its upstream in the chain.
    at: usize,
    /// Learned since the list was last written.
    is_new: bool,
    /// The last list that it was in.
    list: u32,
}

impl KnownCrate {
    fn bytes(&self) -> usize {
        NAME_BYTES + 2 * self.name.as_str().len() + self.version.as_ref().map_or(0, |v| v.len())
    }
}

/// A mirrored crate, as a search sees it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its name without regard to spelling.
    pub key: &'a NameKey,
    /// Its name; in lower case, where only its path is known.
    pub name: &'a CrateName,
    /// Its newest version; `None`: it is not known yet.
    pub version: Option<&'a str>,
    /// The place of its upstream in the chain.
    pub at: usize,
}

impl Names {
    /// Takes note of an index file of the upstream at a place of the chain. What an earlier
    /// upstream has goes before.
    pub(crate) fn note(&self, at: usize, file: &IndexFile) {
        if let Some(best) = newest(file.versions()) {
            self.note_version(at, best);
        }
    }

    /// The same of a newest version.
    pub(crate) fn note_version(&self, at: usize, best: &Listed) {
        let (key, version) = (best.name.key(), best.version.to_string());
        let is_known = |known: &KnownCrate| {
            known.at < at
                || (known.at == at
                    && known.version.as_deref() == Some(version.as_str())
                    && known.name == best.name)
        };
        if self.read().all.get(&key).is_some_and(is_known) {
            return;
        }
        let mut table = self.write();
        let (name, version, list) = (best.name.clone(), Some(version.into()), table.lists);
        if table.put(key, KnownCrate { name, version, at, is_new: true, list }) {
            table.unsaved.insert(at);
        }
    }

    /// Takes note of a name, of which no more is known.
    pub(crate) fn note_name(&self, at: usize, name: CrateName) {
        let mut table = self.write();
        let (key, list) = (name.key(), table.lists);
        if !table.all.contains_key(&key)
            && table.put(key, KnownCrate { name, version: None, at, is_new: true, list })
        {
            table.unsaved.insert(at);
        }
    }

    /// An upstream does not have a crate any more, or its copy was purged.
    pub(crate) fn forget(&self, at: usize, key: &NameKey) {
        let is_from = |known: &KnownCrate| known.at == at;
        if self.read().all.get(key).is_some_and(is_from) {
            let mut table = self.write();
            table.take(key);
            table.unsaved.insert(at);
        }
    }

    /// Whether a name is known.
    pub(crate) fn has(&self, key: &NameKey) -> bool {
        self.read().all.contains_key(key)
    }

    /// Whether there was room for all names so far: else one that is not known may be held all the same.
    pub(crate) fn is_whole(&self) -> bool {
        !self.read().is_cut
    }

    /// Shows every name. Takes a while: call it off the async threads.
    pub(crate) fn each(&self, mut show: impl FnMut(Seen<'_>)) {
        let mut after: Option<NameKey> = None;
        loop {
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let table = self.read();
            let mut last = None;
            for (key, known) in table.all.range((from, Bound::Unbounded)).take(AT_ONCE) {
                let KnownCrate { name, version, at, .. } = known;
                show(Seen { key, name, version: version.as_deref(), at: *at });
                last = Some(key.clone());
            }
            drop(table);
            let Some(last) = last else { return };
            after = Some(last);
        }
    }

    /// Takes up the list of an upstream: what it does not have, and was not learned here since it
    /// was last written, is gone. Off the async threads.
    pub(crate) fn take_up(&self, at: usize, lines: &[u8]) {
        self.write().lists += 1;
        let mut lines = lines.split(|byte| *byte == b'\n').peekable();
        while lines.peek().is_some() {
            let mut table = self.write();
            let list = table.lists;
            for line in lines.by_ref().take(AT_ONCE) {
                let line = std::str::from_utf8(line).ok().and_then(read_line);
                let Some((name, version)) = line else { continue };
                let key = name.key();
                match table.all.get_mut(&key) {
                    Some(known) if known.at < at || known.is_new => known.list = list,
                    _ => {
                        let version = version.map(Into::into);
                        table.put(key, KnownCrate { name, version, at, is_new: false, list });
                    }
                }
            }
        }
        let mut table = self.write();
        let list = table.lists;
        let mut freed = 0;
        table.all.retain(|_, known| {
            let stays = known.at != at || known.is_new || known.list == list;
            freed += if stays { 0 } else { known.bytes() };
            stays
        });
        table.bytes = table.bytes.saturating_sub(freed);
    }

    /// The list of an upstream, if it is to be written. Off the async threads.
    pub(crate) fn unsaved(&self, at: usize) -> Option<String> {
        if !self.write().unsaved.remove(&at) {
            return None;
        }
        let mut text = String::new();
        self.each(|seen| {
            if seen.at == at {
                write_line(&mut text, seen.name, seen.version);
            }
        });
        Some(text)
    }

    /// What was written is in the store, or is not.
    pub(crate) fn saved(&self, at: usize, outcome: bool) {
        let mut table = self.write();
        if !outcome {
            table.unsaved.insert(at);
        } else if !table.unsaved.contains(&at) {
            table.all.values_mut().filter(|known| known.at == at).for_each(|k| k.is_new = false);
        }
    }

    /// How many there are, and the memory that they take, in bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        let table = self.read();
        (table.all.len(), table.bytes)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Says whether there was room; where there is none, what was known of the name stays.
    fn put(&mut self, key: NameKey, known: KnownCrate) -> bool {
        let former = self.all.get(&key).map_or(0, KnownCrate::bytes);
        let bytes = self.bytes.saturating_sub(former) + known.bytes();
        let fits = bytes <= MAX_BYTES;
        if fits {
            self.bytes = bytes;
            self.all.insert(key, known);
        }
        self.is_cut |= !fits;
        fits
    }

    fn take(&mut self, key: &NameKey) {
        if let Some(known) = self.all.remove(key) {
            self.bytes = self.bytes.saturating_sub(known.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use cratehouse_core::checksum::Checksum;

    fn file(name: &str, version: &str) -> IndexFile {
        let (name, version) = (name.parse().unwrap(), version.parse().unwrap());
        let cksum = Checksum::of(b"");
        IndexFile::new(
            Bytes::new(),
            vec![Listed { name, version, cksum, yanked: false, pubtime: None }],
        )
    }

    fn shown(names: &Names) -> Vec<String> {
        let mut all = Vec::new();
        names.each(|it| all.push(format!("{} {} {}", it.name, it.version.unwrap_or("?"), it.at)));
        all
    }

    #[test]
    fn a_name_is_known_with_its_newest_version_and_the_first_upstream_that_has_it() {
        let names = Names::default();
        names.note(1, &file("Foo-Bar", "1.0.0"));
        names.note(0, &file("foo_bar", "2.0.0"));
        names.note(1, &file("Foo-Bar", "3.0.0"));
        names.note_name(0, "foo-bar".parse().unwrap());
        names.note_name(0, "other".parse().unwrap());
        assert_eq!(shown(&names), ["foo_bar 2.0.0 0", "other ? 0"]);
        names.forget(1, &"foo_bar".parse::<CrateName>().unwrap().key());
        assert_eq!(shown(&names).len(), 2);
        names.forget(0, &"foo_bar".parse::<CrateName>().unwrap().key());
        names.forget(0, &"other".parse::<CrateName>().unwrap().key());
        assert_eq!((shown(&names).len(), names.size()), (0, (0, 0)));
    }

    #[test]
    fn the_list_brings_what_is_known_to_another_replica_and_takes_away_what_is_gone() {
        let (a, b) = (Names::default(), Names::default());
        for n in 0..2500 {
            a.note(0, &file(&format!("crate-{n}"), "1.0.0"));
        }
        let list = a.unsaved(0).unwrap();
        a.saved(0, true);
        assert!(a.unsaved(0).is_none() && a.unsaved(1).is_none());
        b.note(0, &file("crate-0", "2.0.0"));
        b.note(0, &file("only-here", "1.0.0"));
        b.take_up(0, list.as_bytes());
        assert_eq!((b.size().0, shown(&b)[0].as_str()), (2501, "crate-0 2.0.0 0"));
        assert_eq!(a.size().0, 2500);

        let list = b.unsaved(0).unwrap();
        b.saved(0, false);
        assert!(b.unsaved(0).is_some(), "it is tried again");
        b.saved(0, true);
        let fewer: String = list.lines().skip(10).map(|line| format!("{line}\n")).collect();
        a.take_up(0, fewer.as_bytes());
        assert_eq!(a.size().0, 2491);
        a.take_up(0, b"crate-1 1.0.0\n\n\xff\n1nonsense 1.0.0\ncrate-2 one.two\n");
        assert_eq!(shown(&a), ["crate-1 1.0.0 0", "crate-2 ? 0"]);
    }

    #[test]
    fn the_memory_for_names_is_bounded() {
        let names = Names::default();
        let long = "a".repeat(40);
        let most = MAX_BYTES / (NAME_BYTES + 2 * 46);
        for n in 0..most + 10 {
            names.note_name(0, format!("{long}{n:06}").parse().unwrap());
        }
        assert_eq!(names.size().0, most);
        assert!(names.size().1 <= MAX_BYTES && !names.is_whole());

        let known = format!("{long}000000");
        names.note(0, &file(&known, &format!("1.0.0-{}", "a".repeat(100))));
        assert!(names.has(&known.parse::<CrateName>().unwrap().key()), "a longer one has no room");
        assert_eq!(names.size().0, most);
    }
}
