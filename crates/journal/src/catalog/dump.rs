//! The catalog as a checkpoint, and back. Every table stands in both halves of this file; a
//! test holds them against the tables that there are.

use bytes::Bytes;
use redb::{
    Key, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    TableHandle, Value, WriteTransaction,
};
use serde::de::DeserializeOwned;

use super::SCHEMA;
use super::rows::{
    CONDEMNED, CRATES, CREATORS, Head, LOGINS, META, NUMBERS, PINS, RESTRICTIONS, TEAM_NAMES,
    TEAMS, TEAMS_OF, TOKEN_HASHES, TOKENS, TOKENS_OF, USERS, VERSIONS, write,
};
use super::view::{Tables, View};
use crate::checkpoint_format::{Header, Name, Reader, Row, Unsound, Writer};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};

/// The rows of [`META`] that a checkpoint's header says in other words.
const IN_THE_HEADER: [&str; 2] = ["head", "stamp"];

/// The state of a read transaction as a checkpoint, and what it is called.
pub(super) fn dump(txn: ReadTransaction) -> Result<(Name, Bytes)> {
    let view = View::new(txn);
    let Head { seq, hash, published, level, .. } = view.head()?;
    let txn = view.into_inner();
    let registry = registry(&txn)?;
    let (versions, rows) = (count(&txn, VERSIONS)?, count_rows(&txn)?);
    let schema = SCHEMA;
    let header = Header { registry, schema, seq, hash, published, level, versions, rows };
    let mut out = Writer::begin(&header).map_err(Error::internal)?;
    each(&txn, CONDEMNED, |sum, row| out.row(CONDEMNED.name(), &Checksum::from_bytes(*sum), row))?;
    each(&txn, CRATES, |key, row| out.row(CRATES.name(), &key, row))?;
    each(&txn, CREATORS, |key, row| out.row(CREATORS.name(), &key, row))?;
    each(&txn, LOGINS, |key, id| out.row(LOGINS.name(), &key, id.to_string().as_bytes()))?;
    each(&txn, META, |key, row| match IN_THE_HEADER.contains(&key) {
        true => Ok(()),
        false => out.row(META.name(), &key, row),
    })?;
    each(&txn, NUMBERS, |key, at| out.row(NUMBERS.name(), &key, at.to_string().as_bytes()))?;
    each(&txn, PINS, |key, row| out.row(PINS.name(), &key, row))?;
    each(&txn, RESTRICTIONS, |key, row| out.row(RESTRICTIONS.name(), &key, row))?;
    each(&txn, TEAM_NAMES, |key, id| out.row(TEAM_NAMES.name(), &key, id.to_string().as_bytes()))?;
    each(&txn, TEAMS, |key, row| out.row(TEAMS.name(), &key, row))?;
    each(&txn, TEAMS_OF, |key, ()| out.row(TEAMS_OF.name(), &key, b"null"))?;
    each(&txn, TOKEN_HASHES, |hash, id| {
        let hash = Checksum::from_bytes(*hash);
        out.row(TOKEN_HASHES.name(), &hash, id.to_string().as_bytes())
    })?;
    each(&txn, TOKENS, |key, row| out.row(TOKENS.name(), &key, row))?;
    each(&txn, TOKENS_OF, |key, ends| {
        out.row(TOKENS_OF.name(), &key, ends.to_string().as_bytes())
    })?;
    each(&txn, USERS, |key, row| out.row(USERS.name(), &key, row))?;
    each(&txn, VERSIONS, |key, row| out.row(VERSIONS.name(), &key, row))?;
    out.finish().map_err(Error::internal)
}

fn registry(txn: &impl Tables) -> Result<String> {
    let meta = txn.table(META).map_err(Error::internal)?;
    let stamp = meta.get("stamp").map_err(Error::internal)?;
    let stamp = stamp.map(|stamp| String::from_utf8_lossy(stamp.value()).into_owned());
    let registry = stamp.as_deref().and_then(|stamp| stamp.split_once(' ')).map(|(_, id)| id);
    registry.map(str::to_owned).ok_or_else(|| broken("the catalog does not say whose it is"))
}

fn count_rows(txn: &ReadTransaction) -> Result<u64> {
    let in_the_header = IN_THE_HEADER.len() as u64;
    Ok(count(txn, CONDEMNED)?
        + count(txn, CRATES)?
        + count(txn, CREATORS)?
        + count(txn, LOGINS)?
        + count(txn, META)?.saturating_sub(in_the_header)
        + count(txn, NUMBERS)?
        + count(txn, PINS)?
        + count(txn, RESTRICTIONS)?
        + count(txn, TEAM_NAMES)?
        + count(txn, TEAMS)?
        + count(txn, TEAMS_OF)?
        + count(txn, TOKEN_HASHES)?
        + count(txn, TOKENS)?
        + count(txn, TOKENS_OF)?
        + count(txn, USERS)?
        + count(txn, VERSIONS)?)
}

fn count<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<u64> {
    let table = txn.open_table(table).map_err(Error::internal)?;
    table.len().map_err(Error::internal)
}

/// Visits the rows of a table in key order.
fn each<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
    mut visit: impl for<'a> FnMut(K::SelfType<'a>, V::SelfType<'a>) -> std::io::Result<()>,
) -> Result<()> {
    let table = txn.open_table(table).map_err(Error::internal)?;
    for row in table.iter().map_err(Error::internal)? {
        let (key, value) = row.map_err(Error::internal)?;
        visit(key.value(), value.value()).map_err(Error::internal)?;
    }
    Ok(())
}

/// Replaces all that a catalog holds by what a checkpoint says. The caller commits only when
/// this is `Ok`: the last thing that it does is to find the whole as its name says.
pub(super) fn restore(
    txn: &WriteTransaction,
    checkpoint: &mut Reader,
    proven: bool,
    mut heard: impl FnMut(u64, u64),
) -> Result<Head> {
    checkpoint.header().check(&registry(txn)?, SCHEMA).map_err(unsound)?;
    clear(txn)?;
    let Header { seq, hash, published, level, rows, .. } = *checkpoint.header();
    let mut tables = AllTables::open(txn)?;
    let mut done = 0;
    while let Some(row) = checkpoint.next_row().map_err(unsound)? {
        tables.insert(&row)?;
        done += 1;
        heard(done, rows);
    }
    let head = Head { seq, hash, published, level, proven };
    tables.meta.insert("head", write(&head)?.as_slice()).map_err(Error::internal)?;
    Ok(head)
}

/// A catalog of a registry as it is before the first entry.
pub(super) fn empty(txn: &WriteTransaction, registry: &str) -> Result<()> {
    clear(txn)?;
    let head = Head::before_the_first(registry);
    let mut meta = txn.open_table(META).map_err(Error::internal)?;
    meta.insert("head", write(&head)?.as_slice()).map_err(Error::internal)?;
    drop(meta);
    AllTables::open(txn).map(drop)
}

/// Empties every table but for the stamp of schema and registry.
fn clear(txn: &WriteTransaction) -> Result<()> {
    txn.delete_table(CONDEMNED).map_err(Error::internal)?;
    txn.delete_table(CRATES).map_err(Error::internal)?;
    txn.delete_table(CREATORS).map_err(Error::internal)?;
    txn.delete_table(LOGINS).map_err(Error::internal)?;
    txn.delete_table(NUMBERS).map_err(Error::internal)?;
    txn.delete_table(PINS).map_err(Error::internal)?;
    txn.delete_table(RESTRICTIONS).map_err(Error::internal)?;
    txn.delete_table(TEAM_NAMES).map_err(Error::internal)?;
    txn.delete_table(TEAMS).map_err(Error::internal)?;
    txn.delete_table(TEAMS_OF).map_err(Error::internal)?;
    txn.delete_table(TOKEN_HASHES).map_err(Error::internal)?;
    txn.delete_table(TOKENS).map_err(Error::internal)?;
    txn.delete_table(TOKENS_OF).map_err(Error::internal)?;
    txn.delete_table(USERS).map_err(Error::internal)?;
    txn.delete_table(VERSIONS).map_err(Error::internal)?;
    let mut meta = txn.open_table(META).map_err(Error::internal)?;
    meta.retain(|key, _| key == "stamp").map_err(Error::internal)
}

/// All tables, open at once: a row goes to the one that it names.
struct AllTables<'t> {
    condemned: Table<'t, &'static [u8; 32], &'static [u8]>,
    crates: Table<'t, &'static str, &'static [u8]>,
    creators: Table<'t, &'static str, &'static [u8]>,
    logins: Table<'t, &'static str, u32>,
    meta: Table<'t, &'static str, &'static [u8]>,
    numbers: Table<'t, (&'static str, &'static str), u32>,
    pins: Table<'t, (&'static str, &'static str, &'static str), &'static [u8]>,
    restrictions: Table<'t, &'static str, &'static [u8]>,
    team_names: Table<'t, &'static str, u32>,
    teams: Table<'t, u32, &'static [u8]>,
    teams_of: Table<'t, (u32, u32), ()>,
    token_hashes: Table<'t, &'static [u8; 32], u32>,
    tokens: Table<'t, u32, &'static [u8]>,
    tokens_of: Table<'t, (u32, u32), i64>,
    users: Table<'t, u32, &'static [u8]>,
    versions: Table<'t, (&'static str, u32), &'static [u8]>,
}

impl<'t> AllTables<'t> {
    fn open(txn: &'t WriteTransaction) -> Result<Self> {
        Ok(Self {
            condemned: txn.open_table(CONDEMNED).map_err(Error::internal)?,
            crates: txn.open_table(CRATES).map_err(Error::internal)?,
            creators: txn.open_table(CREATORS).map_err(Error::internal)?,
            logins: txn.open_table(LOGINS).map_err(Error::internal)?,
            meta: txn.open_table(META).map_err(Error::internal)?,
            numbers: txn.open_table(NUMBERS).map_err(Error::internal)?,
            pins: txn.open_table(PINS).map_err(Error::internal)?,
            restrictions: txn.open_table(RESTRICTIONS).map_err(Error::internal)?,
            team_names: txn.open_table(TEAM_NAMES).map_err(Error::internal)?,
            teams: txn.open_table(TEAMS).map_err(Error::internal)?,
            teams_of: txn.open_table(TEAMS_OF).map_err(Error::internal)?,
            token_hashes: txn.open_table(TOKEN_HASHES).map_err(Error::internal)?,
            tokens: txn.open_table(TOKENS).map_err(Error::internal)?,
            tokens_of: txn.open_table(TOKENS_OF).map_err(Error::internal)?,
            users: txn.open_table(USERS).map_err(Error::internal)?,
            versions: txn.open_table(VERSIONS).map_err(Error::internal)?,
        })
    }

    fn insert(&mut self, row: &Row<'_>) -> Result<()> {
        let value = row.value().as_bytes();
        match row.table() {
            "condemned" => {
                let key: Checksum = row.key().map_err(unsound)?;
                self.condemned.insert(key.as_bytes(), value).map(drop)
            }
            "crates" => {
                let key: String = row.key().map_err(unsound)?;
                self.crates.insert(key.as_str(), value).map(drop)
            }
            "creators" => {
                let key: String = row.key().map_err(unsound)?;
                self.creators.insert(key.as_str(), value).map(drop)
            }
            "logins" => {
                let (key, id): (String, u32) = (row.key().map_err(unsound)?, number(row)?);
                self.logins.insert(key.as_str(), id).map(drop)
            }
            "meta" => {
                let key: String = row.key().map_err(unsound)?;
                self.meta.insert(key.as_str(), value).map(drop)
            }
            "numbers" => {
                let (name, number_text): (String, String) = row.key().map_err(unsound)?;
                let key = (name.as_str(), number_text.as_str());
                self.numbers.insert(key, number::<u32>(row)?).map(drop)
            }
            "pins" => {
                let key: (String, String, String) = row.key().map_err(unsound)?;
                let key = (key.0.as_str(), key.1.as_str(), key.2.as_str());
                self.pins.insert(key, value).map(drop)
            }
            "restrictions" => {
                let key: String = row.key().map_err(unsound)?;
                self.restrictions.insert(key.as_str(), value).map(drop)
            }
            "team_names" => {
                let (key, id): (String, u32) = (row.key().map_err(unsound)?, number(row)?);
                self.team_names.insert(key.as_str(), id).map(drop)
            }
            "teams" => self.teams.insert(number_key(row)?, value).map(drop),
            "teams_of" => {
                let key: (u32, u32) = row.key().map_err(unsound)?;
                self.teams_of.insert(key, ()).map(drop)
            }
            "token_hashes" => {
                let key: Checksum = row.key().map_err(unsound)?;
                self.token_hashes.insert(key.as_bytes(), number::<u32>(row)?).map(drop)
            }
            "tokens" => self.tokens.insert(number_key(row)?, value).map(drop),
            "tokens_of" => {
                let (key, ends): ((u32, u32), i64) = (row.key().map_err(unsound)?, number(row)?);
                self.tokens_of.insert(key, ends).map(drop)
            }
            "users" => self.users.insert(number_key(row)?, value).map(drop),
            "versions" => {
                let (name, place): (String, u32) = row.key().map_err(unsound)?;
                self.versions.insert((name.as_str(), place), value).map(drop)
            }
            other => return Err(broken(&format!("there is no table `{other}`"))),
        }
        .map_err(Error::internal)
    }
}

fn number<N: DeserializeOwned>(row: &Row<'_>) -> Result<N> {
    row.number().map_err(unsound)
}

fn number_key(row: &Row<'_>) -> Result<u32> {
    row.key().map_err(unsound)
}

fn unsound(why: Unsound) -> Error {
    Error::new(Kind::Internal, why.to_string())
}

fn broken(what: &str) -> Error {
    Error::new(Kind::Internal, what)
}

#[cfg(test)]
mod tests;
