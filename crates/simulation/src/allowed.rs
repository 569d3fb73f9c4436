//! What the pure decision says of a wish, from the facts of the simplest registry and of nothing else.

use crate::registry::{Operation, Registry, User};
use cratehouse_journal::authorize::{Action, OfCrate, authorize};
use cratehouse_journal::principal::{
    Grant, Principal, PrincipalKind, Scope, TeamId, TokenId, UserId,
};
use cratehouse_journal::subject::Subject;
use cratehouse_package::test_util::name;

/// What the tokens of the simulation allow.
pub(crate) fn grant_of(who: User) -> Grant {
    let mut grant = Grant::usual();
    if who.admin {
        grant.scopes.insert(Scope::Admin);
    }
    grant
}

/// Whether `authorize` lets somebody do this.
///
/// # Errors
/// What it says.
pub(crate) fn allowed(registry: &Registry, who: User, wish: &Operation) -> Result<(), String> {
    if who.is_operator() {
        return Ok(());
    }
    let rights = &registry.rights;
    let of_user = rights.members.iter().filter(|(_, user)| *user == who.id);
    let who = Principal {
        user: UserId(who.id),
        login: String::new(),
        token: TokenId(0),
        grant: grant_of(who),
        kind: PrincipalKind::Person,
        role: rights.role_of(who.id),
        teams: of_user.map(|(team, _)| TeamId(*team)).collect(),
    };
    let text = match wish {
        Operation::Publish { krate, .. }
        | Operation::Yank { krate, .. }
        | Operation::Remove { krate, .. }
        | Operation::AddOwner { krate, .. }
        | Operation::RemoveOwner { krate, .. }
        | Operation::SetOwners { krate, .. } => krate,
        Operation::Change(_) => "",
    };
    let owners = registry.any(text).map(|krate| krate.owners.clone()).unwrap_or_default();
    let (mut users, mut teams) = (Vec::new(), Vec::new());
    owners.into_iter().for_each(|owner| match owner {
        Subject::User(user) => users.push(user),
        Subject::Team(team) => teams.push(team),
    });
    let readers = rights.readers_of(text).map(Vec::from_iter);
    let creators = rights.creators_of(text).map(|all| all.iter().copied().collect::<Vec<_>>());
    let krate = if text.is_empty() { name("none") } else { name(text) };
    let of = OfCrate {
        krate: &krate,
        exists: registry.any(text).is_some_and(|krate| krate.name == text),
        owners: &users,
        teams: &teams,
        readers: readers.as_deref(),
    };
    let action = match wish {
        Operation::Publish { .. } if registry.any(text).is_some() => Action::PublishUpdate(of),
        Operation::Publish { .. } => {
            Action::PublishNew { krate: &krate, creators: creators.as_deref() }
        }
        Operation::Yank { .. } => Action::Yank(of),
        Operation::AddOwner { .. } | Operation::RemoveOwner { .. } => Action::ChangeOwners(of),
        Operation::Remove { .. } | Operation::SetOwners { .. } | Operation::Change(_) => {
            Action::Administer
        }
    };
    authorize(&who, action).map_err(|denied| denied.error.to_string())
}
