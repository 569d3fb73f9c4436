//! The catalog's tables and rows. Values are JSON: small, and readable with any redb tool.

use jiff::Timestamp;
use redb::TableDefinition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::principal::{Grant, PrincipalKind, Role, TeamId, TokenId, UserId};
use crate::subject::Subject;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::index::IndexLine;
use cratehouse_package::name::{CrateName, NamePattern};
use cratehouse_package::published::Metadata;
use cratehouse_storage::format_level::Level;

/// `schema`, `registry` and `head`.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// By name key.
pub(super) const CRATES: TableDefinition<&str, &[u8]> = TableDefinition::new("crates");
/// By name key and place in the order of publication.
pub(super) const VERSIONS: TableDefinition<(&str, u32), &[u8]> = TableDefinition::new("versions");
/// By name key and number without build metadata: that place.
pub(super) const NUMBERS: TableDefinition<(&str, &str), u32> = TableDefinition::new("numbers");
/// By number.
pub(super) const USERS: TableDefinition<u32, &[u8]> = TableDefinition::new("users");
/// By login in lower case: the user's number.
pub(super) const LOGINS: TableDefinition<&str, u32> = TableDefinition::new("logins");
/// By number.
pub(super) const TOKENS: TableDefinition<u32, &[u8]> = TableDefinition::new("tokens");
/// By SHA-256: the token's number.
pub(super) const TOKEN_HASHES: TableDefinition<&[u8; 32], u32> =
    TableDefinition::new("token_hashes");

/// By user and token, those that were not revoked: the second at which it ends.
pub(super) const TOKENS_OF: TableDefinition<(u32, u32), i64> = TableDefinition::new("tokens_of");
/// By SHA-256 of a hosted crate file: when it was last swept away.
pub(super) const CONDEMNED: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("condemned");

/// By upstream, name in lower case and version of a mirrored crate: what corrects its pin. Empty
/// below format level 2, so that catalogs and checkpoints of before have nothing to say of it.
pub(super) const PINS: TableDefinition<(&str, &str, &str), &[u8]> = TableDefinition::new("pins");

// The tables that follow are empty below format level 2, too.

/// By number.
pub(super) const TEAMS: TableDefinition<u32, &[u8]> = TableDefinition::new("teams");
/// By name in lower case, of those that were not removed: the team's number.
pub(super) const TEAM_NAMES: TableDefinition<&str, u32> = TableDefinition::new("team_names");
/// By user and team: the teams of a user.
pub(super) const TEAMS_OF: TableDefinition<(u32, u32), ()> = TableDefinition::new("teams_of");
/// By the form of a pattern that all its spellings share: who may create crates of these names.
pub(super) const CREATORS: TableDefinition<&str, &[u8]> = TableDefinition::new("creators");
/// By that form too: who may read crates of these names.
pub(super) const RESTRICTIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("restrictions");

/// How far the journal is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the last applied entry; 0 before the first.
    pub seq: u64,
    /// Its hash; before the first, that of the registry's id.
    pub hash: Checksum,
    /// The latest publication so far: `pubtime` never runs backwards.
    pub published: Timestamp,
    /// The format level that is enabled.
    pub level: Level,
    /// Whether all of it was applied here from the first entry on, or from a checkpoint that an entry of
    /// the journal names. A release that does not know this drops it whenever it writes the row.
    #[serde(default)]
    pub proven: bool,
}

impl Decided {
    fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

impl Head {
    pub(super) fn before_the_first(registry: &str) -> Self {
        let hash = Checksum::of(registry.as_bytes());
        Self { seq: 0, hash, published: Timestamp::UNIX_EPOCH, level: Level::FIRST, proven: true }
    }
}

/// A hosted crate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrateRow {
    /// As its first publisher spelled it.
    pub name: CrateName,
    /// The entry that last touched it: the generation of its index file.
    pub changed: u64,
    /// The users who own it.
    pub owners: Vec<UserId>,
    /// The teams that own it. Nothing of it stands in rows below format level 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<TeamId>,
    /// The newest description: of the version published last that has one and was not removed.
    pub description: Option<String>,
    /// How many versions were ever published.
    pub versions: u32,
    /// How many of them were not removed.
    pub shown: u32,
}

/// A hosted version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// The index line, with the present `yanked`.
    pub line: IndexLine,
    /// The size of the crate file in bytes.
    pub size: u64,
    /// Description and so on.
    pub metadata: Metadata,
    /// Removed by an administrator: in no index, not downloadable, its number burned.
    pub removed: bool,
}

/// A hosted crate file that was condemned at some time. The row stays, so that a publish whose
/// bytes were put before that learns of it, however late it comes to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondemnedRow {
    /// The entry that last condemned it.
    pub condemned: u64,
    /// The entry that said that it is deleted.
    pub collected: Option<u64>,
}

/// A mirrored version whose pin was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectedPin {
    /// The checksum that stands over the pin.
    pub cksum: Checksum,
    /// The entry that last corrected it.
    pub corrected: u64,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// The user's number.
    pub id: UserId,
    /// The user's name.
    pub login: String,
    /// Whether their tokens no longer count.
    pub disabled: bool,
    /// A person or a machine.
    #[serde(default, skip_serializing_if = "PrincipalKind::is_person")]
    pub kind: PrincipalKind,
    /// What was decided about their role.
    #[serde(default, skip_serializing_if = "Decided::is_open")]
    pub role: Decided,
}

/// What was decided about a user's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// Nothing: as before there were roles, a token with the scope `admin` makes an administrator.
    #[default]
    Open,
    /// They have it.
    Has(Role),
    /// They have none.
    None,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamRow {
    /// The team's number.
    pub id: TeamId,
    /// The team's name.
    pub name: String,
    /// Its members, by number.
    pub members: Vec<UserId>,
    /// Whether there is no such team any more.
    pub removed: bool,
}

/// Who may create or read crates whose names fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    /// The names, as they were first written.
    pub pattern: NamePattern,
    /// Who.
    pub subjects: Vec<Subject>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The token's number.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of it.
    pub hash: Checksum,
    /// What it may do, and until when.
    pub grant: Grant,
    /// Whether it no longer counts.
    pub revoked: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Where it was found, if it was revoked because others could read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// Whether another was made in its place, so that its end is not the one of its own life.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exchanged: bool,
}

/// A row, from the bytes of its table.
pub(super) fn read<R: DeserializeOwned>(bytes: &[u8]) -> Result<R> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}

/// A row, as its table has it.
pub(super) fn write(row: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(row).map_err(Error::internal)
}
