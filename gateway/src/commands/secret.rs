//! `token create`, `token rotate` and `admin link`: a token that nobody has seen must not count.

use std::io;
use std::time::Duration;

use crate::cli::{AdminCommand, TokenCreate};
use crate::flows::open::Running;
use cratehouse_core::console::{self, tell};
use cratehouse_core::error::{Error, Kind};
use cratehouse_core::secret::Secret;
use cratehouse_core::threads::aside;
use cratehouse_core::times::to_the_second;
use cratehouse_journal::commands::CommandActor;
use cratehouse_journal::principal::{Grant, PrincipalKind, Role, Scope, TokenId};
use cratehouse_journal::token_expiry::Expiry;
use cratehouse_journal::users;
use cratehouse_storage::format_level::Level;
use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

use super::registry::Registry;
use crate::failure::Failure;

/// How long the reader of standard output may take for one line: behind a pipe that is full nobody is
/// going to see it.
const PRINT_LIMIT: Duration = Duration::from_secs(30);

/// How long the token of `admin link` counts.
const ADMIN_LINK_LIFE: SignedDuration = SignedDuration::from_mins(15);

/// Prints the token alone, so that a script can take it; revokes it where it could not be printed.
pub(super) async fn create_token(
    registry: Registry<'_>,
    create: &TokenCreate,
) -> Result<(), Failure> {
    let usage = |why| Failure::Usage(Error::invalid(format!("`--expires`: {why}")));
    let grant = create.grant(Timestamp::now()).map_err(usage)?;
    let makes_admin = match registry {
        Registry::Store(_) if grant.scopes.contains(&Scope::Admin) => {
            !is_admin(registry, &create.user).await?
        }
        Registry::Store(_) | Registry::Server(_) => false,
    };
    let (id, secret) = registry.create_token(&create.user, &create.name, grant).await?;
    if makes_admin && is_admin(registry, &create.user).await? {
        tell(&format!(
            "note: `{0}` is an administrator from now on, with this token or without it: `cratehouse role revoke {0}` ends \
             that",
            create.user
        ));
    }
    tell(&format!("token {id} of {}; it is not shown again:", create.user));
    show(registry, id, &secret).await
}

async fn is_admin(registry: Registry<'_>, login: &str) -> Result<bool, Failure> {
    let users = registry.users().await?;
    Ok(users.iter().any(|user| user.login == login && user.role == Some(Role::Admin)))
}

/// The same for a token in place of another.
pub(super) async fn rotate_token(
    registry: Registry<'_>,
    former: TokenId,
    overlap: &Expiry,
) -> Result<(), Failure> {
    let usage = |why| Failure::Usage(Error::invalid(format!("`--overlap`: {why}")));
    let until = overlap.end(Timestamp::now()).map_err(usage)?;
    let (id, secret) = registry.rotate_token(former, until).await?;
    let until = to_the_second(until);
    tell(&format!(
        "token {id}, in place of token {former}, which ends at {until} at the latest; it is not shown again:"
    ));
    show(registry, id, &secret).await
}

/// Makes an administrator out of whomever is named, and prints a token for them.
pub(super) async fn admin_link(running: &Running, what: AdminCommand) -> Result<(), Failure> {
    let AdminCommand::Link { login } = what;
    let (gateway, registry) = (&running.gateway, Registry::Store(running));
    let journal = &gateway.journal;
    if cratehouse_journal::format::enabled(journal)? < Level::SECOND {
        let text = "roles need format level 2: `cratehouse format enable 2`, once all replicas run this release";
        return Err(Error::invalid(text).into());
    }
    match gateway.catalog.view()?.login(&login)? {
        None => {
            users::create(journal, CommandActor::Operator, &login, PrincipalKind::Person).await?;
            tell(&format!("`{login}` is a new user"));
        }
        Some(user) if user.kind == PrincipalKind::Service => {
            let text =
                format!("`{login}` is a service account, and those hold no role: name a person");
            return Err(Error::invalid(text).into());
        }
        Some(user) if user.disabled => {
            users::enable(journal, CommandActor::Operator, &login).await?;
            tell(&format!(
                "`{login}` was disabled and is enabled: their other tokens count again, too"
            ));
        }
        Some(_) => (),
    }
    users::set_role(journal, CommandActor::Operator, &login, Some(Role::Admin)).await?;
    let expires = Timestamp::now().checked_add(ADMIN_LINK_LIFE).map_err(Error::internal)?;
    let scopes = [Scope::Read, Scope::Admin, Scope::Tokens].into();
    let grant = Grant { scopes, expires: Some(expires), ..Grant::usual() };
    let (id, secret) = registry.create_token(&login, "admin link", grant).await?;
    let ends = to_the_second(expires);
    tell(&format!(
        "`{login}` is an administrator until `cratehouse role revoke {login}`; token {id} of theirs ends at {ends}, and is \
         not shown again:"
    ));
    show(registry, id, &secret).await
}

async fn show(registry: Registry<'_>, id: TokenId, secret: &Secret) -> Result<(), Failure> {
    match print(format!("{}\n", secret.reveal())).await {
        Ok(()) => Ok(()),
        Err(why) => Err(Failure::Failed(take_back(registry, id, why).await)),
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

async fn take_back(registry: Registry<'_>, id: TokenId, why: io::Error) -> Error {
    let text = match registry.revoke_token(id).await {
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
