//! Who is who in the simplest registry, and what rules say of names: sets, and nothing that is kept twice.
//! Written without a look at the catalog, as the [`registry`](crate::registry) is.

use std::collections::{BTreeMap, BTreeSet};

use crate::changes::Change;
use cratehouse_journal::entry::EventKind;
use cratehouse_journal::principal::{Role, TeamId, UserId};
use cratehouse_journal::subject::{Subject, SubjectName};
use cratehouse_package::name::NamePattern;

/// Who may, by pattern in lower case.
pub(crate) type Rules = BTreeMap<String, BTreeSet<Subject>>;

/// The state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) disabled: BTreeSet<u32>,
    /// What was decided about roles.
    decided: BTreeMap<u32, Option<Role>>,
    /// Who has a token with the scope `admin`: an administrator, until something is decided.
    admin_tokens: BTreeSet<u32>,
    /// The numbers of teams, by name.
    pub(crate) teams: BTreeMap<String, u32>,
    /// How many teams there ever were: no number is given twice.
    teams_ever: u32,
    /// Teams and users.
    pub(crate) members: BTreeSet<(u32, u32)>,
    pub(crate) creators: Rules,
    pub(crate) readers: Rules,
}

/// What a change becomes: nothing where it is so already, `None` where it may not be.
pub(crate) type Becomes = Option<Vec<EventKind>>;

pub(crate) fn user_named(login: &str) -> u32 {
    login.strip_prefix("user").unwrap().parse().unwrap()
}

impl Rights {
    pub(crate) fn begin(admin_tokens: impl IntoIterator<Item = u32>) -> Self {
        Self { admin_tokens: admin_tokens.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn role_of(&self, user: u32) -> Option<Role> {
        let open = || self.admin_tokens.contains(&user).then_some(Role::Admin);
        self.decided.get(&user).copied().unwrap_or_else(open)
    }

    /// Administrators who are not disabled.
    pub(crate) fn administrators(&self) -> BTreeSet<u32> {
        let all = self.decided.keys().chain(&self.admin_tokens).copied();
        all.filter(|user| self.role_of(*user) == Some(Role::Admin) && !self.disabled.contains(user))
            .collect()
    }

    /// Whether there was an administrator, and then is none.
    fn is_left_by(&self, then: &Self) -> bool {
        !self.administrators().is_empty() && then.administrators().is_empty()
    }

    /// Whether a change would leave no administrator.
    pub(crate) fn is_left_alone_by(&self, change: &Change) -> bool {
        let mut then = self.clone();
        then.change_user(change).is_some() && self.is_left_by(&then)
    }

    /// Whether a user is meant by name or as a member.
    pub(crate) fn is_among(&self, user: u32, subjects: &BTreeSet<Subject>) -> bool {
        subjects.iter().any(|subject| match subject {
            Subject::User(id) => id.0 == user,
            Subject::Team(id) => self.members.contains(&(id.0, user)),
        })
    }

    /// Who may create the crate: the rule that is most specific says it.
    pub(crate) fn creators_of(&self, krate: &str) -> Option<&BTreeSet<Subject>> {
        let over = self.creators.iter().filter(|(pattern, _)| covers(pattern, krate));
        let specific = |pattern: &str| (!pattern.ends_with('*'), pattern.len());
        over.max_by_key(|(pattern, _)| specific(pattern)).map(|(_, creators)| creators)
    }

    /// Who may read the crate beside its owners: all rules say it; none at all, everybody.
    pub(crate) fn readers_of(&self, krate: &str) -> Option<BTreeSet<Subject>> {
        let mut over = self.readers.iter().filter(|(pattern, _)| covers(pattern, krate)).peekable();
        over.peek()?;
        Some(over.flat_map(|(_, readers)| readers.iter().copied()).collect())
    }

    /// The user or team of a name; no user who is disabled.
    pub(crate) fn subject(&self, name: &SubjectName) -> Option<Subject> {
        match name {
            SubjectName::User(login) if self.disabled.contains(&user_named(login)) => None,
            name => self.known(name),
        }
    }

    /// The user or team of a name.
    pub(crate) fn known(&self, name: &SubjectName) -> Option<Subject> {
        match name {
            SubjectName::User(login) => Some(Subject::User(UserId(user_named(login)))),
            SubjectName::Team(team) => self.team(team).map(Subject::Team),
        }
    }

    fn team(&self, name: &str) -> Option<TeamId> {
        self.teams.get(name).copied().map(TeamId)
    }

    fn all(&self, names: &[SubjectName]) -> Option<BTreeSet<Subject>> {
        names.iter().map(|name| self.subject(name)).collect()
    }

    fn all_known(&self, names: &[SubjectName]) -> Option<BTreeSet<Subject>> {
        names.iter().map(|name| self.known(name)).collect()
    }

    /// Does what an administrator wants.
    pub(crate) fn change(&mut self, change: &Change) -> Becomes {
        match change {
            Change::AddCreators { .. }
            | Change::RemoveCreators { .. }
            | Change::Restrict { .. }
            | Change::RemoveReaders { .. }
            | Change::Open { .. } => self.change_rule(change),
            Change::GrantRole { .. }
            | Change::RevokeRole { .. }
            | Change::Disable { .. }
            | Change::Enable { .. } => {
                let mut then = self.clone();
                let becomes = then.change_user(change)?;
                if self.is_left_by(&then) {
                    return None;
                }
                *self = then;
                Some(becomes)
            }
            _ => self.change_team(change),
        }
    }

    fn change_team(&mut self, change: &Change) -> Becomes {
        match change {
            Change::CreateTeam { team } => Some(self.create_team(team)),
            Change::AddMember { team, user } => {
                if self.disabled.contains(user) {
                    return None;
                }
                let mut events = self.create_team(team);
                let (team, user) = (self.team(team)?, UserId(*user));
                if self.members.insert((team.0, user.0)) {
                    events.push(EventKind::MemberAdded { team, user });
                }
                Some(events)
            }
            Change::RemoveMember { team, user } => {
                let (team, user) = (self.team(team)?, UserId(*user));
                let was = self.members.remove(&(team.0, user.0));
                was.then(|| vec![EventKind::MemberRemoved { team, user }])
            }
            Change::RenameTeam { team, name } => {
                let id = self.team(team)?;
                if team == name {
                    return Some(Vec::new());
                }
                if self.team(name).is_some() {
                    return None;
                }
                self.teams.remove(team);
                self.teams.insert(name.clone(), id.0);
                Some(vec![EventKind::TeamRenamed { team: id, name: name.clone() }])
            }
            Change::RemoveTeam { team } => {
                let id = self.team(team)?;
                self.teams.remove(team);
                self.members.retain(|(of, _)| *of != id.0);
                Some(vec![EventKind::TeamRemoved { team: id }])
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn create_team(&mut self, name: &str) -> Vec<EventKind> {
        if self.teams.contains_key(name) {
            return Vec::new();
        }
        self.teams_ever += 1;
        self.teams.insert(name.to_owned(), self.teams_ever);
        vec![EventKind::TeamCreated { team: TeamId(self.teams_ever), name: name.to_owned() }]
    }

    fn change_user(&mut self, change: &Change) -> Becomes {
        match *change {
            Change::GrantRole { user, role } => {
                if self.disabled.contains(&user) {
                    return None;
                }
                let was = self.decided.insert(user, Some(role));
                Some(match was == Some(Some(role)) {
                    true => Vec::new(),
                    false => vec![EventKind::RoleGranted { user: UserId(user), role }],
                })
            }
            Change::RevokeRole { user } => {
                if self.role_of(user).is_none() {
                    return Some(Vec::new());
                }
                self.decided.insert(user, None);
                Some(vec![EventKind::RoleRevoked { user: UserId(user) }])
            }
            Change::Disable { user } => Some(match self.disabled.insert(user) {
                false => Vec::new(),
                true => vec![EventKind::UserDisabled { user: UserId(user) }],
            }),
            Change::Enable { user } => Some(match self.disabled.remove(&user) {
                false => Vec::new(),
                true => vec![EventKind::UserEnabled { user: UserId(user) }],
            }),
            _ => None,
        }
    }

    fn change_rule(&mut self, change: &Change) -> Becomes {
        match change {
            Change::AddCreators { pattern, creators } => {
                let named = self.all(creators)?;
                let (_, new) = add(&mut self.creators, pattern, named);
                Some(match new.is_empty() {
                    true => Vec::new(),
                    false => {
                        vec![EventKind::CreatorsAdded { pattern: pattern.clone(), creators: new }]
                    }
                })
            }
            Change::RemoveCreators { pattern, creators } => {
                let rule = self.creators.get(&key(pattern))?.clone();
                let is_whole = creators.is_empty();
                let named = if is_whole { rule.clone() } else { self.all_known(creators)? };
                if !is_whole && rule.iter().all(|one| named.contains(one)) {
                    return None;
                }
                let left = take(&mut self.creators, pattern, &named)?;
                if left == 0 {
                    self.creators.remove(&key(pattern));
                }
                let creators = named.into_iter().collect();
                Some(vec![EventKind::CreatorsRemoved { pattern: pattern.clone(), creators }])
            }
            Change::Restrict { pattern, readers } => {
                let named = self.all(readers)?;
                let (is_new, readers) = add(&mut self.readers, pattern, named);
                Some(match is_new || !readers.is_empty() {
                    true => vec![EventKind::CrateRestricted { pattern: pattern.clone(), readers }],
                    false => Vec::new(),
                })
            }
            Change::RemoveReaders { pattern, readers } => {
                let named = self.all_known(readers)?;
                take(&mut self.readers, pattern, &named)?;
                let readers = named.into_iter().collect();
                Some(vec![EventKind::ReadersRemoved { pattern: pattern.clone(), readers }])
            }
            Change::Open { pattern } => {
                self.readers.remove(&key(pattern))?;
                Some(vec![EventKind::CrateOpened { pattern: pattern.clone() }])
            }
            other => unreachable!("{other:?}"),
        }
    }
}

fn key(pattern: &NamePattern) -> String {
    pattern.as_str().to_lowercase()
}

fn covers(pattern: &str, krate: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => krate.to_lowercase().starts_with(prefix),
        None => krate.to_lowercase() == pattern,
    }
}

/// Adds to a rule: whether it is new, and who of them is.
fn add(rules: &mut Rules, pattern: &NamePattern, named: BTreeSet<Subject>) -> (bool, Vec<Subject>) {
    let is_new = !rules.contains_key(&key(pattern));
    let rule = rules.entry(key(pattern)).or_default();
    (is_new, named.into_iter().filter(|subject| rule.insert(*subject)).collect())
}

/// Takes from a rule, if it names all of them; says how many are left.
fn take(rules: &mut Rules, pattern: &NamePattern, named: &BTreeSet<Subject>) -> Option<usize> {
    let rule = rules.get_mut(&key(pattern)).filter(|rule| named.is_subset(rule))?;
    rule.retain(|subject| !named.contains(subject));
    Some(rule.len())
}
