//! Users: people and service accounts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{Tables, UserRow, View};
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::principal::{PrincipalKind, Role, UserId};
use crate::token_use::TokenUses;
use crate::tokens;
use crate::writer::JournalHandle;
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::CrateName;

/// A user as lists show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Their number.
    pub id: UserId,
    /// Their name.
    pub login: String,
    /// Whether their tokens no longer count.
    pub disabled: bool,
    /// A person or a machine.
    pub kind: PrincipalKind,
    /// Their role, if they have one.
    pub role: Option<Role>,
}

/// All about a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// As lists show them.
    #[serde(flatten)]
    pub user: Listed,
    /// The names of their teams.
    pub teams: Vec<String>,
    /// The crates that they own themselves.
    pub crates: Vec<CrateName>,
    /// Those of which they are the only user who is an owner and not disabled: nobody else says who owns them.
    pub would_be_orphaned: Vec<CrateName>,
    /// Their tokens.
    pub tokens: Vec<tokens::Listed>,
}

impl Listed {
    fn of<T: Tables>(view: &View<T>, row: UserRow, now: Timestamp) -> Result<Self> {
        let role = view.role_of(&row, now)?;
        let UserRow { id, login, disabled, kind, .. } = row;
        Ok(Self { id, login, disabled, kind, role })
    }
}

/// Creates a user.
///
/// # Errors
/// When the name is taken or malformed, or whoever asks may not.
pub async fn create(
    journal: &JournalHandle,
    by: CommandActor,
    login: &str,
    kind: PrincipalKind,
) -> Result<Listed> {
    let command = Command::CreateUser { login: login.to_owned(), kind };
    journal.append(ActorCommand { by, command }).await?;
    let vanished = || Error::unavailable(format!("the user `{login}` was created; look again"));
    let view = journal.catalog().view()?;
    Listed::of(&view, view.login(login)?.ok_or_else(vanished)?, Timestamp::now())
}

/// All users, by number.
///
/// # Errors
/// When the catalog fails.
pub async fn list(journal: &JournalHandle) -> Result<Vec<Listed>> {
    let now = Timestamp::now();
    let listed = move |view: &View<_>| {
        view.users()?.into_iter().map(|row| Listed::of(view, row, now)).collect()
    };
    journal.catalog().scan(listed).await
}

/// All about one user. Reads every crate.
///
/// # Errors
/// Absent, when there is no such user.
pub async fn show(journal: &JournalHandle, login: &str, uses: &TokenUses) -> Result<Shown> {
    let (login, now) = (login.to_owned(), Timestamp::now());
    let tokens = tokens::list(journal, &tokens::Selection::of(&login), uses).await?;
    let read = move |view: &View<_>| {
        let absent = || Error::absent(format!("there is no user `{login}`"));
        let row = view.login(&login)?.ok_or_else(absent)?;
        let id = row.id;
        let (mut crates, mut would_be_orphaned, mut owned) = (Vec::new(), Vec::new(), Vec::new());
        view.each_crate(|krate| {
            if krate.owners.contains(&id) {
                owned.push(krate);
            }
        })?;
        for krate in owned {
            let others = view.owners(&krate)?;
            if !others.iter().any(|owner| owner.id != id && !owner.disabled) {
                would_be_orphaned.push(krate.name.clone());
            }
            crates.push(krate.name);
        }
        let teams = view.teams_of(id)?.into_iter().map(|team| view.team(team));
        let teams = teams.collect::<Result<Vec<_>>>()?;
        let teams = teams.into_iter().flatten().map(|team| team.name).collect();
        Ok((Listed::of(view, row, now)?, teams, crates, would_be_orphaned))
    };
    let (user, teams, crates, would_be_orphaned) = journal.catalog().scan(read).await?;
    Ok(Shown { user, teams, crates, would_be_orphaned, tokens })
}

/// Disables a user: none of their tokens counts until they are enabled again.
///
/// # Errors
/// When there is no such user, they are the last administrator, or whoever asks may not.
pub async fn disable(journal: &JournalHandle, by: CommandActor, login: &str) -> Result<()> {
    let command = Command::DisableUser { login: login.to_owned() };
    journal.append(ActorCommand { by, command }).await.map(drop)
}

/// Enables a user who was disabled.
///
/// # Errors
/// When there is no such user, or whoever asks may not.
pub async fn enable(journal: &JournalHandle, by: CommandActor, login: &str) -> Result<()> {
    let command = Command::EnableUser { login: login.to_owned() };
    journal.append(ActorCommand { by, command }).await.map(drop)
}

/// Gives a user a role, or takes theirs away.
///
/// # Errors
/// When there is no such user, they are the last administrator, or whoever asks may not.
pub async fn set_role(
    journal: &JournalHandle,
    by: CommandActor,
    login: &str,
    role: Option<Role>,
) -> Result<()> {
    let login = login.to_owned();
    let command = match role {
        Some(role) => Command::GrantRole { login, role },
        None => Command::RevokeRole { login },
    };
    journal.append(ActorCommand { by, command }).await.map(drop)
}
