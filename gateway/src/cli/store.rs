//! Commands about the store and its journal: the audit trail, who pulled what, copies, garbage.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::flows::store::show::Since;
use crate::model::age::Age;
use crate::model::pull::Subject;
use cratehouse_journal::entry::EventKind;
use cratehouse_journal::principal::TokenId;
use cratehouse_package::name::CrateName;
use cratehouse_storage::format_level::Level;
use cratehouse_storage::url::StoreUrl;

/// `journal show`
#[derive(Debug, Clone, Args)]
pub struct Show {
    /// Only what happened to this crate
    #[arg(long = "crate", value_name = "NAME")]
    pub krate: Option<CrateName>,
    /// Only what this user did, and what was done to them or their tokens
    #[arg(long, value_name = "LOGIN")]
    pub user: Option<String>,
    /// Only what was done with this token, and to it: its number, as `token list` shows it
    #[arg(long, value_name = "ID", value_parser = super::tokens::token_id)]
    pub token: Option<TokenId>,
    /// Only events of this kind, such as `published` or `token_created`; may be repeated
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(EventKind::NAMES))]
    pub kinds: Vec<String>,
    /// Only from here on: an entry's number, a date, or a time such as 2027-01-31T12:00Z
    #[arg(long, value_name = "SEQ|TIME")]
    pub since: Option<Since>,
    /// Only the last events: so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tail: Option<u32>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `pulls`
#[derive(Debug, Clone, Args)]
pub struct Pulls {
    /// The crate, or some of its versions: `foo`, `foo@1.2.3` (exactly that one),
    /// `foo@=1.2.3` (also `1.2.3+build`), `foo@1.2`, `foo@>=1.2, <1.4`
    #[arg(value_name = "NAME[@REQ]")]
    pub subject: Subject,
    /// Only from here on: an entry's number, a date, or a time such as 2027-01-31T12:00Z
    #[arg(long, value_name = "SEQ|TIME")]
    pub since: Option<Since>,
    /// Only those of this user
    #[arg(long, value_name = "LOGIN")]
    pub user: Option<String>,
    /// Only those with this token: its number, as `token list` shows it
    #[arg(long, value_name = "ID", value_parser = super::tokens::token_id)]
    pub token: Option<TokenId>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `store …`
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Copy a whole registry to another store and verify the copy; run again to go on, or to
    /// bring an earlier copy up to date
    Copy(StoreCopy),
}

/// `store copy`
#[derive(Debug, Clone, Args)]
pub struct StoreCopy {
    /// The store with the registry: file://PATH, s3://BUCKET/PREFIX, gs://… or az://…
    #[arg(value_parser = lasting_store)]
    pub from: StoreUrl,
    /// The store to copy it to
    #[arg(value_parser = lasting_store)]
    pub to: StoreUrl,
    /// A configuration file (TOML) for FROM's S3 settings [default: those of this gateway]
    #[arg(long, value_name = "FILE")]
    pub from_config: Option<PathBuf>,
    /// A configuration file (TOML) for TO's S3 settings [default: those of this gateway]
    #[arg(long, value_name = "FILE")]
    pub to_config: Option<PathBuf>,
}

/// `gc`
#[derive(Debug, Clone, Args)]
pub struct Gc {
    /// How long a crate file must have been in the store
    #[arg(long, value_name = "SPAN", default_value = "7d")]
    pub grace: Age,
    /// Say what would be deleted, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Delete it even if it is unusually much
    #[arg(long)]
    pub force: bool,
    /// First end a sweep that was interrupted: only when no other one is at work anywhere
    #[arg(long)]
    pub finish: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `format …`
#[derive(Debug, Clone, Subcommand)]
pub enum FormatCommand {
    /// Print the format level that is enabled, and the highest that this release knows
    Show,
    /// Enable a format level for ever: when every replica runs a release that knows it
    Enable {
        /// The level; a replica that does not know it stops there
        level: Level,
    },
}

fn lasting_store(text: &str) -> Result<StoreUrl, &'static str> {
    match text.parse()? {
        StoreUrl::Memory => Err("write file:// and a path, s3://bucket/prefix, gs://… or az://…"),
        url => Ok(url),
    }
}
