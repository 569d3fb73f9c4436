//! May this principal do this to this crate? The one answer, from facts alone: the gates in HTTP ask it before
//! a body is read, and the judge asks it again when a command is appended.

use crate::principal::{Principal, Scope, UserId};
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
    },
    /// Publish another version of a crate.
    PublishUpdate(OfCrate<'a>),
    /// Yank a version of a crate, or undo it.
    Yank(OfCrate<'a>),
    /// Say who owns a crate.
    ChangeOwners(OfCrate<'a>),
    /// Revoke a token.
    RevokeToken {
        /// Whose it is.
        of: UserId,
    },
    /// Whatever only administrators do.
    Administer,
}

/// A crate, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct OfCrate<'a> {
    /// Its name, as it was asked for.
    pub krate: &'a CrateName,
    /// Who owns it; `None`: there is no such crate, as far as this replica knows.
    pub owners: Option<&'a [UserId]>,
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
        Action::Publish => either_publish_scope(who),
        Action::PublishNew { krate } => {
            // Another replica may have made it a crate that this token may update.
            let lag_could_explain = scope(who, Scope::PublishUpdate, Some(krate)).is_ok();
            scope(who, Scope::PublishNew, Some(krate))
                .map_err(|denied| Denied { lag_could_explain, ..denied })
        }
        Action::PublishUpdate(of) => owner_with(who, Scope::PublishUpdate, of, Admins::No),
        Action::Yank(of) => owner_with(who, Scope::Yank, of, Admins::Too),
        Action::ChangeOwners(of) => owner_with(who, Scope::ChangeOwners, of, Admins::Too),
        Action::RevokeToken { of } if who.user == of => Ok(()),
        Action::RevokeToken { .. } | Action::Administer => scope(who, Scope::Admin, None),
    }
}

/// Whether administrators may do to every crate what its owners may.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admins {
    Too,
    No,
}

fn scope(who: &Principal, scope: Scope, krate: Option<&CrateName>) -> Result<(), Denied> {
    who.check(scope, krate)
        .map_err(|lacks| Denied { error: Error::forbidden(lacks), lag_could_explain: false })
}

fn owner_with(
    who: &Principal,
    needed: Scope,
    of: OfCrate<'_>,
    admins: Admins,
) -> Result<(), Denied> {
    scope(who, needed, Some(of.krate))?;
    let Some(owners) = of.owners else { return Ok(()) }; // there is nothing to own
    let is_admin = admins == Admins::Too && who.grant.scopes.contains(&Scope::Admin);
    match owners.contains(&who.user) || is_admin {
        true => Ok(()),
        false => Err(Denied {
            error: Error::forbidden(format!(
                "only the owners of `{0}` may do that: ask one of them to run `cargo owner --add` (`cargo owner --list {0}` names them)",
                of.krate
            )),
            lag_could_explain: true,
        }),
    }
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
mod tests {
    use super::*;
    use crate::principal::{Grant, TokenId};

    const ALICE: UserId = UserId(1);
    const BOB: UserId = UserId(2);

    fn principal(scopes: &[Scope]) -> Principal {
        let grant = Grant { scopes: scopes.iter().copied().collect(), ..Grant::usual() };
        Principal { user: ALICE, login: "alice".to_owned(), token: TokenId(1), grant }
    }

    /// Every action on a crate of these owners.
    fn actions<'a>(krate: &'a CrateName, owners: &'a [UserId]) -> [Action<'a>; 9] {
        let of = OfCrate { krate, owners: Some(owners) };
        [
            Action::Read,
            Action::Publish,
            Action::PublishNew { krate },
            Action::PublishUpdate(of),
            Action::Yank(of),
            Action::ChangeOwners(of),
            Action::RevokeToken { of: ALICE },
            Action::RevokeToken { of: BOB },
            Action::Administer,
        ]
    }

    /// Which of them a token may: one character an action, in that order.
    fn may(scopes: &[Scope], owners: &[UserId]) -> String {
        let (who, krate) = (principal(scopes), "foo".parse().unwrap());
        let letter = |action| match authorize(&who, action) {
            Ok(()) => 'x',
            Err(_) => '-',
        };
        actions(&krate, owners).map(letter).iter().collect()
    }

    #[test]
    fn the_table_of_scopes_and_owners() {
        let (own, other) = (&[ALICE], &[BOB]);
        for (scopes, of_own, of_other) in [
            (&[][..], "------x--", "------x--"),
            (&[Scope::Read], "x-----x--", "x-----x--"),
            (&[Scope::PublishNew], "-xx---x--", "-xx---x--"),
            (&[Scope::PublishUpdate], "-x-x--x--", "-x----x--"),
            (&[Scope::Yank], "----x-x--", "------x--"),
            (&[Scope::ChangeOwners], "-----xx--", "------x--"),
            (&[Scope::Admin], "------xxx", "------xxx"),
            (&[Scope::Admin, Scope::Yank], "----x-xxx", "----x-xxx"),
            (&[Scope::Admin, Scope::ChangeOwners], "-----xxxx", "-----xxxx"),
            (&[Scope::Admin, Scope::PublishUpdate], "-x-x--xxx", "-x----xxx"),
        ] {
            assert_eq!(
                (may(scopes, own), may(scopes, other)),
                (of_own.into(), of_other.into()),
                "{scopes:?}"
            );
        }
    }

    #[test]
    fn a_pattern_bounds_every_action_on_a_crate_and_nothing_else() {
        let mut who = principal(&[
            Scope::PublishNew,
            Scope::PublishUpdate,
            Scope::Yank,
            Scope::ChangeOwners,
            Scope::Read,
        ]);
        who.grant.crates = vec!["acme-*".parse().unwrap()];
        for (name, expected) in [("acme-x", "xxxxxxx--"), ("foo", "xx----x--")] {
            let krate = name.parse().unwrap();
            let letter = |action| if authorize(&who, action).is_ok() { 'x' } else { '-' };
            let found: String = actions(&krate, &[ALICE]).map(letter).iter().collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_another_replica_may_have_changed_is_said_so() {
        let krate: CrateName = "foo".parse().unwrap();
        let lags = |scopes: &[Scope], action| {
            authorize(&principal(scopes), action).unwrap_err().lag_could_explain
        };
        let of = OfCrate { krate: &krate, owners: Some(&[BOB]) };
        assert!(lags(&[Scope::PublishUpdate], Action::PublishUpdate(of)), "ownership may be new");
        assert!(
            lags(&[Scope::PublishUpdate], Action::PublishNew { krate: &krate }),
            "it may exist"
        );
        assert!(!lags(&[Scope::Yank], Action::PublishNew { krate: &krate }));
        assert!(!lags(&[Scope::Read], Action::Yank(of)), "scopes of a token never change");
    }
}
