//! Reading the catalog: the same questions to what is, and to what would be.

mod access;

use std::collections::HashSet;

use jiff::Timestamp;
use redb::{
    Key, ReadTransaction, ReadableTable, TableDefinition, TableError, Value, WriteTransaction,
};
use serde::Deserialize;
use subtle::ConstantTimeEq;

pub use self::access::Rights;
use super::apply;
use super::rows::{
    CONDEMNED, CRATES, CondemnedRow, CorrectedPin, CrateRow, Head, LOGINS, META, NUMBERS, PINS,
    TOKEN_HASHES, TOKENS, TOKENS_OF, TokenRow, USERS, UserRow, VERSIONS, VersionRow, read, write,
};
use crate::entry::Event;
use crate::principal::{Principal, TokenId, UserId};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::index::Listed;
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::version::CrateVersion;

/// The part of a version's row that a search needs: the rest is not built.
#[derive(Deserialize)]
struct ListedRow {
    line: ListedLine,
    removed: bool,
}

#[derive(Deserialize)]
struct ListedLine {
    name: CrateName,
    vers: CrateVersion,
    cksum: Checksum,
    yanked: bool,
}

/// One consistent state: of a read transaction, what is; of a write transaction, what would be.
pub struct View<T> {
    txn: T,
}

/// Where tables can be read.
pub trait Tables {
    /// Opens a table for reading.
    ///
    /// # Errors
    /// When redb fails.
    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError>;
}

impl Tables for ReadTransaction {
    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError> {
        self.open_table(table)
    }
}

impl Tables for WriteTransaction {
    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl ReadableTable<K, V>, TableError> {
        self.open_table(table)
    }
}

impl<T: Tables> View<T> {
    pub(super) fn new(txn: T) -> Self {
        Self { txn }
    }

    pub(super) fn into_inner(self) -> T {
        self.txn
    }

    /// The last applied entry.
    ///
    /// # Errors
    /// When redb fails.
    pub fn head(&self) -> Result<Head> {
        let table = self.txn.table(META).map_err(Error::internal)?;
        let row = table.get("head").map_err(Error::internal)?;
        read(row.ok_or_else(|| missing("head"))?.value())
    }

    /// The registry that it is of; `None` where that was not written.
    pub(super) fn registry(&self) -> Option<String> {
        let table = self.txn.table(META).ok()?;
        let stamp = table.get("stamp").ok()??;
        let (_schema, registry) = std::str::from_utf8(stamp.value()).ok()?.split_once(' ')?;
        Some(registry.to_owned())
    }

    /// See [`super::Catalog::krate`].
    ///
    /// # Errors
    /// When redb fails.
    pub fn krate(&self, key: &NameKey) -> Result<Option<CrateRow>> {
        let table = self.txn.table(CRATES).map_err(Error::internal)?;
        let row = table.get(key.as_str()).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// All hosted crates, by name key.
    ///
    /// # Errors
    /// When redb fails.
    pub fn crates(&self) -> Result<Vec<CrateRow>> {
        let table = self.txn.table(CRATES).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        rows.map(|row| read(row.map_err(Error::internal)?.1.value())).collect()
    }

    /// Shows every hosted crate, by name key, one at a time.
    ///
    /// # Errors
    /// When redb fails.
    pub fn each_crate(&self, mut show: impl FnMut(CrateRow)) -> Result<()> {
        let table = self.txn.table(CRATES).map_err(Error::internal)?;
        for row in table.iter().map_err(Error::internal)? {
            show(read(row.map_err(Error::internal)?.1.value())?);
        }
        Ok(())
    }

    /// What the index lists of a hosted crate, without the lines.
    ///
    /// # Errors
    /// When redb fails.
    pub fn listed(&self, key: &NameKey) -> Result<Vec<Listed>> {
        let table = self.txn.table(VERSIONS).map_err(Error::internal)?;
        let all = (key.as_str(), 0)..=(key.as_str(), u32::MAX);
        let mut listed = Vec::new();
        for row in table.range(all).map_err(Error::internal)? {
            let ListedRow { line, removed } = read(row.map_err(Error::internal)?.1.value())?;
            let ListedLine { name, vers: version, cksum, yanked } = line;
            if !removed {
                listed.push(Listed { name, version, cksum, yanked, pubtime: None });
            }
        }
        Ok(listed)
    }

    /// See [`super::Catalog::versions`].
    ///
    /// # Errors
    /// When redb fails.
    pub fn versions(&self, key: &NameKey) -> Result<Vec<VersionRow>> {
        let table = self.txn.table(VERSIONS).map_err(Error::internal)?;
        let all = (key.as_str(), 0)..=(key.as_str(), u32::MAX);
        let rows = table.range(all).map_err(Error::internal)?;
        rows.map(|row| read(row.map_err(Error::internal)?.1.value())).collect()
    }

    /// See [`super::Catalog::version`].
    ///
    /// # Errors
    /// When redb fails.
    pub fn version(&self, key: &NameKey, version: &CrateVersion) -> Result<Option<VersionRow>> {
        let numbers = self.txn.table(NUMBERS).map_err(Error::internal)?;
        let number = version.number();
        let place = numbers.get((key.as_str(), number.as_str())).map_err(Error::internal)?;
        let Some(place) = place.map(|p| p.value()) else { return Ok(None) };
        let versions = self.txn.table(VERSIONS).map_err(Error::internal)?;
        let row = versions.get((key.as_str(), place)).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// What was made of a mirrored version's pin, if it was corrected.
    ///
    /// # Errors
    /// When redb fails.
    pub fn corrected_pin(
        &self,
        upstream: &str,
        krate: &CrateName,
        version: &CrateVersion,
    ) -> Result<Option<CorrectedPin>> {
        let table = self.txn.table(PINS).map_err(Error::internal)?;
        let (name, version) = (krate.lower(), version.to_string());
        let row = table.get((upstream, name.as_str(), version.as_str()));
        row.map_err(Error::internal)?.map(|row| read(row.value())).transpose()
    }

    /// Those of all versions of a mirrored crate that were corrected.
    ///
    /// # Errors
    /// When redb fails.
    pub fn corrected_pins(
        &self,
        upstream: &str,
        krate: &CrateName,
    ) -> Result<Vec<(CrateVersion, CorrectedPin)>> {
        let table = self.txn.table(PINS).map_err(Error::internal)?;
        let name = krate.lower();
        let mut pins = Vec::new();
        for found in table.range((upstream, name.as_str(), "")..).map_err(Error::internal)? {
            let (key, row) = found.map_err(Error::internal)?;
            let (of, krate, version) = key.value();
            if (of, krate) != (upstream, name.as_str()) {
                break;
            }
            pins.push((version.parse().map_err(Error::internal)?, read(row.value())?));
        }
        Ok(pins)
    }

    /// How many bytes the index file of a hosted crate has; where `enough` rows' worth of bytes is
    /// not reached, more than it has. Above that it reads every version.
    ///
    /// # Errors
    /// When redb fails.
    pub fn index_bytes(&self, key: &NameKey, enough: u64) -> Result<u64> {
        let table = self.txn.table(VERSIONS).map_err(Error::internal)?;
        let all = || table.range((key.as_str(), 0)..=(key.as_str(), u32::MAX));
        let (mut rows, mut lines) = (0, 0);
        for row in all().map_err(Error::internal)? {
            rows += row.map_err(Error::internal)?.1.value().len() as u64; // the line is part of it
        }
        if rows <= enough {
            return Ok(rows);
        }
        for row in all().map_err(Error::internal)? {
            let row: VersionRow = read(row.map_err(Error::internal)?.1.value())?;
            lines += if row.removed { 0 } else { write(&row.line)?.len() as u64 + 1 };
        }
        Ok(lines)
    }

    /// A user by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn user(&self, id: UserId) -> Result<Option<UserRow>> {
        let table = self.txn.table(USERS).map_err(Error::internal)?;
        let row = table.get(id.0).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// A user by name, whatever its case.
    ///
    /// # Errors
    /// When redb fails.
    pub fn login(&self, login: &str) -> Result<Option<UserRow>> {
        let table = self.txn.table(LOGINS).map_err(Error::internal)?;
        let id = table.get(login.to_ascii_lowercase().as_str()).map_err(Error::internal)?;
        match id.map(|id| UserId(id.value())) {
            Some(id) => self.user(id),
            None => Ok(None),
        }
    }

    /// All users, by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn users(&self) -> Result<Vec<UserRow>> {
        let table = self.txn.table(USERS).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        rows.map(|row| read(row.map_err(Error::internal)?.1.value())).collect()
    }

    /// A token by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn token(&self, id: TokenId) -> Result<Option<TokenRow>> {
        let table = self.txn.table(TOKENS).map_err(Error::internal)?;
        let row = table.get(id.0).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// All tokens, by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn tokens(&self) -> Result<Vec<TokenRow>> {
        let table = self.txn.table(TOKENS).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        rows.map(|row| read(row.map_err(Error::internal)?.1.value())).collect()
    }

    /// When a hosted crate file was last condemned, if ever.
    ///
    /// # Errors
    /// When redb fails.
    pub fn condemned(&self, cksum: &Checksum) -> Result<Option<CondemnedRow>> {
        let table = self.txn.table(CONDEMNED).map_err(Error::internal)?;
        let row = table.get(cksum.as_bytes()).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// The hosted crate files that are condemned and not collected yet, by checksum.
    ///
    /// # Errors
    /// When redb fails.
    pub fn pending(&self) -> Result<Vec<Checksum>> {
        let table = self.txn.table(CONDEMNED).map_err(Error::internal)?;
        let mut pending = Vec::new();
        for row in table.iter().map_err(Error::internal)? {
            let (sum, row) = row.map_err(Error::internal)?;
            if read::<CondemnedRow>(row.value())?.collected.is_none() {
                pending.push(Checksum::from_bytes(*sum.value()));
            }
        }
        Ok(pending)
    }

    /// The checksums of all hosted versions that were not removed. Reads every version.
    ///
    /// # Errors
    /// When redb fails.
    pub fn named(&self) -> Result<HashSet<Checksum>> {
        let table = self.txn.table(VERSIONS).map_err(Error::internal)?;
        let mut named = HashSet::new();
        for row in table.iter().map_err(Error::internal)? {
            let row: VersionRow = read(row.map_err(Error::internal)?.1.value())?;
            if !row.removed {
                named.insert(row.line.cksum);
            }
        }
        Ok(named)
    }

    /// How many tokens of a user still count.
    ///
    /// # Errors
    /// When redb fails.
    pub fn live_tokens(&self, user: UserId, now: Timestamp) -> Result<usize> {
        let table = self.txn.table(TOKENS_OF).map_err(Error::internal)?;
        let mut live = 0;
        for row in table.range((user.0, 0)..=(user.0, u32::MAX)).map_err(Error::internal)? {
            live += usize::from(now.as_second() < row.map_err(Error::internal)?.1.value());
        }
        Ok(live)
    }

    /// The numbers that the next user and the next token get.
    ///
    /// # Errors
    /// When redb fails, or there are no more numbers.
    pub fn next_ids(&self) -> Result<(UserId, TokenId)> {
        let users = self.txn.table(USERS).map_err(Error::internal)?;
        let user = users.last().map_err(Error::internal)?.map_or(0, |(id, _)| id.value());
        let tokens = self.txn.table(TOKENS).map_err(Error::internal)?;
        let token = tokens.last().map_err(Error::internal)?.map_or(0, |(id, _)| id.value());
        let next = |last: u32| {
            let spent = || Error::internal(std::io::Error::other("there are no more numbers"));
            last.checked_add(1).ok_or_else(spent)
        };
        Ok((UserId(next(user)?), TokenId(next(token)?)))
    }

    /// Who holds the token of this hash: its user is not disabled, and it is neither revoked
    /// nor past its end.
    ///
    /// # Errors
    /// When redb fails.
    pub fn principal(&self, hash: &Checksum, now: Timestamp) -> Result<Option<Principal>> {
        let hashes = self.txn.table(TOKEN_HASHES).map_err(Error::internal)?;
        let id =
            hashes.get(hash.as_bytes()).map_err(Error::internal)?.map(|id| TokenId(id.value()));
        let Some(id) = id else { return Ok(None) };
        match self.live_token(id, now)? {
            Some(who) if bool::from(who.1.as_bytes().ct_eq(hash.as_bytes())) => Ok(Some(who.0)),
            _ => Ok(None),
        }
    }

    /// The token of this hash and its user, whether it counts or not: for who shows the token.
    ///
    /// # Errors
    /// When redb fails.
    pub fn token_shown(&self, hash: &Checksum) -> Result<Option<(TokenRow, UserRow)>> {
        let hashes = self.txn.table(TOKEN_HASHES).map_err(Error::internal)?;
        let id = hashes.get(hash.as_bytes()).map_err(Error::internal)?;
        let Some(token) = id.map(|id| self.token(TokenId(id.value()))).transpose()?.flatten()
        else {
            return Ok(None);
        };
        let is_it = bool::from(token.hash.as_bytes().ct_eq(hash.as_bytes()));
        let user = if is_it { self.user(token.user)? } else { None };
        Ok(user.map(|user| (token, user)))
    }

    /// Whom a token stands for, if it still counts, and its hash.
    ///
    /// # Errors
    /// When redb fails.
    pub fn live_token(&self, id: TokenId, now: Timestamp) -> Result<Option<(Principal, Checksum)>> {
        let Some(token) = self.token(id)? else { return Ok(None) };
        let Some(user) = self.user(token.user)? else { return Ok(None) };
        if token.revoked || user.disabled || !token.grant.is_live(now) {
            return Ok(None);
        }
        let who = Principal {
            role: self.role_of(&user, now)?,
            teams: self.teams_of(user.id)?.into(),
            user: user.id,
            login: user.login,
            token: token.id,
            grant: token.grant,
            kind: user.kind,
        };
        Ok(Some((who, token.hash)))
    }

    /// The owners of a crate.
    ///
    /// # Errors
    /// When redb fails.
    pub fn owners(&self, krate: &CrateRow) -> Result<Vec<UserRow>> {
        let rows: Result<Vec<_>> = krate.owners.iter().map(|id| self.user(*id)).collect();
        Ok(rows?.into_iter().flatten().collect())
    }

    /// The name of a hosted crate as its first publisher spelled it.
    ///
    /// # Errors
    /// When redb fails.
    pub fn spelling(&self, name: &CrateName) -> Result<Option<CrateName>> {
        Ok(self.krate(&name.key())?.map(|row| row.name))
    }
}

impl View<WriteTransaction> {
    /// Thinks an event that entry `seq` is to hold.
    ///
    /// # Errors
    /// When redb fails.
    pub fn imagine(&self, seq: u64, time: Timestamp, event: &Event) -> Result<()> {
        apply::event(&self.txn, seq, time, &event.what).map(drop)
    }
}

fn missing(what: &'static str) -> Error {
    Error::internal(std::io::Error::other(format!("the catalog has no {what}")))
}
