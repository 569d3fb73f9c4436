//! `token create`: a token that nobody has seen must not count.

use std::io;
use std::time::Duration;

use crate::cli::TokenCreate;
use crate::gateway::Gateway;
use cratehouse_core::console::{self, tell};
use cratehouse_core::error::{Error, Kind};
use cratehouse_core::threads::aside;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::TokenId;
use cratehouse_journal::tokens;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// How long the reader of standard output may take for one line: behind a pipe that is full nobody is
/// going to see it.
const PRINT_LIMIT: Duration = Duration::from_secs(30);

/// Prints the token alone, so that a script can take it; revokes it where it could not be printed.
pub(super) async fn create_token(gateway: &Gateway, create: &TokenCreate) -> Result<(), Failure> {
    let usage = |why| Failure::Usage(Error::invalid(format!("`--expires`: {why}")));
    let grant = create.grant(Timestamp::now()).map_err(usage)?;
    let (id, secret) =
        tokens::create(&gateway.journal, CommandActor::Operator, &create.user, &create.name, grant)
            .await?;
    tell(&format!("token {id} of {}; it is not shown again:", create.user));
    let line = format!("{}\n", secret.reveal());
    match print(line).await {
        Ok(()) => Ok(()),
        Err(why) => Err(Failure::Failed(take_back(gateway, id, why).await)),
    }
}

/// Prints, unless the reader does not read or somebody at the terminal gives up.
async fn print(line: String) -> io::Result<()> {
    let printing = aside(move || console::print(&line));
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        printed = printing => printed.map_err(io::Error::other)?,
        () = tokio::time::sleep(PRINT_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
        _ = interrupt.recv() => Err(io::ErrorKind::Interrupted.into()),
        _ = terminate.recv() => Err(io::ErrorKind::Interrupted.into()),
    }
}

async fn take_back(gateway: &Gateway, id: TokenId, why: io::Error) -> Error {
    let text = match tokens::revoke(&gateway.journal, CommandActor::Operator, id).await {
        Ok(()) => {
            format!("token {id} could not be printed, so nobody has seen it, and it was revoked")
        }
        Err(e) => format!(
            "token {id} could not be printed, so nobody has seen it; it could not be revoked either ({}): run `cratehouse token revoke {id}`",
            e.message
        ),
    };
    Error::new(Kind::Internal, text).because(why)
}
