//! `user`, `role`, `team`, `owner`, `creators` and `crate`.

use crate::cli::{
    CrateCommand, CreatorsCommand, OwnerCommand, RoleCommand, Rule, TeamCommand, UserCommand,
};
use cratehouse_core::console::tell;
use cratehouse_core::error::Result;
use cratehouse_core::table::Table;
use cratehouse_journal::rules::{Exposed, Listed};
use cratehouse_journal::users;

use super::lists;
use super::registry::Registry;
use super::table::{print_json, print_table};

/// Dependents that a warning names.
const SHOWN_DEPENDENTS: usize = 10;

pub(super) async fn user(registry: Registry<'_>, what: UserCommand) -> Result<()> {
    match what {
        UserCommand::Add { login, service } => {
            let user = registry.create_user(&login, UserCommand::kind(service)).await?;
            let what = if service { "service account" } else { "user" };
            super::print(&format!("created {what} {} ({})", user.login, user.id))
        }
        UserCommand::List { json } => lists::users(registry, json).await,
        UserCommand::Show { login, json } => show_user(registry, &login, json).await,
        UserCommand::Disable { login } => {
            registry.disable_user(&login).await?;
            super::print(&format!(
                "disabled {login}: no token of theirs counts any more, within a second on every replica"
            ))
        }
        UserCommand::Enable { login } => {
            registry.enable_user(&login).await?;
            super::print(&format!(
                "enabled {login}: their tokens count again, as far as they have not ended or been revoked"
            ))
        }
    }
}

async fn show_user(registry: Registry<'_>, login: &str, json: bool) -> Result<()> {
    let shown = registry.user(login).await?;
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

pub(super) async fn role(registry: Registry<'_>, what: RoleCommand) -> Result<()> {
    match what {
        RoleCommand::Grant { login, role } => {
            registry.set_role(&login, Some(role)).await?;
            super::print(&format!("{login} has the role {role}"))
        }
        RoleCommand::Revoke { login } => {
            registry.set_role(&login, None).await?;
            super::print(&format!("{login} has no role"))
        }
    }
}

pub(super) async fn team(registry: Registry<'_>, what: TeamCommand) -> Result<()> {
    match what {
        TeamCommand::Add { team, users } => {
            let is_there = registry.teams(Some(&team)).await;
            registry.add_members(&team, &users).await?;
            let told = format!("{} in team {team}", users.join(", "));
            super::print(&match is_there {
                Ok(_) => told,
                Err(_) => format!("{told}, which is new"),
            })
        }
        TeamCommand::Remove { team, users } => {
            registry.remove_members(&team, &users).await?;
            super::print(&match users.is_empty() {
                true => format!("removed team {team}: what it owned keeps its other owners"),
                false => format!("{} no longer in team {team}", users.join(", ")),
            })
        }
        TeamCommand::Rename { team, name } => {
            registry.rename_team(&team, &name).await?;
            super::print(&format!("team {team} is called {name}"))
        }
        TeamCommand::List { team, json } => {
            let teams = registry.teams(team.as_deref()).await?;
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

pub(super) async fn owner(registry: Registry<'_>, what: OwnerCommand) -> Result<()> {
    match what {
        OwnerCommand::Set { name, owners } => {
            let named: Vec<_> = owners.iter().map(ToString::to_string).collect();
            registry.set_owners(&name, &owners).await?;
            super::print(&format!("{name} is owned by {}", named.join(", ")))
        }
        OwnerCommand::List { name, json } => {
            let owners = registry.owners(&name).await?;
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

pub(super) async fn creators(registry: Registry<'_>, what: CreatorsCommand) -> Result<()> {
    match what {
        CreatorsCommand::Add(Rule { pattern, who }) => {
            registry.add_creators(&pattern, &who).await?;
            super::print(&format!("only those of the rule `{pattern}` create crates of its names"))
        }
        CreatorsCommand::Remove { pattern, who } => {
            registry.remove_creators(&pattern, &who).await?;
            let left = registry.creators().await?;
            super::print(&match left.iter().any(|rule| rule.pattern.key() == pattern.key()) {
                true => format!("took them from the rule `{pattern}`"),
                false => format!("there is no rule `{pattern}` any more"),
            })
        }
        CreatorsCommand::List { json } => list(registry.creators().await?, "creators", json),
    }
}

pub(super) async fn restrictions(registry: Registry<'_>, what: CrateCommand) -> Result<()> {
    match what {
        CrateCommand::Restrict { pattern, readers, removed } if removed.is_empty() => {
            let restricted = registry.restrict(&pattern, readers).await?;
            super::print(&format!(
                "crates named `{pattern}` exist for their owners and the readers of all rules that fit them alone, within \
                 a second on every replica"
            ))?;
            if !restricted.auth_required {
                tell(
                    "note: `auth.required` is off, so nobody shows a token where they read: restricted crates exist \
                     for nobody",
                );
            }
            warn_of(&restricted.exposed);
            Ok(())
        }
        CrateCommand::Restrict { pattern, removed, .. } => {
            registry.remove_readers(&pattern, removed).await?;
            super::print(&format!("they are no readers of `{pattern}` any more"))
        }
        CrateCommand::Open { pattern } => {
            registry.end_restriction(&pattern).await?;
            super::print(&format!("the restriction `{pattern}` is ended"))
        }
        CrateCommand::List { json } => list(registry.restrictions().await?, "readers", json),
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
