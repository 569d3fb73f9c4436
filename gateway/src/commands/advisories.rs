//! `advisories …`: the advisory database that the store keeps for all replicas.

use std::process::ExitCode;

use crate::cli::AdvisoriesCommand;
use crate::config::Config;
use crate::flows::open::advisories_in;
use crate::flows::policy::advisories::{Current, Fetched, Fetcher};
use crate::flows::store::founded;
use cratehouse_core::console::tell;
use cratehouse_core::error::Result;
use cratehouse_core::progress::grouped;

/// Does it. Needs neither the journal nor an upstream.
pub(super) async fn run(config: &Config, command: &AdvisoriesCommand) -> Result<ExitCode> {
    let (objects, _) = founded::existing(config).await?;
    let store = advisories_in(&objects);
    let AdvisoriesCommand::Fetch(what) = command else {
        return match store.current().await? {
            Some(current) => shown(&current),
            None => {
                super::print(
                    "the store keeps no advisory database: `cratehouse advisories fetch` brings one",
                )?;
                Ok(ExitCode::FAILURE)
            }
        };
    };
    if let Some(path) = &config.policy.advisories {
        tell(&format!(
            "note: servers go on with {}, which `policy.advisories` names; take that key out and they use \
             the store's",
            path.display()
        ));
    }
    let fetcher = Fetcher::new(config, store);
    let fetched = match &what.file {
        Some(file) => fetcher.take(file, what.force).await?,
        None => fetcher.fetch(what.force).await?,
    };
    match fetched {
        Fetched::New { current, damaged } => {
            for damaged in damaged.lines() {
                tell(&format!("damaged, and left out: {damaged}"));
            }
            super::print(&format!(
                "kept in the store: {} advisories from {}",
                grouped(current.advisories as u64),
                current.from
            ))?;
        }
        Fetched::Same(current) => super::print(&format!(
            "nothing new: {} advisories from {}",
            grouped(current.advisories as u64),
            current.from
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(current: &Current) -> Result<ExitCode> {
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
