//! The gate: before a request's body is read, and before its handler runs, its token is looked at, and whether it is
//! good for such a request. Handlers ask nothing of this kind again, so that none can forget to.

use std::sync::Arc;

use hyper::HeaderMap;

use crate::gateway::Gateway;
use crate::http::request::authenticate;
use crate::http::request::route::needs::Needs;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_journal::authorize::{Action, authorize, has_scope};
use cratehouse_journal::principal::Principal;

/// Lets a request pass that needs this, and says who asks; nobody, where no token is asked for.
///
/// # Errors
/// [`cratehouse_core::error::Kind::Unauthenticated`] without a token that counts, forbidden with one that does not
/// allow it.
pub async fn admit(
    gateway: &Gateway,
    headers: &HeaderMap,
    client: ClientKey,
    needs: Needs,
) -> Result<Option<Arc<Principal>>> {
    match needs {
        Needs::Nothing => return Ok(None),
        Needs::Read => return authenticate::reader(gateway, headers, client).await,
        Needs::Token | Needs::Scope(_) | Needs::Publish | Needs::Audit | Needs::Administer => (),
    }
    let who = authenticate::caller(gateway, headers, client).await?;
    match needs {
        Needs::Nothing | Needs::Read | Needs::Token => (),
        Needs::Scope(scope) => has_scope(&who, scope)?,
        Needs::Publish => authorize(&who, Action::Publish)?,
        Needs::Audit => authorize(&who, Action::Audit)?,
        Needs::Administer => authorize(&who, Action::Administer)?,
    }
    Ok(Some(who))
}
