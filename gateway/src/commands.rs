//! The command-line work beside `serve`. It shares nothing with a running server but the store, unless it is a client of one (`--server`):
//! it replays the journal into a catalog of its own, and the server follows what it appends. Answers go
//! to standard output, all else to standard error: which store it is, what is under way, what is wrong.

mod access;
mod advisories;
mod doctor;
mod garbage;
pub(crate) mod health;
mod journal;
mod lists;
mod pins;
mod policy;
mod prefetch;
mod pulls;
mod registry;
pub(crate) mod remote;
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
use crate::flows::store::upkeep::{Enabled, Levels};
use crate::flows::store::{copy, founded};
use cratehouse_core::console::{self, LogFormat, tell};
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::progress::say;
use cratehouse_storage::objects::Objects;
use cratehouse_storage::url::StoreUrl;
use jiff::Timestamp;

use self::registry::Registry;
use self::remote::Server;
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

/// Does one piece of work, and says so on standard output: at the store of the configuration, or by a server.
pub(crate) async fn run(
    config: Arc<Config>,
    command: Command,
    server: Option<Server>,
) -> Result<ExitCode, Failure> {
    if let Some(server) = &server {
        say(config.log.format, &format!("server {}", server.url()));
    }
    let at = server.as_ref();
    match &command {
        Command::Journal(JournalCommand::Verify) => return journal::verify(&config, at).await,
        Command::Journal(JournalCommand::Show(what)) => {
            return Ok(journal::show(&config, what, at).await?);
        }
        Command::Pulls(what) => return Ok(pulls::show_pulls(&config, what, at).await?),
        Command::Init => return init(&config).await,
        Command::Health(what) => return Ok(health::run(&config, what).await?),
        Command::Store(StoreCommand::Copy(what)) => return Ok(copy_store(&config, what).await?),
        Command::Policy(what) => return Ok(policy::run(&config, what, at).await),
        Command::Advisories(what) => {
            return advisories::run(&config, what, at).await.map_err(Failure::opening);
        }
        Command::Doctor(what) => return Ok(doctor::run(&config, what, at).await?),
        _ => (),
    }
    let voice = config.log.format;
    if let Some(server) = at {
        return work(Registry::Server(server), command, voice).await;
    }
    let url = config.url_for(config.server.listen);
    let keep = match command {
        Command::Gc(_) | Command::Checkpoint | Command::Format(_) => Keep::Replayed,
        _ => Keep::Memory,
    };
    let config = if needs_policy(&command) { config } else { without_policy(&config) };
    let running = Running::open(config, url, keep).await.map_err(Failure::opening)?;
    let outcome = match command {
        Command::Admin(what) => {
            secret::admin_link(&running, what).await.map(|()| ExitCode::SUCCESS)
        }
        command => work(Registry::Store(&running), command, voice).await,
    };
    close(running).await;
    outcome
}

/// Whether a command is for who has the store, or a server's machine, alone: then what to do instead.
pub(crate) fn refuse_of_server(command: &Command) -> Result<()> {
    let why = match command {
        Command::Serve(_) => "`serve` is a server: leave `--server` out",
        Command::Init => {
            "`init` makes a registry in a store: leave `--server` out, where the store is"
        }
        Command::Store(_) => {
            "`store copy` works on two stores: leave `--server` out, where both can be reached"
        }
        Command::Config(_) => {
            "`config` looks at the configuration of this machine: leave `--server` out"
        }
        Command::Admin(_) => {
            "`admin link` is for who has the store, where there is nobody else who could: leave `--server` out, where the \
             store is. With an administrator's token, `role grant` and `token create` do the same"
        }
        Command::Health(_)
        | Command::User(_)
        | Command::Role(_)
        | Command::Team(_)
        | Command::Token(_)
        | Command::Owner(_)
        | Command::Creators(_)
        | Command::Crate(_)
        | Command::Journal(_)
        | Command::Pulls(_)
        | Command::Checkpoint
        | Command::Gc(_)
        | Command::Format(_)
        | Command::Remove(_)
        | Command::Mirror(_)
        | Command::Pin(_)
        | Command::Prefetch(_)
        | Command::Names(_)
        | Command::Policy(_)
        | Command::Advisories(_)
        | Command::Doctor(_)
        | Command::Completions(_)
        | Command::Man(_) => return Ok(()),
    };
    Err(Error::invalid(why))
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

async fn work(
    registry: Registry<'_>,
    command: Command,
    voice: LogFormat,
) -> Result<ExitCode, Failure> {
    match command {
        Command::User(what) => access::user(registry, what).await?,
        Command::Role(what) => access::role(registry, what).await?,
        Command::Team(what) => access::team(registry, what).await?,
        Command::Owner(what) => access::owner(registry, what).await?,
        Command::Creators(what) => access::creators(registry, what).await?,
        Command::Crate(what) => access::restrictions(registry, what).await?,
        Command::Token(TokenCommand::Create(create)) => {
            secret::create_token(registry, &create).await?;
        }
        Command::Token(TokenCommand::List(list)) => {
            lists::tokens(registry, &list.selection(Timestamp::now())?, list.json).await?;
        }
        Command::Token(TokenCommand::Revoke { id }) => {
            registry.revoke_token(id).await?;
            print(&format!("revoked token {id}"))?;
        }
        Command::Token(TokenCommand::Rotate { id, overlap }) => {
            secret::rotate_token(registry, id, &overlap).await?;
        }
        Command::Gc(what) => garbage::collect(registry, &what, voice).await?,
        Command::Remove(what) => {
            let (name, version) = (&what.target.name, &what.target.version);
            registry.remove(name, version, &what.reason).await?;
            print(&format!("removed {name}@{version}; its number stays burned"))?;
        }
        Command::Mirror(MirrorCommand::Refresh { name }) => {
            print(&registry.refresh(&name).await?)?;
        }
        Command::Mirror(MirrorCommand::Purge { target: CrateSpec { name, version } }) => {
            print(&registry.purge(&name, version.as_ref()).await?)?;
        }
        Command::Pin(what) => pins::look_after_pins(registry, &what).await?,
        Command::Prefetch(what) => return Ok(prefetch::fill_ahead(registry, &what, voice).await?),
        Command::Names(NamesCommand::Audit { json }) => {
            return Ok(lists::clashes(registry, json).await?);
        }
        Command::Checkpoint => print(&registry.write_checkpoint().await?)?,
        Command::Format(what) => look_after_format(registry, &what).await?,
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
        | Command::Admin(_)
        | Command::Completions(_)
        | Command::Man(_) => (), // done elsewhere
    }
    Ok(ExitCode::SUCCESS)
}

async fn look_after_format(registry: Registry<'_>, what: &FormatCommand) -> Result<()> {
    match what {
        FormatCommand::Show => {
            let Levels { enabled, known } = registry.levels().await?;
            print(&format!(
                "format level {enabled} is enabled; this release knows levels up to {known}"
            ))
        }
        FormatCommand::Enable { level } => {
            let Enabled { new, checkpoint } = registry.enable_level(*level).await?;
            let when = if new { "now" } else { "already" };
            print(&format!("format level {level} is {when} enabled"))?;
            checkpoint.map_or(Ok(()), |checkpoint| print(&checkpoint))
        }
    }
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
