//! The command line: definitions and parsing. What the commands do stands elsewhere.

mod access;
mod advisories;
mod pins;
mod policy;
mod shell;
mod store;
mod tokens;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

pub use self::access::{
    CrateCommand, CreatorsCommand, OwnerCommand, RoleCommand, Rule, TeamCommand, UserCommand,
};
pub use self::advisories::{AdvisoriesCommand, AdvisoriesFetch};
pub use self::pins::{PinCommand, PinCorrect};
pub use self::policy::{PolicyCheck, PolicyCommand, PolicyDiff, PolicyWaivers};
pub use self::shell::{Completions, Man};
pub use self::store::{FormatCommand, Gc, Pulls, Show, StoreCommand, StoreCopy};
pub use self::tokens::{TokenCommand, TokenCreate, TokenList};
use crate::config::Flags;
use crate::model::pull::Subject;
use crate::model::server_url::ServerUrl;
use cratehouse_package::name::CrateName;
use cratehouse_package::version::CrateVersion;

/// One Cargo registry endpoint for a whole organisation: hosts private crates, mirrors crates.io.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "cratehouse",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CRATEHOUSE_BUILD_COMMIT"), ")"),
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Every key of the configuration can also be set by environment, \
                  for example CRATEHOUSE_SERVER__LISTEN."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The flags of every command; each overrides the environment and the file.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Common {
    /// The configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of local state [default: ./cratehouse-data]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data: Option<String>,
    /// The object store: file://PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX,
    /// az://CONTAINER/PREFIX or memory://
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// The URL under which clients know the registry
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// Work by this server of the registry in place of a store, with the token of CRATEHOUSE_TOKEN, of
    /// `--token-file` or of cargo's credentials
    #[arg(long, global = true, value_name = "URL", conflicts_with = "store")]
    pub server: Option<ServerUrl>,
    /// A file with the token for `--server`
    #[arg(long, global = true, value_name = "FILE", requires = "server")]
    pub token_file: Option<PathBuf>,
}

/// What can be asked for.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve the registry; where there is none yet, a new one is made
    Serve(Serve),
    /// Make a new registry in the store, where there is none yet, and serve nothing
    Init,
    /// Ask the server of this configuration, on this machine, whether it is ready; exits with status 1 if it is not
    Health(Health),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Manage what users may do beside their own crates: administrators and auditors
    #[command(subcommand)]
    Role(RoleCommand),
    /// Manage teams, which own, create and read crates together
    #[command(subcommand)]
    Team(TeamCommand),
    /// Manage the tokens of users
    #[command(subcommand)]
    Token(TokenCommand),
    /// Hand hosted crates over
    #[command(subcommand)]
    Owner(OwnerCommand),
    /// Say who may create crates of which names
    #[command(subcommand)]
    Creators(CreatorsCommand),
    /// Say who may read which crates
    #[command(subcommand)]
    Crate(CrateCommand),
    /// Make an administrator, where there is nobody else who could: for who has the store
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Look at the journal
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Say who pulled a crate
    Pulls(Pulls),
    /// Write a checkpoint, from which new replicas start, and print its name
    Checkpoint,
    /// Look after the object store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Delete hosted crate files that no version names
    Gc(Gc),
    /// Look after the journal's format, which releases share
    #[command(subcommand)]
    Format(FormatCommand),
    /// Take a hosted version out of the index and its bytes out of reach; its number stays burned
    Remove(Remove),
    /// Manage what is mirrored
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Look at the checksums of mirrored versions, and correct them
    #[command(subcommand)]
    Pin(PinCommand),
    /// Fill the mirror ahead of need, with what lock files name or with single crates
    Prefetch(Prefetch),
    /// Look after crate names
    #[command(subcommand)]
    Names(NamesCommand),
    /// Try a policy, and see what it says
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Look after the advisory database of the policy
    #[command(subcommand)]
    Advisories(AdvisoriesCommand),
    /// Look at all that can be wrong, and say what to do; exits with status 1 when something is
    Doctor(Doctor),
    /// Print the completions of a shell, to be put where it looks for them
    Completions(Completions),
    /// Print the manual, or write a page for each command
    Man(Man),
}

/// `serve`
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The IP address and port to listen on [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The IP address and port of the admin listener: metrics and health [default: 127.0.0.1:8444]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
}

/// `doctor`
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `health`
#[derive(Debug, Clone, Args)]
pub struct Health {
    /// Ask whether the process turns, ready or not
    #[arg(long)]
    pub live: bool,
}

/// `config …`
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration and say what is wrong with it; exits with status 64 if anything is
    Check {
        /// Also try the store, the upstreams and the certificate, as a start would need them
        #[arg(long)]
        connect: bool,
    },
}

/// `admin …`
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Make a user an administrator, creating and enabling them where that is needed, and print a token for them with
    /// the scope `admin` that ends in 15 minutes. It stands in the audit log
    Link {
        /// The user's name
        #[arg(default_value = "admin")]
        login: String,
    },
}

/// `journal …`
#[derive(Debug, Clone, Subcommand)]
pub enum JournalCommand {
    /// Walk the hash chain from its beginning and say what is wrong and where
    Verify,
    /// Print who did what and when: the audit trail
    Show(Show),
}

/// `remove`
#[derive(Debug, Clone, Args)]
pub struct Remove {
    /// The version
    #[arg(value_name = "NAME@VERSION")]
    pub target: VersionSpec,
    /// Why, for the journal
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reason: String,
}

/// `mirror …`
#[derive(Debug, Clone, Subcommand)]
pub enum MirrorCommand {
    /// Ask the upstreams now for a crate's index file
    Refresh {
        /// The crate
        name: CrateName,
    },
    /// Forget what is kept of a mirrored crate, or of one version; its pins stay
    Purge {
        /// The crate, or one version of it
        #[arg(value_name = "NAME[@VERSION]")]
        target: CrateSpec,
    },
}

/// `prefetch`
#[derive(Debug, Clone, Args)]
pub struct Prefetch {
    /// Crates, the newest version of each: `serde`, `serde@1`, `serde@>=1.0.100, <1.1`, or exactly
    /// `serde@1.0.200`; what they depend on is not fetched
    #[arg(value_name = "NAME[@REQ]")]
    pub crates: Vec<Subject>,
    /// A lock file: all that it names; may be repeated [default: Cargo.lock, where no crate is named]
    #[arg(long = "lock", value_name = "FILE")]
    pub locks: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `names …`
#[derive(Debug, Clone, Subcommand)]
pub enum NamesCommand {
    /// Look for hosted names that upstreams have taken since; exits with status 1 when there are any
    Audit {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `NAME[@VERSION]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrateSpec {
    /// The crate.
    pub name: CrateName,
    /// The version, where one is meant.
    pub version: Option<CrateVersion>,
}

/// `NAME@VERSION`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionSpec {
    /// The crate.
    pub name: CrateName,
    /// The version.
    pub version: CrateVersion,
}

impl Cli {
    /// Parses a command line, the program's name first.
    ///
    /// # Errors
    /// clap's own, which also stands for `--help` and `--version`: print it, and exit with
    /// [`crate::config::EXIT_CONFIG`] where it `use_stderr`, with 0 otherwise.
    pub fn parse_from_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }

    /// What this command line overrides in the configuration.
    pub fn flags(&self) -> Flags {
        let Common { config, data, store, url, server: _, token_file: _ } = self.common.clone();
        let (listen, admin_listen) = match &self.command {
            Command::Serve(serve) => (serve.listen.clone(), serve.admin_listen.clone()),
            _ => (None, None),
        };
        Flags { config, data, store, url, listen, admin_listen }
    }
}

impl FromStr for CrateSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse().map_err(shown)?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse().map_err(shown)?, version })
    }
}

impl FromStr for VersionSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let CrateSpec { name, version } = text.parse()?;
        match version {
            Some(version) => Ok(Self { name, version }),
            None => Err(format!("which version? Write {name}@VERSION")),
        }
    }
}

fn shown(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use cratehouse_journal::principal::{Grant, Scope};
    use jiff::Timestamp;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse_from_args(["cratehouse"].into_iter().chain(line.split_whitespace()))
    }

    fn refused(line: &str) -> String {
        let error = parse(line).unwrap_err();
        assert!(error.use_stderr(), "{line}");
        error.to_string()
    }

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_flags_stand_before_or_after_every_command() {
        let flags = Flags { data: Some("d".into()), ..Flags::default() };
        for command in [
            "serve",
            "init",
            "health --live",
            "config check",
            "config check --connect",
            "user add alice",
            "user list --json",
            "user disable alice",
            "user add ci --service",
            "user enable alice",
            "user show alice --json",
            "role grant alice auditor",
            "role revoke alice",
            "team add core alice bob",
            "team remove core alice",
            "team remove core",
            "team rename core kernel",
            "team list core --json",
            "owner set acme-log user:alice team:core",
            "owner list acme-log --json",
            "creators add acme-* team:core",
            "creators remove acme-*",
            "creators list --json",
            "crate restrict secret-* --reader user:alice,team:core",
            "crate restrict secret-* --remove-reader alice",
            "crate open secret-*",
            "crate list --json",
            "token rotate 3 --overlap 24h",
            "admin link alice",
            "token create --user alice",
            "token list --json",
            "token revoke 7",
            "journal verify",
            "checkpoint",
            "format show",
            "format enable 2",
            "journal show --crate a --since 7 --json",
            "pulls a@>=1.2 --since 2027-01-31 --json",
            "store copy file://a s3://b/c --to-config t.toml",
            "gc --grace 7d --dry-run --json",
            "remove a@1.0.0 --reason leaked",
            "mirror refresh serde",
            "mirror purge serde@1.0.0",
            "pin show serde@1.0.0+b --json",
            "pin correct serde@1.0.0 --reason upstream --checksum \
             ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "prefetch",
            "prefetch serde tokio@1 --lock a.lock --lock b.lock --json",
            "names audit --json",
            "policy check --lock Cargo.lock --policy p --json",
            "policy diff old new --lock Cargo.lock --json",
            "policy waivers --policy p --json",
            "advisories fetch --file db.tar.gz --force",
            "advisories show",
            "doctor --json",
            "completions zsh",
            "man pages",
        ] {
            assert_eq!(parse(&format!("{command} --data d")).unwrap().flags(), flags, "{command}");
            assert_eq!(parse(&format!("--data d {command}")).unwrap().flags(), flags, "{command}");
        }
        let cli = parse(
            "serve --listen 0.0.0.0:1 --admin-listen [::1]:2 --store memory:// --url https://x --config c",
        );
        let all = Flags {
            config: Some("c".into()),
            data: None,
            store: Some("memory://".into()),
            url: Some("https://x".into()),
            listen: Some("0.0.0.0:1".into()),
            admin_listen: Some("[::1]:2".into()),
        };
        assert_eq!(cli.unwrap().flags(), all);
    }

    #[test]
    fn names_versions_and_scopes_are_refused_with_the_reason() {
        assert!(refused("remove serde --reason x").contains("Write serde@VERSION"));
        assert!(refused("remove a@1 --reason x").contains("is not a version"));
        assert!(refused("remove a@1.0.0").contains("--reason"));
        assert!(refused("pin correct a@1.0.0 --reason x --checksum ab").contains("64 hexadecimal"));
        assert!(refused("mirror refresh 1a").contains("must start with an ASCII letter"));
        assert!(refused("token create --user a --scope write").contains("choose among"));
        assert!(refused("token create --user a --crate a*b").contains("not a name pattern"));
        assert!(refused("token create --user a --expires soon").contains("90d"));
        assert!(refused("token revoke x").contains("token list"));
        assert!(refused("role grant alice root").contains("`admin` or `auditor`"));
        assert!(refused("owner set foo github:a:b").contains("`user:NAME` or `team:NAME`"));
        assert!(refused("crate restrict a*b").contains("not a name pattern"));
        assert!(refused("team add core").contains("USER"));
        assert!(refused("store copy file://a memory://").contains("s3://bucket/prefix"));
        assert!(refused("format enable 0").contains("write a format level"));
        assert!(refused("journal show --since soon").contains("an entry's number"));
        assert!(refused("pulls a@soon").contains("version requirement"));
        assert!(refused("").contains("Usage"));
    }

    #[test]
    fn a_server_stands_in_place_of_a_store() {
        let cli = parse("user list --server https://crates.acme.example/index/ --token-file t");
        let Common { server, token_file, .. } = cli.unwrap().common;
        assert_eq!(server.unwrap().to_string(), "https://crates.acme.example");
        assert_eq!(token_file, Some("t".into()));
        assert!(refused("user list --server https://a --store file://b").contains("--store"));
        assert!(refused("user list --token-file t").contains("--server"));
        assert!(refused("user list --server http://a").contains("https://"));
    }

    #[test]
    fn help_and_version_are_no_errors_of_the_user() {
        for line in ["--help", "--version", "token create --help", "serve --version"] {
            assert!(!parse(line).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[test]
    fn a_token_has_what_was_asked_for_or_all_but_admin() {
        let create = |line: &str| match parse(&format!("token create --user a {line}")) {
            Ok(Cli { command: Command::Token(TokenCommand::Create(create)), .. }) => create,
            other => panic!("{other:?}"),
        };
        assert_eq!(create("").grant(now()).unwrap(), Grant::usual());
        let grant = create("--scope yank --scope admin --crate a-* --crate b --expires 90d");
        let grant = grant.grant(now()).unwrap();
        assert_eq!(grant.scopes, [Scope::Yank, Scope::Admin].into());
        assert_eq!(grant.crates.len(), 2);
        assert_eq!(grant.expires, Some("2026-05-01T12:00:00Z".parse().unwrap()));
    }
}
