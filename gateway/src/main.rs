//! The binary: read the configuration, open, serve, drain; or do one piece of work.

mod commands;
mod serve;

use std::process::ExitCode;
use std::sync::Arc;

use cratehouse::cli::{Cli, Command, ConfigCommand};
use cratehouse::config::{Config, EXIT_CONFIG};
use cratehouse::logging;

fn main() -> ExitCode {
    let cli = match Cli::parse_from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print(); // there is nobody left to tell
            return ExitCode::from(if e.use_stderr() { EXIT_CONFIG } else { 0 });
        }
    };
    let config = match Config::load(&cli.flags(), std::env::vars_os()) {
        Ok(config) => Arc::new(config),
        Err(e) => return refuse(&e),
    };
    if let Err(e) = logging::init(&config.log) {
        return refuse(&e);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e),
    };
    let outcome = match cli.command {
        Command::Serve(_) => runtime.block_on(serve::serve(config)),
        Command::Config(ConfigCommand::Check) => {
            println!("the configuration is good ({})", config.fingerprint());
            Ok(ExitCode::SUCCESS)
        }
        command => runtime.block_on(commands::run(config, command)),
    };
    // What still blocks (a fill to a dead disk, say) is not waited for.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|e| fail(&e.chain()))
}

fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(EXIT_CONFIG)
}

fn fail(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}
