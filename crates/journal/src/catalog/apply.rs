//! The one function that applies an entry. It never judges: what stands in the journal is
//! applied; who appends and who follows both come through here.

use jiff::Timestamp;
use redb::{ReadableTable, WriteTransaction};

use super::access;
use super::rows::{
    CONDEMNED, CRATES, CREATORS, CondemnedRow, CorrectedPin, CrateRow, Decided, Head, LOGINS, META,
    NUMBERS, PINS, RESTRICTIONS, TEAM_NAMES, TEAMS, TEAMS_OF, TOKEN_HASHES, TOKENS, TOKENS_OF,
    TokenRow, USERS, UserRow, VERSIONS, VersionRow, read, write,
};
use super::{Applied, Stranger};
use crate::entry::{Actor, Entry, EventKind};
use crate::principal::{TokenId, UserId};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::{CrateName, NameKey};
use cratehouse_package::published::Published;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::format_level::Level;

/// Makes the tables of a new file; says whether an old one is of this schema and registry, and of
/// a format level that this release knows: it may have been a newer one's.
pub(super) fn begin(txn: &WriteTransaction, schema: u32, registry: &str) -> Result<bool> {
    txn.open_table(CRATES).map_err(Error::internal)?;
    txn.open_table(VERSIONS).map_err(Error::internal)?;
    txn.open_table(NUMBERS).map_err(Error::internal)?;
    txn.open_table(USERS).map_err(Error::internal)?;
    txn.open_table(LOGINS).map_err(Error::internal)?;
    txn.open_table(TOKENS).map_err(Error::internal)?;
    txn.open_table(TOKEN_HASHES).map_err(Error::internal)?;
    txn.open_table(TOKENS_OF).map_err(Error::internal)?;
    txn.open_table(CONDEMNED).map_err(Error::internal)?;
    txn.open_table(PINS).map_err(Error::internal)?;
    txn.open_table(TEAMS).map_err(Error::internal)?;
    txn.open_table(TEAM_NAMES).map_err(Error::internal)?;
    txn.open_table(TEAMS_OF).map_err(Error::internal)?;
    txn.open_table(CREATORS).map_err(Error::internal)?;
    txn.open_table(RESTRICTIONS).map_err(Error::internal)?;
    let mut meta = txn.open_table(META).map_err(Error::internal)?;
    let stamp = format!("{schema} {registry}");
    let found = meta.get("stamp").map_err(Error::internal)?.map(|s| s.value().to_vec());
    if let Some(found) = found {
        return Ok(found == stamp.as_bytes() && is_known(&meta)?);
    }
    let head = Head::before_the_first(registry);
    meta.insert("stamp", stamp.as_bytes()).map_err(Error::internal)?;
    meta.insert("head", write(&head)?.as_slice()).map_err(Error::internal)?;
    Ok(true)
}

fn is_known(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<bool> {
    let head = meta.get("head").map_err(Error::internal)?;
    let head = head.map(|row| read::<Head>(row.value())).transpose()?;
    Ok(head.is_none_or(|head| head.level <= Level::KNOWN))
}

/// Applies an entry and its number; names the crates that it touches.
pub(super) fn entry(
    txn: &WriteTransaction,
    entry: &Entry,
    hash: &Checksum,
    applied: &mut Applied,
) -> Result<()> {
    for one in &entry.events {
        if !counts(txn, &one.by)? {
            applied.strangers.push(Stranger { seq: entry.seq, by: one.by.clone() });
        }
        applied.touched.extend(event(txn, entry.seq, entry.time, &one.what)?);
    }
    change_head(txn, |head| {
        head.proven |= head.seq == 0; // whoever began the file
        head.seq = entry.seq;
        head.hash = *hash;
        head.level = head.level.max(entry.enables().unwrap_or_default());
    })
}

/// Whether an earlier event made the actor, and none ended it. The judge lets no other act; an entry
/// that came another way says who never was.
fn counts(txn: &WriteTransaction, by: &Actor) -> Result<bool> {
    let Actor::User { user, token } = by else { return Ok(true) };
    let tokens = txn.open_table(TOKENS).map_err(Error::internal)?;
    let row = tokens.get(token.0).map_err(Error::internal)?;
    let token = row.map(|row| read::<TokenRow>(row.value())).transpose()?;
    let users = txn.open_table(USERS).map_err(Error::internal)?;
    let row = users.get(user.0).map_err(Error::internal)?;
    let holder = row.map(|row| read::<UserRow>(row.value())).transpose()?;
    Ok(token.is_some_and(|token| token.user == *user && !token.revoked)
        && holder.is_some_and(|holder| !holder.disabled))
}

/// Applies one event; names the crate that it touches.
pub(super) fn event(
    txn: &WriteTransaction,
    seq: u64,
    time: Timestamp,
    what: &EventKind,
) -> Result<Option<NameKey>> {
    match what {
        EventKind::Published(published) => return publish(txn, seq, published).map(Some),
        EventKind::Yanked { krate, version } => {
            return change_version(txn, seq, krate, version, |v| v.line.yanked = true).map(Some);
        }
        EventKind::Unyanked { krate, version } => {
            return change_version(txn, seq, krate, version, |v| v.line.yanked = false).map(Some);
        }
        EventKind::Removed { krate, version, .. } => {
            let key = change_version(txn, seq, krate, version, |v| v.removed = true)?;
            tell_again(txn, krate)?;
            return Ok(Some(key));
        }
        EventKind::OwnerAdded { krate, user } => change_crate(txn, krate, |row| {
            row.owners.retain(|owner| owner != user);
            row.owners.push(*user);
        })?,
        EventKind::OwnerRemoved { krate, user } => {
            change_crate(txn, krate, |row| row.owners.retain(|owner| owner != user))?;
        }
        EventKind::UserCreated { user, login, kind } => {
            let (login, kind) = (login.clone(), *kind);
            put_user(
                txn,
                &UserRow { id: *user, login, disabled: false, kind, role: Decided::Open },
            )?;
        }
        EventKind::UserDisabled { user } => change_user(txn, *user, |row| row.disabled = true)?,
        EventKind::UserEnabled { user } => change_user(txn, *user, |row| row.disabled = false)?,
        EventKind::RoleGranted { user, role } => {
            change_user(txn, *user, |row| row.role = Decided::Has(*role))?;
        }
        EventKind::RoleRevoked { user } => {
            change_user(txn, *user, |row| row.role = Decided::None)?;
        }
        EventKind::TeamCreated { team, name } => access::create_team(txn, *team, name)?,
        EventKind::TeamRenamed { team, name } => access::rename_team(txn, *team, name)?,
        EventKind::TeamRemoved { team } => access::remove_team(txn, *team)?,
        EventKind::MemberAdded { team, user } => access::add_member(txn, *team, *user)?,
        EventKind::MemberRemoved { team, user } => access::remove_member(txn, *team, *user)?,
        EventKind::TeamOwnerAdded { krate, team } => change_crate(txn, krate, |row| {
            row.teams.retain(|owner| owner != team);
            row.teams.push(*team);
        })?,
        EventKind::TeamOwnerRemoved { krate, team } => {
            change_crate(txn, krate, |row| row.teams.retain(|owner| owner != team))?;
        }
        EventKind::CreatorsAdded { pattern, creators } => {
            access::add_to_rule(txn, CREATORS, pattern, creators)?;
        }
        EventKind::CreatorsRemoved { pattern, creators } => {
            let left = access::take_from_rule(txn, CREATORS, pattern, creators)?;
            if left == 0 {
                access::remove_rule(txn, CREATORS, pattern)?;
            }
        }
        EventKind::CrateRestricted { pattern, readers } => {
            access::add_to_rule(txn, RESTRICTIONS, pattern, readers)?;
        }
        EventKind::ReadersRemoved { pattern, readers } => {
            access::take_from_rule(txn, RESTRICTIONS, pattern, readers)?;
        }
        EventKind::CrateOpened { pattern } => access::remove_rule(txn, RESTRICTIONS, pattern)?,
        EventKind::TokenCreated { token, user, name, hash, grant } => {
            let row = TokenRow {
                id: *token,
                user: *user,
                name: name.clone(),
                hash: *hash,
                grant: grant.clone(),
                revoked: false,
                reported: None,
                exchanged: false,
                created: time,
            };
            put_token(txn, &row)?;
        }
        EventKind::TokenRevoked { token } => change_token(txn, *token, |row| row.revoked = true)?,
        EventKind::TokenReported { token, place } => change_token(txn, *token, |row| {
            row.revoked = true;
            row.reported = Some(place.clone());
        })?,
        EventKind::TokenEndSet { token, expires } => {
            change_token(txn, *token, |row| {
                row.grant.expires = Some(*expires);
                row.exchanged = true;
            })?;
        }
        EventKind::Condemned { checksums } => {
            let row = CondemnedRow { condemned: seq, collected: None };
            for sum in checksums {
                put_condemned(txn, sum, row)?;
            }
        }
        EventKind::Collected { checksums } => {
            for sum in checksums {
                let table = txn.open_table(CONDEMNED).map_err(Error::internal)?;
                let row = table.get(sum.as_bytes()).map_err(Error::internal)?;
                let row = row.map(|row| read::<CondemnedRow>(row.value())).transpose()?;
                drop(table);
                if let Some(row) = row {
                    put_condemned(txn, sum, CondemnedRow { collected: Some(seq), ..row })?;
                }
            }
        }
        EventKind::PinCorrected { upstream, krate, version, checksum, .. } => {
            let row = CorrectedPin { cksum: *checksum, corrected: seq };
            return correct_pin(txn, upstream, krate, version, &row).map(Some);
        }
        // With its entry, in `entry`: what needs the level stands behind that, never in it.
        EventKind::LevelEnabled { .. } | EventKind::Checkpointed { .. } => (),
    }
    Ok(None)
}

fn publish(txn: &WriteTransaction, seq: u64, published: &Published) -> Result<NameKey> {
    let line = &published.line;
    let key = line.name.key();
    let mut krate = crate_row(txn, &key)?.unwrap_or_else(|| CrateRow {
        name: line.name.clone(),
        changed: seq,
        owners: Vec::new(),
        teams: Vec::new(),
        description: None,
        versions: 0,
        shown: 0,
    });
    let place = krate.versions;
    krate.changed = seq;
    krate.versions = krate.versions.saturating_add(1);
    krate.shown = krate.shown.saturating_add(1);
    if published.metadata.description.is_some() {
        krate.description.clone_from(&published.metadata.description);
    }
    put_crate(txn, &key, &krate)?;
    let row = VersionRow {
        line: line.clone(),
        size: published.size,
        metadata: published.metadata.clone(),
        removed: false,
    };
    let mut numbers = txn.open_table(NUMBERS).map_err(Error::internal)?;
    let number = line.vers.number();
    numbers.insert((key.as_str(), number.as_str()), place).map_err(Error::internal)?;
    put_version(txn, &key, place, &row)?;
    if let Some(time) = line.pubtime.as_deref().and_then(|t| t.parse::<Timestamp>().ok()) {
        change_head(txn, |head| head.published = head.published.max(time))?;
    }
    Ok(key)
}

fn change_version(
    txn: &WriteTransaction,
    seq: u64,
    name: &CrateName,
    version: &CrateVersion,
    change: impl FnOnce(&mut VersionRow),
) -> Result<NameKey> {
    let key = name.key();
    let number = version.number();
    let numbers = txn.open_table(NUMBERS).map_err(Error::internal)?;
    let place = numbers.get((key.as_str(), number.as_str())).map_err(Error::internal)?;
    let Some(place) = place.map(|p| p.value()) else { return Ok(key) };
    let versions = txn.open_table(VERSIONS).map_err(Error::internal)?;
    let row = versions.get((key.as_str(), place)).map_err(Error::internal)?;
    let row = row.map(|row| read::<VersionRow>(row.value())).transpose()?;
    drop(versions);
    if let Some(mut row) = row {
        change(&mut row);
        put_version(txn, &key, place, &row)?;
    }
    change_crate(txn, name, |row| row.changed = seq)?;
    Ok(key)
}

/// What a crate's row tells of its versions, without those that were removed: what somebody had
/// to remove may stand in its description too.
fn tell_again(txn: &WriteTransaction, name: &CrateName) -> Result<()> {
    let key = name.key();
    let versions = txn.open_table(VERSIONS).map_err(Error::internal)?;
    let all = (key.as_str(), 0)..=(key.as_str(), u32::MAX);
    let (mut shown, mut description) = (0, None);
    for row in versions.range(all).map_err(Error::internal)? {
        let row: VersionRow = read(row.map_err(Error::internal)?.1.value())?;
        if !row.removed {
            shown += 1;
            description = row.metadata.description.or(description);
        }
    }
    change_crate(txn, name, |row| (row.shown, row.description) = (shown, description))
}

fn change_crate(
    txn: &WriteTransaction,
    name: &CrateName,
    change: impl FnOnce(&mut CrateRow),
) -> Result<()> {
    let key = name.key();
    if let Some(mut row) = crate_row(txn, &key)? {
        change(&mut row);
        put_crate(txn, &key, &row)?;
    }
    Ok(())
}

fn change_head(txn: &WriteTransaction, change: impl FnOnce(&mut Head)) -> Result<()> {
    let mut meta = txn.open_table(META).map_err(Error::internal)?;
    let found = meta.get("head").map_err(Error::internal)?.map(|row| read::<Head>(row.value()));
    if let Some(mut head) = found.transpose()? {
        change(&mut head);
        meta.insert("head", write(&head)?.as_slice()).map_err(Error::internal)?;
    }
    Ok(())
}

fn crate_row(txn: &WriteTransaction, key: &NameKey) -> Result<Option<CrateRow>> {
    let table = txn.open_table(CRATES).map_err(Error::internal)?;
    let row = table.get(key.as_str()).map_err(Error::internal)?;
    row.map(|row| read(row.value())).transpose()
}

fn put_crate(txn: &WriteTransaction, key: &NameKey, row: &CrateRow) -> Result<()> {
    let mut table = txn.open_table(CRATES).map_err(Error::internal)?;
    table.insert(key.as_str(), write(row)?.as_slice()).map_err(Error::internal)?;
    Ok(())
}

fn put_version(txn: &WriteTransaction, key: &NameKey, place: u32, row: &VersionRow) -> Result<()> {
    let mut table = txn.open_table(VERSIONS).map_err(Error::internal)?;
    table.insert((key.as_str(), place), write(row)?.as_slice()).map_err(Error::internal)?;
    Ok(())
}

fn change_user(
    txn: &WriteTransaction,
    user: UserId,
    change: impl FnOnce(&mut UserRow),
) -> Result<()> {
    let table = txn.open_table(USERS).map_err(Error::internal)?;
    let row = table.get(user.0).map_err(Error::internal)?.map(|row| read(row.value()));
    drop(table);
    let Some(mut row) = row.transpose()? else { return Ok(()) };
    change(&mut row);
    put_user(txn, &row)
}

fn change_token(
    txn: &WriteTransaction,
    token: TokenId,
    change: impl FnOnce(&mut TokenRow),
) -> Result<()> {
    let table = txn.open_table(TOKENS).map_err(Error::internal)?;
    let row = table.get(token.0).map_err(Error::internal)?.map(|row| read(row.value()));
    drop(table);
    let Some(mut row) = row.transpose()? else { return Ok(()) };
    change(&mut row);
    put_token(txn, &row)
}

fn put_user(txn: &WriteTransaction, row: &UserRow) -> Result<()> {
    let mut users = txn.open_table(USERS).map_err(Error::internal)?;
    users.insert(row.id.0, write(row)?.as_slice()).map_err(Error::internal)?;
    let mut logins = txn.open_table(LOGINS).map_err(Error::internal)?;
    let login = row.login.to_ascii_lowercase();
    logins.insert(login.as_str(), row.id.0).map_err(Error::internal)?;
    Ok(())
}

fn put_token(txn: &WriteTransaction, row: &TokenRow) -> Result<()> {
    let mut tokens = txn.open_table(TOKENS).map_err(Error::internal)?;
    tokens.insert(row.id.0, write(row)?.as_slice()).map_err(Error::internal)?;
    let mut hashes = txn.open_table(TOKEN_HASHES).map_err(Error::internal)?;
    hashes.insert(row.hash.as_bytes(), row.id.0).map_err(Error::internal)?;
    let mut of_user = txn.open_table(TOKENS_OF).map_err(Error::internal)?;
    let key = (row.user.0, row.id.0);
    let ends = row.grant.expires.map_or(i64::MAX, Timestamp::as_second);
    match row.revoked {
        true => of_user.remove(key).map_err(Error::internal)?,
        false => of_user.insert(key, ends).map_err(Error::internal)?,
    };
    Ok(())
}

/// What is known of the crate's index files was judged by the former pin.
fn correct_pin(
    txn: &WriteTransaction,
    upstream: &str,
    krate: &CrateName,
    version: &CrateVersion,
    row: &CorrectedPin,
) -> Result<NameKey> {
    let mut table = txn.open_table(PINS).map_err(Error::internal)?;
    let (name, version) = (krate.lower(), version.to_string());
    let key = (upstream, name.as_str(), version.as_str());
    table.insert(key, write(row)?.as_slice()).map_err(Error::internal)?;
    Ok(krate.key())
}

fn put_condemned(txn: &WriteTransaction, sum: &Checksum, row: CondemnedRow) -> Result<()> {
    let mut table = txn.open_table(CONDEMNED).map_err(Error::internal)?;
    table.insert(sum.as_bytes(), write(&row)?.as_slice()).map_err(Error::internal)?;
    Ok(())
}
