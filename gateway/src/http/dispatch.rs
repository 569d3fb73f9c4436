//! The one match from a route to what answers it.

use hyper::HeaderMap;

use crate::http::api::call::{Asker, Call};
use crate::http::api::{
    admin, crate_files, index, me, openapi, own_tokens, owners, policy, publish, report, search,
    yank,
};
use crate::http::app::App;
use crate::http::pages::home;
use crate::http::request::route::{Own, Route};
use crate::http::request::{forwarded, gate};
use crate::http::response::respond::Answer;
use cratehouse_core::error::{Kind, Result};

/// Answers a request from memory, if that is possible at once: the way of nearly all of them.
/// Nothing is noted or logged where it is not; a body that its client has no share for is counted as
/// a lookup here and on the long way.
pub fn at_hand(
    app: &App,
    route: &Route,
    headers: &HeaderMap,
    asker: Asker,
) -> Option<Result<Answer>> {
    match route {
        Route::IndexFile(view, name) => index::file_at_hand(app, headers, asker, (*view, name)),
        Route::IndexConfig(view) => index::config_at_hand(app, headers, *view),
        Route::Download(name, version) => {
            crate_files::at_hand(app, headers, asker, (name, version))
        }
        _ => None,
    }
}

/// Answers a request, or says why not. Who asks is looked at first, by what the route needs.
///
/// # Errors
/// Those of the flow, of the token and of the body.
pub async fn dispatch(mut call: Call<'_>, route: Route) -> Result<Answer> {
    let admitted = gate::admit(call.gateway(), call.headers, call.client, route.needs()).await;
    if let (Route::Publish, Err(refused)) = (&route, &admitted)
        && refused.kind == Kind::Forbidden
    {
        call.gateway().publisher.count_refusal(refused);
    }
    call.who = admitted?;
    if let Some(who) = &call.who {
        forwarded::note_use(call.gateway(), who, call.asker.peer, call.headers);
    }
    match route {
        Route::Home => Ok(home::home(call.gateway())),
        Route::Me => Ok(home::me(call.gateway())),
        Route::OpenApi => Ok(openapi::get(&call)),
        Route::Whose => me::get(call),
        Route::IndexConfig(view) => index::config(&call, view),
        Route::IndexFile(view, name) => index::file(call, view, &name).await,
        Route::Download(name, version) => crate_files::get(call, &name, &version).await,
        Route::Search { query, page } => search::get(call, &query, page).await,
        Route::Owners(name) => owners::list(call, &name).await,
        Route::AddOwners(name) => owners::add(call, &name).await,
        Route::RemoveOwners(name) => owners::remove(call, &name).await,
        Route::Publish => publish::put(call).await,
        Route::Yank(name, version) => yank::set(call, &name, &version, true).await,
        Route::Unyank(name, version) => yank::set(call, &name, &version, false).await,
        Route::Own(Own::Report) => report::post(call).await,
        Route::Own(what) => own_tokens::answer(call, what).await,
        Route::Policy(what) => policy::answer(call, what).await,
        Route::Admin(what) => admin::administer(call, what).await,
    }
}
