//! `doctor`: all that can be wrong, and what to do.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::Doctor;
use crate::config::{Config, Tls};
use crate::flows::store::doctor::{Finding, Gravity, certificate, examine};
use crate::http::transport::tls;
use cratehouse_core::error::Result;
use cratehouse_core::progress::say;
use cratehouse_core::table::Table;
use jiff::Timestamp;

use super::table::{print_json, print_table};
use super::{health, print};
use crate::serve::host_of;

/// Looks at everything; a status for scripts.
pub(super) async fn run(config: &Arc<Config>, what: &Doctor) -> Result<ExitCode> {
    say(config.log.format, "looking at everything; this takes some seconds");
    let mut findings = vec![of_server(config).await, of_certificate(config)];
    findings.extend(examine(config).await?);
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
        table.row([gravity.word(), check, found]);
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

/// Whether a server of this configuration runs on this machine.
async fn of_server(config: &Config) -> Finding {
    const CHECK: &str = "server";
    match health::ask(config.server.admin_listen, health::READY).await {
        Ok((true, _)) => Finding::fine(CHECK, "it runs on this machine, and is ready"),
        Ok((false, why)) => Finding::wrong(
            CHECK,
            format!("it runs on this machine, and is not ready: {}", why.trim_end()),
            "see what is said below of its store and its journal, and its log",
        ),
        Err(e) => Finding::mind(
            CHECK,
            e.message,
            "start it (`cratehouse serve`), unless it runs on another machine: then ask there",
        ),
    }
}

fn of_certificate(config: &Config) -> Finding {
    const CHECK: &str = "certificate";
    let url = config.url_for(config.server.listen);
    let host = host_of(&url).concat();
    let is_renewed = matches!(config.tls, Tls::LocalCa);
    let found =
        tls::check(&config.tls, &config.data).and_then(|_| tls::look(&config.tls, &config.data));
    match found {
        Ok(Some(found)) => certificate::judge(&found, is_renewed, &host, Timestamp::now()),
        Ok(None) if is_renewed => {
            Finding::fine(CHECK, "none yet: the first start makes one, with a local CA")
        }
        Ok(None) => Finding::fine(CHECK, "TLS is off: a proxy in front has it"),
        Err(e) => {
            let cure = match is_renewed {
                true => "put the files in `tls/` of the data folder in order, as it says",
                false => "put a certificate and its key where `tls.cert` and `tls.key` say, as PEM",
            };
            Finding::wrong(CHECK, e.to_string(), cure)
        }
    }
}
