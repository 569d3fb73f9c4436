//! Crate files: `/api/v1/crates/{name}/{version}/download`, which our `dl` names.

use hyper::HeaderMap;

use crate::flows::access::reader::Reader;
use crate::flows::registry::download::{Download, Part};
use crate::http::api::call::{Asker, Call};
use crate::http::app::App;
use crate::http::request::{authenticate, forwarded};
use crate::http::response::respond::{self, Answer};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::client_key::ClientKey;
use cratehouse_core::error::Result;
use cratehouse_journal::principal::Principal;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// One version's crate file.
///
/// # Errors
/// Those of the download.
pub async fn get(call: Call<'_>, name: &CrateName, version: &CrateVersion) -> Result<Answer> {
    let (gateway, reader, who) = (call.gateway(), call.reader(), call.who.as_deref());
    let client = reader.client();
    let part = if call.asker.takes_body { Part::Bytes } else { Part::Head };
    let find = || async {
        let got = gateway.downloads.get_for(&reader, name, version, part).await?;
        let private = gateway.config.auth_required;
        let Download { file, cksum, .. } = got;
        Ok((respond::crate_file(file.into(), &cksum, call.headers, private), cksum))
    };
    if !call.asker.takes_body {
        return find().await.map(|(answer, _)| answer);
    }
    let is_scarce = || gateway.mirror.files.cache.is_scarce();
    let (answer, cksum) = call.app.outgoing.crates.admit(client, is_scarce, find).await?;
    record(call.app, (name, version, cksum), who, (call.asker, call.headers));
    Ok(answer)
}

/// The same, if memory alone can tell that it may be had and has it.
pub fn at_hand(
    app: &App,
    headers: &HeaderMap,
    asker: Asker,
    (name, version): (&CrateName, &CrateVersion),
) -> Option<Result<Answer>> {
    let gateway = &app.gateway;
    let who = authenticate::reader_at_hand(gateway, headers)?;
    if let Some(who) = &who {
        forwarded::note_use(gateway, who, asker.peer, headers);
    }
    // Whose share it takes is worked out only where there is too little for all.
    let reader = Reader::Client(ClientKey::Exempt, who.clone());
    let Download { file, cksum, .. } = gateway.downloads.at_hand(&reader, name, version)?;
    let answer = respond::crate_file(file.into(), &cksum, headers, gateway.config.auth_required);
    if !asker.takes_body {
        return Some(Ok(answer));
    }
    let client = || forwarded::client_key(&gateway.config, asker.peer, headers);
    let is_scarce = gateway.mirror.files.cache.is_scarce();
    let answer = app.outgoing.crates.at_once(answer, is_scarce, client)?;
    record(app, (name, version, cksum), who.as_deref(), (asker, headers));
    Some(Ok(answer))
}

/// A cache in between that has the file already and is told so (304) hands it to its own client: that
/// is a download too.
fn record(
    app: &App,
    (name, version, cksum): (&CrateName, &CrateVersion, Checksum),
    who: Option<&Principal>,
    (asker, headers): (Asker, &HeaderMap),
) {
    let proxies = app.gateway.config.server.proxies.as_ref();
    let address = forwarded::client(proxies, asker.peer, headers).address;
    app.gateway.pulls.record(name, version, cksum, who, address);
}
