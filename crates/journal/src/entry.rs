//! The journal's entries: everything that ever changed hosted state, in order.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoint_format::Name;
use crate::principal::{Grant, PrincipalKind, Role, TeamId, TokenId, UserId};
use crate::subject::Subject;
use cratehouse_core::checksum::Checksum;
pub use cratehouse_core::random_id::RandomId as EntryId;
use cratehouse_package::name::{CrateName, NamePattern};
use cratehouse_package::published::Published;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::format_level::Level;

/// One journal object: some events that were committed together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number; the first is 1, and there are no gaps.
    pub seq: u64,
    /// Random: how a writer recognises its own entry.
    pub id: EntryId,
    /// SHA-256 of the bytes of the entry before; for the first one, of the registry's id.
    pub prev: Checksum,
    /// When its writer made it. Orders nothing.
    pub time: Timestamp,
    /// The replica that wrote it.
    pub replica: String,
    /// The format level that was enabled when it was written; not said at the first one. So any entry
    /// tells by itself whether checkpoints of it must be named.
    #[serde(default, skip_serializing_if = "Level::is_first")]
    pub level: Level,
    /// What happened.
    pub events: Vec<Event>,
}

/// Who did what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Who.
    pub by: Actor,
    /// What.
    #[serde(flatten)]
    pub what: EventKind,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Actor {
    /// Somebody with access to the store, by the command line. From level 2 on [`Actor::CommandLine`] says more.
    Operator,
    /// Somebody with access to the store, as the system names them. Of level 2.
    CommandLine(Account),
    /// The replica that wrote the entry, by itself. Of level 2.
    Replica,
    /// A user, with a token.
    User {
        /// The user.
        user: UserId,
        /// The token that was shown.
        token: TokenId,
    },
}

/// Whose shell a command was given in, as the system of that machine says. Who has the store can write anything there:
/// it is a help to honest people, and no proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The account's name, `uid 1000` where it has none, and behind it who became it by `sudo`.
    pub user: String,
    /// The machine's name.
    pub host: String,
}

/// What happened. A release that does not know an event stops before it rather than skip it. A
/// new kind, or a new field of one, has a level of its own: see [`EventKind::level`].
#[derive(
    Debug, Clone, PartialEq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// A version was published. The first one of a crate is followed by its [`EventKind::OwnerAdded`].
    Published(Box<Published>),
    /// New resolutions should pass a version over.
    Yanked {
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
    },
    /// A version is no longer yanked.
    Unyanked {
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
    },
    /// A version left the index and its bytes are out of reach; its number stays burned.
    Removed {
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
        /// Why.
        reason: String,
    },
    /// A user became an owner of a crate.
    OwnerAdded {
        /// The crate.
        krate: CrateName,
        /// The new owner.
        user: UserId,
    },
    /// A user is no longer an owner of a crate.
    OwnerRemoved {
        /// The crate.
        krate: CrateName,
        /// The former owner.
        user: UserId,
    },
    /// A user was created.
    UserCreated {
        /// The user's number.
        user: UserId,
        /// The user's name.
        login: String,
        /// A person or a machine. The latter is of level 2.
        #[serde(default, skip_serializing_if = "PrincipalKind::is_person")]
        kind: PrincipalKind,
    },
    /// A user's tokens count again. Of level 2, like all that follows up to [`EventKind::TokenReported`].
    UserEnabled {
        /// The user.
        user: UserId,
    },
    /// A user has a role, in place of another.
    RoleGranted {
        /// The user.
        user: UserId,
        /// The role.
        role: Role,
    },
    /// A user has no role.
    RoleRevoked {
        /// The user.
        user: UserId,
    },
    /// A team was created.
    TeamCreated {
        /// The team's number.
        team: TeamId,
        /// The team's name.
        name: String,
    },
    /// A team has another name.
    TeamRenamed {
        /// The team.
        team: TeamId,
        /// Its name from now on.
        name: String,
    },
    /// There is no such team any more; what it owned or might read it no longer does.
    TeamRemoved {
        /// The team.
        team: TeamId,
    },
    /// A user is a member of a team.
    MemberAdded {
        /// The team.
        team: TeamId,
        /// The user.
        user: UserId,
    },
    /// A user is a member of a team no more.
    MemberRemoved {
        /// The team.
        team: TeamId,
        /// The user.
        user: UserId,
    },
    /// A team owns a crate: its members publish and yank.
    TeamOwnerAdded {
        /// The crate.
        krate: CrateName,
        /// The team.
        team: TeamId,
    },
    /// A team owns a crate no more.
    TeamOwnerRemoved {
        /// The crate.
        krate: CrateName,
        /// The team.
        team: TeamId,
    },
    /// These may create crates whose names fit a pattern, beside those who might already.
    CreatorsAdded {
        /// The names.
        pattern: NamePattern,
        /// Who.
        creators: Vec<Subject>,
    },
    /// These may no longer; a rule that names nobody is none.
    CreatorsRemoved {
        /// The names.
        pattern: NamePattern,
        /// Who.
        creators: Vec<Subject>,
    },
    /// Crates whose names fit a pattern are for their owners and these readers alone, beside those who might already.
    CrateRestricted {
        /// The names.
        pattern: NamePattern,
        /// Who may read them; nobody but owners, where it is empty.
        readers: Vec<Subject>,
    },
    /// These may no longer read what the rule of a pattern restricts; the rule stays.
    ReadersRemoved {
        /// The names.
        pattern: NamePattern,
        /// Who.
        readers: Vec<Subject>,
    },
    /// The rule of a pattern is no more.
    CrateOpened {
        /// The names.
        pattern: NamePattern,
    },
    /// A token ends earlier than was said.
    TokenEndSet {
        /// The token.
        token: TokenId,
        /// When.
        expires: Timestamp,
    },
    /// A token was found where others read it, and counts no more.
    TokenReported {
        /// The token.
        token: TokenId,
        /// Where it was found, as far as that was said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        place: String,
    },
    /// A user's tokens no longer count.
    UserDisabled {
        /// The user.
        user: UserId,
    },
    /// A token was created.
    TokenCreated {
        /// The token's number.
        token: TokenId,
        /// Whose it is.
        user: UserId,
        /// What its owner calls it.
        name: String,
        /// SHA-256 of the token.
        hash: Checksum,
        /// What it may do.
        grant: Grant,
    },
    /// A token no longer counts.
    TokenRevoked {
        /// The token.
        token: TokenId,
    },
    /// A sweep is going to delete hosted crate files that no version names. Like
    /// [`EventKind::Collected`] it belongs to the first format level: no release was published
    /// that does not know it.
    Condemned {
        /// SHA-256 of each.
        checksums: Vec<Checksum>,
    },
    /// The condemned crate files are deleted: the same bytes may be put again.
    Collected {
        /// SHA-256 of each.
        checksums: Vec<Checksum>,
    },
    /// Another checksum than the pinned one is the right one for a mirrored version. The pin itself
    /// stays in the store, and this stands over it. Of the second level.
    PinCorrected {
        /// The upstream's name in the configuration.
        upstream: String,
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
        /// The checksum that stood until then.
        former: Checksum,
        /// The checksum that stands from now on.
        checksum: Checksum,
        /// Why.
        reason: String,
    },
    /// From the next entry on, what belongs to this format level may be written. Of the first
    /// level itself, and of this form for ever: every release must be able to read it.
    LevelEnabled {
        /// The level.
        level: Level,
    },
    /// A checkpoint was written, and this is its name: one that no entry names is not believed. Of
    /// level 2.
    Checkpointed {
        /// The last entry in it.
        seq: u64,
        /// SHA-256 of its lines.
        hash: Checksum,
    },
}

/// Why an entry cannot follow the one before it.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Not an entry that this release understands.
    #[error(
        "journal entry {0} cannot be read (it is damaged, or a newer release wrote it and this replica must be upgraded): {1}"
    )]
    Unreadable(u64, serde_json::Error),
    /// What comes behind it may be what this release cannot read, or would misread.
    #[error(
        "journal entry {at} enables format level {level}, and this release knows levels up to {known}: upgrade this replica"
    )]
    Newer {
        /// Where it stands.
        at: u64,
        /// The level that it enables.
        level: Level,
        /// The highest level that this release knows.
        known: Level,
    },
    /// It says that it is another one.
    #[error("journal entry {at} says that it is number {says}")]
    Number {
        /// Where it stands.
        at: u64,
        /// What it says.
        says: u64,
    },
    /// It does not continue the entry before it.
    #[error(
        "journal entry {0} does not continue the entry before it: the chain of hashes is broken, because one of the two was changed"
    )]
    Broken(u64),
}

impl Entry {
    /// The entry's bytes, and the hash that the next one will name.
    ///
    /// # Errors
    /// When a value has no form in JSON, which no entry's has.
    pub fn seal(&self) -> Result<(Bytes, Checksum), serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let hash = Checksum::of(&bytes);
        Ok((bytes.into(), hash))
    }

    /// Reads the bytes that stand at number `seq` and checks that they continue `prev`. Gives
    /// the entry and its own hash.
    ///
    /// # Errors
    /// Says what is wrong with it, and where; [`ChainError::Newer`] for one that is sound and
    /// enables what this release does not know.
    pub fn open(bytes: &[u8], seq: u64, prev: &Checksum) -> Result<(Self, Checksum), ChainError> {
        let entry: Self =
            serde_json::from_slice(bytes).map_err(|e| ChainError::Unreadable(seq, e))?;
        if entry.seq != seq {
            return Err(ChainError::Number { at: seq, says: entry.seq });
        }
        if entry.prev != *prev {
            return Err(ChainError::Broken(seq));
        }
        match entry.leaves() {
            level if level > Level::KNOWN => {
                Err(ChainError::Newer { at: seq, level, known: Level::KNOWN })
            }
            _ => Ok((entry, Checksum::of(bytes))),
        }
    }

    /// The format level that is enabled behind it.
    pub fn leaves(&self) -> Level {
        self.enables().map_or(self.level, |level| level.max(self.level))
    }

    /// Whether it changes hosted state: naming a checkpoint does not.
    pub fn changes_state(&self) -> bool {
        self.events.iter().any(|event| !matches!(event.what, EventKind::Checkpointed { .. }))
    }

    /// The checkpoints that it names.
    pub fn checkpoints(&self) -> impl Iterator<Item = Name> {
        self.events.iter().filter_map(|event| match event.what {
            EventKind::Checkpointed { seq, hash } => Some(Name { seq, hash }),
            _ => None,
        })
    }

    /// The highest format level that it enables, if it enables any.
    pub fn enables(&self) -> Option<Level> {
        let levels = self.events.iter().filter_map(|event| match event.what {
            EventKind::LevelEnabled { level } => Some(level),
            _ => None,
        });
        levels.max()
    }
}

impl EventKind {
    /// The names of all kinds, as entries have them in `event`.
    pub const NAMES: &'static [&'static str] = <Self as strum::VariantNames>::VARIANTS;

    /// The name of its kind.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The format level to which an event of this kind and form belongs: before that level is
    /// enabled, the judge lets no such event into the journal.
    pub fn level(&self) -> Level {
        match self {
            EventKind::UserCreated { kind: PrincipalKind::Service, .. } => Level::SECOND,
            EventKind::TokenCreated { grant, .. } => grant.level(),
            EventKind::Published(_)
            | EventKind::Yanked { .. }
            | EventKind::Unyanked { .. }
            | EventKind::Removed { .. }
            | EventKind::OwnerAdded { .. }
            | EventKind::OwnerRemoved { .. }
            | EventKind::UserCreated { .. }
            | EventKind::UserDisabled { .. }
            | EventKind::TokenRevoked { .. }
            | EventKind::Condemned { .. }
            | EventKind::Collected { .. }
            | EventKind::LevelEnabled { .. } => Level::FIRST,
            EventKind::PinCorrected { .. }
            | EventKind::UserEnabled { .. }
            | EventKind::RoleGranted { .. }
            | EventKind::RoleRevoked { .. }
            | EventKind::TeamCreated { .. }
            | EventKind::TeamRenamed { .. }
            | EventKind::TeamRemoved { .. }
            | EventKind::MemberAdded { .. }
            | EventKind::MemberRemoved { .. }
            | EventKind::TeamOwnerAdded { .. }
            | EventKind::TeamOwnerRemoved { .. }
            | EventKind::CreatorsAdded { .. }
            | EventKind::CreatorsRemoved { .. }
            | EventKind::CrateRestricted { .. }
            | EventKind::ReadersRemoved { .. }
            | EventKind::CrateOpened { .. }
            | EventKind::TokenEndSet { .. }
            | EventKind::TokenReported { .. } => Level::SECOND,
            EventKind::Checkpointed { .. } => Level::NAMED_CHECKPOINTS,
        }
    }
}

#[cfg(test)]
mod tests;
