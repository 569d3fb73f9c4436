//! The journal as an audit trail: who did what, in words. Events name users and tokens by
//! number; whoever reads them in order learns whose numbers those are.

use std::collections::BTreeMap;

use crate::catalog::{Tables, View};
use crate::entry::{Account, Actor, Event, EventKind};
use crate::principal::{PrincipalKind, TeamId, TokenId, UserId};
use crate::subject::Subject;
use cratehouse_core::checksum::Checksum;
use cratehouse_core::error::Result;
use cratehouse_core::times::to_the_second;
use cratehouse_package::name::CrateName;

/// Checksums in one phrase; the JSON form has all.
const MAX_SHOWN: usize = 4;

/// What the events so far told of users and tokens.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    logins: BTreeMap<UserId, String>,
    tokens: BTreeMap<TokenId, UserId>,
    teams: BTreeMap<TeamId, String>,
}

impl Trail {
    /// What all events up to a state of the catalog told; of a team that was renamed, its last name.
    ///
    /// # Errors
    /// When the catalog fails.
    pub fn of<T: Tables>(view: &View<T>) -> Result<Self> {
        Ok(Self {
            logins: view.users()?.into_iter().map(|user| (user.id, user.login)).collect(),
            tokens: view.tokens()?.into_iter().map(|token| (token.id, token.user)).collect(),
            teams: view.team_names()?.into_iter().collect(),
        })
    }

    /// Notes the numbers that an event gives out.
    pub fn learn(&mut self, what: &EventKind) {
        match what {
            EventKind::UserCreated { user, login, .. } => {
                self.logins.insert(*user, login.clone());
            }
            EventKind::TeamCreated { team, name } | EventKind::TeamRenamed { team, name } => {
                self.teams.insert(*team, name.clone());
            }
            EventKind::TokenCreated { token, user, .. } => {
                self.tokens.insert(*token, *user);
            }
            _ => (),
        }
    }

    /// The name of a user, if an event told it.
    pub fn login(&self, user: UserId) -> Option<&str> {
        self.logins.get(&user).map(String::as_str)
    }

    /// Whether somebody did it, or it was done to them or to a token of theirs.
    pub fn concerns(&self, event: &Event, somebody: UserId) -> bool {
        if matches!(event.by, Actor::User { user, .. } if user == somebody) {
            return true;
        }
        match &event.what {
            EventKind::OwnerAdded { user, .. }
            | EventKind::OwnerRemoved { user, .. }
            | EventKind::UserCreated { user, .. }
            | EventKind::UserEnabled { user }
            | EventKind::UserDisabled { user }
            | EventKind::RoleGranted { user, .. }
            | EventKind::RoleRevoked { user }
            | EventKind::MemberAdded { user, .. }
            | EventKind::MemberRemoved { user, .. }
            | EventKind::TokenCreated { user, .. } => *user == somebody,
            EventKind::TokenRevoked { token }
            | EventKind::TokenEndSet { token, .. }
            | EventKind::TokenReported { token, .. } => self.tokens.get(token) == Some(&somebody),
            EventKind::CreatorsAdded { creators: subjects, .. }
            | EventKind::CreatorsRemoved { creators: subjects, .. }
            | EventKind::CrateRestricted { readers: subjects, .. }
            | EventKind::ReadersRemoved { readers: subjects, .. } => {
                subjects.contains(&Subject::User(somebody))
            }
            EventKind::Published(_)
            | EventKind::Yanked { .. }
            | EventKind::Unyanked { .. }
            | EventKind::Removed { .. }
            | EventKind::TeamCreated { .. }
            | EventKind::TeamRenamed { .. }
            | EventKind::TeamRemoved { .. }
            | EventKind::TeamOwnerAdded { .. }
            | EventKind::TeamOwnerRemoved { .. }
            | EventKind::CrateOpened { .. }
            | EventKind::Condemned { .. }
            | EventKind::Collected { .. }
            | EventKind::PinCorrected { .. }
            | EventKind::LevelEnabled { .. }
            | EventKind::Checkpointed { .. } => false,
        }
    }

    /// The user of a name, if an event told it.
    pub fn user_named(&self, login: &str) -> Option<UserId> {
        self.logins.iter().find(|(_, known)| known.eq_ignore_ascii_case(login)).map(|(id, _)| *id)
    }

    /// Who acted: `operator`, or `alice (token 3)`.
    pub fn who(&self, by: &Actor) -> String {
        match by {
            Actor::Operator => "operator".to_owned(),
            Actor::CommandLine(Account { user, host }) => {
                format!("operator {user}@{host}").replace(char::is_control, " ")
            }
            Actor::Replica => "replica".to_owned(),
            Actor::User { user, token } => format!("{} (token {token})", self.user(*user)),
        }
    }

    /// What happened, as a phrase: `published foo 1.0.0 (1234 bytes, SHA-256 …)`. No text of an
    /// event reaches a terminal with control characters.
    pub fn tell(&self, what: &EventKind) -> String {
        let text = match what {
            EventKind::Published(p) => {
                let (line, size) = (&p.line, p.size);
                let (name, version, sum) = (&line.name, &line.vers, &line.cksum);
                format!("published {name} {version} ({size} bytes, SHA-256 {sum})")
            }
            EventKind::Yanked { krate, version } => format!("yanked {krate} {version}"),
            EventKind::Unyanked { krate, version } => format!("unyanked {krate} {version}"),
            EventKind::Removed { krate, version, reason } => {
                format!("removed {krate} {version}: {reason}")
            }
            EventKind::OwnerAdded { krate, user } => {
                format!("made {} an owner of {krate}", self.user(*user))
            }
            EventKind::OwnerRemoved { krate, user } => {
                format!("made {} no owner of {krate} any more", self.user(*user))
            }
            EventKind::UserCreated { user, login, kind: PrincipalKind::Person } => {
                format!("created user {login} ({user})")
            }
            EventKind::UserCreated { user, login, kind: PrincipalKind::Service } => {
                format!("created service account {login} ({user})")
            }
            EventKind::UserEnabled { user } => format!("enabled user {}", self.user(*user)),
            EventKind::RoleGranted { user, role } => {
                format!("gave {} the role {role}", self.user(*user))
            }
            EventKind::RoleRevoked { user } => {
                format!("took the role of {} away", self.user(*user))
            }
            EventKind::TeamCreated { team, name } => format!("created team {name} ({team})"),
            EventKind::TeamRenamed { team, name } => {
                format!("named the team {} {name}", self.former_team(*team))
            }
            EventKind::TeamRemoved { team } => format!("removed team {}", self.team(*team)),
            EventKind::MemberAdded { team, user } => {
                format!("made {} a member of team {}", self.user(*user), self.team(*team))
            }
            EventKind::MemberRemoved { team, user } => {
                format!("made {} no member of team {} any more", self.user(*user), self.team(*team))
            }
            EventKind::TeamOwnerAdded { krate, team } => {
                format!("made team {} an owner of {krate}", self.team(*team))
            }
            EventKind::TeamOwnerRemoved { krate, team } => {
                format!("made team {} no owner of {krate} any more", self.team(*team))
            }
            EventKind::CreatorsAdded { pattern, creators } => {
                format!("let {} create crates named {pattern}", self.subjects(creators))
            }
            EventKind::CreatorsRemoved { pattern, creators } => {
                format!("let {} create crates named {pattern} no more", self.subjects(creators))
            }
            EventKind::CrateRestricted { pattern, readers } => match readers.is_empty() {
                true => format!("restricted crates named {pattern} to their owners"),
                false => format!("restricted crates named {pattern} to {}", self.subjects(readers)),
            },
            EventKind::ReadersRemoved { pattern, readers } => {
                format!("let {} read crates named {pattern} no more", self.subjects(readers))
            }
            EventKind::CrateOpened { pattern } => {
                format!("ended the restriction of crates named {pattern}")
            }
            EventKind::TokenEndSet { token, expires } => {
                format!("let token {token} end at {}", to_the_second(*expires))
            }
            EventKind::TokenReported { token, place } => {
                let whose = self.tokens.get(token).map(|user| self.user(*user));
                let whose = whose.map(|login| format!(" of {login}")).unwrap_or_default();
                let place = if place.is_empty() { "a scanner" } else { place };
                format!(
                    "revoked token {token}{whose}, which was found where others read it: {place}"
                )
            }
            EventKind::UserDisabled { user } => format!("disabled user {}", self.user(*user)),
            EventKind::TokenCreated { token, user, name, grant, .. } => {
                let scopes: Vec<_> = grant.scopes.iter().map(ToString::to_string).collect();
                let (user, scopes) = (self.user(*user), scopes.join(","));
                format!("created token {token} of {user}, `{name}`, for {scopes}")
            }
            EventKind::TokenRevoked { token } => match self.tokens.get(token) {
                Some(user) => format!("revoked token {token} of {}", self.user(*user)),
                None => format!("revoked token {token}"),
            },
            EventKind::Condemned { checksums } => format!("condemned {}", listed(checksums)),
            EventKind::Collected { checksums } => format!("deleted {}", listed(checksums)),
            EventKind::LevelEnabled { level } => format!("enabled format level {level}"),
            EventKind::PinCorrected { upstream, krate, version, former, checksum, reason } => {
                format!(
                    "corrected the pin of {krate} {version} of `{upstream}` from SHA-256 {former} \
                     to {checksum}: {reason}"
                )
            }
            EventKind::Checkpointed { seq, hash } => {
                format!("wrote a checkpoint of entry {seq} (SHA-256 {hash})")
            }
        };
        text.replace(char::is_control, " ")
    }

    fn subjects(&self, subjects: &[Subject]) -> String {
        let shown = subjects.iter().take(MAX_SHOWN).map(|subject| match *subject {
            Subject::User(user) => self.user(user),
            Subject::Team(team) => format!("team {}", self.team(team)),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        match subjects.len().saturating_sub(MAX_SHOWN) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    }

    fn team(&self, team: TeamId) -> String {
        self.teams.get(&team).cloned().unwrap_or_else(|| team.to_string())
    }

    /// Events are learned before they are told.
    fn former_team(&self, team: TeamId) -> String {
        team.to_string()
    }

    fn user(&self, user: UserId) -> String {
        self.login(user)
            .map_or_else(|| format!("user {user}"), |l| l.replace(char::is_control, " "))
    }
}

/// `2 crate files that no version names (SHA-256 …, …)`
fn listed(checksums: &[Checksum]) -> String {
    let shown: Vec<_> = checksums.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
    let (shown, more) = (shown.join(", "), if checksums.len() > MAX_SHOWN { ", …" } else { "" });
    format!("{} crate files that no version names (SHA-256 {shown}{more})", checksums.len())
}

/// Whether a token was used for it, or it was done to that token.
pub fn is_about_token(event: &Event, number: TokenId) -> bool {
    match (&event.by, &event.what) {
        (Actor::User { token, .. }, _) if *token == number => true,
        (
            _,
            EventKind::TokenCreated { token, .. }
            | EventKind::TokenRevoked { token }
            | EventKind::TokenEndSet { token, .. }
            | EventKind::TokenReported { token, .. },
        ) => *token == number,
        _ => false,
    }
}

/// The crate that an event is about, if it is about one.
pub fn krate_of(what: &EventKind) -> Option<&CrateName> {
    match what {
        EventKind::Published(p) => Some(&p.line.name),
        EventKind::Yanked { krate, .. }
        | EventKind::Unyanked { krate, .. }
        | EventKind::Removed { krate, .. }
        | EventKind::OwnerAdded { krate, .. }
        | EventKind::OwnerRemoved { krate, .. }
        | EventKind::TeamOwnerAdded { krate, .. }
        | EventKind::TeamOwnerRemoved { krate, .. }
        | EventKind::PinCorrected { krate, .. } => Some(krate),
        EventKind::UserCreated { .. }
        | EventKind::UserEnabled { .. }
        | EventKind::RoleGranted { .. }
        | EventKind::RoleRevoked { .. }
        | EventKind::TeamCreated { .. }
        | EventKind::TeamRenamed { .. }
        | EventKind::TeamRemoved { .. }
        | EventKind::MemberAdded { .. }
        | EventKind::MemberRemoved { .. }
        | EventKind::CreatorsAdded { .. }
        | EventKind::CreatorsRemoved { .. }
        | EventKind::CrateRestricted { .. }
        | EventKind::ReadersRemoved { .. }
        | EventKind::CrateOpened { .. }
        | EventKind::TokenEndSet { .. }
        | EventKind::TokenReported { .. }
        | EventKind::UserDisabled { .. }
        | EventKind::TokenCreated { .. }
        | EventKind::TokenRevoked { .. }
        | EventKind::Condemned { .. }
        | EventKind::Collected { .. }
        | EventKind::LevelEnabled { .. }
        | EventKind::Checkpointed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Grant;

    const ALICE: UserId = UserId(1);

    fn trail() -> Trail {
        let mut trail = Trail::default();
        trail.learn(&EventKind::UserCreated {
            user: ALICE,
            login: "alice".to_owned(),
            kind: PrincipalKind::Person,
        });
        trail.learn(&token("laptop"));
        trail
    }

    fn token(name: &str) -> EventKind {
        let (hash, name) = (Checksum::of(b"secret"), name.to_owned());
        EventKind::TokenCreated {
            token: TokenId(3),
            user: ALICE,
            name,
            hash,
            grant: Grant::usual(),
        }
    }

    #[test]
    fn numbers_are_told_as_the_names_that_earlier_events_gave_them() {
        let trail = trail();
        assert_eq!(trail.who(&Actor::User { user: ALICE, token: TokenId(3) }), "alice (token 3)");
        assert_eq!(
            trail.who(&Actor::User { user: UserId(9), token: TokenId(4) }),
            "user 9 (token 4)"
        );
        assert_eq!(trail.who(&Actor::Operator), "operator");
        let revoked = EventKind::TokenRevoked { token: TokenId(3) };
        assert_eq!(trail.tell(&revoked), "revoked token 3 of alice");
        let krate = CrateName::parse("foo").unwrap();
        let owner = EventKind::OwnerAdded { krate: krate.clone(), user: ALICE };
        assert_eq!(trail.tell(&owner), "made alice an owner of foo");
        assert_eq!(krate_of(&owner), Some(&krate));
        assert_eq!(krate_of(&revoked), None);
    }

    #[test]
    fn no_hash_and_no_control_character_is_told() {
        let told = trail().tell(&token("lap\u{1b}[2Jtop"));
        assert!(told.starts_with("created token 3 of alice, `lap [2Jtop`, for "), "{told}");
        assert!(!told.contains(&Checksum::of(b"secret").to_string()), "{told}");
    }
}
