//! What a registry is, in the simplest words: one thing after the other, in one place. Written
//! without a look at the judge or the catalog, so that these can be compared with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Change;
use crate::rights::{Becomes, Rights};
use cratehouse_core::checksum::Checksum;
use cratehouse_journal::entry::EventKind;
use cratehouse_journal::principal::{Role, UserId};
use cratehouse_journal::subject::{Subject, SubjectName};
use cratehouse_package::published::{Metadata, Published};
use cratehouse_package::test_util::{line, name, version};

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    /// By lower-case name.
    crates: BTreeMap<String, Krate>,
    /// Bytes that are being deleted.
    condemned: BTreeSet<Checksum>,
    pub(crate) rights: Rights,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Krate {
    pub(crate) name: String,
    /// Teams that are no more stay among them, and nobody is a member of those.
    pub(crate) owners: BTreeSet<Subject>,
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
    AddOwner { krate: String, owner: SubjectName },
    RemoveOwner { krate: String, owner: SubjectName },
    SetOwners { krate: String, owners: Vec<SubjectName> },
    Change(Change),
}

/// Who wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: u32,
    /// Whether the token has the scope `admin`: what it is worth, the role says.
    pub(crate) admin: bool,
}

impl User {
    /// Who has the store, and so may do everything.
    pub(crate) const OPERATOR: Self = Self { id: 0, admin: true };

    pub(crate) fn is_operator(self) -> bool {
        self == Self::OPERATOR
    }
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fulfilled {
    Done,
    Already,
    Refused,
}

impl Fulfilled {
    pub(crate) fn of(becomes: &Becomes) -> Self {
        match becomes {
            None => Self::Refused,
            Some(events) if events.is_empty() => Self::Already,
            Some(_) => Self::Done,
        }
    }
}

impl Registry {
    /// One in which nothing has happened but that these users got tokens with the scope `admin`.
    pub(crate) fn begin(admin_tokens: impl IntoIterator<Item = u32>) -> Self {
        Self { rights: Rights::begin(admin_tokens), ..Self::default() }
    }

    /// Does what somebody wants, if that may be: what the journal then says of it.
    pub(crate) fn fulfil(&mut self, who: User, wish: &Operation) -> Becomes {
        if self.rights.disabled.contains(&who.id) {
            return None;
        }
        match wish {
            Operation::Publish { krate, version, cksum } => {
                self.publish(who, krate, version, *cksum)
            }
            Operation::Yank { krate, version: number, yanked } => {
                let may = self.publishes(who, krate) || self.administers(who);
                if !may || self.audits(who) || !self.may_read(who, krate) {
                    return None;
                }
                let release = self.release(krate, number)?;
                if release.yanked == *yanked {
                    return Some(Vec::new());
                }
                release.yanked = *yanked;
                let (krate, version) = (name(krate), version(number));
                Some(match yanked {
                    true => vec![EventKind::Yanked { krate, version }],
                    false => vec![EventKind::Unyanked { krate, version }],
                })
            }
            Operation::Remove { krate, version: number } => {
                if !self.administers(who) {
                    return None;
                }
                self.release(krate, number)?.removed = true;
                let (krate, version) = (name(krate), version(number));
                Some(vec![EventKind::Removed { krate, version, reason: REASON.to_owned() }])
            }
            Operation::AddOwner { krate, owner } => {
                if !self.says_who_owns(who, krate) {
                    return None;
                }
                let owner = self.rights.subject(owner)?;
                let new = self.named_mut(krate)?.owners.insert(owner);
                Some(new.then(|| owner_added(krate, owner)).into_iter().collect())
            }
            Operation::RemoveOwner { krate, owner } => {
                if !self.says_who_owns(who, krate) {
                    return None;
                }
                let owner = self.rights.known(owner)?;
                let krate = self.named_mut(krate).filter(|krate| krate.owners.contains(&owner))?;
                let is_user = |one: &Subject| matches!(one, Subject::User(_));
                krate.owners.iter().find(|one| **one != owner && is_user(one))?;
                krate.owners.remove(&owner);
                Some(vec![owner_removed(&krate.name, owner)])
            }
            Operation::SetOwners { krate, owners } => {
                if !self.administers(who) {
                    return None;
                }
                let owners: BTreeSet<_> =
                    owners.iter().map(|owner| self.rights.subject(owner)).collect::<Option<_>>()?;
                owners.iter().find(|one| matches!(one, Subject::User(_)))?;
                let krate = self.named_mut(krate)?;
                let was = std::mem::replace(&mut krate.owners, owners.clone());
                let added = owners.difference(&was).map(|one| owner_added(&krate.name, *one));
                let removed = was.difference(&owners).map(|one| owner_removed(&krate.name, *one));
                Some(added.chain(removed).collect())
            }
            Operation::Change(change) => match self.administers(who) {
                true => self.rights.change(change),
                false => None,
            },
        }
    }

    fn publish(&mut self, who: User, krate: &str, number: &str, cksum: Checksum) -> Becomes {
        let is_new = !self.crates.contains_key(&krate.to_lowercase());
        let may = match self.rights.creators_of(krate) {
            Some(creators) if is_new => self.rights.is_among(who.id, creators),
            None if is_new => true,
            _ => self.publishes(who, krate),
        };
        if !may || self.audits(who) || self.condemned.contains(&cksum) {
            return None;
        }
        let owner = Subject::User(UserId(who.id));
        let row = self.crates.entry(krate.to_lowercase()).or_insert_with(|| Krate {
            name: krate.to_owned(),
            owners: BTreeSet::from([owner]),
            versions: BTreeMap::new(),
        });
        if row.versions.contains_key(number) {
            return None;
        }
        row.versions.insert(number.to_owned(), Release { cksum, yanked: false, removed: false });
        let mut line = line(krate, number, b"");
        line.cksum = cksum;
        let published = Published { line, size: 1, metadata: Metadata::default() };
        let mut events = vec![EventKind::Published(Box::new(published))];
        events.extend(is_new.then(|| owner_added(krate, owner)));
        Some(events)
    }

    /// Whether a crate of this name exists for somebody, if it exists at all.
    fn may_read(&self, who: User, krate: &str) -> bool {
        let Some(readers) = self.rights.readers_of(krate) else { return true };
        who.is_operator()
            || self.rights.is_among(who.id, &readers)
            || self.any(krate).is_some_and(|krate| self.rights.is_among(who.id, &krate.owners))
    }

    /// Whether a user reads a crate: it is there, and for them.
    pub(crate) fn reads(&self, user: u32, krate: &str) -> bool {
        !self.rights.disabled.contains(&user)
            && self.named(krate).is_some()
            && self.may_read(User { id: user, admin: false }, krate)
    }

    fn administers(&self, who: User) -> bool {
        who.is_operator() || (who.admin && self.rights.role_of(who.id) == Some(Role::Admin))
    }

    /// Whether somebody changes no crate, whatever they own.
    fn audits(&self, who: User) -> bool {
        !who.is_operator() && self.rights.role_of(who.id) == Some(Role::Auditor)
    }

    /// Whether somebody is an owner, or in a team that is one.
    fn publishes(&self, who: User, krate: &str) -> bool {
        self.named(krate).is_some_and(|krate| self.rights.is_among(who.id, &krate.owners))
    }

    /// Members of teams do not, and nobody does to whom there is no such crate.
    fn says_who_owns(&self, who: User, krate: &str) -> bool {
        let user = Subject::User(UserId(who.id));
        let owns = self.named(krate).is_some_and(|krate| krate.owners.contains(&user));
        (owns || self.administers(who)) && !self.audits(who) && self.may_read(who, krate)
    }

    /// The crate of this name, however it is spelled.
    pub(crate) fn any(&self, name: &str) -> Option<&Krate> {
        self.crates.get(&name.to_lowercase())
    }

    fn named(&self, name: &str) -> Option<&Krate> {
        self.any(name).filter(|krate| krate.name == name)
    }

    fn named_mut(&mut self, name: &str) -> Option<&mut Krate> {
        self.crates.get_mut(&name.to_lowercase()).filter(|krate| krate.name == name)
    }

    fn release(&mut self, krate: &str, version: &str) -> Option<&mut Release> {
        let krate = self.named_mut(krate)?;
        krate.versions.get_mut(version).filter(|release| !release.removed)
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
    pub(crate) fn owners(&self) -> impl Iterator<Item = (String, BTreeSet<Subject>)> {
        self.crates.values().map(|krate| (krate.name.clone(), krate.owners.clone()))
    }
}

/// Why a version is removed.
pub(crate) const REASON: &str = "a reason";

fn owner_added(krate: &str, owner: Subject) -> EventKind {
    let krate = name(krate);
    match owner {
        Subject::User(user) => EventKind::OwnerAdded { krate, user },
        Subject::Team(team) => EventKind::TeamOwnerAdded { krate, team },
    }
}

fn owner_removed(krate: &str, owner: Subject) -> EventKind {
    let krate = name(krate);
    match owner {
        Subject::User(user) => EventKind::OwnerRemoved { krate, user },
        Subject::Team(team) => EventKind::TeamOwnerRemoved { krate, team },
    }
}
