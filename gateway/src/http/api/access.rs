//! Users, roles, teams and rules about names: what `cratehouse user`, `role`, `team`, `owner`, `creators` and `crate`
//! do, over HTTPS.

use serde::Deserialize;
use serde_json::json;

use crate::http::api::call::Call;
use crate::http::request::body::budget::Owner;
use crate::http::request::route::Access;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::error::{Error, Result};
use cratehouse_journal::commands::{Command, CommandActor};
use cratehouse_journal::principal::Role;
use cratehouse_journal::subject::SubjectName;
use cratehouse_journal::{rules, teams, users};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRole {
    role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logins {
    users: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewName {
    name: String,
}

/// `user:alice`, `team:core`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subjects {
    #[serde(alias = "owners", alias = "readers", alias = "creators")]
    subjects: Vec<SubjectName>,
}

/// Does what an administrator asks for, or tells an auditor: the gate has checked that it is one.
///
/// # Errors
/// Those of the journal and of the body.
pub(super) async fn answer(
    call: Call<'_>,
    by: CommandActor,
    what: Access,
    owner: Owner,
) -> Result<Answer> {
    if what.is_read() {
        return tell(call, what).await;
    }
    let gateway = call.gateway();
    let journal = &gateway.journal;
    let command = command(call, what, owner).await?;
    let pattern = match &command {
        Command::Restrict { pattern, .. } => Some(pattern.clone()),
        _ => None,
    };
    rules::change(journal, by, command).await?;
    match pattern {
        Some(pattern) => {
            let exposed = rules::exposed(journal, &pattern).await?;
            respond::json(
                &json!({ "ok": true, "exposed": exposed, "auth_required": gateway.config.auth_required }),
            )
        }
        None => respond::done(None),
    }
}

async fn tell(call: Call<'_>, what: Access) -> Result<Answer> {
    let (gateway, responses) = (call.gateway(), call.responses());
    let journal = &gateway.journal;
    let _turn = call.app.long_answer(responses).await?;
    match what {
        Access::User(login) => {
            let uses = gateway.last_uses.for_list().await;
            responses.json(&users::show(journal, &login, &uses).await?)
        }
        Access::Team(team) => responses.json(&teams::list(journal, Some(&team)).await?.first()),
        Access::Creators => responses.json(&rules::creators(journal).await?),
        Access::Restrictions => responses.json(&rules::restrictions(journal).await?),
        Access::Teams => responses.json(&teams::list(journal, None).await?),
        changes => {
            Err(Error::internal(std::io::Error::other(format!("{changes:?} tells nothing"))))
        }
    }
}

/// What a change is in the journal's words.
async fn command(call: Call<'_>, what: Access, owner: Owner) -> Result<Command> {
    let (bodies, upload) = (&call.app.bodies, call.upload);
    Ok(match what {
        Access::EnableUser(login) => Command::EnableUser { login },
        Access::GrantRole(login) => {
            let NewRole { role } = upload.read_json(bodies, owner).await?;
            Command::GrantRole { login, role }
        }
        Access::RevokeRole(login) => Command::RevokeRole { login },
        Access::RemoveTeam(team) => Command::RemoveTeam { team },
        Access::RenameTeam(team) => {
            let NewName { name } = upload.read_json(bodies, owner).await?;
            Command::RenameTeam { team, name }
        }
        Access::AddMembers(team) => {
            let Logins { users: logins } = upload.read_json(bodies, owner).await?;
            Command::AddMembers { team, logins }
        }
        Access::RemoveMembers(team) => {
            let Logins { users: logins } = upload.read_json(bodies, owner).await?;
            Command::RemoveMembers { team, logins }
        }
        Access::SetOwners(krate) => {
            let Subjects { subjects: owners } = upload.read_json(bodies, owner).await?;
            Command::SetOwners { krate, owners }
        }
        Access::AddCreators(pattern) => {
            let Subjects { subjects: creators } = upload.read_json(bodies, owner).await?;
            Command::AddCreators { pattern, creators }
        }
        Access::RemoveRule(pattern) => Command::RemoveCreators { pattern, creators: Vec::new() },
        Access::RemoveCreators(pattern) => {
            let Subjects { subjects: creators } = upload.read_json(bodies, owner).await?;
            refuse_nobody(&creators)?;
            Command::RemoveCreators { pattern, creators }
        }
        Access::Restrict(pattern) => {
            let Subjects { subjects: readers } = upload.read_json(bodies, owner).await?;
            Command::Restrict { pattern, readers }
        }
        Access::Open(pattern) => Command::Open { pattern },
        Access::RemoveReaders(pattern) => {
            let Subjects { subjects: readers } = upload.read_json(bodies, owner).await?;
            Command::RemoveReaders { pattern, readers }
        }
        Access::User(_)
        | Access::Teams
        | Access::Team(_)
        | Access::Creators
        | Access::Restrictions => {
            return Err(Error::internal(std::io::Error::other("it changes nothing")));
        }
    })
}

/// Nobody named would mean the whole rule.
fn refuse_nobody(subjects: &[SubjectName]) -> Result<()> {
    match subjects.is_empty() {
        false => Ok(()),
        true => Err(Error::invalid("name at least one user or team: `user:alice`, `team:core`")),
    }
}
