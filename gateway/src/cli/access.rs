//! `user`, `role`, `team`, `owner`, `creators`, `crate`: who may do what.

use clap::{Args, Subcommand};

use cratehouse_journal::principal::{PrincipalKind, Role};
use cratehouse_journal::subject::SubjectName;
use cratehouse_package::name::{CrateName, NamePattern};

/// `user …`
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Create a user
    Add {
        /// The user's name
        login: String,
        /// A service account: a machine, which holds no role
        #[arg(long)]
        service: bool,
    },
    /// List all users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a user's teams, crates and tokens, and the crates that nobody else could hand on
    Show {
        /// The user's name
        login: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Disable a user: no token of theirs counts until they are enabled again. For a token that others may have,
    /// `token revoke` is enough
    Disable {
        /// The user's name
        login: String,
    },
    /// Enable a user who was disabled: their tokens count again
    Enable {
        /// The user's name
        login: String,
    },
}

/// `role …`
#[derive(Debug, Clone, Subcommand)]
pub enum RoleCommand {
    /// Give a user a role, in place of another
    Grant {
        /// The user's name
        login: String,
        /// `admin` manages; `auditor` reads what administrators read, and changes nothing
        role: Role,
    },
    /// Take a user's role away; there is always an administrator left
    Revoke {
        /// The user's name
        login: String,
    },
}

/// `team …`
#[derive(Debug, Clone, Subcommand)]
pub enum TeamCommand {
    /// Make users members of a team; it is created where there is none
    Add {
        /// The team's name
        team: String,
        /// The users' names
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
    /// Make users members of a team no more; without any, the team is removed
    Remove {
        /// The team's name
        team: String,
        /// The users' names
        #[arg(value_name = "USER")]
        users: Vec<String>,
    },
    /// Give a team another name; what it owns and may read stays
    Rename {
        /// The team's name
        team: String,
        /// Its name from then on
        name: String,
    },
    /// List teams and their members
    List {
        /// Only this one
        team: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `owner …`
#[derive(Debug, Clone, Subcommand)]
pub enum OwnerCommand {
    /// Hand a hosted crate over: these own it from then on, and nobody else
    Set {
        /// The crate
        name: CrateName,
        /// `user:NAME` or `team:NAME`; at least one user
        #[arg(required = true, value_name = "OWNER")]
        owners: Vec<SubjectName>,
    },
    /// List the owners of a hosted crate
    List {
        /// The crate
        name: CrateName,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `creators …`
#[derive(Debug, Clone, Subcommand)]
pub enum CreatorsCommand {
    /// Let only some create crates of some names; the most specific rule counts
    Add(Rule),
    /// Let them no more; where nobody is named, the whole rule ends
    Remove {
        /// The names: a name, or a prefix followed by `*`
        pattern: NamePattern,
        /// `user:NAME` or `team:NAME`
        #[arg(value_name = "WHO")]
        who: Vec<SubjectName>,
    },
    /// List the rules
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `creators add`
#[derive(Debug, Clone, Args)]
pub struct Rule {
    /// The names: a name, or a prefix followed by `*`
    pub pattern: NamePattern,
    /// `user:NAME` or `team:NAME`
    #[arg(required = true, value_name = "WHO")]
    pub who: Vec<SubjectName>,
}

/// `crate …`
#[derive(Debug, Clone, Subcommand)]
pub enum CrateCommand {
    /// Keep crates, hosted or mirrored, for their owners and some readers: for all others they do not exist
    Restrict {
        /// The names: a name, or a prefix followed by `*`
        pattern: NamePattern,
        /// `user:NAME` or `team:NAME`; may be repeated
        #[arg(long = "reader", value_name = "WHO", value_delimiter = ',')]
        readers: Vec<SubjectName>,
        /// Who is a reader no more; may be repeated
        #[arg(
            long = "remove-reader",
            value_name = "WHO",
            value_delimiter = ',',
            conflicts_with = "readers"
        )]
        removed: Vec<SubjectName>,
    },
    /// End a restriction
    Open {
        /// The names, as `crate list` shows them
        pattern: NamePattern,
    },
    /// List the restrictions
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl UserCommand {
    /// What kind of principal `--service` makes.
    pub fn kind(service: bool) -> PrincipalKind {
        if service { PrincipalKind::Service } else { PrincipalKind::Person }
    }
}
