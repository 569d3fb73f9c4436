//! May this principal do this to this crate? The one answer, from facts alone: the gates in HTTP ask it before
//! a body is read, and the judge asks it again when a command is appended.
//!
//! What a token may do is its scopes, within the role, the ownership and the teams that its holder has now. To who may
//! not read a crate it does not exist: that is said before anything that depends on it.

use crate::principal::{Grant, Principal, Role, Scope, TeamId, TokenId, UserId};
use crate::subject::Subject;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Read the index and crate files, where reads need a token.
    Read,
    /// Publish something; what, is not known yet.
    Publish,
    /// Publish the first version of a crate.
    PublishNew {
        /// The crate.
        krate: &'a CrateName,
        /// Who may create crates of such a name; `None`: everybody.
        creators: Option<&'a [Subject]>,
    },
    /// Publish a version under a name that is taken by a crate which does not exist for who asks.
    PublishHidden {
        /// The name.
        krate: &'a CrateName,
    },
    /// Publish another version of a crate.
    PublishUpdate(OfCrate<'a>),
    /// Yank a version of a crate, or undo it.
    Yank(OfCrate<'a>),
    /// Say who owns a crate.
    ChangeOwners(OfCrate<'a>),
    /// Make a token.
    CreateToken {
        /// Whose it will be.
        of: UserId,
        /// What it will be able to do.
        grant: &'a Grant,
    },
    /// See a user's tokens.
    ListTokens {
        /// Whose they are.
        of: UserId,
    },
    /// Revoke a token.
    RevokeToken {
        /// Whose it is.
        of: UserId,
        /// The token.
        token: TokenId,
    },
    /// Read whatever only administrators and auditors read.
    Audit,
    /// Whatever only administrators do.
    Administer,
}

/// A crate, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct OfCrate<'a> {
    /// Its name, as it was asked for.
    pub krate: &'a CrateName,
    /// Whether there is a crate of just this name, as far as this replica knows.
    pub exists: bool,
    /// The users who own it.
    pub owners: &'a [UserId],
    /// The teams that own it.
    pub teams: &'a [TeamId],
    /// Who may read it beside those; `None`: everybody.
    pub readers: Option<&'a [Subject]>,
}

/// Why not.
#[derive(Debug, Clone)]
pub struct Denied {
    /// What the client is told.
    pub error: Error,
    /// Whether an entry of the journal that this replica has not read yet could change the answer.
    pub lag_could_explain: bool,
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        denied.error
    }
}

/// Whether the holder of a token may do this.
///
/// # Errors
/// What is missing, and how to come by it.
pub fn authorize(who: &Principal, action: Action<'_>) -> Result<(), Denied> {
    match action {
        Action::Read => scope(who, Scope::Read, None),
        Action::Publish => no_auditor(who).and_then(|()| either_publish_scope(who)),
        Action::PublishNew { krate, creators } => {
            no_auditor(who).and_then(|()| publish_new(who, krate, creators))
        }
        Action::PublishHidden { krate } => Err(not_a_creator(krate)),
        Action::PublishUpdate(of) => no_auditor(who).and_then(|()| publish_update(who, of)),
        Action::Yank(of) => no_auditor(who).and_then(|()| yank(who, of)),
        Action::ChangeOwners(of) => no_auditor(who).and_then(|()| change_owners(who, of)),
        Action::CreateToken { of, grant } if who.user == of => create_own_token(who, grant),
        Action::ListTokens { of } if who.user == of => {
            scope(who, Scope::Tokens, None).or_else(|denied| audit(who).map_err(|_| denied))
        }
        // Each ends itself; others are for those that make tokens.
        Action::RevokeToken { of, token } if who.user == of && who.token == token => Ok(()),
        Action::RevokeToken { of, .. } if who.user == of => {
            scope(who, Scope::Tokens, None).or_else(|denied| administer(who).map_err(|_| denied))
        }
        Action::ListTokens { .. } | Action::Audit => audit(who),
        Action::CreateToken { .. } | Action::RevokeToken { .. } | Action::Administer => {
            administer(who)
        }
    }
}

/// Whether a token has a scope, as far as no crate is known.
///
/// # Errors
/// That it has not.
pub fn has_scope(who: &Principal, needed: Scope) -> Result<(), Denied> {
    scope(who, needed, None)
}

/// Whether a crate exists for somebody, nobody being who shows no token: it is open, they own it, or they are among
/// its readers; and the token is not for others alone.
pub fn may_read(who: Option<&Principal>, of: OfCrate<'_>) -> bool {
    if who.is_some_and(|who| !who.grant.reads(of.krate)) {
        return false;
    }
    let Some(readers) = of.readers else { return true };
    who.is_some_and(|who| {
        readers.iter().any(|reader| reader.is(who)) || owns(who, of) || is_in_owning_team(who, of)
    })
}

/// What is said to who may not know that a name is taken.
pub fn taken(krate: &CrateName) -> Error {
    not_a_creator(krate).error
}

/// What is said of a crate that does not exist, and of one that does not for who asks.
pub fn absent(krate: &CrateName) -> Error {
    Error::absent(format_args!("`{krate}` is not a crate that is hosted here"))
}

fn scope(who: &Principal, scope: Scope, krate: Option<&CrateName>) -> Result<(), Denied> {
    who.check(scope, krate)
        .map_err(|lacks| Denied { error: Error::forbidden(lacks), lag_could_explain: false })
}

/// An auditor changes nothing, whatever they own.
fn no_auditor(who: &Principal) -> Result<(), Denied> {
    match who.role {
        Some(Role::Auditor) => Err(Denied {
            error: Error::forbidden(
                "an auditor changes no crate: let another user publish it, yank it or say who owns it, such as a service \
                 account (`cratehouse user add NAME --service`)",
            ),
            lag_could_explain: true,
        }),
        Some(Role::Admin) | None => Ok(()),
    }
}

fn owns(who: &Principal, of: OfCrate<'_>) -> bool {
    of.owners.contains(&who.user)
}

fn is_in_owning_team(who: &Principal, of: OfCrate<'_>) -> bool {
    of.teams.iter().any(|team| who.teams.binary_search(team).is_ok())
}

fn is_admin(who: &Principal) -> bool {
    who.role == Some(Role::Admin) && who.grant.scopes.contains(&Scope::Admin)
}

fn publish_new(
    who: &Principal,
    krate: &CrateName,
    creators: Option<&[Subject]>,
) -> Result<(), Denied> {
    // Another replica may have made it a crate that this token may update.
    let lag_could_explain = scope(who, Scope::PublishUpdate, Some(krate)).is_ok();
    scope(who, Scope::PublishNew, Some(krate))
        .map_err(|denied| Denied { lag_could_explain, ..denied })?;
    match creators.is_none_or(|creators| creators.iter().any(|one| one.is(who))) {
        true => Ok(()),
        false => Err(not_a_creator(krate)),
    }
}

/// Said also of a name that is taken by a crate which does not exist for who asks.
fn not_a_creator(krate: &CrateName) -> Denied {
    Denied {
        error: Error::forbidden(format_args!(
            "you may not create a crate named `{krate}`: who creates crates of which names is decided by the \
             administrators (`cratehouse creators list` shows them the rules, and which team you would have to be in): ask \
             one"
        )),
        lag_could_explain: true,
    }
}

fn publish_update(who: &Principal, of: OfCrate<'_>) -> Result<(), Denied> {
    scope(who, Scope::PublishUpdate, Some(of.krate))?;
    if !may_read(Some(who), of) {
        return Err(not_a_creator(of.krate));
    }
    match owns(who, of) || is_in_owning_team(who, of) {
        true => Ok(()),
        false => Err(not_an_owner(of.krate)),
    }
}

fn yank(who: &Principal, of: OfCrate<'_>) -> Result<(), Denied> {
    scope(who, Scope::Yank, Some(of.krate))?;
    there(who, of)?;
    match owns(who, of) || is_in_owning_team(who, of) || is_admin(who) {
        true => Ok(()),
        false => Err(not_an_owner(of.krate)),
    }
}

/// crates.io's rule: a team publishes, its members do not say who else does.
/// Source: rust-lang/crates.io, `src/controllers/helpers/authorization.rs`.
fn change_owners(who: &Principal, of: OfCrate<'_>) -> Result<(), Denied> {
    scope(who, Scope::ChangeOwners, Some(of.krate))?;
    there(who, of)?;
    match (owns(who, of) || is_admin(who), is_in_owning_team(who, of)) {
        (true, _) => Ok(()),
        (false, false) => Err(not_an_owner(of.krate)),
        (false, true) => Err(Denied {
            error: Error::forbidden(format_args!(
                "you may publish `{0}` as a member of a team that owns it; who owns it, only the users among its \
                 owners say (`cargo owner --list {0}` names them). Where none of them can, an administrator hands it \
                 over: `cratehouse owner set {0} user:…`",
                of.krate
            )),
            lag_could_explain: true,
        }),
    }
}

/// A crate that there is, for who asks.
fn there(who: &Principal, of: OfCrate<'_>) -> Result<(), Denied> {
    match of.exists && may_read(Some(who), of) {
        true => Ok(()),
        false => Err(Denied { error: absent(of.krate), lag_could_explain: true }),
    }
}

fn not_an_owner(krate: &CrateName) -> Denied {
    Denied {
        error: Error::forbidden(format!(
            "only the owners of `{krate}` may do that: ask one of them to run `cargo owner --add` (`cargo owner --list \
             {krate}` names them); where none of them can, an administrator hands it over (`cratehouse owner set`)"
        )),
        lag_could_explain: true,
    }
}

fn create_own_token(who: &Principal, grant: &Grant) -> Result<(), Denied> {
    if is_admin(who) {
        return Ok(());
    }
    scope(who, Scope::Tokens, None)?;
    match grant.is_within(&who.grant) {
        true => Ok(()),
        false => Err(Denied {
            error: Error::forbidden(
                "a token makes none that may do more than itself: scopes, crates and end of the new one have to be \
                 among its own. `GET /api/v1/me` tells them",
            ),
            lag_could_explain: false,
        }),
    }
}

fn administer(who: &Principal) -> Result<(), Denied> {
    match who.role {
        // A scope that would be of no use is not what is missing.
        Some(Role::Admin) => scope(who, Scope::Admin, None),
        _ => Err(lacks_role("an administrator (`cratehouse role grant NAME admin`)")),
    }
}

fn audit(who: &Principal) -> Result<(), Denied> {
    match who.role {
        Some(Role::Admin | Role::Auditor) if who.grant.scopes.contains(&Scope::Admin) => Ok(()),
        Some(Role::Admin | Role::Auditor) => scope(who, Scope::Audit, None),
        None => {
            Err(lacks_role("an administrator or auditor (`cratehouse role grant NAME auditor`)"))
        }
    }
}

fn lacks_role(what: &str) -> Denied {
    let error = Error::forbidden(format_args!("this needs a token whose holder is {what}"));
    Denied { error, lag_could_explain: true }
}

fn either_publish_scope(who: &Principal) -> Result<(), Denied> {
    let [new, update] = [Scope::PublishNew, Scope::PublishUpdate];
    match who.grant.scopes.contains(&new) || who.grant.scopes.contains(&update) {
        true => Ok(()),
        false => {
            let all = who.grant.scopes.iter().chain([&new, &update]).map(ToString::to_string);
            let error = Error::forbidden(format_args!(
                "this token has neither the scope `{new}` nor `{update}`: ask for one with it (`cratehouse token \
                 create --user … --scope {}`)",
                all.collect::<Vec<_>>().join(",")
            ));
            Err(Denied { error, lag_could_explain: false })
        }
    }
}

#[cfg(test)]
mod tests;
