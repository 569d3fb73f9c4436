//! What the catalog says of roles, teams, and rules about names.

use jiff::Timestamp;
use redb::{ReadableTable, TableDefinition};

use super::{Tables, View};
use crate::authorize::OfCrate;
use crate::catalog::rows::{
    CREATORS, CrateRow, Decided, RESTRICTIONS, RuleRow, TEAM_NAMES, TEAMS, TEAMS_OF, TOKENS_OF,
    TeamRow, UserRow, read,
};
use crate::principal::{Role, Scope, TeamId, TokenId, UserId};
use crate::subject::{Subject, SubjectName};
use cratehouse_core::error::{Error, Result};
use cratehouse_package::name::{CrateName, NameKey, NamePattern};

type Rules = TableDefinition<'static, &'static str, &'static [u8]>;

/// What is known of a crate's name that decides who may do what to it.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    /// The crate, if it is hosted here.
    pub krate: Option<CrateRow>,
    /// Who may read it beside its owners; `None`: everybody.
    pub readers: Option<Vec<Subject>>,
}

impl Rights {
    /// As the pure decision wants it, of a name in the spelling that was asked for.
    pub fn of<'a>(&'a self, krate: &'a CrateName) -> OfCrate<'a> {
        let row = self.krate.as_ref();
        OfCrate {
            krate,
            exists: row.is_some_and(|row| row.name == *krate),
            owners: row.map_or(&[], |row| &row.owners),
            teams: row.map_or(&[], |row| &row.teams),
            readers: self.readers.as_deref(),
        }
    }
}

impl<T: Tables> View<T> {
    /// What decides who may do what to the crate of a name, or to one to come.
    ///
    /// # Errors
    /// When redb fails.
    pub fn rights(&self, key: &NameKey) -> Result<Rights> {
        Ok(Rights { krate: self.krate(key)?, readers: self.readers(key)? })
    }

    /// Who may read crates of this name beside their owners, by all rules that cover it; `None`: everybody.
    ///
    /// # Errors
    /// When redb fails.
    pub fn readers(&self, key: &NameKey) -> Result<Option<Vec<Subject>>> {
        let rules = self.rules_over(RESTRICTIONS, key, usize::MAX)?;
        Ok((!rules.is_empty()).then(|| rules.into_iter().flat_map(|rule| rule.subjects).collect()))
    }

    /// Who may create the crate of this name, by the most specific rule that covers it; `None`: everybody.
    ///
    /// # Errors
    /// When redb fails.
    pub fn creators(&self, key: &NameKey) -> Result<Option<Vec<Subject>>> {
        let rule = self.rules_over(CREATORS, key, 1)?.pop();
        Ok(rule.map(|rule| rule.subjects))
    }

    /// All rules about who may create crates, by pattern.
    ///
    /// # Errors
    /// When redb fails.
    pub fn creator_rules(&self) -> Result<Vec<RuleRow>> {
        self.rules(CREATORS)
    }

    /// All rules about who may read crates, by pattern.
    ///
    /// # Errors
    /// When redb fails.
    pub fn restrictions(&self) -> Result<Vec<RuleRow>> {
        self.rules(RESTRICTIONS)
    }

    /// The rule of just this pattern about who may read crates.
    ///
    /// # Errors
    /// When redb fails.
    pub fn restriction(&self, pattern: &NamePattern) -> Result<Option<RuleRow>> {
        self.rule(RESTRICTIONS, pattern)
    }

    /// The rule of just this pattern about who may create crates.
    ///
    /// # Errors
    /// When redb fails.
    pub fn creator_rule(&self, pattern: &NamePattern) -> Result<Option<RuleRow>> {
        self.rule(CREATORS, pattern)
    }

    fn rule(&self, rules: Rules, pattern: &NamePattern) -> Result<Option<RuleRow>> {
        let table = self.txn.table(rules).map_err(Error::internal)?;
        let row = table.get(pattern.key().as_str()).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    fn rules(&self, rules: Rules) -> Result<Vec<RuleRow>> {
        let table = self.txn.table(rules).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        rows.map(|row| read(row.map_err(Error::internal)?.1.value())).collect()
    }

    fn rules_over(&self, rules: Rules, key: &NameKey, most: usize) -> Result<Vec<RuleRow>> {
        let table = self.txn.table(rules).map_err(Error::internal)?;
        let mut over = Vec::new();
        if table.first().map_err(Error::internal)?.is_none() {
            return Ok(over);
        }
        for pattern in NamePattern::keys_over(key) {
            if let Some(row) = table.get(pattern.as_str()).map_err(Error::internal)? {
                over.push(read(row.value())?);
            }
            if over.len() >= most {
                break;
            }
        }
        Ok(over)
    }

    /// A team by number, removed ones too.
    ///
    /// # Errors
    /// When redb fails.
    pub fn team(&self, id: TeamId) -> Result<Option<TeamRow>> {
        let table = self.txn.table(TEAMS).map_err(Error::internal)?;
        let row = table.get(id.0).map_err(Error::internal)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// A team by name, whatever its case.
    ///
    /// # Errors
    /// When redb fails.
    pub fn team_named(&self, name: &str) -> Result<Option<TeamRow>> {
        let table = self.txn.table(TEAM_NAMES).map_err(Error::internal)?;
        let id = table.get(name.to_ascii_lowercase().as_str()).map_err(Error::internal)?;
        match id.map(|id| TeamId(id.value())) {
            Some(id) => self.team(id),
            None => Ok(None),
        }
    }

    /// All teams, by number, without those that were removed.
    ///
    /// # Errors
    /// When redb fails.
    pub fn teams(&self) -> Result<Vec<TeamRow>> {
        let table = self.txn.table(TEAMS).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        let rows = rows.map(|row| read(row.map_err(Error::internal)?.1.value()));
        let rows: Vec<TeamRow> = rows.collect::<Result<_>>()?;
        Ok(rows.into_iter().filter(|team| !team.removed).collect())
    }

    /// The names of all teams that there are and were, by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn team_names(&self) -> Result<Vec<(TeamId, String)>> {
        let table = self.txn.table(TEAMS).map_err(Error::internal)?;
        let rows = table.iter().map_err(Error::internal)?;
        let rows = rows.map(|row| read(row.map_err(Error::internal)?.1.value()));
        rows.map(|row: Result<TeamRow>| row.map(|team| (team.id, team.name))).collect()
    }

    /// The number that the next team gets.
    ///
    /// # Errors
    /// When redb fails, or there are no more numbers.
    pub fn next_team(&self) -> Result<TeamId> {
        let teams = self.txn.table(TEAMS).map_err(Error::internal)?;
        let last = teams.last().map_err(Error::internal)?.map_or(0, |(id, _)| id.value());
        let spent = || Error::internal(std::io::Error::other("there are no more numbers"));
        last.checked_add(1).map(TeamId).ok_or_else(spent)
    }

    /// The teams of a user, by number.
    ///
    /// # Errors
    /// When redb fails.
    pub fn teams_of(&self, user: UserId) -> Result<Vec<TeamId>> {
        let table = self.txn.table(TEAMS_OF).map_err(Error::internal)?;
        let rows = table.range((user.0, 0)..=(user.0, u32::MAX)).map_err(Error::internal)?;
        rows.map(|row| Ok(TeamId(row.map_err(Error::internal)?.0.value().1))).collect()
    }

    /// The teams that own a crate.
    ///
    /// # Errors
    /// When redb fails.
    pub fn owning_teams(&self, krate: &CrateRow) -> Result<Vec<TeamRow>> {
        let rows: Result<Vec<_>> = krate.teams.iter().map(|id| self.team(*id)).collect();
        Ok(rows?.into_iter().flatten().filter(|team| !team.removed).collect())
    }

    /// The role of a user, as it is now. To whom none was ever given or taken, a token that counts and has the scope
    /// `admin` gives that of an administrator: so it was before there were roles.
    ///
    /// # Errors
    /// When redb fails.
    pub fn role_of(&self, user: &UserRow, now: Timestamp) -> Result<Option<Role>> {
        match user.role {
            Decided::Has(role) => Ok(Some(role)),
            Decided::None => Ok(None),
            Decided::Open if self.has_admin_token(user.id, now)? => Ok(Some(Role::Admin)),
            Decided::Open => Ok(None),
        }
    }

    fn has_admin_token(&self, user: UserId, now: Timestamp) -> Result<bool> {
        let table = self.txn.table(TOKENS_OF).map_err(Error::internal)?;
        for row in table.range((user.0, 0)..=(user.0, u32::MAX)).map_err(Error::internal)? {
            let (key, ends) = row.map_err(Error::internal)?;
            if now.as_second() >= ends.value() {
                continue;
            }
            let token = self.token(TokenId(key.value().1))?;
            if token.is_some_and(|token| token.grant.scopes.contains(&Scope::Admin)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The administrators who are not disabled, by number. Reads every user.
    ///
    /// # Errors
    /// When redb fails.
    pub fn administrators(&self, now: Timestamp) -> Result<Vec<UserRow>> {
        let mut admins = Vec::new();
        for user in self.users()?.into_iter().filter(|user| !user.disabled) {
            if self.role_of(&user, now)? == Some(Role::Admin) {
                admins.push(user);
            }
        }
        Ok(admins)
    }

    /// A user or a team as people call it.
    ///
    /// # Errors
    /// When redb fails.
    pub fn subject_name(&self, subject: Subject) -> Result<Option<SubjectName>> {
        Ok(match subject {
            Subject::User(id) => self.user(id)?.map(|user| SubjectName::User(user.login)),
            Subject::Team(id) => {
                let team = self.team(id)?.filter(|team| !team.removed);
                team.map(|team| SubjectName::Team(team.name))
            }
        })
    }
}
