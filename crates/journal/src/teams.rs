//! Teams: named sets of users, which own crates, create and read them together.

use serde::{Deserialize, Serialize};

use crate::catalog::View;
use crate::commands::{ActorCommand, Command, CommandActor};
use crate::principal::TeamId;
use crate::writer::JournalHandle;
use cratehouse_core::error::{Error, Result};

/// A team as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// The names of its members.
    pub members: Vec<String>,
}

/// All teams, or the one of this name.
///
/// # Errors
/// Absent, when there is no such team.
pub async fn list(journal: &JournalHandle, name: Option<&str>) -> Result<Vec<Listed>> {
    let name = name.map(str::to_owned);
    let read = move |view: &View<_>| {
        let rows = match &name {
            None => view.teams()?,
            Some(name) => {
                let absent = || Error::absent(format!("there is no team `{name}`"));
                vec![view.team_named(name)?.ok_or_else(absent)?]
            }
        };
        let listed = rows.into_iter().map(|row| {
            let members =
                row.members.iter().map(|id| view.user(*id)).collect::<Result<Vec<_>>>()?;
            let members = members.into_iter().flatten().map(|user| user.login).collect();
            Ok(Listed { id: row.id, name: row.name, members })
        });
        listed.collect()
    };
    journal.catalog().scan(read).await
}

/// Makes users members of a team; it is created where there is none.
///
/// # Errors
/// When a user is unknown or disabled, or whoever asks may not.
pub async fn add(
    journal: &JournalHandle,
    by: CommandActor,
    team: &str,
    logins: Vec<String>,
) -> Result<()> {
    let command = Command::AddMembers { team: team.to_owned(), logins };
    journal.append(ActorCommand { by, command }).await.map(drop)
}

/// Makes users members of a team no more; nobody named means the whole team, which is then no more.
///
/// # Errors
/// When one is no member, or whoever asks may not.
pub async fn remove(
    journal: &JournalHandle,
    by: CommandActor,
    team: &str,
    logins: Vec<String>,
) -> Result<()> {
    let team = team.to_owned();
    let command = match logins.is_empty() {
        true => Command::RemoveTeam { team },
        false => Command::RemoveMembers { team, logins },
    };
    journal.append(ActorCommand { by, command }).await.map(drop)
}

/// Gives a team another name.
///
/// # Errors
/// When that is taken, there is no such team, or whoever asks may not.
pub async fn rename(
    journal: &JournalHandle,
    by: CommandActor,
    team: &str,
    name: &str,
) -> Result<()> {
    let (team, name) = (team.to_owned(), name.to_owned());
    let command = Command::RenameTeam { team, name };
    journal.append(ActorCommand { by, command }).await.map(drop)
}
