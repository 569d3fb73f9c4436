//! `advisories …`: the advisory database that the store keeps for all replicas.

use std::process::ExitCode;

use crate::cli::{AdvisoriesCommand, AdvisoriesFetch};
use crate::config::Config;
use crate::flows::open::advisories_in;
use crate::flows::policy::advisories::{Current, Fetcher, Told};
use crate::flows::store::founded;
use cratehouse_core::console::tell;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::progress::grouped;
use reqwest::Method;
use serde_json::json;

use super::remote::{Server, path};

/// Does it. Needs neither the journal nor an upstream.
pub(super) async fn run(
    config: &Config,
    command: &AdvisoriesCommand,
    server: Option<&Server>,
) -> Result<ExitCode> {
    match (command, server) {
        (AdvisoriesCommand::Fetch(what), None) => {
            if let Some(path) = &config.policy.advisories {
                tell(&format!(
                    "note: servers go on with {}, which `policy.advisories` names; take that key out and they use \
                     the store's",
                    path.display()
                ));
            }
            let (objects, _) = founded::existing(config).await?;
            let fetcher = Fetcher::new(config, advisories_in(&objects));
            let fetched = match &what.file {
                Some(file) => fetcher.take(file, what.force).await?,
                None => fetcher.fetch(what.force).await?,
            };
            fetched_is(&Told::from(fetched))
        }
        (AdvisoriesCommand::Fetch(AdvisoriesFetch { file: Some(_), .. }), Some(_)) => {
            Err(Error::invalid(
                "`--file` is for who has the store: leave `--server` out, or `--file`, and the server gets the \
                 database at its `policy.advisories_url`",
            ))
        }
        (AdvisoriesCommand::Fetch(what), Some(server)) => {
            let body = json!({ "force": what.force });
            let path = path(&["advisories", "fetch"], &[])?;
            fetched_is(&server.work(Method::POST, &path, Some(&body)).await?)
        }
        (AdvisoriesCommand::Show, None) => {
            let (objects, _) = founded::existing(config).await?;
            shown(advisories_in(&objects).current().await?.as_ref())
        }
        (AdvisoriesCommand::Show, Some(server)) => {
            let current: Option<Current> = server.get(&path(&["advisories"], &[])?).await?;
            shown(current.as_ref())
        }
    }
}

fn fetched_is(told: &Told) -> Result<ExitCode> {
    for damaged in &told.damaged {
        tell(&format!("damaged, and left out: {damaged}"));
    }
    let what = if told.new { "kept in the store" } else { "nothing new" };
    let (advisories, from) = (grouped(told.current.advisories as u64), &told.current.from);
    super::print(&format!("{what}: {advisories} advisories from {from}"))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(current: Option<&Current>) -> Result<ExitCode> {
    let Some(current) = current else {
        super::print(
            "the store keeps no advisory database: `cratehouse advisories fetch` brings one",
        )?;
        return Ok(ExitCode::FAILURE);
    };
    let Current { archive, bytes, advisories, newest, from, fetched, checked, .. } = current;
    let newest = newest.map_or_else(|| "unknown".to_owned(), |at| format!("{at:.0}"));
    super::print(&format!(
        "advisories  {}\nfrom        {from}\nnewest      {newest}\nfetched     {fetched:.0}\n\
         checked     {checked:.0}\narchive     advisories/{archive}.tar.gz, {} bytes",
        grouped(*advisories as u64),
        grouped(*bytes)
    ))?;
    Ok(ExitCode::SUCCESS)
}
