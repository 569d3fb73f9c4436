//! What a registry is, in the simplest words: one thing after the other, in one place. Written
//! without a look at the judge or the catalog, so that these can be compared with it.

use std::collections::{BTreeMap, BTreeSet};

use cratehouse_core::checksum::Checksum;
use cratehouse_journal::entry::EventKind;

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// By lower-case name.
    crates: BTreeMap<String, Krate>,
    /// Bytes that are being deleted.
    condemned: BTreeSet<Checksum>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Krate {
    name: String,
    owners: BTreeSet<u32>,
    versions: BTreeMap<String, Release>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    cksum: Checksum,
    yanked: bool,
    removed: bool,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Publish { krate: String, version: String, cksum: Checksum },
    Yank { krate: String, version: String, yanked: bool },
    Remove { krate: String, version: String },
    AddOwner { krate: String, user: u32 },
    RemoveOwner { krate: String, user: u32 },
}

/// Who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) admin: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fulfilled {
    Done,
    Already,
    Refused,
}

use Fulfilled::{Already, Done, Refused};

impl Registry {
    /// Does what somebody wants, if that may be.
    pub(crate) fn fulfil(&mut self, who: User, wish: &Operation) -> Fulfilled {
        match wish {
            Operation::Publish { krate, version, cksum } => {
                self.publish(who, krate, version, *cksum)
            }
            Operation::Yank { krate, version, yanked } => {
                let Some(krate) = self.named(krate).filter(|k| k.is_run_by(who)) else {
                    return Refused;
                };
                let present = krate.versions.get_mut(version).filter(|v| !v.removed);
                match present {
                    None => Refused,
                    Some(release) if release.yanked == *yanked => Already,
                    Some(release) => {
                        release.yanked = *yanked;
                        Done
                    }
                }
            }
            Operation::Remove { krate, version } => {
                let krate = self.named(krate).filter(|_| who.admin);
                let present =
                    krate.and_then(|k| k.versions.get_mut(version)).filter(|v| !v.removed);
                let Some(release) = present else { return Refused };
                release.removed = true;
                Done
            }
            Operation::AddOwner { krate, user } => match self.named(krate) {
                Some(krate) if krate.is_run_by(who) => match krate.owners.insert(*user) {
                    true => Done,
                    false => Already,
                },
                _ => Refused,
            },
            Operation::RemoveOwner { krate, user } => match self.named(krate) {
                Some(krate) if krate.is_run_by(who) => {
                    let others = krate.owners.iter().any(|owner| owner != user);
                    match others && krate.owners.remove(user) {
                        true => Done,
                        false => Refused,
                    }
                }
                _ => Refused,
            },
        }
    }

    fn publish(&mut self, who: User, name: &str, version: &str, cksum: Checksum) -> Fulfilled {
        if self.condemned.contains(&cksum) {
            return Refused;
        }
        let new = || Krate {
            name: name.to_owned(),
            owners: BTreeSet::from([who.id]),
            versions: BTreeMap::new(),
        };
        let key = name.to_lowercase();
        let mut krate = self.crates.get(&key).cloned().unwrap_or_else(new);
        let free = !krate.versions.contains_key(version);
        if krate.name != name || !krate.owners.contains(&who.id) || !free {
            return Refused;
        }
        krate.versions.insert(version.to_owned(), Release { cksum, yanked: false, removed: false });
        self.crates.insert(key, krate);
        Done
    }

    fn named(&mut self, name: &str) -> Option<&mut Krate> {
        self.crates.get_mut(&name.to_lowercase()).filter(|krate| krate.name == name)
    }

    /// Takes note of a sweep's event.
    ///
    /// # Errors
    /// When it may not be.
    pub(crate) fn sweep(&mut self, event: &EventKind) -> Result<(), String> {
        match event {
            EventKind::Condemned { checksums } => {
                if !self.condemned.is_empty() {
                    return Err("two sweeps at one time".to_owned());
                }
                let named: BTreeSet<_> = self.present().map(|(_, _, sum, _)| sum).collect();
                if let Some(sum) = checksums.iter().find(|sum| named.contains(sum)) {
                    return Err(format!("{sum} is condemned, and a version names it"));
                }
                self.condemned.extend(checksums);
            }
            EventKind::Collected { checksums } => {
                if let Some(sum) = checksums.iter().find(|sum| !self.condemned.remove(sum)) {
                    return Err(format!("{sum} is collected, and was not condemned"));
                }
            }
            other => return Err(format!("the operator did {other:?}")),
        }
        Ok(())
    }

    /// Name, version, checksum, and whether it is yanked, of all that was not removed.
    pub(crate) fn present(&self) -> impl Iterator<Item = (String, String, Checksum, bool)> {
        self.crates.values().flat_map(|krate| {
            let present = krate.versions.iter().filter(|(_, release)| !release.removed);
            present.map(|(version, release)| {
                (krate.name.clone(), version.clone(), release.cksum, release.yanked)
            })
        })
    }

    /// The owners of each crate.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (String, Vec<u32>)> {
        self.crates
            .values()
            .map(|krate| (krate.name.clone(), krate.owners.iter().copied().collect()))
    }
}

impl Krate {
    fn is_run_by(&self, who: User) -> bool {
        who.admin || self.owners.contains(&who.id)
    }
}
