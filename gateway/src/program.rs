//! The program: read the configuration, open, serve, drain; or do one piece of work.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{Cli, Command, ConfigCommand};
use crate::commands::remote::Server;
use crate::config::{Config, EXIT_CONFIG};
use crate::failure::Failure;
use crate::flows::open;
use crate::flows::store::founded;
use crate::flows::store::trying::{Tried, try_out};
use crate::http::transport::tls;
use crate::model::certificate::Certificate;
use crate::model::server_url::ServerUrl;
use crate::{commands, logging, ownership, private, serve, signals};
use cratehouse_core::error::{Error, Kind};
use cratehouse_core::{console, threads};

/// How long threads may take to end.
const LAST_WORK: Duration = Duration::from_millis(200);

/// Does what the command line says; returns the status to exit with.
pub fn main() -> ExitCode {
    let status = run();
    console::stderr().flush(console::LAST_LINES);
    status
}

fn run() -> ExitCode {
    let cli = match Cli::parse_from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(e) => return show(&e),
    };
    match &cli.command {
        Command::Completions(what) => return told(commands::shell::completions(what)),
        Command::Man(what) => return told(commands::shell::man(what)),
        _ => signals::disarm(&cli.command),
    }
    let flags = cli.flags();
    let config = match Config::load(&flags, std::env::vars_os()) {
        Ok(config) => Arc::new(config),
        Err(e) => return refuse(&e),
    };
    let common = &cli.common;
    if common.server.is_none() {
        private::keep(&config);
    }
    if let Err(e) = logging::init(&config.log) {
        return refuse(&e);
    }
    let server = match common.server.as_ref().map(|url| reached(url, &cli, &config)).transpose() {
        Ok(server) => server.flatten(),
        Err(e) => return refuse(&e.chain()),
    };
    if common.server.is_none()
        && let Err(e) = ownership::work_as_owner(&config, &cli.command)
    {
        return fail(&e.chain());
    }
    let runtime = match threads::begin() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e),
    };
    let outcome = match cli.command {
        Command::Serve(_) => runtime.block_on(serve::serve(config, &flags)),
        Command::Config(ConfigCommand::Check { connect }) => {
            check(&config).and_then(|certificate| match connect {
                true => runtime.block_on(connected(&config, certificate)),
                false => Ok(ExitCode::SUCCESS),
            })
        }
        Command::Health(_) if let Some(url) = &cli.common.server => {
            runtime.block_on(commands::health::of_server(&config, url)).map_err(Failure::opening)
        }
        command => runtime.block_on(commands::run(config, command, server)),
    };
    // What still blocks (a fill to a dead disk, say) is not waited for; what does not is at its end before libraries
    // of C tidy up behind this process.
    runtime.shutdown_timeout(LAST_WORK);
    outcome.unwrap_or_else(|failure| match failure {
        Failure::Usage(e) => refuse(&e.chain()),
        Failure::Failed(e) => fail(&e.chain()),
    })
}

/// The server that a command works by, where it is to; `None` for what asks without a token.
fn reached(url: &ServerUrl, cli: &Cli, config: &Config) -> Result<Option<Server>, Error> {
    commands::refuse_of_server(&cli.command)?;
    match cli.command {
        Command::Health(_) => Ok(None),
        _ => Server::open(url, cli.common.token_file.as_deref(), config).map(Some),
    }
}

/// `--help` and `--version`, or what is wrong with the command line.
fn show(e: &clap::Error) -> ExitCode {
    let (text, is_wrong) = (e.render(), e.use_stderr());
    match is_wrong {
        true => console::tell(text.to_string().trim_end()),
        false => {
            let colours = std::io::stdout().is_terminal();
            let text = if colours { text.ansi().to_string() } else { text.to_string() };
            let _ = console::print(&text); // a reader that has seen enough may leave
        }
    }
    ExitCode::from(if is_wrong { EXIT_CONFIG } else { 0 })
}

fn told(outcome: cratehouse_core::error::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|e| fail(&e.chain()))
}

/// `config check`: the files that a start would read are read too; nothing is made.
fn check(config: &Config) -> Result<Option<Certificate>, Failure> {
    founded::check_places(config).map_err(Failure::opening)?;
    serve::check_addresses(config).map_err(Failure::opening)?;
    let certificate =
        tls::check(&config.tls, &config.data).map_err(|e| Failure::tls(&config.tls, &e))?;
    open::check(config).map_err(Failure::opening)?;
    commands::print(&format!("the configuration is good ({})", config.fingerprint()))?;
    Ok(certificate)
}

/// `config check --connect`: a line for each thing that was tried. What is wrong is told as a start tells it,
/// and with its status.
async fn connected(config: &Config, certificate: Option<Certificate>) -> Result<ExitCode, Failure> {
    let mut tried = try_out(config).await.map_err(Failure::opening)?;
    if let Some(certificate) = certificate {
        let url = config.url_for(config.server.listen);
        let host = tls::host_of(&url).concat();
        let good = certificate.good_for(&host, jiff::Timestamp::now());
        let good = good.map(|()| format!("is good for `{host}` until {:.0}", certificate.ends));
        let what = "certificate (`tls.cert`)";
        tried.push(Tried::new(what, good.map_err(Error::invalid)));
    }
    if !config.auth_required && !tried.iter().any(|tried| tried.outcome.is_err()) {
        tried.push(restrictions(config).await);
    }
    let (mut wrong, mut failed) = (false, false);
    for Tried { what, outcome } in tried {
        match outcome {
            Ok(good) => commands::print(&format!("{what}: {good}"))?,
            Err(e) => {
                console::tell(&format!("{what}: {}", e.chain()));
                wrong |= e.kind == Kind::Invalid;
                failed = true;
            }
        }
    }
    Ok(match (wrong, failed) {
        (true, _) => ExitCode::from(EXIT_CONFIG),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Restricted crates exist for nobody where reads need no token.
async fn restrictions(config: &Config) -> Tried {
    let look = async {
        let (config, url) = (Arc::new(config.clone()), config.url_for(config.server.listen));
        let running = open::Running::open(config, url, open::Keep::Memory).await?;
        let count = running.gateway.catalog.view()?.restrictions()?.len();
        running.close().await;
        Ok(match count {
            0 => "there are none".to_owned(),
            many => format!(
                "there are {many}, and `auth.required` is off: nobody shows a token where they read, so restricted \
                 crates exist for nobody"
            ),
        })
    };
    let outcome = match look.await {
        // Nothing is kept in a store that has no registry yet.
        Err(Error { kind: Kind::Absent, .. }) => Ok("there are none".to_owned()),
        outcome => outcome,
    };
    Tried::new("restricted crates (`auth.required`)", outcome)
}

fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    console::tell(&why.to_string());
    ExitCode::from(EXIT_CONFIG)
}

fn fail(why: &dyn std::fmt::Display) -> ExitCode {
    console::tell(&format!("error: {why}"));
    ExitCode::FAILURE
}
