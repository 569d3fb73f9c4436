//! `health`: asks the admin listener of the server of this configuration. It is for supervisors that know
//! commands alone, such as the health check of a container, in which there is nothing else to ask with. Of a server
//! elsewhere it asks whether a Cratehouse answers there at all.

use std::process::ExitCode;

use crate::cli::Health;
use crate::config::Config;
use crate::http::ops::probe::{LIVE, READY, ask};
use crate::model::server_url::ServerUrl;
use cratehouse_core::error::Result;

use super::print;
use super::remote::Server;

/// Asks, and prints the answer.
///
/// # Errors
/// When nobody answers.
pub(super) async fn run(config: &Config, what: &Health) -> Result<ExitCode> {
    let path = if what.live { LIVE } else { READY };
    let (is_good, body) = ask(config.server.admin_listen, path).await?;
    print(body.trim_end())?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks a server by the URL that clients know, without a token.
///
/// # Errors
/// When nobody answers, or something else than a Cratehouse.
pub(crate) async fn of_server(config: &Config, url: &ServerUrl) -> Result<ExitCode> {
    Server::anonymous(url, config)?.is_there().await?;
    print(&format!("{url} answers"))?;
    Ok(ExitCode::SUCCESS)
}
