//! The command-line work beside `serve`. It shares nothing with a running server but the store:
//! it replays the journal into a catalog of its own, and the server follows what it appends.

mod policy;
mod pulls;

use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use cratehouse::cli::{
    Command, CrateSpec, FormatCommand, Gc, JournalCommand, MirrorCommand, NamesCommand, Prefetch,
    Show, StoreCommand, StoreCopy, TokenCommand, TokenCreate, UserCommand,
};
use cratehouse::config::{Config, EXIT_CONFIG, StoreUrl};
use cratehouse::error::{Error, Result};
use cratehouse::flows::command::By;
use cratehouse::flows::open::{Keep, Running, blobs_in, journal_in};
use cratehouse::flows::prefetch::{Prefetched, prefetch};
use cratehouse::flows::show::{Selection, Shown, show};
use cratehouse::flows::{audit, format, gc, mirroring, remove, store_copy, tokens, users, verify};
use cratehouse::gateway::Gateway;
use cratehouse::model::level::Level;
use cratehouse::startup::Progress;
use cratehouse::stores::catalog::TokenRow;
use cratehouse::stores::checkpoints::FOLDER;
use cratehouse::stores::objects::Objects;
use jiff::Timestamp;

use crate::Failure;

/// Does one piece of work, and says so on standard output.
pub(crate) async fn run(config: Arc<Config>, command: Command) -> Result<ExitCode, Failure> {
    match &command {
        Command::Journal(JournalCommand::Verify) => return verify_journal(&config).await,
        Command::Journal(JournalCommand::Show(what)) => {
            return Ok(show_journal(&config, what).await?);
        }
        Command::Pulls(what) => return Ok(pulls::show_pulls(&config, what).await?),
        Command::Store(StoreCommand::Copy(what)) => return Ok(copy_store(&config, what).await?),
        Command::Policy(what) => return Ok(policy::run(&config, what).await),
        _ => (),
    }
    let url = config.url_for(config.server.listen);
    let keep = match command {
        Command::Gc(_) | Command::Checkpoint => Keep::Replayed,
        _ => Keep::Memory,
    };
    let running = Running::open(config, url, keep).await.map_err(Failure::opening)?;
    let outcome = match command {
        Command::Checkpoint => Ok(write_checkpoint(&running).await?),
        command => work(&running.gateway, command).await,
    };
    running.close().await;
    outcome
}

async fn work(gateway: &Arc<Gateway>, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::User(UserCommand::Add { login }) => {
            let user = users::create(gateway, By::Operator, &login).await?;
            println!("created user {} ({})", user.login, user.id);
        }
        Command::User(UserCommand::List) => {
            for user in users::list(gateway).await? {
                let state = if user.disabled { "disabled" } else { "active" };
                println!("{}\t{}\t{state}", user.id, user.login);
            }
        }
        Command::User(UserCommand::Disable { login }) => {
            users::disable(gateway, By::Operator, &login).await?;
            println!("disabled {login}: no token of theirs counts any more");
        }
        Command::Token(TokenCommand::Create(create)) => create_token(gateway, &create).await?,
        Command::Token(TokenCommand::List { user }) => {
            for token in tokens::list(gateway, user.as_deref()).await? {
                println!("{}", describe(gateway, &token)?);
            }
        }
        Command::Token(TokenCommand::Revoke { id }) => {
            tokens::revoke(gateway, By::Operator, id).await?;
            println!("revoked token {id}");
        }
        Command::Gc(what) => collect_garbage(gateway, &what).await?,
        Command::Format(what) => look_after_format(gateway, &what).await?,
        Command::Remove(what) => {
            let (name, version) = (&what.target.name, &what.target.version);
            remove::remove(gateway, By::Operator, name, version, &what.reason).await?;
            println!("removed {name}@{version}; its number stays burned");
        }
        Command::Mirror(MirrorCommand::Refresh { name }) => {
            println!("{}", mirroring::refresh(gateway, &name).await?);
        }
        Command::Mirror(MirrorCommand::Purge { target: CrateSpec { name, version } }) => {
            println!("{}", mirroring::purge(gateway, &name, version.as_ref()).await?);
        }
        Command::Prefetch(what) => return Ok(fill_ahead(gateway, &what).await?),
        Command::Names(NamesCommand::Audit) => return Ok(audit_names(gateway).await?),
        Command::Serve(_)
        | Command::Config(_)
        | Command::Journal(_)
        | Command::Store(_)
        | Command::Policy(_)
        | Command::Pulls(_)
        | Command::Checkpoint => (), // done elsewhere
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the path in the store.
async fn write_checkpoint(running: &Running) -> Result<ExitCode> {
    let name = running.checkpointer.write().await?;
    println!("{FOLDER}/{name}");
    Ok(ExitCode::SUCCESS)
}

/// Prints the token alone, so that a script can take it.
async fn create_token(gateway: &Gateway, create: &TokenCreate) -> Result<(), Failure> {
    let usage = |why| Failure::Usage(Error::invalid(format!("`--expires`: {why}")));
    let grant = create.grant(Timestamp::now()).map_err(usage)?;
    let (id, secret) =
        tokens::create(gateway, By::Operator, &create.user, &create.name, grant).await?;
    eprintln!("token {id} of {}; it is not shown again:", create.user);
    println!("{}", secret.reveal());
    Ok(())
}

fn describe(gateway: &Gateway, token: &TokenRow) -> Result<String> {
    let login = gateway.catalog.view()?.user(token.user)?.map_or_else(String::new, |u| u.login);
    let scopes: Vec<_> = token.grant.scopes.iter().map(ToString::to_string).collect();
    let crates: Vec<_> = token.grant.crates.iter().map(ToString::to_string).collect();
    let state = match (token.revoked, token.grant.expires) {
        (true, _) => "revoked".to_owned(),
        (false, Some(end)) => format!("until {end}"),
        (false, None) => "active".to_owned(),
    };
    let crates = if crates.is_empty() { "all crates".to_owned() } else { crates.join(",") };
    let scopes = scopes.join(",");
    Ok(format!("{}\t{login}\t{}\t{scopes}\t{crates}\t{state}", token.id, token.name))
}

async fn collect_garbage(gateway: &Gateway, what: &Gc) -> Result<()> {
    let Gc { dry_run, force, finish, .. } = *what;
    let stored_before = what.grace.before(Timestamp::now()).map_err(Error::invalid)?;
    let config = &gateway.config;
    let objects = Objects::open(&config.store, config.outgoing_ca.as_deref())?;
    // By the client that does not retry: see `gc::sweep`.
    let blobs = blobs_in(&Objects::same(objects.commit));
    let plan = gc::Plan { stored_before, dry_run, force, finish };
    let sweeping = Progress::begin("deleting crate files", config.log.format);
    let tick = |done, total| sweeping.tick(done, Some(total));
    let swept = gc::sweep(gateway, &blobs, &plan, tick).await?;
    if dry_run {
        for stored in &swept.garbage {
            println!("{}\t{} bytes\t{}", stored.cksum, stored.size, stored.modified);
        }
    }
    let gc::Swept { stored, young, garbage, deleted } = swept;
    let garbage = garbage.len();
    println!("{stored} crate files, {garbage} garbage, {young} too young, {deleted} deleted");
    Ok(())
}

async fn look_after_format(gateway: &Gateway, what: &FormatCommand) -> Result<()> {
    match what {
        FormatCommand::Show => {
            let (enabled, known) = (format::enabled(gateway)?, Level::KNOWN);
            println!("format level {enabled} is enabled; this release knows levels up to {known}");
        }
        FormatCommand::Enable { level } => {
            let new = format::enable(gateway, By::Operator, *level).await?;
            let when = if new { "now" } else { "already" };
            println!("format level {level} is {when} enabled");
        }
    }
    Ok(())
}

async fn fill_ahead(gateway: &Arc<Gateway>, what: &Prefetch) -> Result<ExitCode> {
    let refuse = |e| Error::invalid(format!("{} cannot be read: {e}", what.lock.display()));
    let lock = std::fs::read_to_string(&what.lock).map_err(refuse)?;
    let filling = Progress::begin("filling the mirror", gateway.config.log.format);
    let tick = |done: usize, total: usize| filling.tick(done as u64, Some(total as u64));
    let Prefetched { failed, elsewhere } = prefetch(gateway, &lock, tick).await?;
    filling.end("the mirror is filled");
    for package in &elsewhere {
        eprintln!("{package}: left out, it is from another registry");
    }
    for (package, why) in &failed {
        eprintln!("{package}: {}", why.chain());
    }
    println!("{} packages failed", failed.len());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn audit_names(gateway: &Arc<Gateway>) -> Result<ExitCode> {
    let clashes = audit::names(gateway).await?;
    for clash in &clashes {
        println!(
            "{} is hosted here, and {} has {}: a build that asks there gets another crate",
            clash.name, clash.upstream, clash.spelling
        );
    }
    println!("{} clashes", clashes.len());
    Ok(if clashes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify_journal(config: &Config) -> Result<ExitCode, Failure> {
    let opened = Objects::open(&config.store, config.outgoing_ca.as_deref());
    let objects = opened.map_err(Failure::opening)?;
    let registry = objects.registry().await?.to_string();
    let (journal, blobs) = (journal_in(&objects), blobs_in(&objects));
    let walking = Progress::begin("walking the journal", config.log.format);
    let tick = |done, total| walking.tick(done, Some(total));
    let mut walk = verify::walk(&journal, &registry, tick).await?;
    let checking = Progress::begin("checking the bytes", config.log.format);
    let tick = |done, total| checking.tick(done, Some(total));
    verify::check_bytes(&blobs, &mut walk, tick).await;
    println!("the chain holds up to entry {} ({})", walk.head, walk.hash);
    for wrong in &walk.wrong {
        println!("{wrong}");
    }
    Ok(if walk.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints line by line, as the journal is read; a reader that has seen enough may leave.
async fn show_journal(config: &Config, what: &Show) -> Result<ExitCode> {
    let objects = Objects::open(&config.store, config.outgoing_ca.as_deref())?;
    let registry = objects.registry().await?.to_string();
    let krate = what.krate.as_ref().map(|name| name.key());
    let selection = Selection { krate, since: what.since };
    let (mut out, mut outcome) = (BufWriter::new(io::stdout()), Ok(()));
    let print = |shown: Shown<'_>| {
        let line = if what.json { shown.json() } else { Ok(shown.line()) };
        outcome = line.and_then(|line| writeln!(out, "{line}").map_err(Error::internal));
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    show(&journal_in(&objects), &registry, &selection, print).await?;
    match outcome.and_then(|()| out.flush().map_err(Error::internal)) {
        Err(e) if !has_left(&e) => Err(e),
        _ => Ok(ExitCode::SUCCESS),
    }
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
            eprintln!("{e}");
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let open = |config: &Config| Objects::open(&config.store, config.outgoing_ca.as_deref());
    let copied = store_copy::copy(&open(&from)?, &open(&to)?, config.log.format).await?;
    for note in &copied.notes {
        eprintln!("{note}");
    }
    for wrong in &copied.wrong {
        println!("{wrong}");
    }
    let store_copy::Copied { registry, head, objects, present, .. } = copied;
    let objects = format!("{objects} objects copied, {present} there already");
    if !copied.wrong.is_empty() {
        println!("the copy is not whole, and was not made a registry ({objects})");
        return Ok(ExitCode::FAILURE);
    }
    println!("{} holds registry {registry} up to entry {head} ({objects})", what.to);
    Ok(ExitCode::SUCCESS)
}
