//! `user`, `role`, `team`, `owner`, `creators` and `crate`.

use crate::cli::{
    CrateCommand, CreatorsCommand, OwnerCommand, RoleCommand, Rule, TeamCommand, UserCommand,
};
use crate::gateway::Gateway;
use cratehouse_core::console::tell;
use cratehouse_core::error::Result;
use cratehouse_core::table::Table;
use cratehouse_journal::commands::{Command, CommandActor};
use cratehouse_journal::rules::{self, Exposed, Listed};
use cratehouse_journal::writer::Waiter;
use cratehouse_journal::{owners, teams, users};

use super::lists;
use super::table::{print_json, print_table};

/// Dependents that a warning names.
const SHOWN_DEPENDENTS: usize = 10;

pub(super) async fn user(gateway: &Gateway, what: UserCommand) -> Result<()> {
    let (journal, by) = (&gateway.journal, CommandActor::Operator);
    match what {
        UserCommand::Add { login, service } => {
            let user = users::create(journal, by, &login, UserCommand::kind(service)).await?;
            let what = if service { "service account" } else { "user" };
            super::print(&format!("created {what} {} ({})", user.login, user.id))
        }
        UserCommand::List { json } => lists::users(gateway, json).await,
        UserCommand::Show { login, json } => show_user(gateway, &login, json).await,
        UserCommand::Disable { login } => {
            users::disable(journal, by, &login).await?;
            super::print(&format!(
                "disabled {login}: no token of theirs counts any more, within a second on every replica"
            ))
        }
        UserCommand::Enable { login } => {
            users::enable(journal, by, &login).await?;
            super::print(&format!(
                "enabled {login}: their tokens count again, as far as they have not ended or been revoked"
            ))
        }
    }
}

async fn show_user(gateway: &Gateway, login: &str, json: bool) -> Result<()> {
    let shown = users::show(&gateway.journal, login, &gateway.last_uses.all().await?).await?;
    if json {
        return print_json(&shown);
    }
    let users::Shown { user, teams, crates, would_be_orphaned, tokens } = shown;
    let named =
        |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let state = if user.disabled { ", disabled" } else { "" };
    let role = user.role.map(|role| format!(", {role}")).unwrap_or_default();
    super::print(&format!(
        "{} ({}): {}{role}{state}",
        user.login,
        user.id,
        lists::kind(user.kind)
    ))?;
    super::print(&format!("teams: {}", named(teams)))?;
    let texts = |crates: Vec<_>| crates.iter().map(ToString::to_string).collect();
    super::print(&format!("crates: {}", named(texts(crates))))?;
    if !would_be_orphaned.is_empty() {
        super::print(&format!(
            "nobody else says who owns: {} (`cratehouse owner set` hands one over)",
            named(texts(would_be_orphaned))
        ))?;
    }
    let tokens = tokens.into_iter().map(cratehouse_journal::tokens::Listed::to_the_second);
    print_table(&lists::token_table(tokens.collect()))
}

pub(super) async fn role(gateway: &Gateway, what: RoleCommand) -> Result<()> {
    let (journal, by) = (&gateway.journal, CommandActor::Operator);
    match what {
        RoleCommand::Grant { login, role } => {
            users::set_role(journal, by, &login, Some(role)).await?;
            super::print(&format!("{login} has the role {role}"))
        }
        RoleCommand::Revoke { login } => {
            users::set_role(journal, by, &login, None).await?;
            super::print(&format!("{login} has no role"))
        }
    }
}

pub(super) async fn team(gateway: &Gateway, what: TeamCommand) -> Result<()> {
    let (journal, by) = (&gateway.journal, CommandActor::Operator);
    match what {
        TeamCommand::Add { team, users } => {
            teams::add(journal, by, &team, users.clone()).await?;
            super::print(&format!("{} in team {team}", users.join(", ")))
        }
        TeamCommand::Remove { team, users } => {
            teams::remove(journal, by, &team, users.clone()).await?;
            super::print(&match users.is_empty() {
                true => format!("removed team {team}: what it owned keeps its other owners"),
                false => format!("{} no longer in team {team}", users.join(", ")),
            })
        }
        TeamCommand::Rename { team, name } => {
            teams::rename(journal, by, &team, &name).await?;
            super::print(&format!("team {team} is called {name}"))
        }
        TeamCommand::List { team, json } => {
            let teams = teams::list(journal, team.as_deref()).await?;
            if json {
                return print_json(&teams);
            }
            let mut table = Table::new(["id", "team", "members"]);
            for team in teams {
                table.row([&team.id.to_string(), &team.name, &team.members.join(",")]);
            }
            print_table(&table)
        }
    }
}

pub(super) async fn owner(gateway: &Gateway, what: OwnerCommand) -> Result<()> {
    let journal = &gateway.journal;
    match what {
        OwnerCommand::Set { name, owners } => {
            let named: Vec<_> = owners.iter().map(ToString::to_string).collect();
            let command = Command::SetOwners { krate: name.clone(), owners };
            rules::change(journal, CommandActor::Operator, command).await?;
            super::print(&format!("{name} is owned by {}", named.join(", ")))
        }
        OwnerCommand::List { name, json } => {
            let owners = owners::list(journal, Waiter::Authenticated, &name).await?;
            if json {
                return print_json(&owners);
            }
            let mut table = Table::new(["id", "owner"]);
            for owner in owners {
                table.row([&owner.id.to_string(), &owner.login]);
            }
            print_table(&table)
        }
    }
}

pub(super) async fn creators(gateway: &Gateway, what: CreatorsCommand) -> Result<()> {
    let (journal, by) = (&gateway.journal, CommandActor::Operator);
    match what {
        CreatorsCommand::Add(Rule { pattern, who }) => {
            let command = Command::AddCreators { pattern: pattern.clone(), creators: who };
            rules::change(journal, by, command).await?;
            super::print(&format!("only those of the rule `{pattern}` create crates of its names"))
        }
        CreatorsCommand::Remove { pattern, who } => {
            let command = Command::RemoveCreators { pattern: pattern.clone(), creators: who };
            rules::change(journal, by, command).await?;
            let left = rules::creators(journal).await?;
            super::print(&match left.iter().any(|rule| rule.pattern.key() == pattern.key()) {
                true => format!("took them from the rule `{pattern}`"),
                false => format!("there is no rule `{pattern}` any more"),
            })
        }
        CreatorsCommand::List { json } => list(rules::creators(journal).await?, "creators", json),
    }
}

pub(super) async fn restrictions(gateway: &Gateway, what: CrateCommand) -> Result<()> {
    let (journal, by) = (&gateway.journal, CommandActor::Operator);
    match what {
        CrateCommand::Restrict { pattern, readers, removed } if removed.is_empty() => {
            let command = Command::Restrict { pattern: pattern.clone(), readers };
            rules::change(journal, by, command).await?;
            super::print(&format!(
                "crates named `{pattern}` exist for their owners and the readers of this rule alone, within a second \
                 on every replica"
            ))?;
            if !gateway.config.auth_required {
                tell(
                    "note: `auth.required` is off, so nobody shows a token where they read: restricted crates exist \
                     for nobody",
                );
            }
            warn_of(&rules::exposed(journal, &pattern).await?);
            Ok(())
        }
        CrateCommand::Restrict { pattern, removed, .. } => {
            let command = Command::RemoveReaders { pattern: pattern.clone(), readers: removed };
            rules::change(journal, by, command).await?;
            super::print(&format!("they are no readers of `{pattern}` any more"))
        }
        CrateCommand::Open { pattern } => {
            rules::change(journal, by, Command::Open { pattern: pattern.clone() }).await?;
            super::print(&format!("the restriction `{pattern}` is ended"))
        }
        CrateCommand::List { json } => list(rules::restrictions(journal).await?, "readers", json),
    }
}

fn list(rules: Vec<Listed>, who: &'static str, json: bool) -> Result<()> {
    if json {
        return print_json(&rules);
    }
    let mut table = Table::new(["names", who]);
    for rule in rules {
        let subjects: Vec<_> = rule.subjects.iter().map(ToString::to_string).collect();
        table.row([rule.pattern.as_str(), &subjects.join(",")]);
    }
    print_table(&table)
}

/// An open crate shows its dependencies to all its readers.
fn warn_of(exposed: &[Exposed]) {
    for Exposed { krate, dependent } in exposed.iter().take(SHOWN_DEPENDENTS) {
        tell(&format!(
            "warning: the open crate `{dependent}` depends on `{krate}`, and shows that name to all who read it: restrict \
             `{dependent}` too, or it cannot be built by them"
        ));
    }
    if let Some(more) = exposed.len().checked_sub(SHOWN_DEPENDENTS).filter(|more| *more > 0) {
        tell(&format!("warning: so do {more} more"));
    }
}
