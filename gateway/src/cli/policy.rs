//! Commands that try a policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `policy …`
#[derive(Debug, Clone, Subcommand)]
pub enum PolicyCommand {
    /// Print the verdict of every package in a Cargo.lock; exits with status 1 when one is denied,
    /// 2 when it could not judge
    Check(PolicyCheck),
    /// Print what a change of the policy would do to the packages in a Cargo.lock; exits with
    /// status 1 when it would deny more, 2 when it could not judge
    Diff(PolicyDiff),
    /// List the waivers of a policy
    Waivers(PolicyWaivers),
}

/// `policy check`
#[derive(Debug, Clone, Args)]
pub struct PolicyCheck {
    /// The lock file
    #[arg(long, value_name = "FILE", default_value = "Cargo.lock")]
    pub lock: PathBuf,
    /// The folder of policy files [default: `policy.dir` of the configuration]
    #[arg(long, value_name = "FOLDER")]
    pub policy: Option<PathBuf>,
    /// Fetch crate files that are not in the mirror yet, where their licence decides
    #[arg(long)]
    pub fetch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `policy diff`
#[derive(Debug, Clone, Args)]
pub struct PolicyDiff {
    /// The folder of policy files before the change
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The folder of policy files after it
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// The lock file
    #[arg(long, value_name = "FILE", default_value = "Cargo.lock")]
    pub lock: PathBuf,
    /// Fetch crate files that are not in the mirror yet, where their licence decides
    #[arg(long)]
    pub fetch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `policy waivers`
#[derive(Debug, Clone, Args)]
pub struct PolicyWaivers {
    /// The folder of policy files [default: `policy.dir` of the configuration]
    #[arg(long, value_name = "FOLDER")]
    pub policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
