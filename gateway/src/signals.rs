//! What signals mean. SIGTERM and SIGINT stop a server, SIGHUP has it read again what can be read again;
//! SIGUSR1 and SIGUSR2 mean nothing, and must not end it as the system would have it. (SIGPIPE is ignored
//! from the first moment, as in every Rust program.)

use crate::cli::{
    AdvisoriesCommand, Command, CrateCommand, CreatorsCommand, FormatCommand, JournalCommand,
    MirrorCommand, OwnerCommand, PinCommand, StoreCommand, TeamCommand, TokenCommand, UserCommand,
};
use crate::flows::reread::Rereader;
use cratehouse_core::error::{Error, Result};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// What a stop was asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGTERM: a supervisor replaces us, or takes us away.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
}

/// The signals that stop a server.
pub(crate) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Error::internal)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Error::internal)?,
        })
    }

    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.interrupt.recv() => Wish::Interrupt,
        }
    }
}

/// Takes from this process's first moment on the deadly meaning from the signals that have none here:
/// also from SIGHUP, where the terminal's end must not end the work.
pub(crate) fn disarm(command: &Command) {
    let mut kinds = vec![SignalKind::user_defined1(), SignalKind::user_defined2()];
    if outlives_its_terminal(command) {
        kinds.push(SignalKind::hangup());
    }
    // What a signal does is the whole process's, and stays when the runtime is gone.
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_io().build() else { return };
    let _inside = runtime.enter();
    kinds.into_iter().for_each(|kind| drop(signal(kind)));
}

/// What changes a store is finished: half a sweep would have to be ended by hand, and a token would be
/// made that nobody has seen. What only reads ends with its reader.
fn outlives_its_terminal(command: &Command) -> bool {
    match command {
        Command::Serve(_) | Command::Init | Command::Gc(_) | Command::Remove(_) => true,
        Command::Checkpoint | Command::Prefetch(_) => true,
        Command::User(what) => !matches!(what, UserCommand::List { .. } | UserCommand::Show { .. }),
        Command::Role(_) | Command::Admin(_) => true,
        Command::Team(what) => !matches!(what, TeamCommand::List { .. }),
        Command::Owner(what) => !matches!(what, OwnerCommand::List { .. }),
        Command::Creators(what) => !matches!(what, CreatorsCommand::List { .. }),
        Command::Crate(what) => !matches!(what, CrateCommand::List { .. }),
        Command::Token(what) => !matches!(what, TokenCommand::List { .. }),
        Command::Store(StoreCommand::Copy(_)) => true,
        Command::Pin(what) => matches!(what, PinCommand::Correct(_)),
        Command::Format(what) => matches!(what, FormatCommand::Enable { .. }),
        Command::Mirror(MirrorCommand::Refresh { .. } | MirrorCommand::Purge { .. }) => true,
        Command::Journal(JournalCommand::Verify | JournalCommand::Show(_)) => false,
        Command::Health(_) => false,
        Command::Advisories(what) => matches!(what, AdvisoriesCommand::Fetch(_)),
        Command::Config(_) | Command::Pulls(_) | Command::Names(_) | Command::Policy(_) => false,
        Command::Doctor(_) | Command::Completions(_) | Command::Man(_) => false,
    }
}

/// Has everything read again at each SIGHUP.
pub(crate) async fn pass_on_hangups(rereader: Rereader) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        info!(
            "SIGHUP: the certificate, the policy and the advisories are read again; the configuration counts from the next start"
        );
        rereader.ask();
    }
}
