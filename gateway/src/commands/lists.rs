//! Lists of users, of tokens and of names that somebody else has.

use cratehouse_core::error::Result;
use cratehouse_core::table::Table;
use cratehouse_journal::principal::{PrincipalKind, Role};
use cratehouse_journal::tokens::{Listed, Selection};
use std::process::ExitCode;

use super::registry::Registry;
use super::table::{print_json, print_table};

pub(super) async fn users(registry: Registry<'_>, json: bool) -> Result<()> {
    let users = registry.users().await?;
    if json {
        return print_json(&users);
    }
    let mut table = Table::new(["id", "user", "kind", "role", "state"]);
    for user in users {
        let state = if user.disabled { "disabled" } else { "active" };
        let role = user.role.map_or("", Role::as_str);
        table.row([&user.id.to_string(), &user.login, kind(user.kind), role, state]);
    }
    print_table(&table)
}

pub(super) fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Person => "person",
        PrincipalKind::Service => "service account",
    }
}

pub(super) async fn tokens(
    registry: Registry<'_>,
    selection: &Selection,
    json: bool,
) -> Result<()> {
    let tokens = registry.tokens(selection).await?;
    let tokens: Vec<_> = tokens.into_iter().map(Listed::to_the_second).collect();
    if json {
        return print_json(&tokens);
    }
    print_table(&token_table(tokens))
}

pub(super) fn token_table(tokens: Vec<Listed>) -> Table<9> {
    let columns =
        ["id", "user", "name", "scopes", "crates", "created", "ends", "last used", "state"];
    let mut table = Table::new(columns);
    for Listed {
        id,
        user,
        name,
        scopes,
        crates,
        read_only_crates,
        expires,
        created,
        last_used,
        state,
        ..
    } in tokens
    {
        let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
        let crates: Vec<_> = crates.iter().map(ToString::to_string).collect();
        let mut crates = if crates.is_empty() { "all crates".to_owned() } else { crates.join(",") };
        if !read_only_crates.is_empty() {
            let reads: Vec<_> = read_only_crates.iter().map(ToString::to_string).collect();
            crates += &format!("; reads {} alone", reads.join(","));
        }
        let ends = expires.map_or_else(|| "never".to_owned(), |end| end.to_string());
        let used = last_used.map(|used| format!("{} from {}", used.day, used.from));
        let used = used.unwrap_or_else(|| "never".to_owned());
        let (id, created, scopes) = (id.to_string(), created.to_string(), scopes.join(","));
        let state = state.words();
        table.row([&id, &user, &name, &scopes, &crates, &created, &ends, &used, state]);
    }
    table
}

/// The names that are hosted here and taken elsewhere; a status for scripts.
pub(super) async fn clashes(registry: Registry<'_>, json: bool) -> Result<ExitCode> {
    let clashes = registry.clashes().await?;
    let status = if clashes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        print_json(&clashes)?;
        return Ok(status);
    }
    let mut table = Table::new(["hosted here", "taken at", "spelled there"]);
    for clash in &clashes {
        table.row([clash.name.as_str(), &clash.upstream, clash.spelling.as_str()]);
    }
    print_table(&table)?;
    super::print(&match clashes.len() {
        0 => "0 clashes".to_owned(),
        many => format!("{many} clashes: a build that asks there gets another crate"),
    })?;
    Ok(status)
}
