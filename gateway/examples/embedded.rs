//! A registry inside another program, a test for instance: it listens on a free port of the loopback interface,
//! keeps everything in memory, and is gone with the program. Here it runs a command with that registry.
//!
//! ```sh
//! cargo run --example embedded -- cargo publish --registry embedded
//! ```

use std::error::Error;
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use cratehouse::config::{Config, Flags};
use cratehouse::flows::open::{Keep, Running};
use cratehouse::http::serve::serve;
use cratehouse::http::transport::workers::Workers;
use cratehouse_core::threads;
use cratehouse_journal::commands::CommandActor::Operator;
use cratehouse_journal::principal::{Grant, PrincipalKind};
use cratehouse_journal::{tokens, users};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Like the environment of the program: what is not said has its default. Without an upstream nothing outside
/// is asked.
const SETTINGS: [(&str, &str); 3] = [
    ("CRATEHOUSE_STORE__URL", "memory://"),
    ("CRATEHOUSE_TLS__MODE", "off"),
    ("CRATEHOUSE_UPSTREAM", ""),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("name a command to run with the registry")?;
    let runtime = threads::begin()?;
    let (running, registry) = runtime.block_on(registry())?;
    let mut command = Command::new(program);
    command.args(words).envs(registry);
    let status = command.status()?;
    runtime.block_on(running.close());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts one, and gives what tells cargo about it: the registry `embedded`, and a token of its one user.
async fn registry() -> Result<(Running, [(String, String); 2]), Box<dyn Error>> {
    let settings = SETTINGS.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let config = Arc::new(Config::load(&Flags::default(), settings)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = config.url_for(listener.local_addr()?);
    let running = Running::open(config, url.clone(), Keep::Memory).await?;
    let gateway = Arc::clone(&running.gateway);
    users::create(&gateway.journal, Operator, "me", PrincipalKind::Person).await?;
    let (_, token) =
        tokens::create(&gateway.journal, Operator, "me", "embedded", Grant::usual()).await?;
    // Until the program ends: who wants to stop it earlier keeps the token and cancels it.
    let workers = Workers::start()?;
    tokio::spawn(serve(listener, None, gateway, CancellationToken::new(), workers));
    let cargo = |key: &str, value| (format!("CARGO_REGISTRIES_EMBEDDED_{key}"), value);
    let index = cargo("INDEX", format!("sparse+{url}/index/"));
    Ok((running, [index, cargo("TOKEN", token.reveal().to_owned())]))
}
