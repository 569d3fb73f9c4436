//! stub: owner FOUNDER
use crate::error::Result;
use crate::model::checksum::Checksum;
use crate::model::entry::Metadata;
use crate::model::index::IndexLine;
use crate::model::name::{CrateName, NameKey};
use crate::model::principal::{Grant, Principal, TokenId, UserId};
use crate::model::version::CrateVersion;
/// The journal, applied (redb). Reads are in-memory B-tree look-ups of a microsecond: call them directly.
#[derive(Debug, Clone)]
pub struct Catalog {}
/// A hosted crate.
#[derive(Debug, Clone)]
pub struct CrateRow {
    /// As its author spells it.
    pub name: CrateName,
    /// The journal entry that last touched it (the generation of its index file).
    pub changed: u64,
    /// Owners.
    pub owners: Vec<UserId>,
}
/// A hosted version.
#[derive(Debug, Clone)]
pub struct VersionRow {
    /// The index line; its `yanked` is current.
    pub line: IndexLine,
    /// Size of the crate file in bytes.
    pub size: u64,
    /// Description and so on.
    pub metadata: Metadata,
    /// Removed by an administrator: not in the index, not downloadable, number burned.
    pub removed: bool,
}
/// A user.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// number
    pub id: UserId,
    /// login
    pub login: String,
    /// disabled
    pub disabled: bool,
}
/// A token, without its secret.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// number
    pub id: TokenId,
    /// owner
    pub user: UserId,
    /// name
    pub name: String,
    /// grant
    pub grant: Grant,
    /// revoked
    pub revoked: bool,
    /// created
    pub created: jiff::Timestamp,
}
impl Catalog {
    /// The hosted crate of this key (any spelling), if any. Stays `Some` when all its versions were removed.
    pub fn krate(&self, _key: &NameKey) -> Result<Option<CrateRow>> {
        todo!()
    }
    /// All its versions, in the order of their publication, removed ones included.
    pub fn versions(&self, _key: &NameKey) -> Result<Vec<VersionRow>> {
        todo!()
    }
    /// One of them, found by its number without build metadata.
    pub fn version(&self, _key: &NameKey, _version: &CrateVersion) -> Result<Option<VersionRow>> {
        todo!()
    }
    /// Who holds a token, if it counts.
    pub fn principal(&self, _hash: &Checksum) -> Result<Option<Principal>> {
        todo!()
    }
    /// All hosted crate names.
    pub fn names(&self) -> Result<Vec<CrateName>> {
        todo!()
    }
    /// (number, SHA-256) of the last applied entry.
    pub fn head(&self) -> Result<(u64, Checksum)> {
        todo!()
    }
}
