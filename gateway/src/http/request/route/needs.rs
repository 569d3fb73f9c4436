//! What each route needs of who asks: the one table. [`crate::http::request::gate`] asks it before anything else of a
//! request is looked at. What depends on the crate (its owners, its readers, a token's patterns) is judged when it is
//! known, by `cratehouse_journal::authorize`.

use super::{Access, Administer, Own, Route, Upkeep};
use cratehouse_journal::principal::Scope;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: pages for people, without anything of the registry on them.
    Nothing,
    /// A token with the scope `read`, where `auth.required` is set.
    Read,
    /// A token that counts.
    Token,
    /// A token with this scope.
    Scope(Scope),
    /// A token with the scope `publish-new` or `publish-update`.
    Publish,
    /// A token of an administrator or an auditor.
    Audit,
    /// A token of an administrator.
    Administer,
}

impl Route {
    /// What it needs.
    pub fn needs(&self) -> Needs {
        match self {
            Route::Home | Route::Me | Route::OpenApi => Needs::Nothing,
            Route::IndexConfig(_)
            | Route::IndexFile(..)
            | Route::Download(..)
            | Route::Search { .. }
            | Route::Owners(_)
            | Route::Policy(_) => Needs::Read,
            Route::Whose => Needs::Token,
            Route::Publish => Needs::Publish,
            Route::Yank(..) | Route::Unyank(..) => Needs::Scope(Scope::Yank),
            Route::AddOwners(_) | Route::RemoveOwners(_) => Needs::Scope(Scope::ChangeOwners),
            Route::Own(own) => own.needs(),
            Route::Admin(what) => what.needs(),
        }
    }
}

impl Own {
    fn needs(&self) -> Needs {
        match self {
            // Whose token it is decides: administrators too make and see their own.
            Own::Tokens | Own::CreateToken | Own::RotateToken(_) => Needs::Token,
            Own::RevokeToken(_) | Own::RevokeThis => Needs::Token,
            // Who has a token can end it: it is looked at as any other body is.
            Own::Report => Needs::Nothing,
        }
    }
}

impl Administer {
    fn needs(&self) -> Needs {
        match self {
            Administer::Users | Administer::Tokens(_) | Administer::Audit | Administer::Head => {
                Needs::Audit
            }
            Administer::Access(what) if Access::is_read(what) => Needs::Audit,
            Administer::Upkeep(what) if Upkeep::is_read(what) => Needs::Audit,
            Administer::CreateUser
            | Administer::DisableUser(_)
            | Administer::CreateToken
            | Administer::RevokeToken(_)
            | Administer::RotateToken(_)
            | Administer::Remove(..)
            | Administer::Refresh(_)
            | Administer::Purge(..)
            | Administer::Access(_)
            | Administer::Upkeep(_) => Needs::Administer,
        }
    }
}
