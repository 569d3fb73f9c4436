//! What can be asked of the journal, and whether it may be done: the one judge. It judges a
//! command against a view of the state, before any entry is written; what is written is applied
//! without another question.

mod add_owners;
mod checks;
mod correct_pin;
mod create_token;
mod create_user;
mod creators;
mod disable_user;
mod enable_level;
mod enable_user;
mod garbage;
mod name_checkpoint;
mod publish;
mod remove;
mod remove_owners;
mod report_token;
mod restrictions;
mod revoke_token;
mod roles;
mod rotate_token;
mod set_owners;
mod teams;
mod yank;

use jiff::{SignedDuration, Timestamp};

pub use self::garbage::{must_put_again, nothing_pending};
pub use self::publish::admit as admit_publish;
use crate::authorize::{Action, Denied, OfCrate, authorize, may_read};
use crate::catalog::{Tables, View};
use crate::checkpoint_format::Name;
use crate::entry::{Actor, EventKind};
use crate::principal::{Grant, Principal, PrincipalKind, Role, TokenId, UserId};
use crate::subject::SubjectName;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_package::index_bounds::IndexBounds;
use cratehouse_package::name::{CrateName, NamePattern};
use cratehouse_package::published::Published;
use cratehouse_package::version::CrateVersion;
use cratehouse_storage::format_level::Level;

/// A command and who gives it.
#[derive(Debug, Clone)]
pub struct ActorCommand {
    /// Who.
    pub by: CommandActor,
    /// What.
    pub command: Command,
}

/// Who gives a command.
#[derive(Debug, Clone)]
pub enum CommandActor {
    /// Somebody with access to the store.
    Operator,
    /// This replica, by itself.
    Replica,
    /// A user, with a token that allowed it when it was shown.
    Principal(Principal),
}

/// A change of hosted state.
#[derive(Debug, Clone)]
pub enum Command {
    /// Publish a version; its `pubtime` is set here.
    Publish {
        /// The version.
        published: Box<Published>,
        /// The last entry that was applied when the put of its bytes began.
        put_at: u64,
        /// How much of the index it and its crate may take.
        bounds: IndexBounds,
    },
    /// Yank a version, or undo it.
    Yank {
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
        /// Whether it is to be yanked.
        yanked: bool,
    },
    /// Remove a version for ever.
    Remove {
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
        /// Why.
        reason: String,
    },
    /// Make users and teams owners of a crate.
    AddOwners {
        /// The crate.
        krate: CrateName,
        /// Who, as `cargo owner` sends it: `alice`, `team:core`.
        logins: Vec<String>,
    },
    /// Make users and teams owners of a crate no more.
    RemoveOwners {
        /// The crate.
        krate: CrateName,
        /// Who, as `cargo owner` sends it.
        logins: Vec<String>,
    },
    /// Hand a crate over: these own it from then on, and nobody else.
    SetOwners {
        /// The crate.
        krate: CrateName,
        /// Who.
        owners: Vec<SubjectName>,
    },
    /// Create a user.
    CreateUser {
        /// The user's name.
        login: String,
        /// A person or a machine.
        kind: PrincipalKind,
    },
    /// Disable a user.
    DisableUser {
        /// The user's name.
        login: String,
    },
    /// Enable a user who was disabled.
    EnableUser {
        /// The user's name.
        login: String,
    },
    /// Give a user a role, in place of another.
    GrantRole {
        /// The user's name.
        login: String,
        /// The role.
        role: Role,
    },
    /// Take a user's role away.
    RevokeRole {
        /// The user's name.
        login: String,
    },
    /// Make users members of a team, which is created where there is none.
    AddMembers {
        /// The team's name.
        team: String,
        /// The users' names.
        logins: Vec<String>,
    },
    /// Make users members of a team no more.
    RemoveMembers {
        /// The team's name.
        team: String,
        /// The users' names.
        logins: Vec<String>,
    },
    /// Give a team another name.
    RenameTeam {
        /// The team's name.
        team: String,
        /// Its name from then on.
        name: String,
    },
    /// Remove a team.
    RemoveTeam {
        /// The team's name.
        team: String,
    },
    /// Let some create crates of some names; without any rule everybody may.
    AddCreators {
        /// The names.
        pattern: NamePattern,
        /// Who.
        creators: Vec<SubjectName>,
    },
    /// Let them no more; nobody named means the whole rule.
    RemoveCreators {
        /// The names.
        pattern: NamePattern,
        /// Who.
        creators: Vec<SubjectName>,
    },
    /// Keep crates of some names for their owners and some readers.
    Restrict {
        /// The names.
        pattern: NamePattern,
        /// Who may read them too.
        readers: Vec<SubjectName>,
    },
    /// Let some read no more what is restricted.
    RemoveReaders {
        /// The names, as the rule has them.
        pattern: NamePattern,
        /// Who.
        readers: Vec<SubjectName>,
    },
    /// End a restriction.
    Open {
        /// The names, as the rule has them.
        pattern: NamePattern,
    },
    /// Create a token.
    CreateToken {
        /// Whose.
        login: String,
        /// What its owner calls it.
        name: String,
        /// SHA-256 of it.
        hash: Checksum,
        /// What it may do.
        grant: Grant,
    },
    /// Revoke a token.
    RevokeToken {
        /// The token.
        token: TokenId,
    },
    /// Make a token in place of another, which goes on for a while.
    RotateToken {
        /// The other.
        token: TokenId,
        /// SHA-256 of the new one.
        hash: Checksum,
        /// When the other ends, if it does not end before.
        until: Timestamp,
        /// The longest life of the new one.
        longest: Option<SignedDuration>,
    },
    /// Revoke a token that was found where others read it.
    ReportToken {
        /// The token.
        token: TokenId,
        /// Where, as far as that was said.
        place: String,
    },
    /// Say that crate files are going to be deleted: those of these that no version names.
    Condemn {
        /// SHA-256 of each.
        checksums: Vec<Checksum>,
    },
    /// Say that condemned crate files are deleted.
    Collect {
        /// SHA-256 of each.
        checksums: Vec<Checksum>,
    },
    /// Let another checksum stand over the pin of a mirrored version.
    CorrectPin {
        /// The upstream's name in the configuration.
        upstream: String,
        /// The crate.
        krate: CrateName,
        /// The version.
        version: CrateVersion,
        /// What the pin in the store says.
        pinned: Checksum,
        /// What is right.
        checksum: Checksum,
        /// Why.
        reason: String,
    },
    /// Let be written what belongs to a format level.
    EnableLevel {
        /// The level.
        level: Level,
    },
    /// Say that a checkpoint may be believed.
    NameCheckpoint(Name),
}

impl Command {
    /// Create a person.
    pub fn create_user(login: impl Into<String>) -> Self {
        Self::CreateUser { login: login.into(), kind: PrincipalKind::Person }
    }
}

/// Why a command is not done.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What the client is told.
    pub error: Error,
    /// Whether an entry that this replica has not read yet could change the answer.
    pub lag_could_explain: bool,
}

type Judged<T = Vec<EventKind>> = Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, lag_could_explain: false }
    }
}

impl CommandActor {
    /// How the journal names them.
    pub fn actor(&self) -> Actor {
        match self {
            CommandActor::Operator => Actor::Operator,
            CommandActor::Replica => Actor::Replica,
            CommandActor::Principal(who) => Actor::User { user: who.user, token: who.token },
        }
    }

    fn user(&self) -> Option<UserId> {
        match self {
            CommandActor::Operator | CommandActor::Replica => None,
            CommandActor::Principal(who) => Some(who.user),
        }
    }

    fn may_read(&self, of: OfCrate<'_>) -> bool {
        match self {
            CommandActor::Principal(who) => may_read(Some(who), of),
            CommandActor::Operator | CommandActor::Replica => true,
        }
    }

    fn authorize(&self, action: Action<'_>) -> Judged<()> {
        let CommandActor::Principal(who) = self else { return Ok(()) }; // it has the store
        authorize(who, action).map_err(|denied| {
            let Denied { error, lag_could_explain } = denied;
            Refusal { error, lag_could_explain }
        })
    }
}

/// Judges a command: the events that it becomes (none: it is so already), or why it may not be.
///
/// # Errors
/// A [`Refusal`].
pub fn judge<T: Tables>(view: &View<T>, command: &ActorCommand, now: Timestamp) -> Judged {
    let by = as_of_now(view, &command.by, now)?;
    let events = events_of(view, &by, &command.command, now)?;
    enable_level::admitted(events, view.head()?.level, EventKind::level)
}

/// The same, of whoever asks as they were when they did: a mistake, for the simulation.
///
/// # Errors
/// A [`Refusal`].
#[cfg(any(test, feature = "test-util"))]
pub fn judge_as_shown<T: Tables>(view: &View<T>, command: &ActorCommand, now: Timestamp) -> Judged {
    let events = events_of(view, &command.by, &command.command, now)?;
    enable_level::admitted(events, view.head()?.level, EventKind::level)
}

fn events_of<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    command: &Command,
    now: Timestamp,
) -> Judged {
    match command {
        Command::Publish { published, put_at, bounds } => {
            publish::judge(view, by, published, *put_at, bounds, now)
        }
        Command::Yank { krate, version, yanked } => yank::judge(view, by, krate, version, *yanked),
        Command::Remove { krate, version, reason } => {
            remove::judge(view, by, krate, version, reason)
        }
        Command::AddOwners { krate, logins } => add_owners::judge(view, by, krate, logins),
        Command::RemoveOwners { krate, logins } => remove_owners::judge(view, by, krate, logins),
        Command::SetOwners { krate, owners } => set_owners::judge(view, by, krate, owners),
        Command::CreateUser { login, kind } => create_user::judge(view, by, login, *kind),
        Command::DisableUser { login } => disable_user::judge(view, by, login, now),
        Command::EnableUser { login } => enable_user::judge(view, by, login),
        Command::GrantRole { login, role } => roles::grant(view, by, login, *role, now),
        Command::RevokeRole { login } => roles::revoke(view, by, login, now),
        Command::AddMembers { team, logins } => teams::add_members(view, by, team, logins),
        Command::RemoveMembers { team, logins } => teams::remove_members(view, by, team, logins),
        Command::RenameTeam { team, name } => teams::rename(view, by, team, name),
        Command::RemoveTeam { team } => teams::remove(view, by, team),
        Command::AddCreators { pattern, creators } => creators::add(view, by, pattern, creators),
        Command::RemoveCreators { pattern, creators } => {
            creators::remove(view, by, pattern, creators)
        }
        Command::Restrict { pattern, readers } => {
            restrictions::restrict(view, by, pattern, readers)
        }
        Command::RemoveReaders { pattern, readers } => {
            restrictions::remove_readers(view, by, pattern, readers)
        }
        Command::Open { pattern } => restrictions::open(view, by, pattern),
        Command::CreateToken { login, name, hash, grant } => {
            create_token::judge(view, by, login, name, hash, grant, now)
        }
        Command::RevokeToken { token } => revoke_token::judge(view, by, *token),
        Command::RotateToken { token, hash, until, longest } => rotate_token::judge(
            view,
            by,
            *token,
            rotate_token::New { hash: *hash, longest: *longest },
            *until,
            now,
        ),
        Command::ReportToken { token, place } => report_token::judge(view, by, *token, place),
        Command::Condemn { checksums } => garbage::condemn(view, by, checksums),
        Command::Collect { checksums } => garbage::collect(view, by, checksums),
        Command::CorrectPin { upstream, krate, version, pinned, checksum, reason } => {
            let pin = correct_pin::Pin { upstream, krate, version, pinned: *pinned };
            correct_pin::judge(view, by, &pin, *checksum, reason)
        }
        Command::EnableLevel { level } => {
            enable_level::judge(view.head()?.level, by, *level, Level::KNOWN)
        }
        Command::NameCheckpoint(name) => name_checkpoint::judge(view.head()?.seq, by, *name),
    }
}

/// A token that counted when the request came in may have been revoked since, and its holder may have other teams
/// or another role.
fn as_of_now<T: Tables>(view: &View<T>, by: &CommandActor, now: Timestamp) -> Judged<CommandActor> {
    let CommandActor::Principal(who) = by else { return Ok(by.clone()) };
    match view.live_token(who.token, now)? {
        Some((who, _)) => Ok(CommandActor::Principal(who)),
        // Unless it does again: who was disabled may have been enabled.
        None => Err(Refusal {
            error: Error::new(Kind::Unauthenticated, "this token no longer counts"),
            lag_could_explain: true,
        }),
    }
}

#[cfg(test)]
mod tests;
