//! Teams, and rules about names, applied: the part of [`super::apply`] that is about who may do what.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::rows::{RuleRow, TEAM_NAMES, TEAMS, TEAMS_OF, TeamRow, read, write};
use crate::principal::{TeamId, UserId};
use crate::subject::Subject;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::NamePattern;

type Rules = TableDefinition<'static, &'static str, &'static [u8]>;

pub(super) fn create_team(txn: &WriteTransaction, team: TeamId, name: &str) -> Result<()> {
    name_team(txn, team, name)?;
    let (name, members) = (name.to_owned(), Vec::new());
    put_team(txn, &TeamRow { id: team, name, members, removed: false })
}

pub(super) fn rename_team(txn: &WriteTransaction, team: TeamId, name: &str) -> Result<()> {
    let Some(mut row) = team_row(txn, team)? else { return Ok(()) };
    forget_name(txn, &row.name)?;
    name_team(txn, team, name)?;
    name.clone_into(&mut row.name);
    put_team(txn, &row)
}

/// Its number stays taken: crates and rules that name it name nobody from then on.
pub(super) fn remove_team(txn: &WriteTransaction, team: TeamId) -> Result<()> {
    let Some(mut row) = team_row(txn, team)? else { return Ok(()) };
    forget_name(txn, &row.name)?;
    for user in std::mem::take(&mut row.members) {
        leave(txn, team, user)?;
    }
    row.removed = true;
    put_team(txn, &row)
}

pub(super) fn add_member(txn: &WriteTransaction, team: TeamId, user: UserId) -> Result<()> {
    let Some(mut row) = team_row(txn, team)?.filter(|row| !row.removed) else { return Ok(()) };
    let Err(at) = row.members.binary_search(&user) else { return Ok(()) };
    row.members.insert(at, user);
    put_team(txn, &row)?;
    let mut teams_of = txn.open_table(TEAMS_OF).map_err(Error::internal)?;
    teams_of.insert((user.0, team.0), ()).map_err(Error::internal).map(drop)
}

pub(super) fn remove_member(txn: &WriteTransaction, team: TeamId, user: UserId) -> Result<()> {
    let Some(mut row) = team_row(txn, team)? else { return Ok(()) };
    row.members.retain(|member| *member != user);
    put_team(txn, &row)?;
    leave(txn, team, user)
}

/// Adds to who the rule of a pattern names; makes the rule where there is none.
pub(super) fn add_to_rule(
    txn: &WriteTransaction,
    rules: Rules,
    pattern: &NamePattern,
    subjects: &[Subject],
) -> Result<()> {
    let mut row = rule(txn, rules, pattern)?
        .unwrap_or_else(|| RuleRow { pattern: pattern.clone(), subjects: Vec::new() });
    row.subjects.extend(subjects);
    row.subjects.sort();
    row.subjects.dedup();
    put_rule(txn, rules, &row)
}

/// Takes from who the rule of a pattern names; says how many are left.
pub(super) fn take_from_rule(
    txn: &WriteTransaction,
    rules: Rules,
    pattern: &NamePattern,
    subjects: &[Subject],
) -> Result<usize> {
    let Some(mut row) = rule(txn, rules, pattern)? else { return Ok(0) };
    row.subjects.retain(|subject| !subjects.contains(subject));
    put_rule(txn, rules, &row)?;
    Ok(row.subjects.len())
}

pub(super) fn remove_rule(
    txn: &WriteTransaction,
    rules: Rules,
    pattern: &NamePattern,
) -> Result<()> {
    let mut table = txn.open_table(rules).map_err(Error::internal)?;
    table.remove(pattern.key().as_str()).map_err(Error::internal).map(drop)
}

fn rule(txn: &WriteTransaction, rules: Rules, pattern: &NamePattern) -> Result<Option<RuleRow>> {
    let table = txn.open_table(rules).map_err(Error::internal)?;
    let row = table.get(pattern.key().as_str()).map_err(Error::internal)?;
    row.map(|row| read(row.value())).transpose()
}

fn put_rule(txn: &WriteTransaction, rules: Rules, row: &RuleRow) -> Result<()> {
    let mut table = txn.open_table(rules).map_err(Error::internal)?;
    let key = row.pattern.key();
    table.insert(key.as_str(), write(row)?.as_slice()).map_err(Error::internal).map(drop)
}

fn team_row(txn: &WriteTransaction, team: TeamId) -> Result<Option<TeamRow>> {
    let table = txn.open_table(TEAMS).map_err(Error::internal)?;
    let row = table.get(team.0).map_err(Error::internal)?;
    row.map(|row| read(row.value())).transpose()
}

fn put_team(txn: &WriteTransaction, row: &TeamRow) -> Result<()> {
    let mut teams = txn.open_table(TEAMS).map_err(Error::internal)?;
    teams.insert(row.id.0, write(row)?.as_slice()).map_err(Error::internal).map(drop)
}

fn name_team(txn: &WriteTransaction, team: TeamId, name: &str) -> Result<()> {
    let mut names = txn.open_table(TEAM_NAMES).map_err(Error::internal)?;
    let name = name.to_ascii_lowercase();
    names.insert(name.as_str(), team.0).map_err(Error::internal).map(drop)
}

fn forget_name(txn: &WriteTransaction, name: &str) -> Result<()> {
    let mut names = txn.open_table(TEAM_NAMES).map_err(Error::internal)?;
    names.remove(name.to_ascii_lowercase().as_str()).map_err(Error::internal).map(drop)
}

fn leave(txn: &WriteTransaction, team: TeamId, user: UserId) -> Result<()> {
    let mut teams_of = txn.open_table(TEAMS_OF).map_err(Error::internal)?;
    teams_of.remove((user.0, team.0)).map_err(Error::internal).map(drop)
}
