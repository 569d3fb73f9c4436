//! `doctor`: all that can be wrong, and what to do.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Doctor;
use crate::config::Config;
use crate::flows::store::doctor::{Finding, Gravity, examine};
use crate::http::ops::own_look;
use cratehouse_core::error::Result;
use cratehouse_core::progress::say;
use cratehouse_core::table::Table;
use reqwest::Method;

use super::print;
use super::remote::{Server, path};
use super::table::{print_json, print_table};

/// Looks at everything; a status for scripts.
pub(super) async fn run(
    config: &Arc<Config>,
    what: &Doctor,
    server: Option<&Server>,
) -> Result<ExitCode> {
    say(config.log.format, "looking at everything; this takes some seconds");
    let findings = match server {
        Some(server) => {
            let nothing: Option<&()> = None;
            server.work(Method::GET, &path(&["doctor"], &[])?, nothing).await?
        }
        None => {
            let mut findings =
                vec![own_look::of_server(config).await, own_look::of_certificate(config)];
            findings.extend(examine(config).await?);
            findings
        }
    };
    let worst = findings.iter().map(|finding| finding.gravity).max();
    if what.json {
        print_json(&findings)?;
    } else {
        tell(&findings)?;
    }
    Ok(if worst == Some(Gravity::Wrong) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A table of what was found, and below it what to do.
fn tell(findings: &[Finding]) -> Result<()> {
    let mut table = Table::new(["state", "check", "found"]);
    for Finding { check, gravity, found, .. } in findings {
        table.row([gravity.word(), check.as_ref(), found]);
    }
    print_table(&table)?;
    for Finding { check, found, cure, .. } in findings {
        if let Some(cure) = cure {
            print(&format!("\n{check}: {found}\n  -> {cure}"))?;
        }
    }
    let count = |gravity| findings.iter().filter(|finding| finding.gravity == gravity).count();
    let (wrong, mind) = (count(Gravity::Wrong), count(Gravity::Mind));
    print(&format!("\n{} looks, {wrong} wrong, {mind} to mind", findings.len()))
}
