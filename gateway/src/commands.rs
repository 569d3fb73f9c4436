//! The command-line work beside `serve`. It shares nothing with a running server but the store:
//! it replays the journal into a catalog of its own, and the server follows what it appends. Answers go
//! to standard output, all else to standard error: which store it is, what is under way, what is wrong.

mod access;
mod advisories;
mod doctor;
mod garbage;
mod health;
mod journal;
mod lists;
mod pins;
mod policy;
mod prefetch;
mod pulls;
mod secret;
pub(crate) mod shell;
mod table;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{
    Command, CrateSpec, FormatCommand, JournalCommand, MirrorCommand, NamesCommand, StoreCommand,
    StoreCopy, TokenCommand,
};
use crate::config::{Config, EXIT_CONFIG, Tls};
use crate::flows::open::{Keep, Running};
use crate::flows::store::{copy, founded};
use crate::gateway::Gateway;
use cratehouse_core::console::{self, tell};
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_journal::checkpoint_store::FOLDER;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::{format, remove, tokens};
use cratehouse_mirror::index::copies;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::url::StoreUrl;
use jiff::Timestamp;

use crate::failure::Failure;

/// How long a command waits at its end for what is under way: an entry of which it is not known what
/// became of it is put again for as long as the process lives.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// Prints a line of an answer. A reader that has seen enough may leave.
///
/// # Errors
/// When it cannot be written otherwise, because a disk is full.
pub(crate) fn print(line: &str) -> Result<()> {
    heard(console::print(&format!("{line}\n")))
}

fn heard(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let text =
                "the answer cannot be written to standard output; what was asked for is done";
            Err(Error::new(Kind::Internal, text).because(e))
        }
        _ => Ok(()),
    }
}

/// Does one piece of work, and says so on standard output.
pub(crate) async fn run(config: Arc<Config>, command: Command) -> Result<ExitCode, Failure> {
    match &command {
        Command::Journal(JournalCommand::Verify) => return journal::verify(&config).await,
        Command::Journal(JournalCommand::Show(what)) => {
            return Ok(journal::show(&config, what).await?);
        }
        Command::Pulls(what) => return Ok(pulls::show_pulls(&config, what).await?),
        Command::Init => return init(&config).await,
        Command::Health(what) => return Ok(health::run(&config, what).await?),
        Command::Store(StoreCommand::Copy(what)) => return Ok(copy_store(&config, what).await?),
        Command::Policy(what) => return Ok(policy::run(&config, what).await),
        Command::Advisories(what) => {
            return advisories::run(&config, what).await.map_err(Failure::opening);
        }
        Command::Doctor(what) => return Ok(doctor::run(&config, what).await?),
        _ => (),
    }
    let url = config.url_for(config.server.listen);
    let keep = match command {
        Command::Gc(_) | Command::Checkpoint | Command::Format(_) => Keep::Replayed,
        _ => Keep::Memory,
    };
    let config = if needs_policy(&command) { config } else { without_policy(&config) };
    let running = Running::open(config, url, keep).await.map_err(Failure::opening)?;
    let outcome = match command {
        Command::Checkpoint => write_checkpoint(&running).await.map_err(Failure::from),
        Command::Format(what) => look_after_format(&running, &what).await.map_err(Failure::from),
        command => work(&running.gateway, command).await,
    };
    close(running).await;
    outcome
}

/// Whether a command asks the policy. A broken one must not stand in the way of those that do not: a token
/// may have to be revoked.
fn needs_policy(command: &Command) -> bool {
    matches!(command, Command::Prefetch(_) | Command::Policy(_))
}

fn without_policy(config: &Config) -> Arc<Config> {
    let mut config = config.clone();
    (config.policy.dir, config.policy.advisories) = (None, None);
    Arc::new(config)
}

async fn close(running: Running) {
    if tokio::time::timeout(CLOSE_LIMIT, running.close()).await.is_err() {
        tell("the store does not answer: what was under way is given up");
    }
}

/// Says which registry is there, and whether it is a new one.
async fn init(config: &Config) -> Result<ExitCode, Failure> {
    let (registry, is_new) = founded::init(config).await.map_err(Failure::opening)?;
    let (store, what) =
        (founded::shown(&config.store.url), if is_new { "new" } else { "already there" });
    print(&format!("{store} holds registry {registry} ({what})"))?;
    Ok(ExitCode::SUCCESS)
}

async fn work(gateway: &Arc<Gateway>, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::User(what) => access::user(gateway, what).await?,
        Command::Role(what) => access::role(gateway, what).await?,
        Command::Team(what) => access::team(gateway, what).await?,
        Command::Owner(what) => access::owner(gateway, what).await?,
        Command::Creators(what) => access::creators(gateway, what).await?,
        Command::Crate(what) => access::restrictions(gateway, what).await?,
        Command::Admin(what) => secret::admin_link(gateway, what).await?,
        Command::Token(TokenCommand::Create(create)) => {
            secret::create_token(gateway, &create).await?;
        }
        Command::Token(TokenCommand::List(list)) => {
            lists::tokens(gateway, &list.selection(Timestamp::now())?, list.json).await?;
        }
        Command::Token(TokenCommand::Revoke { id }) => {
            tokens::revoke(&gateway.journal, CommandActor::Operator, id).await?;
            print(&format!("revoked token {id}"))?;
        }
        Command::Token(TokenCommand::Rotate { id, overlap }) => {
            secret::rotate_token(gateway, id, &overlap).await?;
        }
        Command::Gc(what) => garbage::collect(gateway, &what).await?,
        Command::Remove(what) => {
            let (name, version) = (&what.target.name, &what.target.version);
            remove::remove(&gateway.journal, CommandActor::Operator, name, version, &what.reason)
                .await?;
            print(&format!("removed {name}@{version}; its number stays burned"))?;
        }
        Command::Mirror(MirrorCommand::Refresh { name }) => {
            print(&copies::refresh(&gateway.mirror.chain, &name).await?)?;
        }
        Command::Mirror(MirrorCommand::Purge { target: CrateSpec { name, version } }) => {
            print(
                &copies::purge(
                    &gateway.mirror.chain,
                    &gateway.mirror.files,
                    &name,
                    version.as_ref(),
                )
                .await?,
            )?;
        }
        Command::Pin(what) => pins::look_after_pins(gateway, &what).await?,
        Command::Prefetch(what) => return Ok(prefetch::fill_ahead(gateway, &what).await?),
        Command::Names(NamesCommand::Audit { json }) => {
            return Ok(lists::clashes(gateway, json).await?);
        }
        Command::Serve(_)
        | Command::Init
        | Command::Health(_)
        | Command::Config(_)
        | Command::Journal(_)
        | Command::Store(_)
        | Command::Policy(_)
        | Command::Advisories(_)
        | Command::Pulls(_)
        | Command::Doctor(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Format(_)
        | Command::Checkpoint => (), // done elsewhere
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the path in the store.
async fn write_checkpoint(running: &Running) -> Result<ExitCode> {
    let name = running.checkpointer.write().await?;
    print(&format!("{FOLDER}/{name}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn look_after_format(running: &Running, what: &FormatCommand) -> Result<ExitCode> {
    let gateway = &running.gateway;
    match what {
        FormatCommand::Show => {
            let (enabled, known) = (format::enabled(&gateway.journal)?, Level::KNOWN);
            print(&format!(
                "format level {enabled} is enabled; this release knows levels up to {known}"
            ))?;
        }
        FormatCommand::Enable { level } => {
            let new = format::enable(&gateway.journal, CommandActor::Operator, *level).await?;
            let when = if new { "now" } else { "already" };
            print(&format!("format level {level} is {when} enabled"))?;
            if gateway.catalog.head()?.level >= Level::NAMED_CHECKPOINTS {
                // Those from before are not believed any more; this one comes from the journal alone.
                return write_checkpoint(running).await;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unwritten(e: io::Error) -> Error {
    Error::new(Kind::Internal, "the answer cannot be written to standard output").because(e)
}

/// Whether nobody reads our output any more (`… | head`).
fn has_left(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    source.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

async fn copy_store(config: &Config, what: &StoreCopy) -> Result<ExitCode> {
    if what.from == what.to {
        return Err(Error::invalid("FROM and TO are the same store"));
    }
    if let StoreUrl::Folder(path) = &what.from
        && !path.is_dir()
    {
        return Err(Error::absent(format!("there is no folder {}", path.display())));
    }
    let from = config.with_store(&what.from, what.from_config.as_deref());
    let (from, to) = match (from, config.with_store(&what.to, what.to_config.as_deref())) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(e), _) | (_, Err(e)) => {
            tell(&e.to_string());
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let open = |config: &Config| Objects::open(&config.store, config.outgoing_ca.as_deref());
    let (source, target) = (open(&from)?, open(&to)?);
    source.refuse_mistakes(&from.store).await?;
    target.refuse_mistakes(&to.store).await?;
    let copied = copy::copy(&source, &target, config.log.format).await?;
    for note in &copied.notes {
        tell(note);
    }
    for wrong in &copied.wrong {
        print(wrong)?;
    }
    let copy::Copied { registry, head, objects, present, .. } = copied;
    let objects = format!("{objects} objects copied, {present} there already");
    if !copied.wrong.is_empty() {
        print(&format!("the copy is not whole, and was not made a registry ({objects})"))?;
        return Ok(ExitCode::FAILURE);
    }
    let to = founded::shown(&what.to);
    print(&format!("{to} holds registry {registry} up to entry {head} ({objects})"))?;
    if matches!(config.tls, Tls::LocalCa) {
        tell("note: the local CA is not in it: `tls/` of the data folder belongs to a backup too");
    }
    Ok(ExitCode::SUCCESS)
}
