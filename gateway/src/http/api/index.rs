//! The sparse index: `config.json` and the file of a crate, in each view. Source: Cargo book, "Index Format".

use std::sync::Arc;

use hyper::HeaderMap;

use crate::flows::access::reader::Reader;
use crate::gateway::Gateway;
use crate::http::api::call::{Asker, Call};
use crate::http::app::App;
use crate::http::request::{authenticate, forwarded};
use crate::http::response::respond::{self, Answer};
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::index::IndexFile;
use cratehouse_package::name::CrateName;
use cratehouse_package::view::View;

/// `config.json`.
///
/// # Errors
/// When it has no form in JSON, which it always has.
pub fn config(call: &Call<'_>, view: View) -> Result<Answer> {
    let gateway = call.gateway();
    respond::index_config(view, &gateway.url, gateway.config.auth_required)
}

/// The same, if memory alone can tell.
pub fn config_at_hand(app: &App, headers: &HeaderMap, view: View) -> Option<Result<Answer>> {
    let gateway = &app.gateway;
    authenticate::reader_at_hand(gateway, headers)?;
    Some(respond::index_config(view, &gateway.url, gateway.config.auth_required))
}

/// The index file of a crate.
///
/// # Errors
/// Absent, when there is no such crate for who asks; those of the lookup.
pub async fn file(call: Call<'_>, view: View, name: &CrateName) -> Result<Answer> {
    let (gateway, reader) = (call.gateway(), call.reader());
    let client = reader.client();
    let find = || async {
        let found = gateway.lookup.find_for(&reader, view, name).await?;
        Ok((answer(gateway, name, found, call.headers)?, ()))
    };
    if !call.asker.takes_body {
        return find().await.map(|(answer, ())| answer);
    }
    let is_scarce = || gateway.lookup.index.is_scarce();
    let (answer, ()) = call.app.outgoing.index.admit(client, is_scarce, find).await?;
    Ok(answer)
}

/// The same, if memory alone can tell.
pub fn file_at_hand(
    app: &App,
    headers: &HeaderMap,
    asker: Asker,
    (view, name): (View, &CrateName),
) -> Option<Result<Answer>> {
    let gateway = &app.gateway;
    let who = authenticate::reader_at_hand(gateway, headers)?;
    if let Some(who) = &who {
        forwarded::note_use(gateway, who, asker.peer, headers);
    }
    // Whose share it takes is worked out only where there is too little for all.
    let reader = Reader::Client(ClientKey::Exempt, who);
    let found = gateway.lookup.at_hand(&reader, view, name)?;
    match answer(gateway, name, found, headers) {
        Ok(answer) if asker.takes_body => {
            let client = || forwarded::client_key(&gateway.config, asker.peer, headers);
            let is_scarce = gateway.lookup.index.is_scarce();
            app.outgoing.index.at_once(answer, is_scarce, client).map(Ok)
        }
        answer => Some(answer),
    }
}

fn answer(
    gateway: &Gateway,
    name: &CrateName,
    found: Option<Arc<IndexFile>>,
    headers: &HeaderMap,
) -> Result<Answer> {
    match found {
        Some(file) => Ok(respond::index_file(&file, headers, gateway.config.auth_required)),
        None => Err(Error::absent(format_args!("there is no crate `{name}`"))),
    }
}
