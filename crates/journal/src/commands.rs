//! What can be asked of the journal, and whether it may be done: the one judge. It judges a
//! command against a view of the state, before any entry is written; what is written is applied
//! without another question.

mod format;
mod garbage;
mod pins;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::garbage::must_put_again;
pub use self::garbage::nothing_pending;
use crate::catalog::{CrateRow, Tables, UserRow, VersionRow, View};
use crate::checkpoint_format::Name;
use crate::entry::{Actor, EventKind};
use crate::principal::{Grant, Principal, Scope, TokenId, UserId};
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::excerpt;
use cratehouse_package::index::IndexLine;
use cratehouse_package::index_bounds::{IndexBounds, OutOfBounds};
use cratehouse_package::name::CrateName;
use cratehouse_package::published::Published;
use cratehouse_package::version::{CrateVersion, no_such_version};
use cratehouse_storage::format_level::Level;

/// The longest user name, in bytes.
const MAX_LOGIN_BYTES: usize = 64;
/// The longest name of a token and the longest reason, in bytes.
const MAX_TEXT_BYTES: usize = 1000;
/// Tokens of one user that still count (crates.io: 500).
const MAX_TOKENS: usize = 500;

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
    /// Make users owners of a crate.
    AddOwners {
        /// The crate.
        krate: CrateName,
        /// The users' names.
        logins: Vec<String>,
    },
    /// Make users owners of a crate no more.
    RemoveOwners {
        /// The crate.
        krate: CrateName,
        /// The users' names.
        logins: Vec<String>,
    },
    /// Create a user.
    CreateUser {
        /// The user's name.
        login: String,
    },
    /// Disable a user.
    DisableUser {
        /// The user's name.
        login: String,
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

    fn may(&self, scope: Scope) -> bool {
        match self {
            CommandActor::Operator | CommandActor::Replica => true,
            CommandActor::Principal(who) => who.grant.scopes.contains(&scope),
        }
    }

    fn check(&self, scope: Scope, krate: Option<&CrateName>) -> Judged<()> {
        match self {
            CommandActor::Operator | CommandActor::Replica => Ok(()),
            CommandActor::Principal(who) => {
                who.check(scope, krate).map_err(|e| Error::forbidden(e).into())
            }
        }
    }
}

/// Judges an order: the events that it becomes (none: it is so already), or why it may not be.
///
/// # Errors
/// A [`Refusal`].
pub fn judge<T: Tables>(view: &View<T>, order: &ActorCommand, now: Timestamp) -> Judged {
    still_counts(view, &order.by, now)?;
    let events = events_of(view, order, now)?;
    format::admitted(events, view.head()?.level, EventKind::level)
}

fn events_of<T: Tables>(view: &View<T>, order: &ActorCommand, now: Timestamp) -> Judged {
    let by = &order.by;
    match &order.command {
        Command::Publish { published, put_at, bounds } => {
            let events = publish(view, by, published, *put_at, now)?;
            fits(view, &published.line, bounds)?;
            Ok(events)
        }
        Command::Yank { krate, version, yanked } => yank(view, by, krate, version, *yanked),
        Command::Remove { krate, version, reason } => remove(view, by, krate, version, reason),
        Command::AddOwners { krate, logins } => add_owners(view, by, krate, logins),
        Command::RemoveOwners { krate, logins } => remove_owners(view, by, krate, logins),
        Command::CreateUser { login } => create_user(view, by, login),
        Command::DisableUser { login } => disable_user(view, by, login),
        Command::CreateToken { login, name, hash, grant } => {
            create_token(view, by, login, name, hash, grant, now)
        }
        Command::RevokeToken { token } => revoke_token(view, by, *token),
        Command::Condemn { checksums } => garbage::condemn(view, by, checksums),
        Command::Collect { checksums } => garbage::collect(view, by, checksums),
        Command::CorrectPin { upstream, krate, version, pinned, checksum, reason } => {
            let pin = pins::Pin { upstream, krate, version, pinned: *pinned };
            pins::correct(view, by, &pin, *checksum, reason)
        }
        Command::EnableLevel { level } => {
            format::enable(view.head()?.level, by, *level, Level::KNOWN)
        }
        Command::NameCheckpoint(name) => format::name_checkpoint(view.head()?.seq, by, *name),
    }
}

/// A token that counted when the request came in may have been revoked since.
fn still_counts<T: Tables>(view: &View<T>, by: &CommandActor, now: Timestamp) -> Judged<()> {
    let CommandActor::Principal(who) = by else { return Ok(()) };
    match view.live_token(who.token, now)? {
        Some(_) => Ok(()),
        None => Err(Error::new(Kind::Unauthenticated, "this token no longer counts").into()),
    }
}

/// Judges a publish by its name and version alone, before there is more of it.
///
/// # Errors
/// A [`Refusal`].
pub fn admit_publish<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    name: &CrateName,
    version: &CrateVersion,
    now: Timestamp,
) -> Judged<()> {
    still_counts(view, by, now)?;
    may_publish(view, by, name, version).map(drop)
}

/// Whether this version may be published; the crate, where there is one already.
fn may_publish<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    name: &CrateName,
    version: &CrateVersion,
) -> Judged<Option<CrateRow>> {
    let krate = view.krate(&name.key())?;
    match &krate {
        None => {
            // Another replica may have made it a crate that this token may update.
            let lag_could_explain = by.check(Scope::PublishUpdate, Some(name)).is_ok();
            by.check(Scope::PublishNew, Some(name))
                .map_err(|refusal| Refusal { lag_could_explain, ..refusal })?;
            name.check_unreserved().map_err(Error::invalid)?;
        }
        Some(row) => {
            same_spelling(row, name)?;
            by.check(Scope::PublishUpdate, Some(name))?;
            owns(by, row, false)?;
        }
    }
    if let Some(row) = view.version(&name.key(), version)? {
        return Err(burned(&row).into());
    }
    Ok(krate)
}

fn publish<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    published: &Published,
    put_at: u64,
    now: Timestamp,
) -> Judged {
    let name = &published.line.name;
    let krate = may_publish(view, by, name, &published.line.vers)?;
    garbage::bytes_stay(view, &published.line.cksum, put_at)?;
    let mut published = published.clone();
    published.line.pubtime = Some(pubtime(view.head()?.published.max(now)));
    let mut events = vec![EventKind::Published(Box::new(published))];
    if let (None, Some(user)) = (&krate, by.user()) {
        events.push(EventKind::OwnerAdded { krate: name.clone(), user });
    }
    Ok(events)
}

/// What others published meanwhile counts too.
fn fits<T: Tables>(view: &View<T>, line: &IndexLine, bounds: &IndexBounds) -> Judged<()> {
    let too_large = |why: OutOfBounds| Error::new(Kind::TooLarge, why.to_string());
    let bytes = bounds.line(line).map_err(too_large)?;
    let versions = view.krate(&line.name.key())?.map_or(0, |row| u64::from(row.versions));
    if versions.saturating_mul(bounds.line_bytes as u64) <= bounds.beside(bytes) {
        return Ok(()); // even if every line were as long as any may be
    }
    let others = view.index_bytes(&line.name.key(), bounds.beside(bytes))?;
    bounds.file(line, others, bytes).map_err(|why| lagging(too_large(why)))
}

fn burned(row: &VersionRow) -> Error {
    let (name, version) = (&row.line.name, &row.line.vers);
    match row.removed {
        false => Error::invalid(format!(
            "crate version `{name}@{version}` is already uploaded; versions are never overwritten: publish a new one"
        )),
        true => Error::invalid(format!(
            "crate version `{name}@{version}` was removed by an administrator and its number stays burned: publish a new one"
        )),
    }
}

/// Exactly the form that cargo reads: seconds, and `Z`.
fn pubtime(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn yank<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    version: &CrateVersion,
    yanked: bool,
) -> Judged {
    by.check(Scope::Yank, Some(krate))?;
    let row = hosted(view, krate)?;
    owns(by, &row, true)?;
    let found = present(view, krate, version)?;
    let (krate, version) = (row.name, found.line.vers);
    Ok(match (found.line.yanked, yanked) {
        (false, true) => vec![EventKind::Yanked { krate, version }],
        (true, false) => vec![EventKind::Unyanked { krate, version }],
        _ => Vec::new(),
    })
}

fn remove<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    version: &CrateVersion,
    reason: &str,
) -> Judged {
    by.check(Scope::Admin, None)?;
    let reason = stated(reason)?;
    let row = hosted(view, krate)?;
    let found = present(view, krate, version)?;
    Ok(vec![EventKind::Removed { krate: row.name, version: found.line.vers, reason }])
}

fn add_owners<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    logins: &[String],
) -> Judged {
    by.check(Scope::ChangeOwners, Some(krate))?;
    let row = hosted(view, krate)?;
    owns(by, &row, true)?;
    let mut events = Vec::new();
    for login in logins {
        let user = known(view, login)?;
        if user.disabled {
            return Err(Error::invalid(format!("the user `{login}` is disabled")).into());
        }
        if !row.owners.contains(&user.id) {
            events.push(EventKind::OwnerAdded { krate: row.name.clone(), user: user.id });
        }
    }
    events.dedup();
    Ok(events)
}

fn remove_owners<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    krate: &CrateName,
    logins: &[String],
) -> Judged {
    by.check(Scope::ChangeOwners, Some(krate))?;
    let row = hosted(view, krate)?;
    owns(by, &row, true)?;
    let mut left = row.owners.clone();
    let mut events = Vec::new();
    for login in logins {
        let user = known(view, login)?.id;
        if !left.contains(&user) {
            let text = format!("`{login}` is not an owner of `{}`", row.name);
            return Err(lagging(Error::invalid(text)));
        }
        left.retain(|owner| *owner != user);
        events.push(EventKind::OwnerRemoved { krate: row.name.clone(), user });
    }
    if left.is_empty() {
        let text = format!(
            "the last owner of `{}` cannot be removed: add another one first (`cargo owner --add`)",
            row.name
        );
        return Err(lagging(Error::invalid(text)));
    }
    Ok(events)
}

fn create_user<T: Tables>(view: &View<T>, by: &CommandActor, login: &str) -> Judged {
    by.check(Scope::Admin, None)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if login.is_empty() || login.len() > MAX_LOGIN_BYTES || !login.chars().all(fits) {
        let text = format!(
            "a user's name has 1 to {MAX_LOGIN_BYTES} ASCII letters, digits, `-`, `_` and `.`"
        );
        return Err(Error::invalid(text).into());
    }
    if view.login(login)?.is_some() {
        return Err(Error::invalid(format!("there is a user `{login}` already")).into());
    }
    let user = view.next_ids()?.0;
    Ok(vec![EventKind::UserCreated { user, login: login.to_owned() }])
}

fn disable_user<T: Tables>(view: &View<T>, by: &CommandActor, login: &str) -> Judged {
    by.check(Scope::Admin, None)?;
    let user = known(view, login)?;
    Ok(match user.disabled {
        true => Vec::new(),
        false => vec![EventKind::UserDisabled { user: user.id }],
    })
}

fn create_token<T: Tables>(
    view: &View<T>,
    by: &CommandActor,
    login: &str,
    name: &str,
    hash: &Checksum,
    grant: &Grant,
    now: Timestamp,
) -> Judged {
    by.check(Scope::Admin, None)?;
    let name = short_text("name", name)?;
    let user = known(view, login)?;
    if user.disabled {
        return Err(Error::invalid(format!("the user `{login}` is disabled")).into());
    }
    if grant.scopes.is_empty() {
        return Err(Error::invalid("a token without any scope would be of no use").into());
    }
    if grant.scopes.contains(&Scope::Admin) && !grant.crates.is_empty() {
        let text = "a token with the scope `admin` cannot be limited to crates: it could make itself another";
        return Err(Error::invalid(text).into());
    }
    if view.live_tokens(user.id, now)? >= MAX_TOKENS {
        let text = format!("`{login}` has {MAX_TOKENS} tokens: revoke some first");
        return Err(lagging(Error::invalid(text)));
    }
    let token = view.next_ids()?.1;
    let (hash, grant) = (*hash, grant.clone());
    Ok(vec![EventKind::TokenCreated { token, user: user.id, name, hash, grant }])
}

fn revoke_token<T: Tables>(view: &View<T>, by: &CommandActor, token: TokenId) -> Judged {
    let row = view.token(token)?;
    let row = row.ok_or_else(|| lagging(Error::absent(format!("there is no token {token}"))))?;
    if by.user() != Some(row.user) {
        by.check(Scope::Admin, None)?;
    }
    Ok(match row.revoked {
        true => Vec::new(),
        false => vec![EventKind::TokenRevoked { token }],
    })
}

fn hosted<T: Tables>(view: &View<T>, name: &CrateName) -> Judged<CrateRow> {
    let absent = || lagging(Error::absent(format!("`{name}` is not a crate that is hosted here")));
    let row = view.krate(&name.key())?.ok_or_else(absent)?;
    match row.name == *name {
        true => Ok(row),
        false => Err(absent()),
    }
}

/// The version of exactly this name. Another one of its number is there for ever, so that no lag
/// explains why this one is not.
fn present<T: Tables>(
    view: &View<T>,
    name: &CrateName,
    version: &CrateVersion,
) -> Judged<VersionRow> {
    let absent = |instead| Error::absent(no_such_version(name, version, instead));
    match view.version(&name.key(), version)?.filter(|row| !row.removed) {
        Some(row) if row.line.vers == *version => Ok(row),
        Some(other) => Err(absent(Some(&other.line.vers)).into()),
        None => Err(lagging(absent(None))),
    }
}

fn known<T: Tables>(view: &View<T>, login: &str) -> Judged<UserRow> {
    let unknown = || {
        let shown: String = login.chars().take(MAX_LOGIN_BYTES).collect();
        lagging(Error::invalid(format!(
            "there is no user `{shown}`: an administrator creates one with `cratehouse user add`"
        )))
    };
    view.login(login)?.ok_or_else(unknown)
}

fn owns(by: &CommandActor, krate: &CrateRow, admins_too: bool) -> Judged<()> {
    let owner = by.user().is_none_or(|user| krate.owners.contains(&user));
    match owner || (admins_too && by.may(Scope::Admin)) {
        true => Ok(()),
        false => Err(lagging(Error::forbidden(format!(
            "only the owners of `{0}` may do that: ask one of them to run `cargo owner --add` (`cargo owner --list {0}` names them)",
            krate.name
        )))),
    }
}

fn same_spelling(row: &CrateRow, name: &CrateName) -> Judged<()> {
    match row.name == *name {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "the crate `{}` exists already: names that differ only in case, `-` and `_` are one name",
            row.name
        ))
        .into()),
    }
}

/// A reason that the journal keeps.
fn stated(reason: &str) -> Judged<String> {
    match reason.trim().is_empty() {
        true => Err(Error::invalid("say why: the journal keeps the reason for ever").into()),
        false => short_text("reason", reason),
    }
}

fn short_text(what: &str, text: &str) -> Judged<String> {
    match text.len() <= MAX_TEXT_BYTES && !text.contains(excerpt::acts) {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid(format!(
            "the {what} has {MAX_TEXT_BYTES} characters at most, and none that acts on a terminal or on the direction of text"
        ))
        .into()),
    }
}

fn lagging(error: Error) -> Refusal {
    Refusal { error, lag_could_explain: true }
}

#[cfg(test)]
mod tests;
