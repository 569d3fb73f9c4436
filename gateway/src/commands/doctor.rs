//! `doctor`: all that can be wrong, and what to do.

use std::process::ExitCode;
use std::sync::Arc;

use cratehouse::cli::Doctor;
use cratehouse::config::{Config, Tls};
use cratehouse::error::Result;
use cratehouse::flows::doctor::certificate::{self, Certificate};
use cratehouse::flows::doctor::{Finding, Gravity, examine};
use cratehouse::http::tls;
use cratehouse::model::table::Table;
use cratehouse::startup::say;
use jiff::Timestamp;

use super::print;
use super::table::{print_json, print_table};

/// Looks at everything; a status for scripts.
pub(super) async fn run(config: &Arc<Config>, what: &Doctor) -> Result<ExitCode> {
    say(config.log.format, "looking at everything; this takes some seconds");
    let mut findings = vec![of_certificate(config)];
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

fn of_certificate(config: &Config) -> Finding {
    const CHECK: &str = "certificate";
    let url = config.url_for(config.server.listen);
    let host = url::Url::parse(&url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let is_renewed = matches!(config.tls, Tls::LocalCa);
    match tls::look(&config.tls, &config.data) {
        Ok(Some(seen)) => {
            let tls::Seen { begins, ends, names } = seen;
            certificate::judge(
                &Certificate { begins, ends, names, is_renewed },
                host,
                Timestamp::now(),
            )
        }
        Ok(None) if is_renewed => {
            Finding::fine(CHECK, "none yet: the first start makes one, with a local CA")
        }
        Ok(None) => Finding::fine(CHECK, "TLS is off: a proxy in front has it"),
        Err(e) => {
            let cure = "put a certificate and its key where `tls.cert` and `tls.key` say, as PEM";
            Finding::wrong(CHECK, e.to_string(), cure)
        }
    }
}
