//! What administrators may wish for: who is who, and rules about names.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use cratehouse_journal::commands::Command;
use cratehouse_journal::principal::Role;
use cratehouse_journal::subject::SubjectName;
use cratehouse_package::name::NamePattern;

pub(crate) const TEAMS: [&str; 2] = ["core", "docs"];
/// What rules are about. Two of them share their key, and all crates but the last are covered by more than one.
const PATTERNS: [&str; 4] = ["alpha", "ALPHA", "al*", "b*"];
/// Everything: of who reads alone, or else the last publish would be nobody's.
const EVERYTHING: &str = "*";

/// A change that administrators make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    CreateTeam {
        team: String,
    },
    RenameTeam {
        team: String,
        name: String,
    },
    RemoveTeam {
        team: String,
    },
    AddMember {
        team: String,
        user: u32,
    },
    RemoveMember {
        team: String,
        user: u32,
    },
    GrantRole {
        user: u32,
        role: Role,
    },
    RevokeRole {
        user: u32,
    },
    Disable {
        user: u32,
    },
    Enable {
        user: u32,
    },
    AddCreators {
        pattern: NamePattern,
        creators: Vec<SubjectName>,
    },
    /// Nobody named means the whole rule.
    RemoveCreators {
        pattern: NamePattern,
        creators: Vec<SubjectName>,
    },
    Restrict {
        pattern: NamePattern,
        readers: Vec<SubjectName>,
    },
    RemoveReaders {
        pattern: NamePattern,
        readers: Vec<SubjectName>,
    },
    Open {
        pattern: NamePattern,
    },
}

pub(crate) fn login(user: u32) -> String {
    format!("user{user}")
}

pub(crate) fn pattern(text: &str) -> NamePattern {
    text.parse().unwrap()
}

/// One user, or one team; there need be none of that name.
pub(crate) fn draw_subject(rng: &mut StdRng, users: u32) -> SubjectName {
    match rng.random() {
        true => SubjectName::User(login(rng.random_range(1..=users))),
        false => SubjectName::Team(draw_team(rng)),
    }
}

fn draw_team(rng: &mut StdRng) -> String {
    TEAMS.choose(rng).unwrap().to_string()
}

fn draw_subjects(rng: &mut StdRng, users: u32, least: usize) -> Vec<SubjectName> {
    let count = rng
        .random_range(least..=3)
        .min(2)
        .saturating_sub(usize::from(rng.random::<bool>()))
        .max(least);
    (0..count).map(|_| draw_subject(rng, users)).collect()
}

/// A change that says who is who.
fn draw_change_of_people(rng: &mut StdRng, users: u32) -> Change {
    let user = rng.random_range(1..=users);
    let (team, other) = (draw_team(rng), draw_team(rng));
    match rng.random_range(0..20) {
        0..4 => Change::AddMember { team, user },
        4..6 => Change::RemoveMember { team, user },
        6 => Change::CreateTeam { team },
        7 => Change::RenameTeam { team, name: other },
        8..10 => Change::RemoveTeam { team },
        10..12 => Change::GrantRole { user, role: Role::Admin },
        12 => Change::GrantRole { user, role: Role::Auditor },
        13 => Change::RevokeRole { user },
        14..17 => Change::Disable { user },
        _ => Change::Enable { user },
    }
}

/// A change of a rule about names.
fn draw_change_of_rules(rng: &mut StdRng, users: u32) -> Change {
    let kind = rng.random_range(0..12);
    let everything = kind > 3 && rng.random_range(0..6) == 0;
    let text = if everything { EVERYTHING } else { PATTERNS.choose(rng).unwrap() };
    let pattern = pattern(text);
    match kind {
        0 | 1 => Change::AddCreators { pattern, creators: draw_subjects(rng, users, 1) },
        2 | 3 => Change::RemoveCreators { pattern, creators: draw_subjects(rng, users, 0) },
        4..8 => Change::Restrict { pattern, readers: draw_subjects(rng, users, 0) },
        8..11 => Change::RemoveReaders { pattern, readers: draw_subjects(rng, users, 1) },
        _ => Change::Open { pattern },
    }
}

pub(crate) fn draw_change(rng: &mut StdRng, users: u32) -> Change {
    match rng.random() {
        true => draw_change_of_people(rng, users),
        false => draw_change_of_rules(rng, users),
    }
}

/// What is asked of the journal.
pub(crate) fn command_of(change: &Change) -> Command {
    let members = |team: &str, user| (team.to_owned(), vec![login(user)]);
    match change.clone() {
        Change::CreateTeam { team } => Command::AddMembers { team, logins: Vec::new() },
        Change::RenameTeam { team, name } => Command::RenameTeam { team, name },
        Change::RemoveTeam { team } => Command::RemoveTeam { team },
        Change::AddMember { team, user } => {
            let (team, logins) = members(&team, user);
            Command::AddMembers { team, logins }
        }
        Change::RemoveMember { team, user } => {
            let (team, logins) = members(&team, user);
            Command::RemoveMembers { team, logins }
        }
        Change::GrantRole { user, role } => Command::GrantRole { login: login(user), role },
        Change::RevokeRole { user } => Command::RevokeRole { login: login(user) },
        Change::Disable { user } => Command::DisableUser { login: login(user) },
        Change::Enable { user } => Command::EnableUser { login: login(user) },
        Change::AddCreators { pattern, creators } => Command::AddCreators { pattern, creators },
        Change::RemoveCreators { pattern, creators } => {
            Command::RemoveCreators { pattern, creators }
        }
        Change::Restrict { pattern, readers } => Command::Restrict { pattern, readers },
        Change::RemoveReaders { pattern, readers } => Command::RemoveReaders { pattern, readers },
        Change::Open { pattern } => Command::Open { pattern },
    }
}
